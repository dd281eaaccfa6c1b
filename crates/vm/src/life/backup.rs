//! A machine's data disk into one file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, RenameFlags, renameat2};
use nix::unistd::{Whence, lseek};

use super::archive::{BackupManifest, BackupWriter, DATA_FORMAT, FORMAT, PART};
use super::error::LifeError;
use super::{Cancel, beside, is_ours, sync_folder, take};
use crate::backend::disk_in_use;
use crate::paths::EnginePaths;
use crate::supervisor::read_state;

/// What was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The disk's size.
    pub disk_bytes: u64,
    /// The bytes on it that were kept; what is all zero was not.
    pub kept_bytes: u64,
    /// The file's size.
    pub file_bytes: u64,
}

/// Writes the data of an engine that does not run into one file, which is there whole or not at all.
///
/// `progress` is told how many bytes of how many have been read.
///
/// # Errors
///
/// The engine runs or has no machine, the file exists (unless `force`), there is no room, or `cancel` said so.
pub fn backup(
    paths: &EnginePaths,
    to: &Path,
    force: bool,
    cancel: &Cancel,
    mut progress: impl FnMut(u64, u64),
) -> Result<BackupReport, LifeError> {
    if !is_ours(paths) {
        return Err(LifeError::NoData(paths.data().to_path_buf()));
    }
    let _lock = take(paths)?;
    super::refuse_half_reset(paths)?;
    let disk = open_disk(paths)?;
    let to = std::path::absolute(to).map_err(LifeError::file("find", to))?;
    if !force && fs::symlink_metadata(&to).is_ok() {
        return Err(LifeError::Exists(to));
    }
    let metadata = disk.metadata().map_err(LifeError::file("look at", &paths.data_disk()))?;
    let extents = extents(&disk, metadata.len()).map_err(LifeError::file("read", &paths.data_disk()))?;
    let used = extents.iter().map(|(from, until)| until - from).sum();
    let manifest = BackupManifest {
        format: FORMAT,
        backend: "qemu".to_owned(),
        data_format: DATA_FORMAT,
        disk_bytes: metadata.len(),
        used_bytes: used,
        versions: read_state(paths).unwrap_or_default().versions,
        berth: env!("CARGO_PKG_VERSION").to_owned(),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    let partial = Partial::open(beside(&to, ".partial"))?;
    let folder = to.parent().unwrap_or(Path::new("/"));
    // What is packed is rarely more than it was; how much less it is, nobody knows before.
    let needed = used.min(metadata.blocks().saturating_mul(512));
    let free = free_bytes(folder)?;
    if free < needed {
        return Err(LifeError::NoRoom { folder: folder.to_path_buf(), free, needed });
    }
    let written = |error| LifeError::file("write", &partial.path)(error);
    let mut writer = BackupWriter::new(BufWriter::new(&*partial.file), &manifest).map_err(written)?;
    let (mut done, mut kept) = (0, 0);
    let mut buffer = vec![0; PART];
    for (from, until) in extents {
        let mut at = from;
        while at < until {
            cancel.check()?;
            let length = usize::try_from(until - at).unwrap_or(PART).min(PART);
            let Some(part) = buffer.get_mut(..length) else { break };
            disk.read_exact_at(part, at).map_err(LifeError::file("read", &paths.data_disk()))?;
            if part.iter().any(|&byte| byte != 0) {
                writer.part(at, part).map_err(written)?;
                kept += length as u64;
            }
            at += length as u64;
            done += length as u64;
            progress(done, used);
        }
    }
    let (mut buffered, file_bytes) = writer.finish().map_err(written)?;
    buffered.flush().map_err(written)?;
    drop(buffered);
    partial.file.sync_all().map_err(written)?;
    cancel.check()?;
    partial.become_whole(&to, force)?;
    sync_folder(folder)?;
    Ok(BackupReport { disk_bytes: metadata.len(), kept_bytes: kept, file_bytes })
}

/// The disk, of an engine that has one and nobody who uses it.
fn open_disk(paths: &EnginePaths) -> Result<File, LifeError> {
    let path = paths.data_disk();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let native = paths.data().join("docker");
            return Err(if native.exists() { LifeError::NativeData(native) } else { LifeError::NoData(path) });
        }
        opened => opened.map_err(LifeError::file("open", &path))?,
    };
    if !file.metadata().map_err(LifeError::file("look at", &path))?.is_file() {
        return Err(LifeError::LeadsElsewhere(path));
    }
    if disk_in_use(&file) { Err(LifeError::DiskInUse(path)) } else { Ok(file) }
}

/// Where the disk has bytes; in between are holes.
fn extents(disk: &File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let offset = |at: u64| i64::try_from(at).map_err(io::Error::other);
    let mut found = Vec::new();
    let mut at = 0;
    while at < length {
        let from = match lseek(disk, offset(at)?, Whence::SeekData) {
            Ok(from) => u64::try_from(from).map_err(io::Error::other)?,
            Err(Errno::ENXIO) => break,
            // A file system without holes.
            Err(Errno::EINVAL) => return Ok(vec![(0, length)]),
            Err(errno) => return Err(errno.into()),
        };
        let until = lseek(disk, offset(from)?, Whence::SeekHole)?;
        let until = u64::try_from(until).map_err(io::Error::other)?.min(length);
        if until <= from {
            break;
        }
        found.push((from, until));
        at = until;
    }
    Ok(found)
}

/// What is free for this user.
pub(super) fn free_bytes(folder: &Path) -> Result<u64, LifeError> {
    let room = nix::sys::statvfs::statvfs(folder);
    let room = room.map_err(|errno| LifeError::file("look for room in", folder)(errno.into()))?;
    Ok(room.blocks_available().saturating_mul(room.fragment_size()))
}

/// A file that is gone again unless it becomes whole.
pub(super) struct Partial {
    pub(super) file: Flock<File>,
    pub(super) path: PathBuf,
    is_whole: bool,
}

impl Partial {
    pub(super) fn open(path: PathBuf) -> Result<Self, LifeError> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits());
        let file = options.open(&path).map_err(LifeError::file("create", &path))?;
        if !file.metadata().map_err(LifeError::file("look at", &path))?.is_file() {
            return Err(LifeError::Exists(path));
        }
        let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Err(LifeError::DiskInUse(path));
        };
        let partial = Self { file, path, is_whole: false };
        // One that was killed may have left it, with any mode.
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        let emptied = partial.file.set_len(0).and_then(|()| partial.file.set_permissions(owner_only));
        emptied.map_err(LifeError::file("write", &partial.path))?;
        Ok(partial)
    }

    /// Takes its name, which was free or is to be replaced.
    pub(super) fn become_whole(mut self, to: &Path, force: bool) -> Result<(), LifeError> {
        let renamed = if force {
            fs::rename(&self.path, to)
        } else {
            match renameat2(AT_FDCWD, &self.path, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EEXIST) => return Err(LifeError::Exists(to.to_path_buf())),
                // A file system without it.
                Err(Errno::EINVAL) if fs::symlink_metadata(to).is_err() => fs::rename(&self.path, to),
                renamed => renamed.map_err(io::Error::from),
            }
        };
        renamed.map_err(LifeError::file("create", to))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
