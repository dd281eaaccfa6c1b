//! Who owns a data folder. A lock ends with its process, whatever happens to it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;
use crate::paths::EnginePaths;

/// The exclusive right to run the engine of a data folder.
#[derive(Debug)]
pub(crate) struct EngineLock {
    _file: Flock<File>,
}

impl EngineLock {
    /// Takes the lock, or says which process has it.
    pub(crate) fn take(paths: &EnginePaths) -> Result<Self, Error> {
        let path = paths.lock_file();
        let file = open(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let written = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(Error::file("write", &path))?;
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // Only for the message; the lock itself is what counts.
                let _ = std::io::Read::by_ref(&mut file).take(32).read_to_string(&mut text);
                Err(Error::Locked { data: paths.data().to_path_buf(), pid: text.trim().parse().ok() })
            }
            Err((_, errno)) => Err(Error::File { what: "lock", path, source: errno.into() }),
        }
    }
}

/// Whether a guest still uses the data folder: it may outlive its supervisor while it shuts down.
pub(crate) fn guest_lives(paths: &EnginePaths) -> bool {
    let Ok(file) = File::open(paths.guest_lock_file()) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Blocks until no guest uses the data folder.
pub(crate) fn wait_for_guest(paths: &EnginePaths) {
    if let Ok(file) = File::open(paths.guest_lock_file()) {
        let _ = Flock::lock(file, FlockArg::LockShared);
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(Error::file("open", path))
}

#[cfg(test)]
mod tests {
    use super::EngineLock;
    use crate::error::Error;
    use crate::paths::EnginePaths;

    #[test]
    fn one_data_folder_has_one_owner_and_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let paths = EnginePaths::new(Some(folder.path().to_path_buf())).unwrap();
        let held = EngineLock::take(&paths).unwrap();
        let error = EngineLock::take(&paths).unwrap_err();
        assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
        drop(held);
        EngineLock::take(&paths).unwrap();
    }
}
