//! The machine's console: a file of bounded size, and its last lines.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

const LINE_BYTES: usize = 1000;
const FILE_BYTES: u64 = 1 << 20;
const CHUNK: usize = 16 << 10;
/// How the kernel begins when it gives up.
const PANIC: &str = "Kernel panic - not syncing";

/// The last lines of an output that may be endless, hostile and not text.
#[derive(Debug)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    partial: Vec<u8>,
    limit: usize,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Self {
        Self { lines: VecDeque::with_capacity(limit), partial: Vec::new(), limit }
    }

    /// Takes in what was said, and hands out each line that it ends. A line that is too long is cut in pieces.
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                self.partial.push(byte);
            }
            if byte == b'\n' || self.partial.len() >= LINE_BYTES {
                self.end_line(&mut each);
            }
        }
    }

    /// What stands behind the last end of a line is a line too, once no more can come.
    fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.end_line(&mut each);
        }
    }

    fn end_line(&mut self, each: &mut impl FnMut(&str)) {
        let line = readable(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        each(&line);
        if self.lines.len() >= self.limit {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

/// Without what a terminal would obey: colours, cursor movements, titles.
fn readable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                while characters.next_if(|next| !('@'..='~').contains(next)).is_some() {}
                characters.next();
            }
        } else if character == '\t' || !character.is_control() {
            out.push(character);
        }
    }
    out
}

/// What several tasks know of one output.
#[derive(Clone, Debug)]
pub(crate) struct SharedTail(Arc<Mutex<Heard>>);

#[derive(Debug)]
struct Heard {
    tail: Tail,
    panicked: bool,
}

impl SharedTail {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Heard { tail: Tail::new(limit), panicked: false })))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.with(|heard| heard.tail.lines())
    }

    /// Whether the kernel said that it gives up.
    pub(crate) fn panicked(&self) -> bool {
        self.with(|heard| heard.panicked)
    }

    /// Reads to the end, keeping the last lines; `each` gets every line.
    pub(crate) async fn follow(
        &self,
        mut output: impl AsyncRead + Unpin,
        mut file: Option<LogFile>,
        mut each: impl FnMut(Told),
    ) {
        let mut buffer = vec![0; CHUNK];
        let mut first = true;
        loop {
            // A reset is how a socket ends whose peer was killed.
            let read = output.read(&mut buffer).await.unwrap_or(0);
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            if std::mem::take(&mut first) {
                each(Told::FirstByte);
            }
            self.with(|heard| heard.feed(bytes, &mut each));
            if let Some(log) = &mut file
                && let Err(error) = log.write(bytes).await
            {
                tracing::warn!(%error, path = %log.path.display(), "the console is no longer written to its file");
                file = None;
            }
        }
        self.with(|heard| {
            let panicked = &mut heard.panicked;
            heard.tail.finish(|line| tell(line, panicked, &mut each));
        });
    }

    fn with<T>(&self, what: impl FnOnce(&mut Heard) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Heard {
    fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(Told)) {
        let panicked = &mut self.panicked;
        self.tail.feed(bytes, |line| tell(line, panicked, each));
    }
}

fn tell(line: &str, panicked: &mut bool, each: &mut impl FnMut(Told)) {
    *panicked |= line.contains(PANIC);
    each(Told::Line(line.to_owned()));
}

/// What is heard on an output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    FirstByte,
    Line(String),
}

/// A file that is put aside under another name when it is full, in place of the one before.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl LogFile {
    /// Begins a new file; the last one is kept.
    pub(crate) async fn create(path: &Path) -> std::io::Result<Self> {
        Self::create_bounded(path, FILE_BYTES).await
    }

    async fn create_bounded(path: &Path, limit: u64) -> std::io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), file: fresh(path).await?, written: 0, limit })
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.written >= self.limit {
            self.file = fresh(&self.path).await?;
            self.written = 0;
        }
        self.file.write_all(bytes).await?;
        self.file.flush().await?;
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

async fn fresh(path: &Path) -> std::io::Result<File> {
    if tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.len() > 0) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        tokio::fs::rename(path, aside).await?;
    }
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).await
}

#[cfg(test)]
mod tests {
    use super::{FILE_BYTES, LINE_BYTES, LogFile, SharedTail, Told, readable};

    async fn lines_of(bytes: &[u8]) -> Vec<String> {
        let tail = SharedTail::new(3);
        tail.follow(bytes, None, |_| {}).await;
        tail.lines()
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_and_bounded() {
        assert_eq!(lines_of(b"a\r\nb\nc\nd\ne").await, ["c", "d", "e"]);
        let long = vec![b'x'; LINE_BYTES * 10];
        let lines = lines_of(&long).await;
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES; 3]);
        assert_eq!(lines_of(b"\xff\xfe\n").await, ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(readable("\u{1b}[1;32mok\u{1b}[0m\ta\u{7}b\u{1b}]0;title\u{7}\u{1b}["), "ok\tab]0;title");
    }

    #[tokio::test]
    async fn every_line_is_told_and_a_panic_remembered() {
        let tail = SharedTail::new(3);
        let mut told = Vec::new();
        tail.follow(&b"[ 1.0] Kernel panic - not syncing: no init\nend"[..], None, |what| told.push(what)).await;
        assert!(tail.panicked());
        assert_eq!(told.len(), 3);
        assert_eq!((&told[0], &told[2]), (&Told::FirstByte, &Told::Line("end".to_owned())));
    }

    #[tokio::test]
    async fn the_file_is_bounded_and_the_one_before_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        std::fs::write(&path, "the boot before").unwrap();
        let mut log = LogFile::create_bounded(&path, 10).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("console.log.1")).unwrap(), "the boot before");
        for number in 0..1000 {
            log.write(format!("{number:04}\n").as_bytes()).await.unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0998\n0999\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let tail = SharedTail::new(3);
        let folder_gone = folder.path().join("gone");
        std::fs::create_dir(&folder_gone).unwrap();
        let log = LogFile::create_bounded(&folder_gone.join("console.log"), 0).await.unwrap();
        std::fs::remove_dir_all(&folder_gone).unwrap();
        // What cannot be written is still heard.
        tail.follow(&vec![b'\n'; usize::try_from(FILE_BYTES).unwrap()][..], Some(log), |_| {}).await;
        assert_eq!(tail.lines().len(), 3);
    }
}
