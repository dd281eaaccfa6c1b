//! `manifest.json`: what an appliance holds and what it was made of.
//!
//! Nothing in it says when or where it was built, so that the same inputs give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::{ApplianceError, at};
use super::packages::Package;
use super::recipe::hexadecimal;

/// The version of the format; `vm::appliance` reads the same.
pub(super) const FORMAT: u32 = 2;
/// The newest protocol the guest speaks with the supervisor.
pub(super) const AGENT_PROTOCOL: u32 = 1;
/// What a base is described by, before a guest program made it an appliance.
pub(super) const RECORD: &str = "base.json";
pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) suite: String,
    pub(super) architecture: String,
    pub(super) recipe: String,
    pub(super) kernel_version: String,
    pub(super) kernel_command_line: String,
    pub(super) agent_protocol: u32,
    /// Of the program that is `/init` of the initramfs; none in a base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) guest_sha256: Option<String>,
    pub(super) files: BTreeMap<String, FileRecord>,
    pub(super) versions: BTreeMap<String, String>,
    /// What compressed and indexed it; another version may lay the same content out differently.
    pub(super) tools: BTreeMap<String, String>,
    pub(super) packages: Vec<Package>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) size: u64,
    pub(super) sha256: String,
}

impl Manifest {
    pub(super) fn read(path: &Path) -> Result<Self, ApplianceError> {
        let text = fs::read(path).map_err(at(format!("reading {}", path.display())))?;
        serde_json::from_slice(&text)
            .map_err(|error| ApplianceError::BadRecord { path: path.to_owned(), why: error.to_string() })
    }

    pub(super) fn text(&self) -> Result<String, ApplianceError> {
        let what = "writing a manifest";
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::from).map_err(at(what))?;
        text.push('\n');
        Ok(text)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), ApplianceError> {
        fs::write(path, self.text()?).map_err(at(format!("writing {}", path.display())))
    }
}

/// The size and the digest of a file.
pub(super) fn sha256_of(path: &Path) -> Result<FileRecord, ApplianceError> {
    let reading = || at(format!("reading {}", path.display()));
    let mut file = fs::File::open(path).map_err(reading())?;
    let mut hash = Sha256::new();
    let size = io::copy(&mut file, &mut hash).map_err(reading())?;
    Ok(FileRecord { size, sha256: hexadecimal(&hash.finalize()) })
}
