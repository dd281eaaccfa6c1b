use std::fs;
use std::path::Path;

use crate::error::Error;

pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("cannot create", path))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::file("cannot write", path))
}

/// Copies folders, files with their modes, and symbolic links; nothing else is in what is copied.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    create_folder(to)?;
    for entry in fs::read_dir(from).map_err(Error::file("cannot read", from))? {
        let entry = entry.map_err(Error::file("cannot read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::file("cannot read", &source))?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            copy_link(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(Error::file("cannot copy", &source))?;
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
