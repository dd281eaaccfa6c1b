//! Paths that changed and were not told yet.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// A file that nothing happened to for so long is told: the guest sets its times to what they are, and may undo what it
/// was written in that moment.
const QUIET: Duration = Duration::from_millis(60);
/// One that is written all the time is told so often.
const LONGEST: Duration = Duration::from_millis(500);
/// Of files that wait; of more, their folders are told instead, of which there are no more than watched ones.
const MOST: usize = 8192;
/// Of one request. In JSON a path takes six times its length at worst, which stays below the longest message.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Pending {
    paths: HashMap<PathBuf, Change>,
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    first: Instant,
    last: Instant,
}

impl Change {
    fn due(self) -> Instant {
        (self.last + QUIET).min(self.first + LONGEST)
    }
}

impl Pending {
    pub(super) fn add(&mut self, path: PathBuf, now: Instant) {
        let full = self.paths.len() >= MOST && !self.paths.contains_key(&path);
        let path = if full { path.parent().map_or_else(|| path.clone(), Path::to_path_buf) } else { path };
        let change = self.paths.entry(path).or_insert(Change { first: now, last: now });
        change.last = now;
        let due = change.due();
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When the next are to be told; it may turn out that there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// As many as one request may have of those that are due, folders before what is in them.
    pub(super) fn take(&mut self, now: Instant) -> Vec<String> {
        let due = self.paths.iter().filter(|(_, change)| change.due() <= now);
        let mut paths: Vec<PathBuf> = due.map(|(path, _)| path.clone()).collect();
        paths.sort();
        let mut batch: Vec<String> = Vec::new();
        let mut bytes = 0_usize;
        for path in paths {
            // A name that is no Unicode text: its folder tells of it.
            let text = path.to_str().or_else(|| path.parent().and_then(Path::to_str));
            bytes = bytes.saturating_add(text.map_or(0, str::len));
            if batch.len() >= BATCH || bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            if let Some(text) = text
                && batch.last().is_none_or(|last| last != text)
            {
                batch.push(text.to_owned());
            }
            self.paths.remove(&path);
        }
        self.due = self.paths.values().map(|change| change.due()).min();
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BATCH, BATCH_BYTES, LONGEST, MOST, Pending, QUIET};

    #[test]
    fn a_path_is_told_once_when_it_has_become_quiet() {
        let mut pending = Pending::default();
        let began = Instant::now();
        assert_eq!(pending.due(), None);
        for milliseconds in [0, 20, 40] {
            pending.add("/s/b".into(), began + Duration::from_millis(milliseconds));
        }
        pending.add("/s/a".into(), began);
        assert_eq!(pending.due(), Some(began + QUIET));
        assert_eq!(pending.take(began + QUIET), ["/s/a"]);
        let quiet = began + QUIET + Duration::from_millis(40);
        assert_eq!(pending.due(), Some(quiet));
        assert_eq!(pending.take(quiet), ["/s/b"]);
        assert_eq!((pending.due(), pending.take(quiet).len()), (None, 0));
    }

    #[test]
    fn what_is_written_all_the_time_is_told_now_and_then() {
        let mut pending = Pending::default();
        let began = Instant::now();
        let mut told = 0;
        for milliseconds in (0..10_000).step_by(10) {
            let now = began + Duration::from_millis(milliseconds);
            pending.add("/s/log".into(), now);
            told += pending.take(now).len();
        }
        assert!((15..=20).contains(&told), "{told} times in ten seconds, each {LONGEST:?}");
    }

    #[test]
    fn a_flood_is_told_in_pieces_and_as_its_folders() {
        let mut pending = Pending::default();
        let began = Instant::now();
        for number in 0..100_000 {
            pending.add(format!("/s/{}/{number}", number % 10).into(), began);
        }
        assert!(pending.paths.len() <= MOST + 10);
        let mut told = Vec::new();
        while pending.due().is_some() {
            let batch = pending.take(began + QUIET);
            assert!(batch.len() <= BATCH && batch.iter().map(String::len).sum::<usize>() <= BATCH_BYTES);
            assert!(!batch.is_empty() && batch.is_sorted());
            told.extend(batch);
        }
        for folder in 0..10 {
            assert!(told.contains(&format!("/s/{folder}")));
        }
        assert_eq!(told.len(), MOST + 10);
    }

    #[test]
    fn what_has_no_name_in_unicode_is_told_as_its_folder() {
        let mut pending = Pending::default();
        let began = Instant::now();
        for name in [b"\xff".as_slice(), b"\xfe"] {
            pending.add(Path::new("/s").join(OsStr::from_bytes(name)), began);
        }
        assert_eq!(pending.take(began + QUIET), ["/s"]);
        assert_eq!(pending.due(), None);
    }
}
