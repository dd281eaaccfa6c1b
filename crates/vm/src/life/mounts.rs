//! What is mounted below a folder, as the kernel tells it.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::error::LifeError;

/// The first one of it.
pub(super) fn mounted_in(data: &Path) -> Result<Option<PathBuf>, LifeError> {
    let file = Path::new("/proc/self/mountinfo");
    let text = fs::read(file).map_err(LifeError::file("read", file))?;
    let points = text.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    let mut points = points.map(|point| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))));
    Ok(points.find(|point| point.starts_with(data) && point != data))
}

/// The kernel writes a blank, a tab, a line's end and a backslash as three octal digits.
fn unescape(point: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(point.len());
    let mut rest = point;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let code = after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => bytes.push(first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescape(br"/a\040b\134c"), b"/a b\\c");
        assert_eq!(unescape(br"/a\04"), br"/a\04");
    }
}
