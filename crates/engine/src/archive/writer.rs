//! Writes the entries of an archive beneath a folder. Blocking.

use std::{
    collections::HashMap,
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    ArchiveError, Entry, EntryKind, Existing, ExtractOptions, ExtractReport, Progress, Quota, SkipReason, Symlinks,
    decode::{Decoder, Event},
    extract::Feed,
    names,
    report::short,
    root::{self, Attributes, Folder, Root},
};

/// Longest path that is read; longer ones are longer than any system takes.
const PATH_LENGTH: usize = 64 * 1024;

/// How often progress is told.
pub(super) const PROGRESS: Duration = Duration::from_millis(50);

pub(super) struct Writer<'a> {
    root: Root,
    path: PathBuf,
    options: &'a ExtractOptions,
    report: &'a mut ExtractReport,
    told: Teller,
    entries: u64,
    /// Size of all files begun, holes included.
    bytes: u64,
    hasher: RandomState,
    /// What this run made, by the hash of its path, and which file it is.
    made: HashMap<u64, (u64, u64)>,
    /// Paths by the hash of their lower case, where that is one name.
    cases: HashMap<u64, u64>,
    /// Folders of the archive, which get their mode and time when nothing is written into them any more.
    folders: Vec<(Vec<u8>, Attributes)>,
    temporary: u64,
    current: Option<OpenFile>,
}

/// A file that is being written under a name of its own. Dropped, it is gone.
struct OpenFile {
    folder: Folder,
    temporary: Vec<u8>,
    name: Vec<u8>,
    path: Vec<u8>,
    file: File,
    size: u64,
    position: u64,
    attributes: Attributes,
    complete: bool,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if !self.complete {
            // Nothing can be done about a file that cannot be removed either.
            let _ = self.folder.remove(&self.temporary);
        }
    }
}

impl<'a> Writer<'a> {
    pub(super) fn open(
        destination: &Path,
        options: &'a ExtractOptions,
        progress: Option<watch::Sender<Progress>>,
        report: &'a mut ExtractReport,
    ) -> Result<Self, ArchiveError> {
        let mut root = Root::open(destination, true).map_err(ArchiveError::file("open", destination))?;
        if options.walk_by_name {
            root.walk_by_name();
        }
        let hasher = RandomState::new();
        Ok(Self {
            root,
            path: destination.to_path_buf(),
            options,
            report,
            told: Teller::new(progress),
            entries: 0,
            bytes: 0,
            // Not a secret: a file of that name is never opened, only made.
            temporary: hasher.hash_one(Instant::now()),
            hasher,
            made: HashMap::new(),
            cases: HashMap::new(),
            folders: Vec::new(),
            current: None,
        })
    }

    /// Writes all that `next` gives. `None` from it means that nobody waits for the rest.
    pub(super) fn run(mut self, mut next: impl FnMut() -> Option<Feed>) -> Result<(), ArchiveError> {
        let mut decoder = Decoder::new(PATH_LENGTH);
        loop {
            let mut input = match next() {
                Some(Feed::Bytes(bytes)) => bytes,
                Some(Feed::End) => break,
                None => return Err(ArchiveError::Abandoned),
            };
            while let Some(event) = decoder.next(&mut input)? {
                match event {
                    Event::Entry(entry) => self.begin(&entry)?,
                    Event::Data { offset, bytes } => self.write(offset, &bytes)?,
                    Event::EndOfEntry => self.end()?,
                }
            }
        }
        self.report.end_marker = decoder.finish()?;
        // Children come after their parents, and a parent may be closed to us afterwards.
        while let Some((path, attributes)) = self.folders.pop() {
            let names: Vec<_> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
            // Somebody else may have moved it, which is his right.
            if let Ok(folder) = self.root.folder(&names, false) {
                let _ = folder.finish_folder(&attributes);
            }
        }
        self.told.tell(&[], true, |_| {});
        Ok(())
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        self.entries += 1;
        let limits = &self.options.limits;
        if self.entries > limits.entries {
            return Err(ArchiveError::Quota { quota: Quota::Entries, limit: limits.entries });
        }
        let entries = self.entries;
        self.told.tell(&entry.path, false, |progress| progress.entries = entries);
        match self.place(entry) {
            Ok(()) => Ok(()),
            Err(Refusal::Skip(reason)) => {
                self.report.skipped.add(&entry.path, reason);
                Ok(())
            }
            Err(Refusal::Fail(error)) => Err(error),
        }
    }

    fn place(&mut self, entry: &Entry) -> Result<(), Refusal> {
        if entry.cut {
            return Err(Refusal::Skip(SkipReason::NameTooLong));
        }
        let path = self.split(&entry.path)?;
        let names: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
        let Some((name, parents)) = names.split_last() else {
            // The folder itself is the user's.
            let reason = if entry.kind == EntryKind::Folder { return Ok(()) } else { SkipReason::EmptyPath };
            return Err(Refusal::Skip(reason));
        };
        self.check_case(&names)?;
        match entry.kind {
            EntryKind::File => self.begin_file(entry, parents, name),
            EntryKind::Folder => self.make_folder(entry, parents, name),
            EntryKind::Symlink => self.make_link(entry, parents, name),
            EntryKind::HardLink => self.make_hard_link(entry, parents, name),
            EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                Err(Refusal::Skip(SkipReason::Special))
            }
            EntryKind::Other(_) => Err(Refusal::Skip(SkipReason::Unknown)),
        }
    }

    fn split(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
        let rules = self.options.names;
        let names = names::split(path, self.options.limits.depth, rules).map_err(Refusal::Skip)?;
        if names.iter().any(|name| root::system_name(name).is_none()) {
            return Err(Refusal::Skip(SkipReason::NotText));
        }
        let mut names: Vec<_> = names.into_iter().map(<[u8]>::to_vec).collect();
        if let (Some(first), Some(rename)) = (names.first_mut(), &self.options.rename) {
            let rename = root::archive_name(rename).ok_or(Refusal::Skip(SkipReason::NotText))?;
            // The new name is somebody's input as well.
            match names::split(rename, 2, rules).as_deref() {
                Ok([only]) => *first = only.to_vec(),
                Ok(_) => return Err(Refusal::Skip(SkipReason::EmptyPath)),
                Err(reason) => return Err(Refusal::Skip(*reason)),
            }
        }
        Ok(names)
    }

    fn check_case(&mut self, names: &[&[u8]]) -> Result<(), Refusal> {
        if !self.options.names.ignore_case {
            return Ok(());
        }
        // Each folder on the way may clash, so that `A/x` does not end in `a`.
        let (mut exact, mut folded) = (0, 0);
        for name in names {
            exact = self.hasher.hash_one((exact, name));
            folded = self.hasher.hash_one((folded, String::from_utf8_lossy(name).to_lowercase()));
            if *self.cases.entry(folded).or_insert(exact) != exact {
                return Err(Refusal::Skip(SkipReason::CaseClash));
            }
        }
        Ok(())
    }

    fn folder(&self, names: &[&[u8]], create: bool) -> Result<Folder, Refusal> {
        self.root.folder(names, create).map_err(|error| self.refuse("make the folder", names, error))
    }

    /// Leaves an entry out if the error concerns it alone, and stops for all else.
    fn refuse(&self, action: &'static str, names: &[&[u8]], error: io::Error) -> Refusal {
        if root::is_in_the_way(&error) {
            return Refusal::Skip(SkipReason::InTheWay);
        }
        if root::is_refused_name(&error) {
            return Refusal::Skip(SkipReason::Refused);
        }
        // Somebody took a folder away between two steps.
        if error.kind() == io::ErrorKind::NotFound {
            return Refusal::Skip(SkipReason::Vanished);
        }
        let relative = short(&names.join(&b'/'));
        Refusal::Fail(ArchiveError::file(action, self.path.join(relative))(error))
    }

    fn key(&self, parents: &[&[u8]], name: &[u8]) -> u64 {
        let start = parents.iter().fold(0, |hash, name| self.hasher.hash_one((hash, *name)));
        self.hasher.hash_one((start, name))
    }

    fn attributes(&self, entry: &Entry) -> Attributes {
        let owner = (u32::try_from(entry.uid).ok()).zip(u32::try_from(entry.gid).ok());
        Attributes {
            mode: entry.mode & self.options.mode_mask & 0o777,
            modified: entry.modified,
            owner: owner.filter(|_| self.options.ownership),
        }
    }

    fn temporary(&mut self) -> Vec<u8> {
        self.temporary = self.temporary.wrapping_add(1);
        format!(".berth-{:016x}.part", self.temporary).into_bytes()
    }

    /// Whether a new file may take this name, from what is there.
    fn check_existing(&self, folder: &Folder, parents: &[&[u8]], name: &[u8]) -> Result<(), Refusal> {
        let keep = self.options.existing == Existing::Keep && !self.made.contains_key(&self.key(parents, name));
        match folder.status(name) {
            Ok(found) if found.kind == EntryKind::Folder => Err(Refusal::Skip(SkipReason::InTheWay)),
            Ok(_) if keep => Err(Refusal::Skip(SkipReason::Exists)),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.refuse("look at", &[parents, &[name]].concat(), error)),
        }
    }

    fn begin_file(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), Refusal> {
        let limits = &self.options.limits;
        if entry.size > limits.file {
            return Err(Refusal::Skip(SkipReason::TooLarge));
        }
        let bytes = self.bytes.saturating_add(entry.size);
        if bytes > limits.bytes {
            return Err(Refusal::Fail(ArchiveError::Quota { quota: Quota::Bytes, limit: limits.bytes }));
        }
        let folder = self.folder(parents, true)?;
        self.check_existing(&folder, parents, name)?;
        let temporary = self.temporary();
        let path = [parents, &[name]].concat();
        let file = folder.create(&temporary).map_err(|error| self.refuse("make a file beside", &path, error))?;
        self.bytes = bytes;
        self.current = Some(OpenFile {
            folder,
            temporary,
            name: name.to_vec(),
            path: path.join(&b'/'),
            file,
            size: entry.size,
            position: 0,
            attributes: self.attributes(entry),
            complete: false,
        });
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &Bytes) -> Result<(), ArchiveError> {
        // The content of an entry that is left out.
        let Some(current) = &mut self.current else { return Ok(()) };
        let written = (|| {
            use io::{Seek, Write};
            if offset != current.position {
                current.file.seek(io::SeekFrom::Start(offset))?;
            }
            current.file.write_all(bytes)?;
            current.position = offset.saturating_add(bytes.len() as u64);
            io::Result::Ok(())
        })();
        written.map_err(ArchiveError::file("write", self.path.join(short(&current.path))))?;
        let length = bytes.len() as u64;
        self.told.tell(&[], false, |progress| progress.bytes += length);
        Ok(())
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        match finish(&mut current) {
            Ok(identity) => {
                let names: Vec<_> = current.path.split(|byte| *byte == b'/').collect();
                if let Some((name, parents)) = names.split_last() {
                    let key = self.key(parents, name);
                    self.made.insert(key, identity);
                }
                self.report.files += 1;
                self.report.bytes += current.size;
                Ok(())
            }
            Err(error) => match self.refuse("finish", &[&current.path], error) {
                Refusal::Skip(reason) => {
                    self.report.skipped.add(&current.path, reason);
                    Ok(())
                }
                Refusal::Fail(error) => Err(error),
            },
        }
    }

    fn make_folder(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), Refusal> {
        let parent = self.folder(parents, true)?;
        let path = [parents, &[name]].concat();
        let mut created = parent.create_folder(name).map_err(|error| self.refuse("make the folder", &path, error))?;
        let key = self.key(parents, name);
        if !created {
            let found = parent.status(name).map_err(|error| self.refuse("look at", &path, error))?;
            if found.kind != EntryKind::Folder {
                // The last entry of a name wins, but what was there before this run is not ours to remove.
                if !self.made.contains_key(&key) {
                    return Err(Refusal::Skip(SkipReason::InTheWay));
                }
                let remade = parent.remove(name).and_then(|()| parent.create_folder(name));
                created = remade.map_err(|error| self.refuse("replace", &path, error))?;
            }
        }
        // A folder that was there before keeps its mode, its time and its owner.
        if created || self.made.contains_key(&key) {
            self.made.insert(key, (0, 0));
            // A folder that its owner cannot open could not even be deleted.
            let mut attributes = self.attributes(entry);
            attributes.mode |= 0o700;
            self.folders.push((path.join(&b'/'), attributes));
        }
        self.report.folders += 1;
        Ok(())
    }

    fn make_link(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), Refusal> {
        let target = entry.link.as_deref().unwrap_or_default();
        match self.options.symlinks {
            Symlinks::None => return Err(Refusal::Skip(SkipReason::LinksOff)),
            Symlinks::All if target.is_empty() || target.contains(&0) => return Err(Refusal::Skip(SkipReason::Nul)),
            Symlinks::All => {}
            Symlinks::Inside if names::link_stays_inside(target, parents.len() + 1) => {}
            Symlinks::Inside => return Err(Refusal::Skip(SkipReason::LinkOutside)),
        }
        let attributes = self.attributes(entry);
        self.put(parents, name, |folder, temporary| folder.create_link(temporary, target, &attributes))?;
        self.report.symlinks += 1;
        Ok(())
    }

    fn make_hard_link(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), Refusal> {
        let no_target = || Refusal::Skip(SkipReason::LinkTarget);
        let target = self.split(entry.link.as_deref().unwrap_or_default()).map_err(|_| no_target())?;
        let target: Vec<&[u8]> = target.iter().map(Vec::as_slice).collect();
        let (target, target_parents) = target.split_last().ok_or_else(no_target)?;
        let identity = self.made.get(&self.key(target_parents, target)).copied().ok_or_else(no_target)?;
        if target_parents == parents && *target == name {
            return Err(no_target());
        }
        let from = self.folder(target_parents, false)?;
        let made = self.put(parents, name, |folder, temporary| {
            folder.create_hard_link(temporary, &from, target)?;
            // What was extracted there may have been exchanged since; looked at under the new name, nobody can.
            let found = folder.status(temporary)?;
            if found.kind == EntryKind::File && found.identity == identity {
                return Ok(());
            }
            Err(io::ErrorKind::NotFound.into())
        });
        match made {
            Ok(key) => self.made.insert(key, identity),
            Err(Refusal::Skip(SkipReason::Vanished)) => return Err(no_target()),
            Err(refusal) => return Err(refusal),
        };
        self.report.hard_links += 1;
        Ok(())
    }

    /// Makes something under another name and gives it its own in one step.
    fn put(
        &mut self,
        parents: &[&[u8]],
        name: &[u8],
        make: impl FnOnce(&Folder, &[u8]) -> io::Result<()>,
    ) -> Result<u64, Refusal> {
        let folder = self.folder(parents, true)?;
        self.check_existing(&folder, parents, name)?;
        let temporary = self.temporary();
        let made = make(&folder, &temporary).and_then(|()| folder.rename(&temporary, name));
        // Two names of one file are left as they are by a renaming, so that this one may still be there.
        let _ = folder.remove(&temporary);
        if let Err(error) = made {
            if error.kind() == io::ErrorKind::Unsupported {
                return Err(Refusal::Skip(SkipReason::LinksOff));
            }
            return Err(self.refuse("make the link", &[parents, &[name]].concat(), error));
        }
        let key = self.key(parents, name);
        self.made.insert(key, (0, 0));
        Ok(key)
    }
}

fn finish(current: &mut OpenFile) -> io::Result<(u64, u64)> {
    if current.position != current.size {
        // A hole at the end.
        current.file.set_len(current.size)?;
    }
    root::finish_file(&current.file, &current.attributes)?;
    let identity = root::identity(&current.file)?;
    current.folder.rename(&current.temporary, &current.name)?;
    current.complete = true;
    Ok(identity)
}

enum Refusal {
    /// This entry is left out.
    Skip(SkipReason),
    /// Nothing further is extracted.
    Fail(ArchiveError),
}

/// Tells progress, not too often.
pub(super) struct Teller {
    sender: Option<watch::Sender<Progress>>,
    progress: Progress,
    last: Option<Instant>,
}

impl Teller {
    pub(super) fn new(sender: Option<watch::Sender<Progress>>) -> Self {
        Self { sender, progress: Progress::default(), last: None }
    }

    /// Changes the progress and tells it if it is time or `now`. An empty path is the one before.
    pub(super) fn tell(&mut self, path: &[u8], now: bool, change: impl FnOnce(&mut Progress)) {
        let Some(sender) = &self.sender else { return };
        change(&mut self.progress);
        let due = self.last.is_none_or(|last| last.elapsed() >= PROGRESS);
        if !due && !now {
            return;
        }
        if !path.is_empty() {
            self.progress.current = short(path);
        }
        self.last = Some(Instant::now());
        sender.send_replace(self.progress.clone());
    }
}
