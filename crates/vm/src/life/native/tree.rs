//! The native engine's files as a stream, and back: a tar archive in PAX form with everything that makes them what they
//! are. Owners are numbers, times have nanoseconds, attributes are `SCHILY.xattr`, holes are `GNU.sparse` 1.0. GNU tar reads
//! it.

mod attributes;
mod pack;
mod record;
mod stream;
#[cfg(test)]
mod tests;
mod unpack;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

pub(super) use pack::{Counter, pack};
pub(super) use stream::{Parts, Stopped, Unparted};
pub(super) use unpack::unpack;

/// The engine's folders. What else is in the data folder is Berth's own, and made again.
pub(super) const FOLDERS: [&str; 2] = ["docker", "containerd"];

const BLOCK: usize = 512;
/// Each level is an open folder.
const DEPTH: usize = 800;
/// Of all that a header cannot say: a name, a link's target and attributes.
const RECORDS: usize = 1 << 20;
/// Parts of one file with holes in between. What comes behind so many is one part.
const SEGMENTS: usize = 1 << 18;

/// What is in an open folder: no link on the way can lead elsewhere.
fn inside(folder: &File, name: &[u8]) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(OsStr::from_bytes(name))
}

/// The bytes from a length to the end of its block.
fn padding(length: u64) -> usize {
    let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}
