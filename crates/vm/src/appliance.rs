use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// What to do when there is none.
pub(crate) const FIX: &str = "run `cargo xtask appliance`, or set BERTH_APPLIANCE to a folder with one";
const MANIFEST_FORMAT: u32 = 1;

/// The root tree the engine runs from, and what it is made of.
#[derive(Clone, Debug)]
pub struct Appliance {
    folder: PathBuf,
    manifest: Manifest,
}

/// What the builder wrote down about an appliance.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The version of this file's format.
    pub format: u32,
    /// The Debian suite it was built from.
    pub suite: String,
    /// Its architecture, by Rust's name.
    pub architecture: String,
    /// The digest of the recipe.
    pub recipe: String,
    /// The versions of the packages that matter, by what they are.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
}

impl Appliance {
    /// Finds the appliance: where `BERTH_APPLIANCE` says, next to the program, or where an installation keeps it.
    ///
    /// # Errors
    ///
    /// There is none, or the one found is not usable here.
    pub fn find() -> Result<Self, Error> {
        if let Some(folder) = std::env::var_os("BERTH_APPLIANCE").filter(|value| !value.is_empty()) {
            return Self::open(Path::new(&folder));
        }
        let program = std::env::current_exe().map_err(Error::system("finding this program"))?;
        let candidates = candidates(&program);
        match candidates.iter().find(|folder| folder.join("manifest.json").is_file()) {
            Some(folder) => Self::open(folder),
            None => Err(Error::NoAppliance(candidates)),
        }
    }

    /// Opens the appliance in a folder.
    ///
    /// # Errors
    ///
    /// It is incomplete, of a format this version does not know, or for another architecture.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::BadAppliance { path: folder.to_path_buf(), why };
        // Resolved now: the link may be pointed at a newer tree while this one is in use.
        let real = folder.canonicalize().map_err(|error| bad(error.to_string()))?;
        let text = fs::read(real.join("manifest.json")).map_err(|error| bad(format!("manifest.json: {error}")))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| bad(format!("manifest.json: {error}")))?;
        if manifest.format != MANIFEST_FORMAT {
            return Err(bad(format!("its format is {}, and this version reads {MANIFEST_FORMAT}", manifest.format)));
        }
        if manifest.architecture != std::env::consts::ARCH {
            return Err(bad(format!("it is for {}, and this is {}", manifest.architecture, std::env::consts::ARCH)));
        }
        if !real.join("root/usr/sbin/dockerd").is_file() {
            return Err(bad("it holds no dockerd".to_owned()));
        }
        Ok(Self { folder: real, manifest })
    }

    /// The root tree.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// What it is made of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

fn candidates(program: &Path) -> Vec<PathBuf> {
    let Some(folder) = program.parent().and_then(Path::parent) else { return Vec::new() };
    let mut found = vec![folder.join("appliance"), folder.join("lib/berth/appliance")];
    // A test's program is one folder deeper than the others.
    if program.parent().is_some_and(|parent| parent.ends_with("deps"))
        && let Some(target) = folder.parent()
    {
        found.push(target.join("appliance"));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Appliance, candidates};

    #[test]
    fn it_is_looked_for_next_to_the_program_and_where_it_is_installed() {
        let found = candidates(Path::new("/b/target/debug/berth"));
        assert_eq!(found, [PathBuf::from("/b/target/appliance"), PathBuf::from("/b/target/lib/berth/appliance")]);
        assert!(candidates(Path::new("/usr/bin/berth")).contains(&PathBuf::from("/usr/lib/berth/appliance")));
    }

    #[test]
    fn a_foreign_or_half_built_one_is_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let open = |manifest: &str| {
            std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
            Appliance::open(folder.path()).unwrap_err().to_string()
        };
        let manifest = |format: u32, architecture: &str| {
            format!(r#"{{"format":{format},"suite":"s","architecture":"{architecture}","recipe":"r","new":[]}}"#)
        };
        assert!(open(&manifest(9, std::env::consts::ARCH)).contains("format is 9"));
        assert!(open(&manifest(1, "vax")).contains("for vax"));
        let incomplete = open(&manifest(1, std::env::consts::ARCH));
        assert!(incomplete.contains("no dockerd") && incomplete.contains("cargo xtask appliance"), "{incomplete}");
    }
}
