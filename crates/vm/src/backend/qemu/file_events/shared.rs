//! Shared folders as this computer has them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::backend::Share;

/// One that can be written to.
#[derive(Debug)]
pub(super) struct Shared {
    /// Its name, for the guest as well.
    path: PathBuf,
    /// Where that leads here.
    real: PathBuf,
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
            let real = share.path.canonicalize().ok()?;
            let folder = openat(CWD, &real, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
            Some(Self { path: share.path.clone(), real, folder })
        });
        opened.collect()
    }

    /// What the guest has mounted in a container by that name, and the same here; none if it is in no share.
    pub(super) fn find(shares: &[Self], source: &Path) -> Option<(PathBuf, io::Result<OwnedFd>)> {
        // With a link in it, the guest follows that; both see the same links.
        let real = source.canonicalize().ok()?;
        let (share, inside) = shares.iter().find_map(|share| Some((share, real.strip_prefix(&share.real).ok()?)))?;
        let (path, inside) = match inside.as_os_str().is_empty() {
            true => (share.path.clone(), Path::new(".")),
            false => (share.path.join(inside), inside),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Some((path, openat2(&share.folder, inside, flags, Mode::empty(), beneath()).map_err(io::Error::from)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::Shared;
    use crate::backend::Share;

    #[test]
    fn a_mount_is_found_by_where_its_name_leads() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().canonicalize().unwrap().join(path);
        std::fs::create_dir_all(at("real/project/src")).unwrap();
        std::fs::create_dir_all(at("other")).unwrap();
        for (to, link) in [("real", "home"), ("real/project", "real/link"), ("other", "real/out")] {
            std::os::unix::fs::symlink(at(to), at(link)).unwrap();
        }
        let shares = [Share { path: at("home"), read_only: false }, Share { path: at("gone"), read_only: false }];
        let shares = Shared::open(&shares);
        assert_eq!(shares.len(), 1);
        let found = |source: PathBuf| {
            let (path, opened) = Shared::find(&shares, &source)?;
            opened.unwrap();
            Some(path)
        };
        assert_eq!(found(at("home/project/src")), Some(at("home/project/src")));
        assert_eq!(found(at("home/link/src")), Some(at("home/project/src")), "as the guest resolves it");
        assert_eq!(found(at("home")), Some(at("home")));
        for outside in [at("home/out"), at("other"), at("home/missing"), "/".into(), "relative".into()] {
            assert_eq!(found(outside.clone()), None, "{}", outside.display());
        }
        assert!(Shared::find(&shares, Path::new("")).is_none());
    }
}
