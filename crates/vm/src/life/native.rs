//! The native engine's files into one file, and out of it.

mod swap;
mod tree;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use super::archive::{BackupManifest, BackupReader, BackupWriter, NATIVE};
use super::backup::{BackupReport, Target, free_bytes};
use super::error::LifeError;
use super::restore::{RestoreReport, SPARE, explain};
use super::{Cancel, refuse_mounts};
use crate::backend::{Backend, EngineSettings, SettingsChange};
use crate::paths::EnginePaths;
use swap::Making;
pub(crate) use swap::finish as finish_restore;
use tree::{Counter, FOLDERS, Parts, Unparted, pack, unpack};

/// The engine's folders into the file. The data folder is taken.
pub(super) fn backup(
    paths: &EnginePaths,
    target: Target<'_>,
    cancel: &Cancel,
    progress: impl FnMut(u64, u64),
) -> Result<BackupReport, LifeError> {
    refuse_others()?;
    refuse_mounts(paths)?;
    // Twice, for how long it is stands before it.
    let mut counter = Counter::default();
    pack(paths.data(), &mut counter)?;
    cancel.check()?;
    let length = counter.0;
    let partial = target.open(length)?;
    let written = |error| LifeError::file("write", &partial.path)(error);
    let manifest = BackupManifest::new(paths, NATIVE, length, length);
    let writer = BackupWriter::new(BufWriter::new(&*partial.file), &manifest).map_err(written)?;
    let mut parts = Parts::new(writer, &partial.path, length, cancel, progress);
    pack(paths.data(), &mut parts)?;
    let Some((mut buffered, file_bytes)) = parts.finish()? else {
        return Err(LifeError::Changing(paths.data().to_path_buf()));
    };
    buffered.flush().map_err(written)?;
    drop(buffered);
    target.finish(partial, cancel)?;
    Ok(BackupReport { disk_bytes: length, kept_bytes: length, file_bytes })
}

/// The engine's folders out of the file. The data folder is taken.
pub(super) fn restore(
    paths: &EnginePaths,
    reader: BackupReader<BufReader<File>>,
    from: &Path,
    force: bool,
    cancel: &Cancel,
    progress: impl FnMut(u64, u64),
) -> Result<RestoreReport, LifeError> {
    refuse_others()?;
    let disk = paths.data_disk();
    if disk.exists() {
        return Err(LifeError::MachineData(disk));
    }
    refuse_mounts(paths)?;
    for name in FOLDERS {
        let folder = paths.data().join(name);
        if super::refuse_link(&folder)? && !force {
            return Err(LifeError::HasData(folder));
        }
    }
    // One that cannot be read would show only when the files are in their place.
    EngineSettings::load(paths)?;
    let making = Making::begin(paths)?;
    let (free, needed) = (free_bytes(paths.data())?, reader.manifest.used_bytes.saturating_add(SPARE));
    if free < needed {
        return Err(LifeError::NoRoom { folder: paths.data().to_path_buf(), free, needed });
    }
    let made = unpack(&mut Unparted::new(reader, cancel, progress), &making.new_files());
    let report = made.map_err(|stopped| match stopped {
        tree::Stopped::Problem(problem) => explain(from, problem),
        tree::Stopped::Life(error) => error,
    })?;
    cancel.check()?;
    EngineSettings::change(paths, SettingsChange { backend: Some(Backend::Native), ..SettingsChange::default() })?;
    making.take_place(paths)?;
    Ok(RestoreReport { disk_bytes: None, written_bytes: report.bytes, entries: report.entries })
}

/// Owners, devices and attributes are root's to read and to give.
fn refuse_others() -> Result<(), LifeError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(LifeError::Engine(crate::Error::NeedsRoot)) }
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
