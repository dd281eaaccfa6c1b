use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use crate::paths::EnginePaths;
use crate::status::{Failure, State, Status};

/// How much of the end of a log is looked at, and how long a line of it may be.
const LOG_BYTES: u64 = 128 << 10;
const LOG_LINE: usize = 1000;

/// The one status there is: told to everyone who watches, and kept in the data folder.
#[derive(Debug)]
pub(super) struct Journal {
    status: watch::Sender<Status>,
    file: PathBuf,
}

impl Journal {
    pub(super) fn new(paths: &EnginePaths) -> Self {
        let status = Status {
            pid: Some(std::process::id()),
            socket: paths.socket().to_path_buf(),
            data: paths.data().to_path_buf(),
            ..Status::default()
        };
        Self { status: watch::Sender::new(status), file: paths.state_file() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn now(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(super) fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Enters a state, unless it is the present one or the machine does not allow it.
    pub(super) fn enter(&self, state: State) {
        self.change(|status| {
            let entered = status.enter(state);
            if entered {
                tracing::info!(state = state.name(), "engine");
                if matches!(state, State::Stopped) {
                    status.warnings.clear();
                }
            }
            entered
        });
    }

    /// Enters a stage of the present state.
    pub(super) fn stage(&self, name: &str) {
        tracing::info!(stage = name, "engine");
        self.change(|status| status.enter_stage(name));
    }

    pub(super) fn fail(&self, failure: Failure) {
        tracing::error!(stage = failure.stage, cause = failure.cause, "engine");
        self.change(|status| {
            let entered = status.enter(State::Failed);
            status.error = Some(failure);
            entered
        });
    }

    /// Changes the status; `change` says whether it did. Kept before it is told: whoever hears the last one may find
    /// nobody any more whom to ask, and read what was kept.
    pub(super) fn change(&self, change: impl FnOnce(&mut Status) -> bool) {
        let mut next = self.now();
        if change(&mut next) {
            self.keep(&next);
            self.status.send_replace(next);
        }
    }

    /// What is on disk serves only to explain a failure later, so a full disk must not stop the engine.
    fn keep(&self, status: &Status) {
        let fresh = self.file.with_extension("json.new");
        let kept = serde_json::to_vec_pretty(status)
            .map_err(std::io::Error::from)
            .and_then(|text| fs::write(&fresh, text))
            .and_then(|()| fs::rename(&fresh, &self.file));
        if let Err(error) = kept {
            tracing::warn!(%error, "the engine's state cannot be written");
        }
    }
}

/// The status a supervisor kept last, if any.
pub(crate) fn read_state(paths: &EnginePaths) -> Option<Status> {
    serde_json::from_slice(&fs::read(paths.state_file()).ok()?).ok()
}

/// Forgets how the last start ended.
pub(crate) fn forget_state(paths: &EnginePaths) {
    let _ = fs::remove_file(paths.state_file());
}

/// The last lines of each log, at most `count` in all.
pub(crate) fn log_tail(folder: &Path, names: &[&str], count: usize) -> Vec<String> {
    let share = count / names.len().max(1);
    names
        .iter()
        .flat_map(|name| {
            let lines = tail(&folder.join(format!("{name}.log")));
            let from = lines.len().saturating_sub(share);
            lines.into_iter().skip(from).map(move |line| format!("{name}: {line}"))
        })
        .collect()
}

fn tail(path: &Path) -> Vec<String> {
    let Ok(mut file) = File::open(path) else { return Vec::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let from = length.saturating_sub(LOG_BYTES);
    if file.seek(SeekFrom::Start(from)).is_err() || file.take(LOG_BYTES).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    // The first line is cut when reading did not begin at the file's beginning.
    text.lines().skip(usize::from(from > 0)).map(|line| line.chars().take(LOG_LINE).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Journal, LOG_LINE, log_tail, read_state};
    use crate::paths::EnginePaths;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_told_has_been_kept() {
        let folder = tempfile::tempdir().unwrap();
        let paths = EnginePaths::with_runtime(folder.path(), None).unwrap();
        let journal = Journal::new(&paths);
        let mut told = journal.subscribe();
        let hearing = tokio::spawn(async move {
            while told.changed().await.is_ok() {
                let (told, kept) = (told.borrow_and_update().clone(), read_state(&paths).unwrap());
                assert!(kept.warnings.len() >= told.warnings.len(), "{} was not kept", told.warnings.len());
            }
        });
        for _ in 0..500 {
            journal.change(|status| {
                status.warnings.push("one more".to_owned());
                true
            });
            tokio::task::yield_now().await;
        }
        drop(journal);
        hearing.await.unwrap();
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_in_width() {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = (0..5000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(folder.path().join("a.log"), lines).unwrap();
        std::fs::write(folder.path().join("b.log"), "x".repeat(5000)).unwrap();
        let tail = log_tail(folder.path(), &["a", "b", "absent"], 30);
        assert_eq!(tail.len(), 11);
        assert_eq!(tail[9], "a: line 4999");
        assert_eq!(tail[10].len(), LOG_LINE + 3);
    }
}
