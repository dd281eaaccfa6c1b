//! What came of it.

use std::collections::BTreeMap;

/// Skipped entries that are named; further ones are counted.
const NAMED: usize = 1_000;

/// Longest path in a report, in characters.
const PATH_LENGTH: usize = 512;

/// How far the work is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of content done.
    pub bytes: u64,
    /// Entries done.
    pub entries: u64,
    /// Path in the archive of the entry that is worked on, as text.
    pub current: String,
}

/// Why an entry was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// Its path leads above the folder.
    Parent,
    /// Its path is absolute.
    Absolute,
    /// Its path holds a NUL.
    Nul,
    /// Its path is empty.
    EmptyPath,
    /// Its path, or a part of it, is longer than a file system takes.
    NameTooLong,
    /// Its path has too many folders.
    TooDeep,
    /// Its path is no text, and this system has only text for names.
    NotText,
    /// This system reserves the name, or would change it.
    ReservedName,
    /// It differs from an earlier name only in upper and lower case, which this system takes for the same.
    CaseClash,
    /// A link, a file or a folder is where a folder or a file would have to be.
    InTheWay,
    /// Something of that name was there before, and was to be kept.
    Exists,
    /// A symbolic link that leads out of the folder.
    LinkOutside,
    /// Symbolic links were not asked for, or this system has none.
    LinksOff,
    /// A hard link to something that was not extracted before it.
    LinkTarget,
    /// A device, a pipe or a socket.
    Special,
    /// A type that is not known.
    Unknown,
    /// The file is larger than a file may be.
    TooLarge,
    /// It was removed while the folder was read.
    Vanished,
    /// The system did not take its name.
    Refused,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Parent => "its path leads above the folder",
            Self::Absolute => "its path is absolute",
            Self::Nul => "its path holds a NUL",
            Self::EmptyPath => "its path is empty",
            Self::NameTooLong => "its path is too long",
            Self::TooDeep => "its path has too many folders",
            Self::NotText => "its path is no text",
            Self::ReservedName => "this system reserves the name",
            Self::CaseClash => "another name differs only in upper and lower case",
            Self::InTheWay => "a link, file or folder is in the way",
            Self::Exists => "it was there before",
            Self::LinkOutside => "the link leads out of the folder",
            Self::LinksOff => "symbolic links are left out",
            Self::LinkTarget => "the target of the hard link was not extracted",
            Self::Special => "it is a device, a pipe or a socket",
            Self::Unknown => "its type is not known",
            Self::TooLarge => "it is larger than a file may be",
            Self::Vanished => "it was removed meanwhile",
            Self::Refused => "the system does not take its name",
        })
    }
}

/// An entry that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its path as text, shortened.
    pub path: String,
    /// Why.
    pub reason: SkipReason,
}

/// Entries that were left out: the first of them by name, all by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    /// The first ones.
    pub first: Vec<Skipped>,
    /// How many for each reason.
    pub counts: BTreeMap<SkipReason, u64>,
}

impl Skips {
    /// How many were left out.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn add(&mut self, path: &[u8], reason: SkipReason) {
        *self.counts.entry(reason).or_default() += 1;
        if self.first.len() < NAMED {
            self.first.push(Skipped { path: short(path), reason });
        }
    }
}

/// A path as text of bounded length.
pub(super) fn short(path: &[u8]) -> String {
    let start = path.get(..4 * PATH_LENGTH).unwrap_or(path);
    let text = String::from_utf8_lossy(start);
    let mut short: String = text.chars().take(PATH_LENGTH).collect();
    if short.len() < text.len() || start.len() < path.len() {
        short.push('…');
    }
    short
}

/// What was extracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// Files written.
    pub files: u64,
    /// Folders of the archive that are there now.
    pub folders: u64,
    /// Symbolic links made.
    pub symlinks: u64,
    /// Hard links made.
    pub hard_links: u64,
    /// Size of the files, holes included.
    pub bytes: u64,
    /// What was left out.
    pub skipped: Skips,
    /// The archive ended with its end marker. Without one, entries may be missing behind the last.
    pub end_marker: bool,
}

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackReport {
    /// Entries written.
    pub entries: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// What was left out, ignored files excepted.
    pub skipped: Skips,
    /// Paths of files that changed their size meanwhile, as text; they are padded with zeros or cut. At most 1,000.
    pub changed: Vec<String>,
    /// How many changed.
    pub changed_count: usize,
}

impl PackReport {
    pub(super) fn add_changed(&mut self, path: &[u8]) {
        self.changed_count += 1;
        if self.changed.len() < NAMED {
            self.changed.push(short(path));
        }
    }
}
