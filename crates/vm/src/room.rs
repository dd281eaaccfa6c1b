//! Room on a file system.

use std::io;
use std::path::Path;

/// Bytes that this user may still write there.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}
