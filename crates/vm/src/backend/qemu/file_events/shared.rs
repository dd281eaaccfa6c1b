//! Shared folders as this computer has them. Names that the guest gives are looked up in them and nowhere else.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::backend::Share;

/// As many as the kernel follows.
const LINKS: usize = 40;

/// One that can be written to.
#[derive(Debug)]
pub(super) struct Shared {
    /// Its name, for the guest as well.
    path: PathBuf,
    folder: OwnedFd,
}

/// Neither a link nor `..` leads out of it, whoever changes what is in it meanwhile.
pub(super) fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

impl Shared {
    /// Those that are there.
    pub(super) fn open(shares: &[Share]) -> Vec<Self> {
        let opened = shares.iter().filter_map(|share| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = openat(CWD, &share.path, flags, Mode::empty()).ok()?;
            Some(Self { path: share.path.clone(), folder })
        });
        opened.collect()
    }

    /// What the guest has mounted in a container by that name, with links followed as it follows them; none if that is in no
    /// share, or gone.
    pub(super) fn find(shares: &[Self], source: &Path) -> Option<(PathBuf, Result<OwnedFd, Errno>)> {
        let mut path = plain(source)?;
        for _ in 0..LINKS {
            let inside = |share: &Self| path.strip_prefix(&share.path).map(Path::to_path_buf).ok();
            let (share, inside) = shares.iter().find_map(|share| Some((share, inside(share)?)))?;
            match share.look_up(&inside) {
                Ok(Found::File(file)) => return Some((path, Ok(file))),
                Ok(Found::Link(leads)) => path = plain(&share.path.join(leads))?,
                Err(Errno::NOENT | Errno::NOTDIR) => return None,
                Err(error) => return Some((path, Err(error))),
            }
        }
        None
    }

    fn look_up(&self, inside: &Path) -> Result<Found, Errno> {
        let mut path = PathBuf::new();
        let mut file = self.open_inside(Path::new("."))?;
        let mut parts = inside.components();
        while let Some(part) = parts.next() {
            let folder = path.clone();
            path.push(part);
            file = self.open_inside(&path)?;
            if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Symlink {
                let target = readlinkat(&file, "", Vec::new())?;
                return Ok(Found::Link(folder.join(OsStr::from_bytes(target.as_bytes())).join(parts.as_path())));
            }
        }
        Ok(Found::File(file))
    }

    fn open_inside(&self, path: &Path) -> Result<OwnedFd, Errno> {
        openat2(&self.folder, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), beneath())
    }
}

enum Found {
    File(OwnedFd),
    /// Where it leads, from the share if not from the root.
    Link(PathBuf),
}

/// Without `.` and `..`.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain.is_absolute().then_some(plain)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Shared;
    use crate::backend::Share;

    #[test]
    fn a_mount_is_found_where_its_name_leads_in_shares_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("home/project/src")).unwrap();
        std::fs::create_dir_all(at("other/inside")).unwrap();
        for (to, link) in [
            (PathBuf::from("project"), "home/link"),
            (at("home/link"), "home/absolute"),
            ("../home/project".into(), "home/back"),
            (at("other"), "home/out"),
            ("../../other".into(), "home/project/up"),
            ("loop".into(), "home/loop"),
            (at("home"), "named"),
        ] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        let share = |path: &str| Share { path: at(path), read_only: false };
        let shares = Shared::open(&[share("home"), share("gone")]);
        assert_eq!(shares.len(), 1);
        let found = |source: PathBuf| {
            let (path, opened) = Shared::find(&shares, &source)?;
            opened.unwrap();
            Some(path)
        };
        for name in
            ["home/project/src", "home/link/src", "home/absolute/src", "home/back/src", "home/./link/../link/src"]
        {
            assert_eq!(found(at(name)), Some(at("home/project/src")), "{name}");
        }
        assert_eq!(found(at("home")), Some(at("home")));
        for name in ["home/out", "home/out/inside", "home/project/up", "home/missing", "home/loop", "other", "named"] {
            assert_eq!(found(at(name)), None, "{name}");
        }
        for other in ["/", "relative", "", "/proc/self/cwd"] {
            assert_eq!(found(other.into()), None, "{other}");
        }
    }
}
