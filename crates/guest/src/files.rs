use std::fs;
use std::path::Path;

use crate::error::Error;

pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("cannot create", path))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::file("cannot write", path))
}

/// Copies folders, files with their modes, and symbolic links; nothing else is in what is copied. What only root may read,
/// such as `shadow`, is left out where it is not root who copies.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    create_folder(to)?;
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if is_denied(&error) => return Ok(()),
        Err(error) => return Err(Error::file("cannot read", from)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::file("cannot read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::file("cannot read", &source))?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            copy_link(&source, &target)?;
        } else if kind.is_file() {
            match fs::copy(&source, &target) {
                Err(error) if !is_denied(&error) => return Err(Error::file("cannot copy", &source)(error)),
                _ => {}
            }
        }
    }
    Ok(())
}

pub(crate) fn copy_link(from: &Path, to: &Path) -> Result<(), Error> {
    let destination = fs::read_link(from).map_err(Error::file("cannot read", from))?;
    link(&destination, to)
}

pub(crate) fn link(destination: &Path, at: &Path) -> Result<(), Error> {
    std::os::unix::fs::symlink(destination, at).map_err(Error::file("cannot link", at))
}

fn is_denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}
