//! Where a secret could turn up, gathered, and the search through it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::marker::Marker;

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// What a program of Berth's writes while it works.
    Log,
    /// What the client's calls gave: values and errors as they print.
    Words,
    /// Arguments of any process.
    Arguments,
    /// SQLite's files.
    Database,
    /// Any other file that is there in the end.
    File,
    /// A file that was there for a while.
    Temporary,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Log, Self::Words, Self::Arguments, Self::Database, Self::File, Self::Temporary];

    /// Whether these bytes can be in such a place as they are.
    pub(crate) fn takes(self, bytes: &[u8]) -> bool {
        match self {
            Self::Arguments => !bytes.contains(&0),
            // Berth's are JSON in JSON.
            Self::Database => bytes.iter().all(|byte| !matches!(byte, 0 | b'"' | b'\\')),
            _ => true,
        }
    }
}

struct Place {
    kind: Kind,
    name: String,
    bytes: Vec<u8>,
}

/// A marker in a place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) marker: &'static str,
    pub(crate) form: &'static str,
    pub(crate) place: String,
}

/// All places.
#[derive(Default)]
pub(crate) struct Places(Vec<Place>);

impl Places {
    pub(crate) fn add(&mut self, kind: Kind, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push(Place { kind, name: name.into(), bytes: bytes.into() });
    }

    /// Everything below a folder but what is below `except`. The names of files count as their content does.
    pub(crate) fn folder(&mut self, folder: &Path, except: &[PathBuf]) {
        for (path, bytes) in files(folder, except) {
            let name = path.to_string_lossy().into_owned();
            let kind = if bytes.starts_with(b"SQLite format 3\0") || name.ends_with("-wal") || name.ends_with("-shm") {
                Kind::Database
            } else if name.contains("/log/") || name.ends_with(".log") {
                Kind::Log
            } else {
                Kind::File
            };
            self.add(kind, name.clone(), [name.as_bytes(), b"\n", &bytes].concat());
        }
    }

    /// Where any of the markers is.
    pub(crate) fn search(&self, markers: &[&Marker]) -> BTreeSet<Found> {
        let mut found = BTreeSet::new();
        for place in &self.0 {
            for marker in markers {
                for form in marker.forms_in(&place.bytes) {
                    found.insert(Found { kind: place.kind, marker: marker.name, form, place: place.name.clone() });
                }
            }
        }
        found
    }

    /// How many places of each kind there are, and their bytes.
    pub(crate) fn amount(&self) -> BTreeMap<Kind, (usize, usize)> {
        let mut amount: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
        for place in &self.0 {
            let (count, bytes) = amount.entry(place.kind).or_default();
            *count += 1;
            *bytes += place.bytes.len();
        }
        amount
    }

    /// The names of the places of a kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<&str> {
        self.0.iter().filter(|place| place.kind == kind).map(|place| place.name.as_str()).collect()
    }
}

/// The regular files below a folder and what is in them. What goes away meanwhile is left out.
pub(crate) fn files(folder: &Path, except: &[PathBuf]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if except.contains(&path) {
                continue;
            }
            match kind {
                Ok(kind) if kind.is_dir() => waiting.push(path),
                Ok(kind) if kind.is_file() => {
                    if let Ok(bytes) = std::fs::read(&path) {
                        found.push((path, bytes));
                    }
                }
                _ => {}
            }
        }
    }
    found
}
