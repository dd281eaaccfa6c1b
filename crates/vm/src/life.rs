//! What becomes of an engine's data while the engine does not run: forgotten, kept in one file, brought back.

mod archive;
mod backup;
mod error;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(not(target_os = "linux"))]
#[path = "life/mounts_elsewhere.rs"]
mod mounts;
#[cfg(target_os = "linux")]
mod native;
#[cfg(not(target_os = "linux"))]
#[path = "life/native_elsewhere.rs"]
mod native;
mod reset;
mod restore;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::lock::{EngineLock, guest_lives};
use crate::paths::EnginePaths;

pub use backup::{BackupReport, backup};
pub use error::LifeError;
pub(crate) use native::finish_restore;
pub use reset::{ResetReport, ResetScope, reset};
pub use restore::{RestoreReport, restore};

/// Lets one thread tell another to leave off.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whoever works has to leave off at the next chance.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), LifeError> {
        if self.0.load(Ordering::Relaxed) { Err(LifeError::Cancelled) } else { Ok(()) }
    }
}

/// Where the files go that a reset removes, and whose presence says that a reset was not finished.
const RESET_FOLDER: &str = ".reset";
/// Files of the native engine that are being made; worth nothing.
const MAKING: &str = ".restore";
/// What was replaced by such files; worth nothing.
const REPLACED: &str = ".replaced";

/// Refuses to start on what a reset has left half-way.
pub(crate) fn refuse_half_reset(paths: &EnginePaths) -> Result<(), crate::Error> {
    let folder = paths.data().join(RESET_FOLDER);
    if fs::symlink_metadata(&folder).is_ok() { Err(crate::Error::HalfReset { folder }) } else { Ok(()) }
}

/// The exclusive right to the data of an engine that does not run.
fn take(paths: &EnginePaths) -> Result<EngineLock, LifeError> {
    let lock = EngineLock::take(paths).map_err(|error| match error {
        crate::Error::Locked { data, pid } => LifeError::Running { data, pid },
        error => LifeError::Engine(error),
    })?;
    if guest_lives(paths) {
        return Err(LifeError::Running { data: paths.data().to_path_buf(), pid: None });
    }
    finish_restore(paths)?;
    Ok(lock)
}

/// Has a system image that was rolled back tried again at the next start.
///
/// # Errors
///
/// The engine runs, or it cannot be written down.
pub fn retry_image(paths: &EnginePaths) -> Result<(), LifeError> {
    if !is_ours(paths) {
        return Ok(());
    }
    let _lock = take(paths)?;
    Ok(crate::slots::forgive(paths)?)
}

/// Refuses a folder with a mount below it: what is removed or kept would be what is mounted.
fn refuse_mounts(paths: &EnginePaths) -> Result<(), LifeError> {
    mounts::mounted_in(paths.data())?.map_or(Ok(()), |mount| Err(LifeError::LeadsElsewhere(mount)))
}

/// Whether Berth ever ran an engine in this folder.
fn is_ours(paths: &EnginePaths) -> bool {
    let files = [paths.lock_file(), paths.settings_file(), paths.state_file()];
    files.iter().any(|file| fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_file()))
}

fn sync_folder(path: &Path) -> Result<(), LifeError> {
    fs::File::open(path).and_then(|folder| folder.sync_all()).map_err(LifeError::file("write out", path))
}

fn remove(path: &Path) -> Result<(), LifeError> {
    let is_folder = fs::symlink_metadata(path).map_err(LifeError::file("look at", path))?.is_dir();
    // Neither follows a link inside.
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(LifeError::file("remove", path))
}

/// Whether it is there, and is no link.
fn refuse_link(path: &Path) -> Result<bool, LifeError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(LifeError::LeadsElsewhere(path.to_path_buf())),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LifeError::file("look at", path)(error)),
    }
}

/// A path with something after its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
