//! The folders that are watched with inotify, and what it tells.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2, statat};
use rustix::io::Errno;

use super::shared::{Shared, beneath};

/// Of all shares of a machine. Each takes about a kilobyte of the kernel's memory.
const MOST: usize = 65_536;
/// Of what containers have mounted.
const ROOTS: usize = 2048;
/// Of files in new folders that are told one by one; of more, their folders are.
const REPORTED: usize = 8192;
/// All that changes a file or a folder, but not `IN_ATTRIB`: that is what waking does.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO);

/// What was read of inotify's events.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) changed: Vec<PathBuf>,
    /// Folders that are new and not watched yet.
    fresh: Vec<PathBuf>,
    /// The kernel had more to tell than it keeps.
    overflowed: bool,
}

impl Heard {
    /// Whether the folders have to be looked at.
    pub(super) fn is_more(&self) -> bool {
        self.overflowed || !self.fresh.is_empty()
    }
}

/// What a container has mounted.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    file: OwnedFd,
}

impl Root {
    fn identity(&self) -> (&Path, Option<(u64, u64)>) {
        (&self.path, fstat(&self.file).ok().map(|of| (of.st_dev, of.st_ino)))
    }
}

/// What is not watched although it should be; of folders, the first.
#[derive(Debug, Default)]
struct Missed {
    full: Option<Full>,
    unopened: Option<PathBuf>,
    other_disk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Full {
    Own,
    System,
}

#[derive(Debug)]
pub(super) struct Tree {
    inotify: OwnedFd,
    shares: Vec<Shared>,
    roots: Vec<Root>,
    watches: HashMap<i32, PathBuf>,
    /// The same, in an order in which a folder is followed by what is in it.
    folders: BTreeMap<PathBuf, i32>,
    most: usize,
    missed: Missed,
}

impl Tree {
    pub(super) fn new(shares: Vec<Shared>) -> io::Result<Self> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let (watches, folders) = (HashMap::new(), BTreeMap::new());
        Ok(Self { inotify, shares, roots: Vec::new(), watches, folders, most: MOST, missed: Missed::default() })
    }

    pub(super) fn inotify(&self) -> &OwnedFd {
        &self.inotify
    }

    /// How many are watched.
    pub(super) fn folders(&self) -> u32 {
        self.folders.len().try_into().unwrap_or(u32::MAX)
    }

    /// What of it is not watched, and why.
    pub(super) fn note(&self) -> Option<String> {
        let Missed { full, unopened, other_disk } = &self.missed;
        let mut parts = Vec::new();
        match full {
            Some(Full::Own) => parts.push(format!(
                "containers have mounted more than {} folders: what changes in the others wakes no watchers",
                self.most
            )),
            Some(Full::System) => parts.push(format!(
                "this computer lets {} folders be watched, and containers have mounted more: what changes in the others wakes no \
                 watchers; allow more (`sysctl fs.inotify.max_user_watches`), and start the container again",
                self.folders.len()
            )),
            None => {}
        }
        parts.extend(unopened.iter().map(|path| format!("{} and perhaps others cannot be watched", path.display())));
        let other =
            |path: &PathBuf| format!("{} is on another disk and is not watched; mount it by itself", path.display());
        parts.extend(other_disk.iter().map(other));
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Watches what is mounted there, and nothing else.
    pub(super) fn aim(&mut self, sources: &BTreeSet<PathBuf>) {
        let mut wanted = BTreeMap::new();
        for (path, opened) in sources.iter().filter_map(|source| Shared::find(&self.shares, source)) {
            match opened {
                Ok(_) if wanted.len() >= ROOTS => self.missed.unopened = Some(path),
                Ok(file) => drop(wanted.insert(path, file)),
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "it cannot be watched");
                    self.missed.unopened = Some(path);
                }
            }
        }
        let fresh: Vec<Root> = wanted.into_iter().map(|(path, file)| Root { path, file }).collect();
        let before = std::mem::replace(&mut self.roots, fresh);
        // The same name may be another folder by now.
        let kept: HashSet<_> = self.roots.iter().map(Root::identity).collect();
        let lost: Vec<PathBuf> =
            before.iter().filter(|root| !kept.contains(&root.identity())).map(|root| root.path.clone()).collect();
        lost.iter().for_each(|path| self.forget_all_in(path));
        let roots = &self.roots;
        let is_wanted = |path: &PathBuf| roots.iter().any(|root| path.starts_with(&root.path));
        self.missed.unopened.take_if(|path| !is_wanted(path));
        self.missed.other_disk.take_if(|path| !is_wanted(path));
        if self.missed.full.take().is_some() {
            // There may be room by now for those that had none.
            self.scan_all();
        } else {
            self.scan_roots();
        }
    }

    fn scan_roots(&mut self) {
        let roots: Vec<PathBuf> = self.roots.iter().map(|root| root.path.clone()).collect();
        for root in roots {
            self.scan(root, None);
        }
    }

    /// Finds out anew what is to be watched. What is watched already costs a look.
    fn scan_all(&mut self) {
        let before = std::mem::take(&mut self.folders);
        self.scan_roots();
        for (path, watch) in before {
            if !self.folders.contains_key(&path) && self.watches.get(&watch) == Some(&path) {
                self.watches.remove(&watch);
                let _ = remove_watch(&self.inotify, watch);
            }
        }
    }

    /// Reads events as the kernel wrote them.
    pub(super) fn hear(&mut self, mut bytes: &[u8], heard: &mut Heard) {
        while let Some((event, rest)) = Event::read(bytes) {
            bytes = rest;
            if event.what.contains(ReadFlags::QUEUE_OVERFLOW) {
                heard.overflowed = true;
                continue;
            }
            let Some(folder) = self.watches.get(&event.watch) else { continue };
            if event.what.contains(ReadFlags::IGNORED) {
                let folder = folder.clone();
                self.watches.remove(&event.watch);
                if self.folders.get(&folder) == Some(&event.watch) {
                    self.folders.remove(&folder);
                }
                continue;
            }
            // A file that is mounted by itself has no name in itself.
            let path = event.name.map_or_else(|| folder.clone(), |name| folder.join(name));
            if event.what.contains(ReadFlags::ISDIR) {
                if event.what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                    self.forget_all_in(&path);
                } else if event.what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                    heard.fresh.push(path.clone());
                }
            }
            if heard.changed.last() != Some(&path) {
                heard.changed.push(path);
            }
        }
    }

    /// Looks at the folders that are new, which may have got files before they were watched, or at all when nobody knows
    /// which those are.
    pub(super) fn explore(&mut self, heard: &mut Heard) {
        if std::mem::take(&mut heard.overflowed) {
            heard.fresh.clear();
            self.scan_all();
            heard.changed.extend(self.roots.iter().map(|root| root.path.clone()));
        }
        for folder in std::mem::take(&mut heard.fresh) {
            self.scan(folder, Some(&mut heard.changed));
        }
    }

    /// Watches a folder and all in it, and says what is in them.
    fn scan(&mut self, folder: PathBuf, mut found: Option<&mut Vec<PathBuf>>) {
        let mut waiting = vec![folder];
        while let Some(path) = waiting.pop() {
            if self.folders.contains_key(&path) {
                continue;
            }
            let opened = match self.enter(&path) {
                Ok(opened) => opened,
                // It has gone since.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(Errno::NOSPC) => {
                    self.missed.full = Some(Full::System);
                    return;
                }
                Err(Errno::XDEV) => {
                    self.missed.other_disk.get_or_insert(path);
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "it cannot be watched");
                    self.missed.unopened.get_or_insert(path);
                    continue;
                }
            };
            let Some(folder) = opened else { continue };
            let Ok(entries) = Dir::read_from(&folder) else { continue };
            for entry in entries.filter_map(Result::ok) {
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let inside = path.join(OsStr::from_bytes(name));
                let kind = match entry.file_type() {
                    FileType::Unknown => statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                        .map_or(FileType::Unknown, |of| FileType::from_raw_mode(of.st_mode)),
                    known => known,
                };
                if let Some(found) = found.as_deref_mut() {
                    let told = if found.len() < REPORTED { &inside } else { &path };
                    if found.last() != Some(told) {
                        found.push(told.clone());
                    }
                }
                if kind == FileType::Directory {
                    if self.folders.len() + waiting.len() < self.most {
                        waiting.push(inside);
                    } else {
                        self.missed.full = Some(Full::Own);
                    }
                }
            }
        }
    }

    /// Watches one, and gives the folder to read; none for a file.
    fn enter(&mut self, path: &Path) -> Result<Option<OwnedFd>, Errno> {
        let roots = self.roots.iter().filter_map(|root| Some((root, path.strip_prefix(&root.path).ok()?)));
        // The innermost, which may be on another disk than one around it.
        let (root, inside) = roots.min_by_key(|(_, inside)| inside.as_os_str().len()).ok_or(Errno::NOENT)?;
        let is_root = inside.as_os_str().is_empty();
        if is_root && FileType::from_raw_mode(fstat(&root.file)?.st_mode) != FileType::Directory {
            let watch = self.watch(&root.file, CHANGES)?;
            self.keep(path.to_path_buf(), watch);
            return Ok(None);
        }
        if self.folders.len() >= self.most {
            self.missed.full = Some(Full::Own);
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let inside = if is_root { Path::new(".") } else { inside };
        let folder = openat2(&root.file, inside, flags, Mode::empty(), beneath() | ResolveFlags::NO_XDEV)?;
        let watch = self.watch(&folder, CHANGES | WatchFlags::ONLYDIR)?;
        self.keep(path.to_path_buf(), watch);
        Ok(Some(folder))
    }

    /// By what is open, and not by its name: that may lead elsewhere by now.
    fn watch(&self, file: impl AsFd, what: WatchFlags) -> Result<i32, Errno> {
        add_watch(&self.inotify, format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()), what)
    }

    fn keep(&mut self, path: PathBuf, watch: i32) {
        // It was watched by another name: it was moved, and the event that says so is still to come.
        if let Some(before) = self.watches.insert(watch, path.clone())
            && before != path
            && self.folders.get(&before) == Some(&watch)
        {
            self.folders.remove(&before);
        }
        if let Some(before) = self.folders.insert(path, watch)
            && before != watch
        {
            self.watches.remove(&before);
            let _ = remove_watch(&self.inotify, before);
        }
    }

    fn forget_all_in(&mut self, folder: &Path) {
        let from = self.folders.range(folder.to_path_buf()..);
        let inside: Vec<PathBuf> =
            from.map(|(path, _)| path).take_while(|path| path.starts_with(folder)).cloned().collect();
        inside.iter().for_each(|path| self.forget(path));
    }

    fn forget(&mut self, path: &Path) {
        if let Some(watch) = self.folders.remove(path) {
            self.watches.remove(&watch);
            // One that is gone has ended by itself.
            let _ = remove_watch(&self.inotify, watch);
        }
    }
}

/// `struct inotify_event`.
struct Event<'a> {
    watch: i32,
    what: ReadFlags,
    name: Option<&'a OsStr>,
}

impl<'a> Event<'a> {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (watch, bytes) = bytes.split_first_chunk()?;
        let (what, bytes) = bytes.split_first_chunk()?;
        let (_cookie, bytes) = bytes.split_first_chunk::<4>()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (name, rest) = bytes.split_at_checked(u32::from_ne_bytes(*length).try_into().ok()?)?;
        let name = name.split(|&byte| byte == 0).next().filter(|name| !name.is_empty()).map(OsStr::from_bytes);
        let what = ReadFlags::from_bits_retain(u32::from_ne_bytes(*what));
        Some((Self { watch: i32::from_ne_bytes(*watch), what, name }, rest))
    }
}

#[cfg(test)]
impl Tree {
    /// With room for so many folders.
    pub(super) fn small(shares: Vec<Shared>, most: usize) -> Self {
        Self { most, ..Self::new(shares).unwrap() }
    }

    /// What has happened by now, with what has to be looked at looked at.
    pub(super) fn all(&mut self) -> Vec<PathBuf> {
        let mut heard = Heard::default();
        let mut buffer = [0; 65_536];
        while let Ok(read) = rustix::io::read(&self.inotify, &mut buffer) {
            self.hear(&buffer[..read], &mut heard);
            self.explore(&mut heard);
        }
        heard.changed.sort();
        heard.changed.dedup();
        heard.changed
    }

    pub(super) fn overflow(&mut self) -> Vec<PathBuf> {
        // What the kernel says is lost.
        let mut buffer = [0; 65_536];
        while rustix::io::read(&self.inotify, &mut buffer).is_ok() {}
        let mut heard = Heard::default();
        let event = [(-1_i32).to_ne_bytes(), ReadFlags::QUEUE_OVERFLOW.bits().to_ne_bytes(), [0; 4], [0; 4]].concat();
        self.hear(&event, &mut heard);
        assert!(heard.is_more());
        self.explore(&mut heard);
        heard.changed
    }
}
