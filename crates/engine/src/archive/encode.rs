//! From a file to the blocks before its content.

use super::{
    EntryKind, Modified,
    header::{BLOCK, padding},
    pax,
    sniff::Compression,
};

/// What is written about an entry.
#[derive(Debug)]
pub(super) struct Described<'a> {
    /// Path without a slash at its end.
    pub(super) path: &'a [u8],
    pub(super) kind: EntryKind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) modified: Modified,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) link: Option<&'a [u8]>,
}

/// Appends the header of an entry, with an extended one before it if something does not fit.
pub(super) fn write(out: &mut Vec<u8>, entry: &Described<'_>) {
    let mut path = entry.path.to_vec();
    let flag = match entry.kind {
        EntryKind::Folder => {
            path.push(b'/');
            b'5'
        }
        EntryKind::Symlink => b'2',
        _ => b'0',
    };
    let link = entry.link.unwrap_or_default();
    let seconds = entry.modified.seconds;
    let mut records = Vec::new();
    // An engine that finds the start of a compressed file runs a program of the container on the rest, and a name is
    // the first thing it finds, with the zeros behind it. An extended header has a name of ours.
    let start = [&path, &[0; 8][..]].concat();
    if path.len() > 100 || Compression::of(&start).is_some() {
        pax::write(&mut records, "path", &path);
    }
    if link.len() > 100 {
        pax::write(&mut records, "linkpath", link);
    }
    if !fits(entry.size, 11) {
        pax::write(&mut records, "size", entry.size.to_string().as_bytes());
    }
    if !fits(entry.uid, 7) {
        pax::write(&mut records, "uid", entry.uid.to_string().as_bytes());
    }
    if !fits(entry.gid, 7) {
        pax::write(&mut records, "gid", entry.gid.to_string().as_bytes());
    }
    if u64::try_from(seconds).map_or(true, |seconds| !fits(seconds, 11)) {
        pax::write(&mut records, "mtime", seconds.to_string().as_bytes());
    }
    if !records.is_empty() {
        let size = records.len() as u64;
        let name = b"PaxHeaders.0/entry";
        block(out, &Block { name, flag: b'x', size, mode: 0o644, uid: 0, gid: 0, seconds: 0, link: &[] });
        out.extend_from_slice(&records);
        pad(out, size);
    }
    let mode = entry.mode & 0o7777;
    let (uid, gid) = (entry.uid, entry.gid);
    block(out, &Block { name: &path, flag, size: entry.size, mode, uid, gid, seconds, link });
}

/// Appends the zeros behind content of `size` bytes.
pub(super) fn pad(out: &mut Vec<u8>, size: u64) {
    out.resize(out.len() + usize::try_from(padding(size)).unwrap_or_default(), 0);
}

/// Appends the end marker.
pub(super) fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

struct Block<'a> {
    name: &'a [u8],
    flag: u8,
    size: u64,
    mode: u32,
    uid: u64,
    gid: u64,
    seconds: i64,
    link: &'a [u8],
}

fn block(out: &mut Vec<u8>, block: &Block<'_>) {
    let start = out.len();
    text(out, block.name, 100);
    octal(out, block.mode.into(), 7);
    octal(out, block.uid, 7);
    octal(out, block.gid, 7);
    octal(out, block.size, 11);
    octal(out, u64::try_from(block.seconds).unwrap_or_default(), 11);
    let checksum = out.len();
    out.extend_from_slice(b"        ");
    out.push(block.flag);
    text(out, block.link, 100);
    out.extend_from_slice(b"ustar\x0000");
    out.resize(start + BLOCK, 0);
    let sum: u64 = out.get(start..).unwrap_or_default().iter().copied().map(u64::from).sum();
    let mut digits = Vec::new();
    octal(&mut digits, sum, 6);
    for (to, from) in out.iter_mut().skip(checksum).zip(digits) {
        *to = from;
    }
}

/// Appends a text cut to the field; an extended header has the whole one then.
fn text(out: &mut Vec<u8>, text: &[u8], length: usize) {
    let start = out.len();
    out.extend_from_slice(text.get(..length).unwrap_or(text));
    out.resize(start + length, 0);
}

/// Appends octal digits and a NUL; zeros if the number does not fit, and an extended header has it then.
fn octal(out: &mut Vec<u8>, number: u64, digits: usize) {
    let number = if fits(number, digits) { number } else { 0 };
    out.extend_from_slice(format!("{number:0digits$o}\0").as_bytes());
}

fn fits(number: u64, digits: usize) -> bool {
    number < 1 << (3 * digits)
}
