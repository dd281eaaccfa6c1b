//! Folders into an archive.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};

use super::attributes::Attributes;
use super::record::{Entry, Kind};
use super::{BLOCK, DEPTH, FOLDERS, SEGMENTS, inside, padding};
use crate::life::LifeError;
use crate::life::backup::extents;

/// Where an archive goes.
pub(in crate::life) trait Sink {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), LifeError>;

    /// So many bytes of a file, from this one on.
    fn content(&mut self, file: &File, path: &Path, from: u64, length: u64) -> Result<(), LifeError>;
}

/// Only says how long it would be.
#[derive(Debug, Default)]
pub(in crate::life) struct Counter(pub(in crate::life) u64);

impl Sink for Counter {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), LifeError> {
        self.0 = self.0.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn content(&mut self, _file: &File, _path: &Path, _from: u64, length: u64) -> Result<(), LifeError> {
        self.0 = self.0.saturating_add(length);
        Ok(())
    }
}

/// A folder that is being read.
struct Open {
    folder: File,
    /// What is still to come of it, the next one last.
    names: Vec<Vec<u8>>,
    /// The length of the path of what is in it.
    path: usize,
}

struct Packer<'a, S> {
    sink: &'a mut S,
    data: &'a Path,
    /// The file system that everything is on.
    device: u64,
    /// Where a file with several names was met first, and how many names are still to come.
    names: HashMap<u64, (Vec<u8>, u64)>,
}

/// Writes the engine's folders, in an order that is always the same. Sockets are left out: nobody listens.
pub(in crate::life) fn pack<S: Sink>(data: &Path, sink: &mut S) -> Result<(), LifeError> {
    let root = folder(data).map_err(LifeError::file("open", data))?;
    let device = root.metadata().map_err(LifeError::file("look at", data))?.dev();
    let names = FOLDERS.iter().map(|name| name.as_bytes().to_vec());
    let names = names.filter(|name| fs::symlink_metadata(inside(&root, name)).is_ok()).rev().collect();
    let mut packer = Packer { sink, data, device, names: HashMap::new() };
    let mut open = vec![Open { folder: root, names, path: 0 }];
    let mut path: Vec<u8> = Vec::new();
    while let Some(top) = open.last_mut() {
        let Some(name) = top.names.pop() else {
            open.pop();
            continue;
        };
        path.truncate(top.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let entered = packer.entry(&top.folder, &name, &path)?;
        if let Some(folder) = entered {
            if open.len() > DEPTH {
                return Err(LifeError::TooDeep(packer.shown(&path)));
            }
            let names = names_in(&folder).map_err(LifeError::file("read", &packer.shown(&path)))?;
            open.push(Open { folder, names, path: path.len() });
        }
    }
    // Two empty blocks end it.
    sink.bytes(&[0; 2 * BLOCK])
}

impl<S: Sink> Packer<'_, S> {
    /// Writes one thing, and opens it if it is a folder.
    fn entry(&mut self, parent: &File, name: &[u8], path: &[u8]) -> Result<Option<File>, LifeError> {
        let at = inside(parent, name);
        let shown = self.shown(path);
        let failed = |what| LifeError::file(what, &shown);
        let metadata = fs::symlink_metadata(&at).map_err(failed("look at"))?;
        // The engine's folders are folders; elsewhere, anything may be anything.
        if metadata.dev() != self.device || !path.contains(&b'/') && !metadata.is_dir() {
            return Err(LifeError::LeadsElsewhere(shown));
        }
        let of = metadata.file_type();
        if of.is_socket() {
            return Ok(None);
        }
        if !metadata.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = self.met_before(&metadata) {
                self.name(path, first, &shown)?;
                return Ok(None);
            }
            self.names.insert(metadata.ino(), (path.to_vec(), metadata.nlink() - 1));
        }
        let attributes = Attributes::read(&at, &metadata).map_err(failed("look at"))?;
        let mut entry = Entry {
            path: path.to_vec(),
            kind: Kind::File,
            target: Vec::new(),
            stored: 0,
            length: None,
            device: (0, 0),
            attributes,
        };
        if of.is_file() {
            self.file(&at, entry, &metadata, &shown)?;
            return Ok(None);
        }
        entry.kind = if of.is_dir() {
            Kind::Folder
        } else if of.is_symlink() {
            entry.target = fs::read_link(&at).map_err(failed("read"))?.into_os_string().as_bytes().to_vec();
            Kind::Link
        } else if of.is_fifo() {
            Kind::Pipe
        } else {
            let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            entry.device = (number(major(metadata.rdev())), number(minor(metadata.rdev())));
            if of.is_char_device() { Kind::CharacterDevice } else { Kind::BlockDevice }
        };
        self.head(&entry, &shown)?;
        if of.is_dir() { folder(&at).map(Some).map_err(failed("open")) } else { Ok(None) }
    }

    fn file(&mut self, at: &Path, mut entry: Entry, metadata: &Metadata, shown: &Path) -> Result<(), LifeError> {
        let failed = |what| LifeError::file(what, shown);
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(at).map_err(failed("open"))?;
        let length = metadata.len();
        let has_holes = metadata.blocks().saturating_mul(512) < length;
        let parts = if has_holes { segments(&file, length).map_err(failed("read"))? } else { vec![(0, length)] };
        let kept: u64 = parts.iter().map(|(from, until)| until - from).sum();
        let mut map = Vec::new();
        if kept < length {
            map = map_of(&parts, length);
            entry.length = Some(length);
        }
        entry.stored = kept.saturating_add(map.len() as u64);
        self.head(&entry, shown)?;
        self.sink.bytes(&map)?;
        for (from, until) in parts {
            self.sink.content(&file, shown, from, until - from)?;
        }
        self.pad(entry.stored)
    }

    /// One more name of what was written before.
    fn name(&mut self, path: &[u8], first: Vec<u8>, shown: &Path) -> Result<(), LifeError> {
        let entry = Entry {
            path: path.to_vec(),
            kind: Kind::Name,
            target: first,
            stored: 0,
            length: None,
            device: (0, 0),
            attributes: Attributes::default(),
        };
        self.head(&entry, shown)
    }

    fn met_before(&mut self, metadata: &Metadata) -> Option<Vec<u8>> {
        let (first, left) = self.names.get_mut(&metadata.ino())?;
        *left -= 1;
        if *left == 0 { self.names.remove(&metadata.ino()).map(|(first, _)| first) } else { Some(first.clone()) }
    }

    fn head(&mut self, entry: &Entry, shown: &Path) -> Result<(), LifeError> {
        let too_much = || LifeError::file("keep", shown)(io::Error::other("its name and attributes are too long"));
        self.sink.bytes(&entry.blocks().ok_or_else(too_much)?)
    }

    fn pad(&mut self, length: u64) -> Result<(), LifeError> {
        self.sink.bytes([0; BLOCK].get(..padding(length)).unwrap_or_default())
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.data.join(std::ffi::OsStr::from_bytes(path))
    }
}

/// Where the file has bytes.
fn segments(file: &File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut parts = extents(file, length)?;
    if parts.len() > SEGMENTS {
        parts.truncate(SEGMENTS);
        if let Some(last) = parts.last_mut() {
            last.1 = length;
        }
    }
    Ok(parts)
}

/// How many parts there are, and of each its place and its length: a number a line. The last one is the end.
fn map_of(parts: &[(u64, u64)], length: u64) -> Vec<u8> {
    let mut text = format!("{}\n", parts.len() + 1);
    for (from, until) in parts {
        text.push_str(&format!("{from}\n{}\n", until - from));
    }
    text.push_str(&format!("{length}\n0\n"));
    let mut map = text.into_bytes();
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

fn names_in(folder: &File) -> io::Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(inside(folder, b"."))?;
    let mut names = entries.map(|entry| Ok(entry?.file_name().into_encoded_bytes())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

fn folder(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}
