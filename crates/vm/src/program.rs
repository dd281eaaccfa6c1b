//! Berth's own programs, which are installed next to each other.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// A program in this one's folder, or, from a test's program, in the folder above.
pub(crate) fn find_next_to(name: &'static str) -> Result<PathBuf, Error> {
    let this = std::env::current_exe().map_err(Error::system("finding this program"))?;
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| is_program(path));
    found.ok_or(Error::MissingProgram { name, next_to: this })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
