//! Replacing a file of Docker's without anybody ever seeing a part of it, or losing what somebody else wrote.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::ContextWriteError as Problem;
use crate::context::ContextProblem;

/// The only one of Berth's that writes below a folder, as long as it lives.
pub(super) struct Turn {
    _folder: Option<File>,
}

impl Turn {
    /// Makes the folder, for its owner alone, if it is missing.
    pub(super) fn take(folder: &Path) -> Result<Self, Problem> {
        create_folder(folder)?;
        refuse_other_user(folder)?;
        // A system that cannot lock a folder has the comparison before each replacement.
        let opened = File::open(folder).ok().filter(|folder| folder.lock().is_ok());
        Ok(Self { _folder: opened })
    }
}

/// Puts these bytes into the file's place if it still holds what was read, and says whether it did.
///
/// A link stays a link; the file keeps its mode and its group, or is for its owner alone.
pub(super) fn replace(path: &Path, read: Option<&[u8]>, bytes: &[u8]) -> Result<bool, Problem> {
    let path = &resolve(path)?;
    let failed = |source| Problem::File { verb: "write", path: path.clone(), source };
    let folder = path.parent().ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
    refuse_other_user(folder)?;
    let before = match fs::metadata(path) {
        // Opening a pipe would wait for its other end.
        Ok(metadata) if !metadata.is_file() => return Err(ContextProblem::NotAFile { path: path.clone() }.into()),
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if before.is_some() {
        refuse_other_user(path)?;
    }
    let fresh = Fresh::create(path).map_err(failed)?;
    let written = (&fresh.file).write_all(bytes).and_then(|()| match &before {
        Some(before) => keep_mode(&fresh.file, path, before),
        None => Ok(()),
    });
    written.and_then(|()| fresh.file.sync_all()).map_err(failed)?;
    // What is compared here and what is replaced below are one, but for the moment between the two calls.
    if !still_holds(path, read).map_err(failed)? {
        return Ok(false);
    }
    fresh.become_it(path).map_err(failed)?;
    sync_folder(folder).map_err(failed)?;
    Ok(true)
}

fn still_holds(path: &Path, read: Option<&[u8]>) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(read.is_none()),
        Err(error) => return Err(error),
    };
    let Some(read) = read else { return Ok(false) };
    let mut now = zeroize::Zeroizing::new(Vec::with_capacity(read.len() + 2));
    file.take(read.len() as u64 + 1).read_to_end(&mut now)?;
    Ok(*now == read)
}

/// Removes a file, and the folder it was alone in.
pub(super) fn remove(path: &Path) -> Result<(), Problem> {
    refuse_other_user(path)?;
    fs::remove_file(path).map_err(|source| Problem::File { verb: "remove", path: path.to_owned(), source })?;
    if let Some(folder) = path.parent() {
        // Whatever else lies there is somebody's.
        let _ = fs::remove_dir(folder);
        let _ = folder.parent().map(sync_folder);
    }
    Ok(())
}

pub(super) fn create_folder(folder: &Path) -> Result<(), Problem> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    // In somebody else's home nothing is made either.
    if let Some(there) = folder.ancestors().find(|path| path.exists()).filter(|&there| there != folder) {
        refuse_other_user(there)?;
    }
    builder.create(folder).map_err(|source| Problem::File { verb: "create", path: folder.to_owned(), source })
}

/// The file itself, where a link leads to it.
fn resolve(path: &Path) -> Result<PathBuf, Problem> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() => {
            Err(Problem::LeadsNowhere(path.to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(source) => Err(Problem::File { verb: "find", path: path.to_owned(), source }),
    }
}

/// The new file beside the old one; gone again unless it takes its place.
struct Fresh {
    file: File,
    path: PathBuf,
    is_placed: bool,
}

impl Fresh {
    fn create(beside: &Path) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(beside.file_name().unwrap_or_default());
        name.push(".berth-new");
        let path = beside.with_file_name(name);
        // One that was killed has left it. Whoever writes now has the turn.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        Ok(Self { file, path, is_placed: false })
    }

    fn become_it(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The mode and the group of before; what cannot be kept exactly becomes narrower, never wider.
#[cfg(unix)]
fn keep_mode(file: &File, old: &Path, before: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    const OWNER: u32 = 0o700;
    let mut mode = before.mode() & 0o777;
    let has_group =
        file.metadata()?.gid() == before.gid() || std::os::unix::fs::fchown(file, None, Some(before.gid())).is_ok();
    if !has_group || has_list(old) {
        mode &= OWNER;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// A list of who may read is more than a mode can say.
#[cfg(target_os = "linux")]
fn has_list(path: &Path) -> bool {
    rustix::fs::getxattr_query(path, "system.posix_acl_access").is_ok()
}

#[cfg(all(unix, not(target_os = "linux")))]
fn has_list(_path: &Path) -> bool {
    false
}

#[cfg(not(unix))]
fn keep_mode(_file: &File, _old: &Path, _before: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// Root's files in a person's folder would keep that person out.
#[cfg(unix)]
fn refuse_other_user(path: &Path) -> Result<(), Problem> {
    let found = fs::metadata(path);
    let found = found.map_err(|source| Problem::File { verb: "look at", path: path.to_owned(), source })?;
    let (owner, user) = (std::os::unix::fs::MetadataExt::uid(&found), rustix::process::geteuid().as_raw());
    if owner == user { Ok(()) } else { Err(Problem::OtherUser { path: path.to_owned(), owner, user }) }
}

#[cfg(not(unix))]
fn refuse_other_user(_path: &Path) -> Result<(), Problem> {
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
