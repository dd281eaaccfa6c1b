//! Files of shared folders that changed on the host: makes this kernel tell those who watch them.
//!
//! A change that comes through virtiofs makes no event here. What does, and changes nothing, is setting a file's times to
//! what they are: `IN_ATTRIB`, for its own watchers and under its name for those of its folder. Both times, for one
//! alone is another event: of reading, which nobody listens to, or of writing, which the host would hear as one more
//! change. A file that is gone has no times: its folder is touched, and whoever watches that reads it anew.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps, linkat, openat, openat2, statx,
    utimensat,
};
use rustix::io::Errno;

use crate::machine::shares::shares;

/// More than a host sends at once.
const MOST: usize = 8192;
/// On another mount than every share, and therefore never linked to from there.
const ELSEWHERE: &str = "/proc/self/exe";

/// A shared folder that can be written to; without that, times cannot be set.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    folder: OwnedFd,
}

/// Wakes watchers.
#[derive(Debug, Default)]
pub(super) struct Waker {
    /// Opened at the first call, when everything is mounted.
    roots: Option<Vec<Root>>,
}

impl Waker {
    /// Wakes who watches one of these, or its folder if it is gone. What is in no share, or cannot be touched, is passed over.
    pub(super) fn wake(&mut self, paths: &[String]) {
        let roots = self.roots.get_or_insert_with(open_roots);
        let mut folders = BTreeSet::new();
        for path in paths.iter().take(MOST) {
            // Nobody can be told of one that fails: the next change of it is another try.
            let _ = touch(roots, Path::new(path), &mut folders);
        }
    }
}

fn open_roots() -> Vec<Root> {
    let writable = shares().into_iter().filter(|share| !share.read_only);
    let opened = writable.filter_map(|share| {
        let folder = openat(CWD, &share.path, folder_flags(), Mode::empty()).ok()?;
        // Where it could not be mounted, there is a folder of this machine's own.
        let mounted = fstatfs(&folder).is_ok_and(|of| of.filesystem_type() == FUSE_SUPER_MAGIC);
        mounted.then_some(Root { path: share.path, folder })
    });
    opened.collect()
}

fn folder_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// What leads to the file of a path: the folder it is in, and its name there; no name for the shared folder itself.
fn place<'a>(roots: &'a [Root], path: &'a Path) -> Option<(&'a Root, &'a Path, Option<&'a OsStr>)> {
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return None;
    }
    let (root, inside) = roots.iter().find_map(|root| Some((root, path.strip_prefix(&root.path).ok()?)))?;
    let folder = inside.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some((root, folder, inside.file_name()))
}

fn touch(roots: &[Root], path: &Path, folders: &mut BTreeSet<PathBuf>) -> Result<(), Errno> {
    // A link anywhere in it is not followed: it may lead out of the share, and is no file of it.
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let (root, folder, name) = place(roots, path).ok_or(Errno::INVAL)?;
    let Some(name) = name else { return set_own_times(&root.folder) };
    let parent = openat2(&root.folder, folder, folder_flags(), Mode::empty(), beneath)?;
    // For a second after it was last looked up, the kernel takes a name for what it was then: a file that was replaced
    // would be read as it was before. Who wants to make a name has it looked up anew, and this one is never made.
    match linkat(CWD, ELSEWHERE, &parent, name, AtFlags::empty()) {
        Err(Errno::EXIST) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            set_own_times(openat2(&parent, name, flags, Mode::empty(), beneath)?)
        }
        Err(Errno::XDEV) if folders.insert(root.path.join(folder)) => set_own_times(&parent),
        Err(Errno::XDEV) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is written between the two calls has its file's time set back by the moment that lies between them; there is no
/// call that does both at once.
fn set_own_times(file: impl AsFd) -> Result<(), Errno> {
    let now = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::ATIME | StatxFlags::MTIME)?;
    let time = |seconds, nanoseconds: u32| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps {
        last_access: time(now.stx_atime.tv_sec, now.stx_atime.tv_nsec),
        last_modification: time(now.stx_mtime.tv_sec, now.stx_mtime.tv_nsec),
    };
    utimensat(&file, "", &times, AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, UNIX_EPOCH};

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use rustix::fs::{CWD, Mode, openat};
    use rustix::io::Errno;

    use super::{Root, folder_flags, place, touch};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("berth-guest-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn root(&self) -> [Root; 1] {
            let folder = openat(CWD, &self.0, folder_flags(), Mode::empty()).unwrap();
            [Root { path: self.0.clone(), folder }]
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_what_is_in_a_share_is_touched() {
        let folder = Folder::new("place");
        let roots = folder.root();
        let of = |rest: &str| folder.0.join(rest);
        let found =
            |path: &Path| place(&roots, path).map(|(_, folder, name)| (folder.to_owned(), name.map(ToOwned::to_owned)));
        assert_eq!(found(&of("a/b/c")), Some(("a/b".into(), Some("c".into()))));
        assert_eq!(found(&of("a")), Some((".".into(), Some("a".into()))));
        assert_eq!(found(&folder.0), Some((".".into(), None)));
        for bad in [of("../x"), of("a/../../x"), of("a/.."), "/".into(), "/etc/passwd".into(), "a".into(), "".into()] {
            assert_eq!(found(&bad), None, "{}", bad.display());
        }
    }

    #[test]
    fn watchers_hear_of_it_and_nothing_is_changed() {
        let folder = Folder::new("touch");
        let roots = folder.root();
        let file = folder.0.join("inside/file");
        fs::create_dir(folder.0.join("inside")).unwrap();
        fs::write(&file, "content").unwrap();
        let old = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        let before = file.metadata().unwrap();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        let reading = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_CLOSE_NOWRITE;
        let flags = AddWatchFlags::IN_ALL_EVENTS - reading;
        watch.add_watch(&folder.0.join("inside"), flags).unwrap();
        let heard = || -> Vec<_> {
            let events = watch.read_events().unwrap_or_default();
            events.into_iter().map(|event| (event.mask - AddWatchFlags::IN_ISDIR, event.name)).collect()
        };
        let mut folders = BTreeSet::new();
        touch(&roots, &file, &mut folders).unwrap();
        assert_eq!(heard(), [(AddWatchFlags::IN_ATTRIB, Some("file".into()))]);
        let after = file.metadata().unwrap();
        assert_eq!((after.mtime(), after.mtime_nsec()), (1_000_000_000, 123_456_789));
        assert_eq!((after.atime(), after.atime_nsec()), (before.atime(), before.atime_nsec()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        // Many that are gone are one event for their folder, and none of them is made.
        for name in ["gone", "gone too"] {
            touch(&roots, &folder.0.join("inside").join(name), &mut folders).unwrap();
        }
        assert_eq!(heard(), [(AddWatchFlags::IN_ATTRIB, None)]);
        assert_eq!(fs::read_dir(folder.0.join("inside")).unwrap().count(), 1);
    }

    #[test]
    fn a_link_leads_nowhere() {
        let (folder, outside) = (Folder::new("links"), Folder::new("outside"));
        let roots = folder.root();
        fs::write(outside.0.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&outside.0, folder.0.join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.0.join("file"), folder.0.join("file")).unwrap();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        watch.add_watch(&outside.0, AddWatchFlags::IN_ALL_EVENTS).unwrap();
        watch.add_watch(&outside.0.join("file"), AddWatchFlags::IN_ALL_EVENTS).unwrap();
        let mut folders = BTreeSet::new();
        assert_eq!(touch(&roots, &folder.0.join("folder/file"), &mut folders), Err(Errno::NOTDIR));
        // The link itself is a file of the share.
        touch(&roots, &folder.0.join("file"), &mut folders).unwrap();
        assert_eq!(watch.read_events().unwrap_err(), nix::errno::Errno::EAGAIN);
    }
}
