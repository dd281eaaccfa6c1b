//! Systems on which there is no native engine, and so no files of one.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::Cancel;
use super::archive::BackupReader;
use super::backup::{BackupReport, Target};
use super::error::LifeError;
use super::restore::RestoreReport;
use crate::backend::Backend;
use crate::paths::EnginePaths;

fn refused<T>() -> Result<T, LifeError> {
    Err(LifeError::Engine(Backend::Native.refusal()))
}

pub(super) fn backup(
    _paths: &EnginePaths,
    _target: Target<'_>,
    _cancel: &Cancel,
    _progress: impl FnMut(u64, u64),
) -> Result<BackupReport, LifeError> {
    refused()
}

pub(super) fn restore(
    _paths: &EnginePaths,
    _reader: BackupReader<BufReader<File>>,
    _from: &Path,
    _force: bool,
    _cancel: &Cancel,
    _progress: impl FnMut(u64, u64),
) -> Result<RestoreReport, LifeError> {
    refused()
}

/// There is never one that was cut off.
pub(crate) fn finish_restore(_paths: &EnginePaths) -> Result<bool, crate::Error> {
    Ok(false)
}
