//! One entry of an archive.

use std::borrow::Cow;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A further name of a file that came before.
    HardLink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// Something else, by its type flag.
    Other(u8),
}

/// When a file was last modified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modified {
    /// Seconds since the epoch, negative before it.
    pub seconds: i64,
    /// Nanoseconds after that second.
    pub nanos: u32,
}

/// One entry of an archive, as the archive describes it: nothing in it is checked, the path least of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path as written, in any encoding.
    pub path: Vec<u8>,
    /// The path or the link target is longer than the limit, and what came after the limit is missing.
    pub cut: bool,
    /// What it is.
    pub kind: EntryKind,
    /// Size of the content in bytes, holes included.
    pub size: u64,
    /// The content has holes.
    pub sparse: bool,
    /// Permission bits, setuid, setgid and sticky bit included.
    pub mode: u32,
    /// When it was last modified.
    pub modified: Modified,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Target of a link, as written.
    pub link: Option<Vec<u8>>,
}

impl Entry {
    /// The path as text; bytes that are no UTF-8 are replaced by U+FFFD.
    #[must_use]
    pub fn path_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.path)
    }

    /// The link target as text; bytes that are no UTF-8 are replaced by U+FFFD.
    #[must_use]
    pub fn link_lossy(&self) -> Option<Cow<'_, str>> {
        self.link.as_deref().map(String::from_utf8_lossy)
    }
}
