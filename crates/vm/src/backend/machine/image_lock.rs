//! The lock of QEMU's own, by which it tells that it uses an image.

use std::fs::File;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The bytes by which it tells who uses an image and how.
const QEMU_LOCK_FIRST: i64 = 100;
const QEMU_LOCK_BYTES: i64 = 200;

/// Whether a QEMU has the image open.
pub(crate) fn in_use(file: &File) -> bool {
    let mut probe = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap_or_default(),
        l_whence: libc::SEEK_SET.try_into().unwrap_or_default(),
        l_start: QEMU_LOCK_FIRST,
        l_len: QEMU_LOCK_BYTES,
        l_pid: 0,
    };
    // A file system without such locks does not have them for QEMU either.
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe)).is_ok() && i32::from(probe.l_type) != libc::F_UNLCK
}
