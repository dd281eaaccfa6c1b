//! The files that are to be packed, in the order of their names.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::{
    ArchiveError, EntryKind, Quota, SkipReason, Skips, Source,
    ignore::{DockerIgnore, Parents},
    report::short,
    root::{self, Folder, Root, Status},
};

/// Folders that are kept open on the way down; deeper ones are found again from the root.
const OPEN_FOLDERS: usize = 32;

/// A file, folder or link that is to be packed.
pub(super) struct Found {
    /// Its path in the archive.
    pub(super) path: Vec<u8>,
    pub(super) folder: Folder,
    pub(super) name: Vec<u8>,
    pub(super) status: Status,
}

/// Finds the files of one source, one after the other, a folder before what is in it.
pub(super) struct Walk<'a> {
    root: Root,
    source: PathBuf,
    ignore: Option<&'a DockerIgnore>,
    /// Paths that come from elsewhere and take the place of files.
    replaced: &'a [Vec<u8>],
    limit: usize,
    names: usize,
    levels: Vec<Level>,
    /// Found already, as the folders above an exception.
    ready: std::collections::VecDeque<Found>,
}

struct Level {
    /// Path from the root.
    path: Vec<u8>,
    /// Path in the archive.
    archive: Vec<u8>,
    folder: Option<Folder>,
    names: std::vec::IntoIter<OsString>,
    parents: Parents,
    /// The folder itself, while it is not known whether anything in it is sent.
    unsent: Option<Found>,
}

impl<'a> Walk<'a> {
    pub(super) fn open(
        source: &Source,
        follow: bool,
        limit: usize,
        ignore: Option<&'a DockerIgnore>,
        replaced: &'a [Vec<u8>],
    ) -> Result<Self, ArchiveError> {
        let path = &source.path;
        let failed = || ArchiveError::file("read", path);
        let found = if follow { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) }.map_err(failed())?;
        let contents = source.name.as_os_str().is_empty();
        if contents && !found.is_dir() {
            return Err(ArchiveError::Unsuitable { path: path.clone(), expected: "a folder" });
        }
        let (root, names) = if contents {
            let root = Root::open(path, follow).map_err(failed())?;
            let names = root.folder(&[], false).and_then(|folder| folder.names(limit)).map_err(failed())?;
            (root, names)
        } else {
            let unsuitable =
                || ArchiveError::Unsuitable { path: path.clone(), expected: "a file or folder with a name" };
            let name = path.file_name().ok_or_else(unsuitable)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (Root::open(parent, true).map_err(failed())?, vec![name.to_owned()])
        };
        let level = Level {
            path: Vec::new(),
            archive: Vec::new(),
            folder: None,
            names: names.into_iter(),
            parents: Parents::default(),
            unsent: None,
        };
        let source = path.clone();
        let ready = std::collections::VecDeque::new();
        Ok(Self { root, source, ignore, replaced, limit, names: 0, levels: vec![level], ready })
    }

    /// The next file. `rename` is the name of the first level in the archive, if it is another one.
    pub(super) fn next(&mut self, rename: Option<&[u8]>, skips: &mut Skips) -> Result<Option<Found>, ArchiveError> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Ok(Some(found));
            }
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let Some(name) = root::archive_name(&name).map(<[u8]>::to_vec) else {
                skips.add(name.as_encoded_bytes(), SkipReason::NotText);
                continue;
            };
            self.names += 1;
            if self.names > self.limit {
                return Err(ArchiveError::Quota { quota: Quota::Entries, limit: self.limit as u64 });
            }
            let shown = rename.filter(|_| depth == 1).unwrap_or(&name);
            let path = join(&level.path, &name);
            let archive = join(&level.archive, shown);
            if self.replaced.contains(&archive) {
                continue;
            }
            let decision = self.ignore.map(|ignore| ignore.decide(&archive, &level.parents));
            let (ignored, parents) =
                decision.map_or((false, Parents::default()), |found| (found.ignored, found.parents));
            let folder = match &level.folder {
                Some(folder) => folder.clone(),
                None => match self.reopen() {
                    Err(error) if vanished(&error) => {
                        skips.add(&archive, SkipReason::Vanished);
                        self.levels.pop();
                        continue;
                    }
                    folder => folder.map_err(self.failed(&path))?,
                },
            };
            let status = match folder.status(&name) {
                Err(error) if vanished(&error) => {
                    skips.add(&archive, SkipReason::Vanished);
                    continue;
                }
                status => status.map_err(self.failed(&path))?,
            };
            let kind = status.kind;
            let found = Found { path: archive.clone(), folder, name, status };
            match kind {
                EntryKind::Folder => {
                    let search = !ignored || self.ignore.is_some_and(|ignore| ignore.may_send_beneath(&archive));
                    if search {
                        self.descend(found, path, archive, parents, ignored, skips)?;
                    }
                }
                _ if ignored => {}
                EntryKind::File | EntryKind::Symlink => self.send(found),
                _ => skips.add(&archive, SkipReason::Special),
            }
        }
    }

    /// Hands out a file, and before it the ignored folders on the way to it.
    fn send(&mut self, found: Found) {
        self.ready.extend(self.levels.iter_mut().filter_map(|level| level.unsent.take()));
        self.ready.push_back(found);
    }

    fn reopen(&self) -> io::Result<Folder> {
        let path = self.levels.last().map(|level| level.path.as_slice()).unwrap_or_default();
        let names: Vec<_> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        self.root.folder(&names, false)
    }

    fn descend(
        &mut self,
        found: Found,
        path: Vec<u8>,
        archive: Vec<u8>,
        parents: Parents,
        ignored: bool,
        skips: &mut Skips,
    ) -> Result<(), ArchiveError> {
        let names: Vec<_> = path.split(|byte| *byte == b'/').collect();
        let opened = self.root.folder(&names, false).and_then(|folder| Ok((folder.names(self.limit)?, folder)));
        let (names, folder) = match opened {
            Err(error) if vanished(&error) => {
                skips.add(&archive, SkipReason::Vanished);
                return Ok(());
            }
            opened => opened.map_err(self.failed(&path))?,
        };
        let unsent = if ignored {
            Some(found)
        } else {
            self.send(found);
            None
        };
        if let Some(level) = self.levels.len().checked_sub(OPEN_FOLDERS).and_then(|at| self.levels.get_mut(at)) {
            level.folder = None;
        }
        let folder = Some(folder);
        self.levels.push(Level { path, archive, folder, names: names.into_iter(), parents, unsent });
        Ok(())
    }

    fn failed(&self, path: &[u8]) -> impl FnOnce(io::Error) -> ArchiveError + use<> {
        ArchiveError::file("read", self.source.join(short(path)))
    }
}

/// It was there a moment ago, or was another kind of thing.
pub(super) fn vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || root::is_in_the_way(error)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}
