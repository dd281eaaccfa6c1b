//! New files in the place of old ones, so that at any moment the one or the other are all there.
//!
//! They are made in `.restore`. Its renaming to `.restored` decides: before, the old ones stay; after, the new ones are put in
//! place, by whoever comes next if need be. What they replaced is in `.replaced` then, until it is removed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::tree::FOLDERS;
use crate::life::error::LifeError;
use crate::life::{MAKING, REPLACED, remove, sync_folder};
use crate::paths::EnginePaths;

/// Whole, and to be put in place.
const WHOLE: &str = ".restored";
const NEW: &str = "new";
const OLD: &str = "old";

/// Files that are being made; gone again unless they take their place.
#[derive(Debug)]
pub(super) struct Making {
    folder: PathBuf,
    is_whole: bool,
}

impl Making {
    /// Begins with an empty folder.
    pub(super) fn begin(paths: &EnginePaths) -> Result<Self, LifeError> {
        for left in [MAKING, REPLACED] {
            let left = paths.data().join(left);
            if fs::symlink_metadata(&left).is_ok() {
                remove(&left)?;
            }
        }
        let making = Self { folder: paths.data().join(MAKING), is_whole: false };
        for folder in [&making.folder, &making.new_files(), &making.folder.join(OLD)] {
            DirBuilder::new().mode(0o700).create(folder).map_err(LifeError::file("create", folder))?;
        }
        Ok(making)
    }

    /// Where they are made.
    pub(super) fn new_files(&self) -> PathBuf {
        self.folder.join(NEW)
    }

    /// Puts them in place. What was replaced is gone then, or is left in a folder that a reset removes.
    pub(super) fn take_place(mut self, paths: &EnginePaths) -> Result<(), LifeError> {
        let new = self.new_files();
        for name in FOLDERS {
            let folder = new.join(name);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(LifeError::file("create", &folder)(error));
                }
                // A folder that is not among the new ones says that it is in place.
                _ => {}
            }
        }
        let written = File::open(&new).and_then(|folder| Ok(nix::unistd::syncfs(&folder)?));
        written.map_err(LifeError::file("write out", &new))?;
        let whole = paths.data().join(WHOLE);
        fs::rename(&self.folder, &whole).map_err(LifeError::file("create", &whole))?;
        self.is_whole = true;
        sync_folder(paths.data())?;
        finish(paths)?;
        let replaced = paths.data().join(REPLACED);
        if let Err(error) = remove(&replaced) {
            tracing::warn!(folder = %replaced.display(), %error, "what was replaced could not be removed");
        }
        Ok(())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Puts in place what a restore that was cut off has decided on. Says whether there was anything.
pub(crate) fn finish(paths: &EnginePaths) -> Result<bool, crate::Error> {
    let (data, whole) = (paths.data(), paths.data().join(WHOLE));
    if !is_there(&whole) {
        return Ok(false);
    }
    for name in FOLDERS {
        let (place, new, old) = (data.join(name), whole.join(NEW).join(name), whole.join(OLD).join(name));
        if is_there(&new) {
            if is_there(&place) {
                rename(&place, &old)?;
            }
            rename(&new, &place)?;
        }
    }
    // It tells of the engine that was there before.
    let _ = fs::remove_file(paths.state_file());
    let replaced = data.join(REPLACED);
    if is_there(&replaced) {
        fs::remove_dir_all(&replaced).map_err(crate::Error::file("remove", &replaced))?;
    }
    sync(data)?;
    rename(&whole, &replaced)?;
    sync(data)?;
    Ok(true)
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn rename(from: &Path, to: &Path) -> Result<(), crate::Error> {
    fs::rename(from, to).map_err(crate::Error::file("move", from))
}

fn sync(folder: &Path) -> Result<(), crate::Error> {
    let synced: io::Result<()> = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(crate::Error::file("write out", folder))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{FOLDERS, MAKING, Making, NEW, OLD, REPLACED, WHOLE, finish};
    use crate::paths::EnginePaths;

    fn paths(folder: &Path) -> EnginePaths {
        let paths = EnginePaths::with_runtime(&folder.join("data"), Some(folder.join("run"))).unwrap();
        paths.create_data().unwrap();
        paths
    }

    fn put(folder: &Path, text: &str) {
        for name in FOLDERS {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("file"), text).unwrap();
        }
    }

    fn content(paths: &EnginePaths) -> [Option<String>; 2] {
        FOLDERS.map(|name| fs::read_to_string(paths.data().join(name).join("file")).ok())
    }

    fn both(text: &str) -> [Option<String>; 2] {
        [Some(text.to_owned()), Some(text.to_owned())]
    }

    #[test]
    fn who_leaves_off_leaves_the_old_and_who_does_not_the_new() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        put(paths.data(), "old");
        let making = Making::begin(&paths).unwrap();
        put(&making.new_files(), "new");
        drop(making);
        assert_eq!(content(&paths), both("old"));
        let making = Making::begin(&paths).unwrap();
        put(&making.new_files(), "new");
        making.take_place(&paths).unwrap();
        assert_eq!(content(&paths), both("new"));
        for name in [MAKING, WHOLE, REPLACED] {
            assert!(!paths.data().join(name).exists(), "{name}");
        }
    }

    /// Each state in which a kill can leave the folder after it was decided.
    #[test]
    fn what_was_decided_is_finished_wherever_it_was_cut_off() {
        let steps: [fn(&EnginePaths); 6] = [
            |_| {},
            |paths| fs::rename(paths.data().join("docker"), old(paths, "docker")).unwrap(),
            |paths| fs::rename(new(paths, "docker"), paths.data().join("docker")).unwrap(),
            |paths| fs::rename(paths.data().join("containerd"), old(paths, "containerd")).unwrap(),
            |paths| fs::rename(new(paths, "containerd"), paths.data().join("containerd")).unwrap(),
            |paths| fs::rename(paths.data().join(WHOLE), paths.data().join(REPLACED)).unwrap(),
        ];
        for cut in 0..=steps.len() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            put(paths.data(), "old");
            // Of an earlier one.
            if cut < steps.len() {
                fs::create_dir(paths.data().join(REPLACED)).unwrap();
            }
            fs::create_dir_all(paths.data().join(WHOLE).join(OLD)).unwrap();
            put(&paths.data().join(WHOLE).join(NEW), "new");
            for step in &steps[..cut] {
                step(&paths);
            }
            assert_eq!(finish(&paths).unwrap(), cut < steps.len());
            assert_eq!(content(&paths), both("new"), "cut off after {cut} steps");
            assert!(!finish(&paths).unwrap());
        }
    }

    fn old(paths: &EnginePaths, name: &str) -> std::path::PathBuf {
        paths.data().join(WHOLE).join(OLD).join(name)
    }

    fn new(paths: &EnginePaths, name: &str) -> std::path::PathBuf {
        paths.data().join(WHOLE).join(NEW).join(name)
    }
}
