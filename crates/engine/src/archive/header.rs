//! The block of 512 bytes before every entry.

use super::{ArchiveError, EntryKind};

/// Size of a block.
pub(super) const BLOCK: usize = 512;

/// Zeros between `size` bytes of content and the next block.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// A block, read.
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
}

impl<'a> Header<'a> {
    /// Takes a block whose checksum is right.
    pub(super) fn read(block: &'a [u8; BLOCK], offset: u64) -> Result<Self, ArchiveError> {
        let header = Self { block };
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, byte) in block.iter().enumerate() {
            // The checksum counts its own field as spaces; old writers summed signed bytes.
            let byte = if (148..156).contains(&index) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        match header.number(148, 8) {
            Some(sum) if sum == unsigned || sum == signed => Ok(header),
            _ => Err(ArchiveError::Damaged { offset, why: "the checksum of a header is wrong" }),
        }
    }

    fn field(&self, start: usize, length: usize) -> &'a [u8] {
        self.block.get(start..start + length).unwrap_or_default()
    }

    fn text(&self, start: usize, length: usize) -> &'a [u8] {
        let field = self.field(start, length);
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn number(&self, start: usize, length: usize) -> Option<i64> {
        number(self.field(start, length))
    }

    pub(super) fn flag(&self) -> u8 {
        self.block[156]
    }

    /// Size as the header says, which an extended header may overrule.
    pub(super) fn size(&self, offset: u64) -> Result<u64, ArchiveError> {
        let size = self.number(124, 12).and_then(|size| u64::try_from(size).ok());
        size.ok_or(ArchiveError::Damaged { offset, why: "the size of an entry is no number" })
    }

    /// Path, with the prefix that only the POSIX format has: GNU keeps other things there.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.field(257, 6) == b"ustar\0" { self.text(345, 155) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &'a [u8] {
        self.text(157, 100)
    }

    pub(super) fn mode(&self) -> u32 {
        self.number(100, 8).and_then(|mode| u32::try_from(mode & 0o7777).ok()).unwrap_or_default()
    }

    pub(super) fn uid(&self) -> u64 {
        self.number(108, 8).and_then(|id| u64::try_from(id).ok()).unwrap_or_default()
    }

    pub(super) fn gid(&self) -> u64 {
        self.number(116, 8).and_then(|id| u64::try_from(id).ok()).unwrap_or_default()
    }

    pub(super) fn modified(&self) -> i64 {
        self.number(136, 12).unwrap_or_default()
    }

    /// Old GNU sparse: the first four segments, whether more follow, and the real size.
    pub(super) fn sparse(&self) -> (&'a [u8], bool, Option<u64>) {
        let size = self.number(483, 12).and_then(|size| u64::try_from(size).ok());
        (self.field(386, 96), self.block[482] != 0, size)
    }
}

/// A number in octal digits, or in base 256 when the highest bit is set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let start = if negative { i64::from(*first).wrapping_sub(256) } else { i64::from(first & 0x3f) };
        return rest.iter().try_fold(start, |value, byte| {
            value.checked_mul(256).and_then(|value| value.checked_add(i64::from(*byte)))
        });
    }
    let digits = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    digits.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// What an entry with this flag is.
pub(super) fn kind(flag: u8, path: &[u8]) -> EntryKind {
    match flag {
        // Before POSIX a folder was a file whose name ends in a slash.
        0 if path.ends_with(b"/") => EntryKind::Folder,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharacterDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Folder,
        b'6' => EntryKind::Fifo,
        other => EntryKind::Other(other),
    }
}

/// The entry has no content, whatever size its header gives.
///
/// The engine's own reader and writer see it this way, and an archive must mean the same to both of us.
pub(super) fn has_no_content(kind: EntryKind) -> bool {
    !matches!(kind, EntryKind::File | EntryKind::Other(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_in_both_bases() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"9\0"), None);
        assert_eq!(number(b"-1\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(8 << 30));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b""), None);
    }

    #[test]
    fn pads_to_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
        assert_eq!(padding(u64::MAX), 1);
    }
}
