//! Forgetting: what can be made again, or everything.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::error::LifeError;
use super::{MAKING, REPLACED, RESET_FOLDER, is_ours, refuse_link, refuse_mounts, sync_folder, take};
use crate::backend::{Backend, EngineSettings, Identities, rootless, wsl};
use crate::paths::EnginePaths;

/// What in a data folder can be made again.
const REMADE: &[&str] = &["log", "engine.json", "engine.json.new", "settings.json.new", MAKING, REPLACED];
/// What in the machine's folder is not made again: the data itself, and what is being made into it.
const DISK: &str = "data.raw";
/// Nor are the copies of images that work: they are there for the case that the installed one does not.
const IMAGES: &str = "images";
/// Everything else that Berth puts into a data folder. The locks stay: they are held, or are about to be.
const KEPT: &[&str] = &["settings.json", "vm", "wsl", "docker", "containerd"];

/// And what stays in any case: the locks, the window's settings, and what an earlier reset moved aside.
const BESIDE: &[&str] =
    &["engine.lock", "guest.lock", "berth.sqlite", "berth.sqlite-shm", "berth.sqlite-wal", RESET_FOLDER];

/// How much is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetScope {
    /// What can be made again. Images, containers and volumes stay.
    KeepData,
    /// Everything.
    All,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetReport {
    /// Each, by its name in the data folder, with the bytes it took.
    pub removed: Vec<(PathBuf, u64)>,
}

impl ResetReport {
    /// The bytes they took together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.removed.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Removes what is known to be Berth's and in scope, and nothing else.
///
/// What goes is first moved aside, so that nothing that was half removed is ever started. Killed half-way, it is run
/// again; until then the engine does not start.
///
/// # Errors
///
/// The engine runs, the folder is not Berth's, something in it leads elsewhere, or the system refuses.
pub fn reset(paths: &EnginePaths, scope: ResetScope) -> Result<ResetReport, LifeError> {
    if !is_ours(paths) {
        return Err(LifeError::NotOurs(paths.data().to_path_buf()));
    }
    let _lock = take(paths)?;
    let data = paths.data();
    let aside = data.join(RESET_FOLDER);
    let unfinished = refuse_link(&aside)?;
    // Data that was moved aside is no longer whole: only all of it can be forgotten.
    if unfinished && scope == ResetScope::KeepData {
        return Err(LifeError::Engine(crate::Error::HalfReset { folder: aside }));
    }
    if scope == ResetScope::All
        && let Some(foreign) = foreign(data)?
    {
        return Err(LifeError::NotAlone(foreign));
    }
    let mut names: Vec<PathBuf> = REMADE.iter().map(PathBuf::from).collect();
    match scope {
        ResetScope::All => names.extend(KEPT.iter().map(PathBuf::from)),
        ResetScope::KeepData => names.extend(remade_of_machine(paths)?),
    }
    let mut found = Vec::new();
    for name in names {
        if refuse_link(&data.join(&name))? {
            let bytes = room(paths, &data.join(&name))?;
            found.push((name, bytes));
        }
    }
    refuse_mounts(paths)?;
    let mut report = ResetReport::default();
    match scope {
        ResetScope::All => {
            // Windows knows of their disks.
            wsl::remove(paths).map_err(LifeError::Engine)?;
            if unfinished {
                let bytes = room(paths, &aside)?;
                report.removed.push((PathBuf::from(RESET_FOLDER), bytes));
            }
            move_aside(data, &aside, &found)?;
            remove(paths, &aside)?;
        }
        ResetScope::KeepData => {
            for (name, _) in &found {
                remove(paths, &data.join(name))?;
            }
            default_sizes(paths)?;
            crate::slots::forgive(paths).map_err(LifeError::Engine)?;
        }
    }
    report.removed.append(&mut found);
    paths.remove_runtime();
    sync_folder(data)?;
    Ok(report)
}

/// The first thing in the data folder that Berth did not put there. Folders such as `docker` are somebody's own where an
/// engine was once started in a folder that was in use for something else.
fn foreign(data: &Path) -> Result<Option<PathBuf>, LifeError> {
    let entries = fs::read_dir(data).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(LifeError::file("read", data))?;
    let known = |name: &std::ffi::OsStr| REMADE.iter().chain(KEPT).chain(BESIDE).any(|&known| name == known);
    Ok(entries.iter().find(|entry| !known(&entry.file_name())).map(fs::DirEntry::path))
}

fn remade_of_machine(paths: &EnginePaths) -> Result<Vec<PathBuf>, LifeError> {
    let folder = paths.machine_folder();
    if !refuse_link(&folder)? {
        return Ok(Vec::new());
    }
    let of = Path::new("vm");
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(LifeError::file("read", &folder))?;
    Ok(entries
        .iter()
        .map(fs::DirEntry::file_name)
        .filter(|name| name != DISK && name != IMAGES)
        .map(|name| of.join(name))
        .collect())
}

/// The backend and the disk's size belong to the data; the rest of the settings does not.
fn default_sizes(paths: &EnginePaths) -> Result<(), LifeError> {
    let default = EngineSettings::default();
    let kept = EngineSettings::load(paths).unwrap_or_else(|_| {
        let backend = if paths.data_disk().exists() { Backend::of_machines() } else { default.backend };
        EngineSettings { backend, ..EngineSettings::default() }
    });
    let settings = EngineSettings { backend: kept.backend, disk_gib: kept.disk_gib, ..default };
    settings.replace(paths).map_err(LifeError::Engine)
}

fn move_aside(data: &Path, aside: &Path, found: &[(PathBuf, u64)]) -> Result<(), LifeError> {
    match fs::DirBuilder::new().mode(0o700).create(aside) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(LifeError::file("create", aside)(error)),
        _ => {}
    }
    // On disk before anything moves: it is what keeps the engine from starting on the rest.
    sync_folder(data)?;
    for (name, _) in found {
        let to = free_name(aside, name);
        fs::rename(data.join(name), to).map_err(LifeError::file("move aside", &data.join(name)))?;
    }
    sync_folder(data)
}

/// A reset that was cut off, after which the engine's files were made again, has moved the same name before.
fn free_name(aside: &Path, name: &Path) -> PathBuf {
    let name = name.to_string_lossy().into_owned();
    let free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
    (0_u64..).map(|number| aside.join(format!("{number}-{name}"))).find(free).unwrap_or_else(|| aside.join(name))
}

/// The room that it takes, also where files of an engine without root cannot be looked at by the user whose it is.
fn room(paths: &EnginePaths, path: &Path) -> Result<u64, LifeError> {
    match allocated(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => match apart(paths)? {
            Some(identities) => Ok(rootless::measure(&identities, path)?),
            None => Err(LifeError::file("look at", path)(error)),
        },
        bytes => bytes.map_err(LifeError::file("look at", path)),
    }
}

fn apart(paths: &EnginePaths) -> Result<Option<Identities>, LifeError> {
    rootless::check(paths).map_err(|missing| LifeError::Engine(missing.into()))
}

fn remove(paths: &EnginePaths, path: &Path) -> Result<(), LifeError> {
    match super::remove(path) {
        Err(LifeError::File { source, .. }) if source.kind() == ErrorKind::PermissionDenied => match apart(paths)? {
            Some(identities) => Ok(rootless::remove(&identities, path)?),
            None => Err(LifeError::file("remove", path)(source)),
        },
        removed => removed,
    }
}

/// The room that a file or folder takes. Links are not followed; what vanishes meanwhile takes none.
fn allocated(path: &Path) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    let mut bytes = 0_u64;
    let mut open = vec![path.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK));
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{LifeError, ResetScope, reset};
    use crate::backend::{Backend, EngineSettings};
    use crate::life::refuse_half_reset;
    use crate::lock::EngineLock;
    use crate::paths::EnginePaths;

    fn made(folder: &Path) -> EnginePaths {
        let paths = EnginePaths::with_runtime(&folder.join("data"), Some(folder.join("run"))).unwrap();
        paths.create_data().unwrap();
        paths.create_machine_folder().unwrap();
        fs::write(paths.lock_file(), "").unwrap();
        fs::write(paths.settings_file(), r#"{"backend":"qemu","memory_mib":512,"cpus":1,"disk_gib":8}"#).unwrap();
        fs::write(paths.data_disk(), "data").unwrap();
        fs::write(paths.accelerator_file(), "{}").unwrap();
        fs::write(paths.machine_folder().join("data.raw.new"), "half").unwrap();
        fs::create_dir(paths.images_folder()).unwrap();
        let refused = format!(r#"{{"image":"{}","tries":3,"why":"no"}}"#, "a".repeat(64));
        let record = format!(r#"{{"format":1,"current":"{}","refused":[{refused}]}}"#, "b".repeat(64));
        fs::write(paths.images_folder().join("record.json"), record).unwrap();
        fs::write(paths.state_file(), "{}").unwrap();
        fs::write(paths.supervisor_log(), "x".repeat(10_000)).unwrap();
        fs::write(paths.data().join("mine.txt"), "somebody's").unwrap();
        paths
    }

    #[test]
    fn what_can_be_made_again_goes_and_the_data_stays() {
        let folder = tempfile::tempdir().unwrap();
        let paths = made(folder.path());
        let report = reset(&paths, ResetScope::KeepData).unwrap();
        assert!(report.bytes() >= 10_000, "{report:?}");
        assert_eq!(fs::read(paths.data_disk()).unwrap(), b"data");
        for gone in
            [paths.accelerator_file(), paths.state_file(), paths.logs(), paths.machine_folder().join("data.raw.new")]
        {
            assert!(!gone.exists(), "{}", gone.display());
        }
        let settings = EngineSettings::load(&paths).unwrap();
        assert_eq!((settings.backend, settings.disk_gib), (Backend::Qemu, 8));
        assert_eq!(settings.memory_mib, EngineSettings::default().memory_mib);
        let record = fs::read_to_string(paths.images_folder().join("record.json")).unwrap();
        assert!(record.contains("bbbb") && !record.contains("aaaa"), "refused images may be tried again: {record}");
        assert!(paths.data().join("mine.txt").exists());
        reset(&paths, ResetScope::KeepData).unwrap();
    }

    #[test]
    fn everything_of_berths_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let paths = made(folder.path());
        let error = reset(&paths, ResetScope::All).unwrap_err();
        assert!(matches!(&error, LifeError::NotAlone(path) if path.ends_with("mine.txt")), "{error}");
        assert!(paths.data_disk().exists());
        fs::rename(paths.data().join("mine.txt"), paths.data().join("berth.sqlite")).unwrap();
        reset(&paths, ResetScope::All).unwrap();
        let mut left: Vec<_> = fs::read_dir(paths.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["berth.sqlite", "engine.lock"]);
        assert!(refuse_half_reset(&paths).is_ok());
    }

    #[test]
    fn one_that_was_cut_off_keeps_the_engine_from_starting_and_can_be_finished() {
        let folder = tempfile::tempdir().unwrap();
        let paths = made(folder.path());
        fs::remove_file(paths.data().join("mine.txt")).unwrap();
        fs::create_dir(paths.data().join(".reset")).unwrap();
        fs::rename(paths.settings_file(), paths.data().join(".reset/0-settings.json")).unwrap();
        let words = refuse_half_reset(&paths).unwrap_err().to_string();
        assert!(words.contains("berth engine reset --all"), "{words}");
        assert!(reset(&paths, ResetScope::KeepData).is_err());
        reset(&paths, ResetScope::All).unwrap();
        assert!(!paths.data_disk().exists() && refuse_half_reset(&paths).is_ok());
    }

    #[test]
    fn a_running_engine_a_strange_folder_and_a_link_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let strange = EnginePaths::with_runtime(&folder.path().join("strange"), None).unwrap();
        fs::create_dir_all(strange.data().join("docker")).unwrap();
        assert!(matches!(reset(&strange, ResetScope::All), Err(LifeError::NotOurs(_))));
        assert_eq!(fs::read_dir(strange.data()).unwrap().count(), 1, "not even a lock was left");

        let paths = made(folder.path());
        fs::remove_file(paths.data().join("mine.txt")).unwrap();
        let held = EngineLock::take(&paths).unwrap();
        assert!(matches!(reset(&paths, ResetScope::All), Err(LifeError::Running { pid: Some(_), .. })));
        drop(held);
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("file"), "").unwrap();
        symlink(&elsewhere, paths.data().join("docker")).unwrap();
        assert!(matches!(reset(&paths, ResetScope::All), Err(LifeError::LeadsElsewhere(_))));
        assert!(elsewhere.join("file").exists() && paths.data_disk().exists());
    }
}
