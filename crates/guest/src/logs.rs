//! A service's output, kept in two files of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

const LIMIT: u64 = 4 << 20;

/// Copies everything to `<folder>/<name>.log` until its end. A full or broken disk must not stop the service,
/// so what cannot be written is dropped.
pub(crate) fn keep(mut from: impl Read, folder: &Path, name: &str) {
    let mut log = Log::open(folder, name);
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => log.write(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    written: u64,
}

impl Log {
    fn open(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&path).ok();
        let written = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        Self { path, file, written }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.written >= LIMIT {
            let _ = fs::rename(&self.path, self.path.with_extension("log.1"));
            self.file = File::create(&self.path).ok();
            self.written = 0;
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, keep};

    #[test]
    fn a_log_never_outgrows_two_files() {
        let folder = std::env::temp_dir().join(format!("berth-logs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let flood = vec![b'x'; usize::try_from(LIMIT).unwrap() * 3];
        keep(flood.as_slice(), &folder, "dockerd");
        let total: u64 = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(total <= 2 * LIMIT + 16384, "{total}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
