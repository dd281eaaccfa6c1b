//! Where finished appliances are kept.
//!
//! `KEY` is a base, `KEY-GUEST` an appliance: a manifest and an initramfs of its own, and links into its base. Both are
//! made in a folder beside and renamed into place, so a half-made one is never found.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{ApplianceError, at};
use super::manifest::{MANIFEST, RECORD};
use super::tree;
use crate::workspace::Workspace;

/// Appliances kept besides which older ones are removed: as many guests as are built in some hours of work.
const KEPT: usize = 6;
/// Bases kept, whether an appliance is made of them or not.
const KEPT_BASES: usize = 3;

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn open() -> Result<Self, ApplianceError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = variable("BERTH_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("berth")))
            .or_else(|| variable("HOME").map(|folder| folder.join(".cache/berth")))
            .ok_or_else(|| ApplianceError::Io {
                what: "no cache folder: set BERTH_CACHE, XDG_CACHE_HOME or HOME".to_owned(),
                source: io::Error::from(io::ErrorKind::NotFound),
            })?;
        Self::at(cache.join("appliance"))
    }

    fn at(folder: PathBuf) -> Result<Self, ApplianceError> {
        fs::create_dir_all(&folder).map_err(at(format!("creating {}", folder.display())))?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A place of this process for something that is not finished.
    pub(super) fn building(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".building-{name}-{}", std::process::id()))
    }

    /// Renames what was built into place. An older one is moved aside first: a folder cannot be renamed over a full one.
    pub(super) fn publish(&self, building: &Path, finished: &Path) -> Result<(), ApplianceError> {
        let aside = building.with_extension("replaced");
        if finished.exists() {
            fs::rename(finished, &aside).map_err(at(format!("replacing {}", finished.display())))?;
        }
        let renamed = fs::rename(building, finished).map_err(at(format!("publishing {}", finished.display())));
        tree::remove(&aside);
        renamed
    }

    /// Removes the appliances made of a base.
    pub(super) fn remove_made_of(&self, key: &str) {
        for name in self.names() {
            if name.split_once('-').is_some_and(|(base, _)| base == key) {
                tree::remove(&self.path(&name));
            }
        }
    }

    /// Removes older ones, and what processes that are gone left unfinished. Failing to is no reason to fail a build.
    pub(super) fn prune(&self, keep: &Path) {
        let mut appliances = Vec::new();
        let mut bases = Vec::new();
        for name in self.names() {
            let path = self.path(&name);
            let written = |file: &str| path.join(file).metadata().and_then(|file| file.modified()).ok();
            if name.starts_with(".building-") {
                let process = name.trim_end_matches(".replaced").rsplit('-').next().unwrap_or_default();
                if !Path::new("/proc").join(process).exists() {
                    tree::remove(&path);
                }
            } else if let Some(time) = written(MANIFEST) {
                appliances.push((path == keep, time, name));
            } else if let Some(time) = written(RECORD) {
                bases.push((time, name));
            }
        }
        appliances.sort();
        appliances.reverse();
        bases.sort();
        bases.reverse();
        let removed = appliances.split_off(KEPT.min(appliances.len()));
        let needed = |base: &str| appliances.iter().any(|(_, _, name)| name.split('-').next() == Some(base));
        let unneeded = bases.into_iter().skip(KEPT_BASES).filter(|(_, name)| !needed(name)).map(|(_, name)| name);
        for name in removed.into_iter().map(|(_, _, name)| name).chain(unneeded) {
            tree::remove(&self.path(&name));
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Says that an appliance was wanted again, so that it is not the first to be removed.
pub(super) fn touch(appliance: &Path) {
    if let Ok(file) = fs::File::options().append(true).open(appliance.join(MANIFEST)) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Points a link in the target folder at an appliance.
pub(super) fn link(workspace: &Workspace, name: &str, appliance: &Path) -> Result<(), ApplianceError> {
    let link = workspace.target(name);
    if fs::read_link(&link).is_ok_and(|current| current == appliance) {
        return Ok(());
    }
    let fresh = workspace.target(&format!(".{name}-{}", std::process::id()));
    let what = || at(format!("linking {}", link.display()));
    if let Some(target) = link.parent() {
        fs::create_dir_all(target).map_err(what())?;
    }
    tree::remove(&fresh);
    symlink(appliance, &fresh).map_err(what())?;
    fs::rename(&fresh, &link).map_err(what())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    /// Something in the cache, `age` minutes old.
    fn place(cache: &Cache, name: &str, file: &str, age: u64) {
        fs::create_dir_all(cache.path(name)).unwrap();
        let file = fs::File::create(cache.path(name).join(file)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age * 60)).unwrap();
    }

    #[test]
    fn a_base_stays_while_an_appliance_is_made_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("appliance")).unwrap();
        for age in 0..8 {
            place(&cache, &format!("base{age}"), RECORD, age);
        }
        place(&cache, "base7-guest", MANIFEST, 7);
        for age in 10..16 {
            place(&cache, &format!("base1-guest{age}"), MANIFEST, age);
        }
        place(&cache, ".building-x-999999999", RECORD, 0);
        fs::create_dir(cache.building("y")).unwrap();

        cache.prune(&cache.path("base1-guest15"));
        let mut left = cache.names();
        left.sort();
        let own = format!(".building-y-{}", std::process::id());
        let expected = [
            own.as_str(),
            "base0",
            "base1",
            "base1-guest10",
            "base1-guest11",
            "base1-guest12",
            "base1-guest13",
            "base1-guest15",
            "base2",
            "base7",
            "base7-guest",
        ];
        assert_eq!(left, expected, "the wanted one stays however old it is");
        cache.remove_made_of("base1");
        assert!(cache.path("base1").exists() && !cache.path("base1-guest15").exists());
    }

    #[test]
    fn publishing_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        place(&cache, "key", "old", 0);
        let building = cache.building("key");
        fs::create_dir(&building).unwrap();
        cache.publish(&building, &cache.path("key")).unwrap();
        assert_eq!(cache.names(), ["key"]);
        assert!(!cache.path("key/old").exists());
    }
}
