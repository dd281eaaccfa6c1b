//! A folder that nothing done through it can leave, where files are known by path alone.
//!
//! Each name of a path is looked at before the path is used, and a link is refused. Somebody who exchanges a folder for
//! a link between the look and the use can win against that; to do so he must already be able to write there.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{EntryKind, Modified};

/// What is known of a file without opening it.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) kind: EntryKind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) modified: Modified,
    /// Nothing here tells files apart.
    pub(super) identity: (u64, u64),
}

/// What a file gets when its content is complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) modified: Modified,
    pub(super) owner: Option<(u32, u32)>,
}

/// The folder to stay in.
#[derive(Debug)]
pub(super) struct Root {
    path: Arc<PathBuf>,
}

/// A folder beneath a root.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: Arc<PathBuf>,
    path: PathBuf,
}

impl Root {
    /// Opens a folder; a symbolic link in its path is followed, at its end only if `follow`.
    pub(super) fn open(path: &Path, follow: bool) -> io::Result<Self> {
        let found = if follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        if !found.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: Arc::new(fs::canonicalize(path)?) })
    }

    /// It does so anyway.
    pub(super) fn walk_by_name(&mut self) {}

    /// Opens the folder at `names`, and makes what is missing if `create`.
    pub(super) fn folder(&self, names: &[&[u8]], create: bool) -> io::Result<Folder> {
        let mut path = (*self.path).clone();
        for name in names {
            path.push(system_name(name).ok_or(io::ErrorKind::InvalidFilename)?);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound && create => fs::create_dir(&path)?,
                Err(error) => return Err(error),
            }
        }
        Ok(Folder { root: Arc::clone(&self.path), path })
    }
}

impl Folder {
    /// Path of a name in this folder, after another look at the way to it.
    fn at(&self, name: &[u8]) -> io::Result<PathBuf> {
        let mut way = (*self.root).clone();
        for part in self.path.strip_prefix(&*self.root).unwrap_or(Path::new("")) {
            way.push(part);
            if !fs::symlink_metadata(&way)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        Ok(self.path.join(system_name(name).ok_or(io::ErrorKind::InvalidFilename)?))
    }

    /// Makes a file that was not there.
    pub(super) fn create(&self, name: &[u8]) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(self.at(name)?)
    }

    /// Makes a folder. Whether it was not there.
    pub(super) fn create_folder(&self, name: &[u8]) -> io::Result<bool> {
        match fs::create_dir(self.at(name)?) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Symbolic links need a privilege on Windows, and to know what they lead to.
    pub(super) fn create_link(&self, _: &[u8], _: &[u8], _: &Attributes) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives a file of `from` a further name here.
    pub(super) fn create_hard_link(&self, name: &[u8], from: &Self, target: &[u8]) -> io::Result<()> {
        fs::hard_link(from.at(target)?, self.at(name)?)
    }

    /// Renames within this folder, over what has the new name unless that is a folder.
    pub(super) fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        fs::rename(self.at(from)?, self.at(to)?)
    }

    /// Removes a file or a link.
    pub(super) fn remove(&self, name: &[u8]) -> io::Result<()> {
        fs::remove_file(self.at(name)?)
    }

    /// What is at `name`, a link itself if it is one.
    pub(super) fn status(&self, name: &[u8]) -> io::Result<Status> {
        Ok(status(&fs::symlink_metadata(self.at(name)?)?))
    }

    /// Opens a regular file to read it, with what is known of the file that was opened.
    pub(super) fn open(&self, name: &[u8]) -> io::Result<(File, Status)> {
        let path = self.at(name)?;
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::open(path)?;
        let status = status(&file.metadata()?);
        Ok((file, status))
    }

    /// Target of a symbolic link, with the slashes of archives.
    pub(super) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let target = fs::read_link(self.at(name)?)?;
        Ok(target.to_str().ok_or(io::ErrorKind::InvalidFilename)?.replace('\\', "/").into_bytes())
    }

    /// Names in this folder, sorted.
    pub(super) fn names(&self, limit: usize) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if names.len() >= limit {
                return Err(io::Error::other("the folder holds too many files"));
            }
            names.push(entry?.file_name());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Folders keep no time of an archive here.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same signature as where folders do")]
    pub(super) fn finish_folder(&self, _: &Attributes) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing here tells files apart.
#[expect(clippy::unnecessary_wraps, reason = "the same signature as where it can fail")]
pub(super) fn identity(_: &File) -> io::Result<(u64, u64)> {
    Ok((0, 0))
}

/// Sets what a file gets when its content is complete.
#[expect(clippy::unnecessary_wraps, reason = "the same signature as where it can fail")]
pub(super) fn finish_file(file: &File, attributes: &Attributes) -> io::Result<()> {
    let Modified { seconds, nanos } = attributes.modified;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    // A time that the file system cannot hold is no reason to lose the file.
    if let Some(time) = base.and_then(|base| base.checked_add(Duration::from_nanos(nanos.into()))) {
        let _ = file.set_modified(time);
    }
    Ok(())
}

fn status(found: &Metadata) -> Status {
    let kind = match found.file_type() {
        kind if kind.is_symlink() => EntryKind::Symlink,
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_file() => EntryKind::File,
        _ => EntryKind::Other(0),
    };
    let since = found.modified().unwrap_or(UNIX_EPOCH).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Status {
        kind,
        size: found.len(),
        // As the Docker CLI does there: everything can be run.
        mode: 0o755,
        uid: 0,
        gid: 0,
        modified: Modified { seconds: since.as_secs().cast_signed(), nanos: since.subsec_nanos() },
        identity: (0, 0),
    }
}

/// A name in an archive as one of this system.
pub(super) fn system_name(name: &[u8]) -> Option<&OsStr> {
    std::str::from_utf8(name).ok().map(OsStr::new)
}

/// A name of this system as one in an archive.
pub(super) fn archive_name(name: &OsStr) -> Option<&[u8]> {
    name.to_str().map(str::as_bytes)
}

/// The way is blocked by something that is no folder, or no folder may be where a file is to be.
pub(super) fn is_in_the_way(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory)
}

/// The name is one that the file system does not take.
pub(super) fn is_refused_name(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn refuses_links_on_the_way() {
        let outer = tempfile::tempdir().unwrap();
        let inside = outer.path().join("inside");
        fs::create_dir_all(inside.join("real")).unwrap();
        fs::create_dir(outer.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("../outside", inside.join("link")).unwrap();
        let root = Root::open(&inside, true).unwrap();
        assert!(is_in_the_way(&root.folder(&[b"link"], true).unwrap_err()));
        assert!(is_in_the_way(&root.folder(&[b"link", b"x"], true).unwrap_err()));
        let folder = root.folder(&[b"real", b"new"], true).unwrap();
        folder.create(b"file").unwrap();
        assert!(folder.create(b"file").is_err(), "nothing is written over");
        fs::rename(inside.join("real"), inside.join("moved")).unwrap();
        std::os::unix::fs::symlink("../outside", inside.join("real")).unwrap();
        fs::create_dir(outer.path().join("outside/new")).unwrap();
        assert!(folder.create(b"other").is_err(), "the way is looked at again");
        assert_eq!(fs::read_dir(outer.path().join("outside/new")).unwrap().count(), 0);
    }
}
