//! As much of ELF as is needed to see that a program is what it has to be.

/// The kind of a segment that names the dynamic loader.
const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;
/// A section without bytes in the file.
const NO_BITS: u32 = 8;
/// The note of the Xen project that says where a kernel is entered in 32-bit mode: what PVH booting takes.
const PHYS32_ENTRY: u32 = 18;

/// A 64-bit little-endian ELF file; whatever it says is checked against its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Part {
    kind: u32,
    offset: u64,
    size: u64,
}

impl<'a> Elf<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        // 64-bit, little-endian.
        let known = bytes.starts_with(b"\x7fELF\x02\x01") && bytes.len() >= 64;
        known.then_some(Self { bytes })
    }

    pub(super) fn machine(self) -> u16 {
        self.u16(18).unwrap_or_default()
    }

    /// Whether it runs without a dynamic loader.
    pub(super) fn is_static(self) -> bool {
        !self.segments().any(|segment| segment.kind == INTERPRETER)
    }

    /// Where the file ends by its own tables; what follows, nobody who reads ELF looks at.
    pub(super) fn end(self) -> Option<u64> {
        let table = |offset: usize, size: usize, count: usize| {
            let length = u64::from(self.u16(size)?) * u64::from(self.u16(count)?);
            self.u64(offset)?.checked_add(length)
        };
        let mut end = table(32, 54, 56)?.max(table(40, 58, 60)?);
        for part in self.segments().chain(self.sections().filter(|section| section.kind != NO_BITS)) {
            end = end.max(part.offset.checked_add(part.size)?);
        }
        (end <= u64::try_from(self.bytes.len()).ok()?).then_some(end)
    }

    /// Whether QEMU can enter it directly.
    pub(super) fn has_pvh_entry(self) -> bool {
        self.segments().filter(|segment| segment.kind == NOTE).any(|segment| {
            let start = usize::try_from(segment.offset).ok();
            let size = usize::try_from(segment.size).ok();
            let notes = start.zip(size).and_then(|(start, size)| self.bytes.get(start..start.checked_add(size)?));
            notes
                .is_some_and(|notes| Notes { rest: notes }.any(|(name, kind)| name == b"Xen\0" && kind == PHYS32_ENTRY))
        })
    }

    fn segments(self) -> impl Iterator<Item = Part> + 'a {
        self.entries(32, 54, 56).filter_map(move |at| {
            Some(Part { kind: self.u32(at)?, offset: self.u64(at + 8)?, size: self.u64(at + 32)? })
        })
    }

    fn sections(self) -> impl Iterator<Item = Part> + 'a {
        self.entries(40, 58, 60).filter_map(move |at| {
            Some(Part { kind: self.u32(at + 4)?, offset: self.u64(at + 24)?, size: self.u64(at + 32)? })
        })
    }

    /// Where the entries of a table are, given where its offset, the size of an entry and their number are.
    fn entries(self, offset: usize, size: usize, count: usize) -> impl Iterator<Item = usize> + 'a {
        let start = self.u64(offset).and_then(|start| usize::try_from(start).ok());
        let size = usize::from(self.u16(size).unwrap_or_default());
        let count = usize::from(self.u16(count).unwrap_or_default());
        (0..count).filter_map(move |index| start?.checked_add(size.checked_mul(index)?))
    }

    fn field<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.field(at).map(u16::from_le_bytes)
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.field(at).map(u32::from_le_bytes)
    }

    fn u64(self, at: usize) -> Option<u64> {
        self.field(at).map(u64::from_le_bytes)
    }
}

/// The notes of a segment: their names and kinds.
struct Notes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Notes<'a> {
    type Item = (&'a [u8], u32);

    fn next(&mut self) -> Option<Self::Item> {
        let field = |at: usize| Some(u32::from_le_bytes(self.rest.get(at..at + 4)?.try_into().ok()?));
        let name_size = usize::try_from(field(0)?).ok()?;
        let content_size = usize::try_from(field(4)?).ok()?;
        let kind = field(8)?;
        let name = self.rest.get(12..name_size.checked_add(12)?)?;
        let padded = |size: usize| size.checked_next_multiple_of(4);
        let next = padded(name_size)?.checked_add(padded(content_size)?)?.checked_add(12)?;
        self.rest = self.rest.get(next..).unwrap_or_default();
        Some((name, kind))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// A header, one segment of a kind, its content, and bytes that belong to nothing.
    fn file(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes[72] = 120;
        bytes[96] = u8::try_from(content.len()).unwrap();
        bytes.extend(content);
        bytes.extend(b"relocations");
        bytes
    }

    fn note(name: &[u8], kind: u32) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
        note.extend(8_u32.to_le_bytes());
        note.extend(kind.to_le_bytes());
        note.extend(name);
        note.resize(note.len().next_multiple_of(4) + 8, 0);
        note
    }

    #[test]
    fn a_kernel_with_the_entry_of_xen_can_be_booted() {
        let notes = [note(b"Linux\0", 1), note(b"Xen\0", 5), note(b"Xen\0", PHYS32_ENTRY)].concat();
        let bytes = file(NOTE, &notes);
        let elf = Elf::parse(&bytes).unwrap();
        assert!(elf.has_pvh_entry());
        assert_eq!(elf.machine(), 62);
        assert_eq!(elf.end(), Some(120 + notes.len() as u64), "what follows is no part of it");
        let other = file(NOTE, &note(b"Xen\0", 5));
        assert!(!Elf::parse(&other).unwrap().has_pvh_entry());
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        assert!(!Elf::parse(&file(INTERPRETER, b"/lib64/ld-linux-x86-64.so.2\0")).unwrap().is_static());
        assert!(Elf::parse(&file(1, b"code")).unwrap().is_static());
    }

    #[test]
    fn what_lies_about_itself_is_refused_quietly() {
        assert!(Elf::parse(b"MZ").is_none());
        let mut bytes = file(NOTE, &note(b"Xen\0", PHYS32_ENTRY));
        bytes[96..104].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Elf::parse(&bytes).unwrap().end(), None);
        assert!(!Elf::parse(&bytes).unwrap().has_pvh_entry());
        let endless = [0xff; 12];
        assert_eq!(Notes { rest: &endless }.count(), 0);
    }
}
