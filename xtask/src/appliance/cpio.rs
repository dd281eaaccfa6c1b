//! A writer of `newc` archives, which is what the kernel unpacks as its first root.
//!
//! Written here, because an archive is to be the same bytes whenever and by whomever it is made: no times, no owners, no
//! inode numbers of the file system it was read from.

use std::fmt::Write as _;
use std::io::{self, Write};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Entries appear in the order in which they are added; a folder must come before what is in it.
#[derive(Debug)]
pub(super) struct Archive<W> {
    output: W,
    written: u64,
    entries: u32,
}

#[derive(Debug, Default)]
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, written: 0, entries: 0 }
    }

    pub(super) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER | 0o755, (0, 0), &[])
    }

    pub(super) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | permissions, (0, 0), content)
    }

    pub(super) fn character_device(&mut self, name: &str, permissions: u32, device: (u32, u32)) -> io::Result<()> {
        self.entry(name, CHARACTER_DEVICE | permissions, device, &[])
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write_entry("TRAILER!!!", &Header::default(), &[])?;
        Ok(self.output)
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        self.write_entry(name, &Header { inode: self.entries, mode, links, device }, content)
    }

    fn write_entry(&mut self, name: &str, header: &Header, content: &[u8]) -> io::Result<()> {
        let number = |size: usize| u32::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        let (size, name_size) = (number(content.len())?, number(name.len() + 1)?);
        let Header { inode, mode, links, device: (major, minor) } = *header;
        let mut text = String::from("070701");
        // The zeros: owner and group, time, the device it was read from, and a sum that nobody checks.
        for field in [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            let _ = write!(text, "{field:08X}");
        }
        self.put(text.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(content)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> io::Result<()> {
        let zeros = [0_u8; 3];
        let lacking = usize::try_from(self.written.next_multiple_of(4) - self.written).unwrap_or_default();
        self.put(zeros.get(..lacking).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn another_program_reads_what_was_written() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("dev").unwrap();
        archive.character_device("dev/console", 0o600, (5, 1)).unwrap();
        archive.file("init", 0o755, b"#!/bin/sh").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000041ED"), "the first entry is a folder with mode 755");
        // One entry after another, each at the place the one before leads to.
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let field = |index: usize| {
                let start = at + 6 + 8 * index;
                usize::from_str_radix(text.get(start..start + 8).unwrap(), 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            assert_eq!(field(5), 0, "no times");
            names.push(text.get(at + 110..at + 110 + name_size - 1).unwrap().to_owned());
            at = (at + 110 + name_size).next_multiple_of(4) + size;
            at = at.next_multiple_of(4);
        }
        assert_eq!(names, ["dev", "dev/console", "init", "TRAILER!!!"]);
    }
}
