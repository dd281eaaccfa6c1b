//! What a machine is known by: its identifier, which the framework makes and Berth keeps, and its network card's address.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{VzApi, VzError};
use crate::paths::EnginePaths;

/// The framework's have some hundred bytes.
const LONGEST: u64 = 4096;

/// The identifier of this engine's machine, kept in a file from its first start on.
pub(super) fn identifier(api: &dyn VzApi, file: &Path) -> Result<Vec<u8>, VzError> {
    let kept = read(file).map_err(VzError::file("read", file))?;
    let identifier = api.identifier(kept.as_deref())?;
    if kept.as_ref() != Some(&identifier) {
        write(file, &identifier).map_err(VzError::file("write", file))?;
    }
    Ok(identifier)
}

fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(file).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Under another name first: it is there whole or not at all.
fn write(file: &Path, identifier: &[u8]) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut options = OpenOptions::new();
    let mut made = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    made.write_all(identifier)?;
    made.sync_all()?;
    std::fs::rename(fresh, file)
}

/// An address that is nobody else's in the network of this computer's machines: macOS gives each engine the same
/// address at every start.
pub(super) fn hardware_address(paths: &EnginePaths) -> [u8; 6] {
    /// One device's, and assigned by whoever uses it.
    const LOCAL: u8 = 0x06;
    let number = u32::from_str_radix(paths.id(), 16).unwrap_or_default();
    let [first, second, third, fourth] = number.to_be_bytes();
    [LOCAL, 0xbe, first, second, third, fourth]
}
