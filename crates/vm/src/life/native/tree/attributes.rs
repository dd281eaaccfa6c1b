//! What a file is beside its content: owner, mode, time and extended attributes.

use std::ffi::OsStr;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use rustix::io::Errno;

/// The kernel's own limit for a list of names, and for one value.
const LIMIT: usize = 64 << 10;
/// A label of the host's security module is the host's, and so is what it signs; a program's capabilities are the
/// container's.
const OF_THE_HOST: &[u8] = b"security.";
const CAPABILITY: &[u8] = b"security.capability";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
    /// Seconds since 1970, and nanoseconds after them.
    pub(super) modified: (i64, u32),
    pub(super) extended: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Of what is there; a link itself, not what it leads to.
    pub(super) fn read(path: &Path, metadata: &Metadata) -> io::Result<Self> {
        Ok(Self {
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            group: metadata.gid(),
            modified: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0)),
            extended: extended(path)?,
        })
    }

    /// Gives them to what was just made.
    pub(super) fn give(&self, path: &Path, is_link: bool) -> io::Result<()> {
        lchown(path, Some(self.owner), Some(self.group))?;
        // After the owner, whose change takes away bits of the mode, and capabilities.
        if !is_link {
            fs::set_permissions(path, Permissions::from_mode(self.mode & 0o7777))?;
        }
        for (name, value) in &self.extended {
            lsetxattr(path, OsStr::from_bytes(name), value, XattrFlags::empty())?;
        }
        let (seconds, nanoseconds) = self.modified;
        let modified = TimeSpec::new(seconds, i64::from(nanoseconds));
        utimensat(nix::fcntl::AT_FDCWD, path, &TimeSpec::UTIME_OMIT, &modified, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }
}

fn extended(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; LIMIT];
    let length = match llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        // A file system without any.
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    names.truncate(length);
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0) {
        if name.is_empty() || name.starts_with(OF_THE_HOST) && name != CAPABILITY {
            continue;
        }
        let mut value = vec![0; LIMIT];
        let length = lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice())?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    // As the file system gives them, which need not be the same twice.
    found.sort();
    Ok(found)
}
