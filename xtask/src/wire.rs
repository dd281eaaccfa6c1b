//! `cargo xtask gen`: the TypeScript in ui/src/wire, from crates/wire.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Error;
use crate::out;
use crate::workspace::Workspace;

const FOLDER: &str = "ui/src/wire";

type Files = BTreeMap<String, Vec<u8>>;

/// Writes the files that changed and removes those whose type is gone.
pub(crate) fn generate(workspace: &Workspace) -> Result<(), Error> {
    let wanted = export(workspace)?;
    let folder = workspace.path(FOLDER);
    std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let present = read(&folder)?;
    let differences = compare(&wanted, &present);
    for difference in &differences {
        let path = folder.join(difference.name());
        match difference {
            Difference::Stale(_) => std::fs::remove_file(&path).map_err(Error::file("remove", &path))?,
            Difference::Changed(name) | Difference::Absent(name) => {
                let content = wanted.get(name).map(Vec::as_slice).unwrap_or_default();
                std::fs::write(&path, content).map_err(Error::file("write", &path))?;
            }
        }
        out::line(difference.to_string());
    }
    if differences.is_empty() {
        out::line(format!("{FOLDER}: all {} files are up to date", wanted.len()));
    }
    Ok(())
}

/// Fails when the committed files are not what the crate would write today.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Error> {
    let wanted = export(workspace)?;
    let folder = workspace.path(FOLDER);
    let present = if folder.is_dir() { read(&folder)? } else { Files::new() };
    let differences = compare(&wanted, &present);
    if differences.is_empty() {
        out::line(format!("{FOLDER}: all {} files match crates/wire", wanted.len()));
        return Ok(());
    }
    Err(Error::WireDiffers { differences: differences.iter().map(ToString::to_string).collect() })
}

#[derive(Debug, PartialEq, Eq)]
enum Difference {
    Changed(String),
    Absent(String),
    Stale(String),
}

impl Difference {
    fn name(&self) -> &str {
        match self {
            Self::Changed(name) | Self::Absent(name) | Self::Stale(name) => name,
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed(name) => write!(formatter, "{name} changed"),
            Self::Absent(name) => write!(formatter, "{name} is new"),
            Self::Stale(name) => write!(formatter, "{name} is no longer generated"),
        }
    }
}

fn compare(wanted: &Files, present: &Files) -> Vec<Difference> {
    let mut differences: Vec<Difference> = wanted
        .iter()
        .filter_map(|(name, content)| match present.get(name) {
            None => Some(Difference::Absent(name.clone())),
            Some(found) if found != content => Some(Difference::Changed(name.clone())),
            Some(_) => None,
        })
        .collect();
    differences.extend(present.keys().filter(|name| !wanted.contains_key(*name)).cloned().map(Difference::Stale));
    differences
}

/// Generates into an empty folder: the index lists what it finds there, so leftovers would live on.
fn export(workspace: &Workspace) -> Result<Files, Error> {
    let folder = workspace.target(&format!("xtask/wire-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let files = berth_wire::export_typescript(&folder).map_err(Error::from).and_then(|()| read(&folder));
    std::fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    files
}

fn read(folder: &Path) -> Result<Files, Error> {
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let content = std::fs::read(&path).map_err(Error::file("read", &path))?;
        files.insert(name, content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        entries.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let wanted = files(&[("Ack.ts", "new"), ("Row.ts", "same"), ("New.ts", "")]);
        let present = files(&[("Ack.ts", "old"), ("Row.ts", "same"), ("Gone.ts", "")]);
        let found: Vec<String> = compare(&wanted, &present).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["Ack.ts changed", "New.ts is new", "Gone.ts is no longer generated"]);
    }
}
