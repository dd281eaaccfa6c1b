//! Debian's control files: which packages a tree was made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{ApplianceError, at};
use super::manifest::sha256_of;

/// The packages whose versions are shown as the engine's.
const ENGINE_PACKAGES: [(&str, &str); 8] = [
    ("buildx", "docker-buildx"),
    ("compose", "docker-compose"),
    ("containerd", "containerd"),
    ("docker-cli", "docker-cli"),
    ("engine", "docker.io"),
    ("iptables", "iptables"),
    ("runc", "runc"),
    ("slirp4netns", "slirp4netns"),
];

/// One package an appliance was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) sha256: Option<String>,
}

/// The versions that matter, by what they are.
pub(super) fn engine_versions(packages: &[Package]) -> BTreeMap<String, String> {
    let version = |wanted: &str| packages.iter().find(|package| package.name == wanted);
    let named = ENGINE_PACKAGES.into_iter();
    named.filter_map(|(label, name)| Some((label.to_owned(), version(name)?.version.clone()))).collect()
}

/// The fields of each stanza of a Debian control file; continuation lines are of no use here.
pub(super) fn stanzas(text: &str) -> impl Iterator<Item = BTreeMap<&str, &str>> {
    text.split("\n\n").map(|stanza| {
        stanza
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect()
    })
}

/// The packages that dpkg installed into a tree.
pub(super) fn installed(root: &Path) -> Result<Vec<Package>, ApplianceError> {
    let status = root.join("var/lib/dpkg/status");
    let text = fs::read_to_string(&status).map_err(at(format!("reading {}", status.display())))?;
    let digests = archive_digests(&root.join("var/lib/apt/lists"));
    let mut packages: Vec<Package> = stanzas(&text)
        .filter_map(|fields| {
            let name = (*fields.get("Package")?).to_owned();
            let version = (*fields.get("Version")?).to_owned();
            let architecture = (*fields.get("Architecture")?).to_owned();
            let sha256 = digests.get(&(name.clone(), version.clone())).cloned();
            Some(Package { name, version, architecture, sha256 })
        })
        .collect();
    packages.sort();
    Ok(packages)
}

/// The packages whose files are in apt's cache of a tree into which they were only unpacked.
pub(super) fn downloaded(root: &Path) -> Result<Vec<Package>, ApplianceError> {
    let folder = root.join("var/cache/apt/archives");
    let mut packages = Vec::new();
    let entries = fs::read_dir(&folder).map_err(at(format!("listing {}", folder.display())))?;
    for entry in entries {
        let entry = entry.map_err(at(format!("listing {}", folder.display())))?;
        if let Some((name, version, architecture)) = file_name_parts(&entry.file_name().to_string_lossy()) {
            let sha256 = Some(sha256_of(&entry.path())?.sha256);
            packages.push(Package { name, version, architecture, sha256 });
        }
    }
    packages.sort();
    Ok(packages)
}

/// `login_1%3a4.16-2_arm64.deb` as name, version and architecture.
fn file_name_parts(file: &str) -> Option<(String, String, String)> {
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name.to_owned(), version.replace("%3a", ":"), architecture.to_owned()))
}

/// Digests by package and version from whatever plain lists are there; a list that cannot be read only
/// means fewer digests in the manifest.
fn archive_digests(lists: &Path) -> BTreeMap<(String, String), String> {
    let mut digests = BTreeMap::new();
    for entry in fs::read_dir(lists).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().ends_with("_Packages") {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        for fields in stanzas(&text) {
            if let (Some(name), Some(version), Some(sha256)) =
                (fields.get("Package"), fields.get("Version"), fields.get("SHA256"))
            {
                digests.insert(((*name).to_owned(), (*version).to_owned()), (*sha256).to_owned());
            }
        }
    }
    digests
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn control_files_are_read_by_stanza() {
        let text = "Package: a\nVersion: 1:2\nDescription: x\n more: text\n\nPackage: b\n";
        let all: Vec<_> = stanzas(text).collect();
        assert_eq!(all[0].get("Version"), Some(&"1:2"));
        assert!(!all[0].contains_key(" more"));
        assert_eq!(all[1].get("Package"), Some(&"b"));
    }

    #[test]
    fn a_packages_file_name_says_what_it_is() {
        let parts = file_name_parts("login_1%3a4.16.0-2+really2.42.4-1_arm64.deb");
        let parts = parts.as_ref().map(|(name, version, architecture)| (&name[..], &version[..], &architecture[..]));
        assert_eq!(parts, Some(("login", "1:4.16.0-2+really2.42.4-1", "arm64")));
        assert_eq!(file_name_parts("lock"), None);
        assert_eq!(file_name_parts("a_1.deb"), None);
    }
}
