//! An engine's data into one file: the files of the native one, or a machine's data disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use rustix::fs::{CWD, RenameFlags, SeekFrom, renameat_with, seek};
use rustix::io::Errno;

use super::archive::{BackupManifest, BackupWriter, MACHINE, PART};
use super::error::LifeError;
use super::{Cancel, beside, is_ours, native, sync_folder, take};
use crate::backend::disk_in_use;
use crate::paths::EnginePaths;

/// What was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The disk's size; for files, what they are together.
    pub disk_bytes: u64,
    /// The bytes that were kept; what is all zero on a disk was not.
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
/// The engine runs, the file exists (unless `force`), there is no room, or `cancel` said so.
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
    if paths.distributions_file().exists() {
        return Err(LifeError::Distribution(paths.distribution_names().1));
    }
    let to = std::path::absolute(to).map_err(LifeError::file("find", to))?;
    let target = Target { to: &to, force };
    target.refuse_existing()?;
    let Some(disk) = open_disk(paths)? else { return native::backup(paths, target, cancel, progress) };
    let metadata = disk.metadata().map_err(LifeError::file("look at", &paths.data_disk()))?;
    let extents = extents(&disk, metadata.len()).map_err(LifeError::file("read", &paths.data_disk()))?;
    let used = extents.iter().map(|(from, until)| until - from).sum();
    let manifest = BackupManifest::new(paths, MACHINE, metadata.len(), used);
    let partial = target.open(used.min(metadata.blocks().saturating_mul(512)))?;
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
    target.finish(partial, cancel)?;
    Ok(BackupReport { disk_bytes: metadata.len(), kept_bytes: kept, file_bytes })
}

/// The file that a backup becomes.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    to: &'a Path,
    force: bool,
}

impl Target<'_> {
    fn refuse_existing(self) -> Result<(), LifeError> {
        let exists = !self.force && fs::symlink_metadata(self.to).is_ok();
        if exists { Err(LifeError::Exists(self.to.to_path_buf())) } else { Ok(()) }
    }

    /// What is written meanwhile, if there is room. What is packed is rarely more than it was; how much less it is,
    /// nobody knows before.
    pub(super) fn open(self, needed: u64) -> Result<Partial, LifeError> {
        let partial = Partial::open(beside(self.to, ".partial"))?;
        let folder = self.folder();
        let free = free_bytes(folder)?;
        if free < needed {
            return Err(LifeError::NoRoom { folder: folder.to_path_buf(), free, needed });
        }
        Ok(partial)
    }

    pub(super) fn finish(self, partial: Partial, cancel: &Cancel) -> Result<(), LifeError> {
        partial.file.sync_all().map_err(LifeError::file("write", &partial.path))?;
        cancel.check()?;
        partial.become_whole(self.to, self.force)?;
        sync_folder(self.folder())
    }

    fn folder(&self) -> &Path {
        self.to.parent().unwrap_or(Path::new("/"))
    }
}

/// The disk, of an engine that has one and nobody who uses it; none if its data are files.
fn open_disk(paths: &EnginePaths) -> Result<Option<File>, LifeError> {
    let path = paths.data_disk();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return if paths.data().join("docker").exists() { Ok(None) } else { Err(LifeError::NoData(path)) };
        }
        opened => opened.map_err(LifeError::file("open", &path))?,
    };
    if !file.metadata().map_err(LifeError::file("look at", &path))?.is_file() {
        return Err(LifeError::LeadsElsewhere(path));
    }
    if disk_in_use(&file) { Err(LifeError::DiskInUse(path)) } else { Ok(Some(file)) }
}

/// Where a file has bytes; in between are holes.
pub(super) fn extents(disk: &File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < length {
        let from = match seek(disk, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => break,
            // A file system without holes.
            Err(Errno::INVAL) => return Ok(vec![(0, length)]),
            Err(errno) => return Err(errno.into()),
        };
        let until = seek(disk, SeekFrom::Hole(from))?.min(length);
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
    crate::room::free_bytes(folder).map_err(LifeError::file("look for room in", folder))
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
            match renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(LifeError::Exists(to.to_path_buf())),
                // A file system without it.
                Err(Errno::INVAL | Errno::NOTSUP) if fs::symlink_metadata(to).is_err() => fs::rename(&self.path, to),
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
