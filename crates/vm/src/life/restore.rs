//! An engine's data out of a file: the files of the native one, or a machine's data disk.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::archive::{BackupReader, NATIVE, ReadProblem};
use super::backup::{Partial, free_bytes};
use super::error::LifeError;
use super::{Cancel, beside, native, sync_folder, take};
use crate::backend::{Backend, EngineSettings, SettingsChange, disk_in_use};
use crate::paths::EnginePaths;

const GIB: u64 = 1 << 30;
/// Kept free for the rest of the system.
pub(super) const SPARE: u64 = 64 << 20;

/// What was brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The disk's size; none for files.
    pub disk_bytes: Option<u64>,
    /// The bytes that are not holes.
    pub written_bytes: u64,
    /// How many files, folders and the like; none for a disk.
    pub entries: u64,
}

/// Makes the data of an engine that does not run what it was when the file was written.
///
/// What is new is made beside what there is, which stays until the new is whole.
///
/// # Errors
///
/// The engine runs or has data (unless `force`), the file is no backup or is damaged, there is no room, or `cancel` said
/// so. Nothing was changed then.
pub fn restore(
    paths: &EnginePaths,
    from: &Path,
    force: bool,
    cancel: &Cancel,
    mut progress: impl FnMut(u64, u64),
) -> Result<RestoreReport, LifeError> {
    let file = File::open(from).map_err(LifeError::file("open", from))?;
    if !file.metadata().map_err(LifeError::file("look at", from))?.is_file() {
        return Err(LifeError::NotABackup(from.to_path_buf()));
    }
    let explain = |problem| explain(from, problem);
    // Before a folder is made for what turns out to be no backup.
    let mut reader = BackupReader::new(BufReader::new(file)).map_err(explain)?;
    paths.create_data()?;
    let _lock = take(paths)?;
    super::refuse_half_reset(paths)?;
    if reader.manifest.backend == NATIVE {
        return native::restore(paths, reader, from, force, cancel, progress);
    }
    let disk = paths.data_disk();
    let files = paths.data().join("docker");
    if files.exists() {
        return Err(LifeError::NativeData(files));
    }
    if let Ok(there) = File::open(&disk) {
        if disk_in_use(&there) {
            return Err(LifeError::DiskInUse(disk));
        }
        if !force {
            return Err(LifeError::HasData(disk));
        }
    }
    // One that cannot be read would show only when the disk is in its place.
    EngineSettings::load(paths)?;
    paths.create_machine_folder()?;
    let folder = paths.machine_folder();
    let partial = Partial::open(beside(&disk, ".new"))?;
    let (disk_bytes, used) = (reader.manifest.disk_bytes, reader.manifest.used_bytes);
    let (free, needed) = (free_bytes(&folder)?, used.saturating_add(SPARE));
    if free < needed {
        return Err(LifeError::NoRoom { folder, free, needed });
    }
    let written = |error| LifeError::file("write", &partial.path)(error);
    partial.file.set_len(disk_bytes).map_err(written)?;
    let mut bytes = 0;
    while let Some((offset, part)) = reader.part().map_err(explain)? {
        cancel.check()?;
        partial.file.write_all_at(part, offset).map_err(written)?;
        bytes += part.len() as u64;
        progress(bytes, used);
    }
    partial.file.sync_all().map_err(written)?;
    cancel.check()?;
    partial.become_whole(&disk, true)?;
    sync_folder(&folder)?;
    let disk_gib = Some(disk_bytes.div_ceil(GIB).max(4));
    let change = SettingsChange { backend: Some(Backend::of_machines()), disk_gib, ..SettingsChange::default() };
    EngineSettings::change(paths, change)?;
    // It tells of the engine that was there before.
    let _ = fs::remove_file(paths.state_file());
    Ok(RestoreReport { disk_bytes: Some(disk_bytes), written_bytes: bytes, entries: 0 })
}

pub(super) fn explain(path: &Path, problem: ReadProblem) -> LifeError {
    let path = path.to_path_buf();
    match problem {
        ReadProblem::NotABackup => LifeError::NotABackup(path),
        ReadProblem::Newer(what) => LifeError::Newer { path, what },
        ReadProblem::Damaged(what) => LifeError::Damaged { path, what },
        ReadProblem::Read(source) => LifeError::File { what: "read", path, source },
    }
}
