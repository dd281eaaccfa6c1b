//! A folder that nothing done through it can leave.
//!
//! Every path is walked by file descriptors and never through a symbolic link, so that somebody who exchanges folders
//! for links meanwhile wins nothing. Linux checks that itself (`openat2`); elsewhere, and where a sandbox forbids that
//! call, each name is opened on its own.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid},
    io::Errno,
};

use super::{EntryKind, Modified};

/// Longest path given to the system at once.
const PATH_LENGTH: usize = 4_000;

/// Attempts of a walk that somebody else's renaming disturbs.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ATTEMPTS: usize = 64;

#[cfg(any(target_os = "linux", target_os = "android"))]
const FOLDER: OFlags = OFlags::PATH;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const FOLDER: OFlags = OFlags::RDONLY;

/// What is known of a file without opening it.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) kind: EntryKind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) modified: Modified,
    /// The same for all names of one file.
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
    folder: Folder,
    kernel_walks: bool,
}

/// A folder beneath a root.
#[derive(Clone, Debug)]
pub(super) struct Folder(Arc<OwnedFd>);

impl Root {
    /// Opens a folder; a symbolic link in its path is followed, at its end only if `follow`.
    pub(super) fn open(path: &Path, follow: bool) -> io::Result<Self> {
        let mut flags = FOLDER | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        let folder = Folder(Arc::new(fs::open(path, flags, Mode::empty())?));
        let kernel_walks = kernel_walks(&folder);
        Ok(Self { folder, kernel_walks })
    }

    /// Walks name by name even where the system could walk by itself.
    pub(super) fn walk_by_name(&mut self) {
        self.kernel_walks = false;
    }

    /// Opens the folder at `names`, and makes what is missing if `create`.
    pub(super) fn folder(&self, names: &[&[u8]], create: bool) -> io::Result<Folder> {
        let mut folder = self.folder.clone();
        let mut names = names;
        while !names.is_empty() {
            let count = if self.kernel_walks { fitting(names) } else { 1 };
            let (now, later) = names.split_at(count);
            folder = match self.walk(&folder, now) {
                Err(Errno::NOENT) if create => self.make(folder, now)?,
                walked => walked?,
            };
            names = later;
        }
        Ok(folder)
    }

    fn make(&self, mut folder: Folder, names: &[&[u8]]) -> Result<Folder, Errno> {
        for name in names {
            folder = match self.walk(&folder, &[name]) {
                Err(Errno::NOENT) => {
                    match fs::mkdirat(&*folder.0, *name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                    self.walk(&folder, &[name])?
                }
                walked => walked?,
            };
        }
        Ok(folder)
    }

    fn walk(&self, folder: &Folder, names: &[&[u8]]) -> Result<Folder, Errno> {
        let flags = FOLDER | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.kernel_walks {
            use fs::ResolveFlags;
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let path = names.join(&b'/');
            for _ in 0..ATTEMPTS {
                match fs::openat2(&*folder.0, path.as_slice(), flags, Mode::empty(), beneath) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    walked => return walked.map(|fd| Folder(Arc::new(fd))),
                }
            }
        }
        let mut folder = folder.clone();
        for name in names {
            folder = Folder(Arc::new(fs::openat(&*folder.0, *name, flags, Mode::empty())?));
        }
        Ok(folder)
    }
}

/// How many names make a path that the system takes, at least one.
fn fitting(names: &[&[u8]]) -> usize {
    let mut length = 0;
    let too_long = names.iter().position(|name| {
        length += name.len() + 1;
        length > PATH_LENGTH
    });
    too_long.unwrap_or(names.len()).max(1)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kernel_walks(folder: &Folder) -> bool {
    let flags = FOLDER | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Old kernels and sandboxes do not have it; what fails for another reason fails again and is reported then.
    fs::openat2(&*folder.0, ".", flags, Mode::empty(), fs::ResolveFlags::BENEATH).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kernel_walks(_: &Folder) -> bool {
    false
}

impl Folder {
    /// Makes a file that was not there, readable by its owner only.
    pub(super) fn create(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&*self.0, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// Makes a folder. Whether it was not there.
    pub(super) fn create_folder(&self, name: &[u8]) -> io::Result<bool> {
        match fs::mkdirat(&*self.0, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a symbolic link.
    pub(super) fn create_link(&self, name: &[u8], target: &[u8], attributes: &Attributes) -> io::Result<()> {
        fs::symlinkat(target, &*self.0, name)?;
        if let Some((uid, gid)) = attributes.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            fs::chownat(&*self.0, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // Not every file system keeps times of links, and nothing depends on them.
        let _ = fs::utimensat(&*self.0, name, &timestamps(attributes.modified), AtFlags::SYMLINK_NOFOLLOW);
        Ok(())
    }

    /// Gives a file of `from` a further name here; a symbolic link is not followed.
    pub(super) fn create_hard_link(&self, name: &[u8], from: &Self, target: &[u8]) -> io::Result<()> {
        Ok(fs::linkat(&*from.0, target, &*self.0, name, AtFlags::empty())?)
    }

    /// Renames within this folder, over what has the new name unless that is a folder.
    pub(super) fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(&*self.0, from, &*self.0, to)?)
    }

    /// Removes a file or a link.
    pub(super) fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(fs::unlinkat(&*self.0, name, AtFlags::empty())?)
    }

    /// What is at `name`, a link itself if it is one.
    pub(super) fn status(&self, name: &[u8]) -> io::Result<Status> {
        Ok(status(&fs::statat(&*self.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Opens a regular file to read it, with what is known of the file that was opened.
    pub(super) fn open(&self, name: &[u8]) -> io::Result<(File, Status)> {
        // A pipe that took the file's place must not make the opening wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = fs::openat(&*self.0, name, flags, Mode::empty())?;
        let status = status(&fs::fstat(&fd)?);
        Ok((fd.into(), status))
    }

    /// Target of a symbolic link.
    pub(super) fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&*self.0, name, Vec::new()).map(CString::into_bytes)?)
    }

    /// Names in this folder, sorted.
    pub(super) fn names(&self, limit: usize) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut names = Vec::new();
        for entry in fs::Dir::new(fs::openat(&*self.0, ".", flags, Mode::empty())?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                if names.len() >= limit {
                    return Err(io::Error::other("the folder holds too many files"));
                }
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Sets what the folder at `name` gets when all in it is written.
    pub(super) fn finish_folder(&self, attributes: &Attributes) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        finish(fs::openat(&*self.0, ".", flags, Mode::empty())?, attributes)
    }
}

/// The same for all names of one file.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    Ok(status(&fs::fstat(file)?).identity)
}

/// Sets what a file gets when its content is complete.
pub(super) fn finish_file(file: &File, attributes: &Attributes) -> io::Result<()> {
    finish(file, attributes)
}

fn finish(fd: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    if let Some((uid, gid)) = attributes.owner {
        fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fs::fchmod(&fd, Mode::from_raw_mode((attributes.mode & 0o777) as _))?;
    // A time that the file system cannot hold is no reason to lose the file.
    let _ = fs::futimens(&fd, &timestamps(attributes.modified));
    Ok(())
}

fn timestamps(modified: Modified) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds as _, tv_nsec: modified.nanos as _ };
    Timestamps { last_access: time, last_modification: time }
}

#[expect(clippy::allow_attributes, reason = "which conversions change nothing differs between systems")]
#[allow(clippy::unnecessary_cast, clippy::useless_conversion, clippy::cast_sign_loss, clippy::cast_possible_truncation)]
fn status(stat: &fs::Stat) -> Status {
    let kind = match FileType::from_raw_mode(stat.st_mode as _) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Symlink,
        FileType::CharacterDevice => EntryKind::CharacterDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Fifo => EntryKind::Fifo,
        _ => EntryKind::Other(0),
    };
    Status {
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode as u32 & 0o7777,
        uid: stat.st_uid.into(),
        gid: stat.st_gid.into(),
        modified: Modified { seconds: stat.st_mtime as i64, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        identity: (stat.st_dev as u64, stat.st_ino as u64),
    }
}

/// A name in an archive as one of this system.
pub(super) fn system_name(name: &[u8]) -> Option<&OsStr> {
    Some(OsStr::from_bytes(name))
}

/// A name of this system as one in an archive.
pub(super) fn archive_name(name: &OsStr) -> Option<&[u8]> {
    Some(name.as_bytes())
}

/// The way is blocked by something that is no folder, or no folder may be where a file is to be.
pub(super) fn is_in_the_way(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::XDEV | Errno::EXIST | Errno::NOTEMPTY | Errno::MLINK)
    )
}

/// The name is one that the file system does not take.
pub(super) fn is_refused_name(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NAMETOOLONG | Errno::ILSEQ | Errno::INVAL))
}
