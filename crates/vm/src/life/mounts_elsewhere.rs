//! What is mounted below a folder, where only its files can tell: a mount is another device.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::LifeError;

/// The first one of it. Links are not followed.
pub(super) fn mounted_in(data: &Path) -> Result<Option<PathBuf>, LifeError> {
    let look = |path: &Path| fs::symlink_metadata(path).map_err(LifeError::file("look at", path));
    let device = look(data)?.dev();
    let mut open = vec![data.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(LifeError::file("read", &folder))? {
            let path = entry.map_err(LifeError::file("read", &folder))?.path();
            let metadata = look(&path)?;
            if metadata.is_dir() {
                if metadata.dev() != device {
                    return Ok(Some(path));
                }
                open.push(path);
            }
        }
    }
    Ok(None)
}
