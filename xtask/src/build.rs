//! Building what `run` and the tests need, and skipping what has not changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::workspace::{Profile, Workspace};
use crate::{out, process};

/// `berth` and the appliance's agent.
pub(crate) const COMMAND: [&str; 2] = ["berth-cli", "berth-guest"];
pub(crate) const DESKTOP: &str = "berth-desktop";
pub(crate) const TESTKIT: &str = "berth-testkit";

/// `npm ci` in a folder, unless what is there came from the same lock file.
pub(crate) fn node_modules(workspace: &Workspace, folder: &str) -> Result<(), Error> {
    let folder = workspace.path(folder);
    let manifest = folder.join("package.json");
    if !manifest.is_file() {
        return Err(Error::Missing { path: manifest, needed_for: "npm".to_owned() });
    }
    let lock = folder.join("package-lock.json");
    if !lock.is_file() {
        return if has_dependencies(&manifest)? {
            Err(Error::Missing { path: lock, needed_for: "`npm ci`".to_owned() })
        } else {
            Ok(())
        };
    }
    let stamp = Stamp::new(folder.join("node_modules/.berth-stamp"), &[manifest, lock])?;
    if stamp.is_current() {
        return Ok(());
    }
    out::step(format!("npm ci in {}", display(workspace, &folder)));
    let mut command = workspace.command("npm");
    command.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1");
    process::run(&mut command)?;
    if !folder.join("node_modules").is_dir() {
        return Ok(());
    }
    stamp.write()
}

fn has_dependencies(manifest: &Path) -> Result<bool, Error> {
    let text = std::fs::read(manifest).map_err(Error::file("read", manifest))?;
    let value: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| Error::Malformed { path: manifest.to_owned(), problem: error.to_string() })?;
    let names = ["dependencies", "devDependencies"];
    Ok(names.iter().any(|name| value.get(name).and_then(|list| list.as_object()).is_some_and(|list| !list.is_empty())))
}

/// Builds the interface into ui/dist, unless it was built from the same files.
pub(crate) fn ui(workspace: &Workspace) -> Result<(), Error> {
    let folder = workspace.path("ui");
    let mut inputs = Vec::new();
    collect_files(&folder, &["node_modules", "dist", "coverage", "test-results", "artifacts"], &mut inputs)?;
    let stamp = Stamp::new(workspace.target("xtask/ui-build"), &inputs)?;
    if stamp.is_current() && folder.join("dist/index.html").is_file() {
        return Ok(());
    }
    out::step("building the interface");
    process::run(workspace.command("npm").args(["--prefix", "ui", "run", "build"]))?;
    stamp.write()
}

/// Builds the programs of these packages.
pub(crate) fn programs(workspace: &Workspace, profile: Profile, packages: &[&str]) -> Result<(), Error> {
    let mut command = workspace.cargo();
    command.arg("build");
    for package in packages {
        command.args(["--package", package]);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    out::step(process::describe(&command));
    process::run(&mut command)
}

/// What a run of all tests takes of the workspace. One choice for everything: another choice of packages turns on other
/// features of what they have in common, which is then compiled once more.
pub(crate) const EVERYTHING: [&str; 4] = ["--workspace", "--lib", "--bins", "--tests"];

/// Builds the programs and the tests of the whole workspace.
pub(crate) fn everything(workspace: &Workspace) -> Result<(), Error> {
    let mut command = workspace.cargo();
    command.arg("build").args(EVERYTHING);
    out::step(process::describe(&command));
    process::run(&mut command)
}

/// Tells a test where the programs are that were built for it.
pub(crate) fn environment(command: &mut Command, workspace: &Workspace, profile: Profile) {
    command
        .env("BERTH_BIN", workspace.binary("berth", profile))
        .env("BERTH_DESKTOP", workspace.binary("berth-desktop", profile))
        .env("BERTH_FAKE_ENGINE", workspace.binary("fake-engine", Profile::Debug));
    let found = |program| workspace.tool(program);
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(found);
    let tools = [
        ("BERTH_CHROMIUM", chromium),
        ("BERTH_TAURI_DRIVER", found("tauri-driver")),
        ("BERTH_DOCKER", found("docker")),
    ];
    for (name, tool) in tools {
        if let (None, Some(tool)) = (std::env::var_os(name), tool) {
            command.env(name, tool);
        }
    }
}

/// A digest of files, remembered beside what was made from them.
#[derive(Debug)]
struct Stamp {
    path: PathBuf,
    digest: String,
}

impl Stamp {
    fn new(path: PathBuf, inputs: &[PathBuf]) -> Result<Self, Error> {
        let mut hash = Sha256::new();
        for input in inputs {
            let content = std::fs::read(input).map_err(Error::file("read", input))?;
            hash.update(input.to_string_lossy().as_bytes());
            hash.update([0]);
            hash.update(content.len().to_le_bytes());
            hash.update(&content);
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path, digest })
    }

    fn is_current(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|found| found == self.digest)
    }

    fn write(&self) -> Result<(), Error> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        std::fs::write(&self.path, &self.digest).map_err(Error::file("write", &self.path))
    }
}

/// Every file below a folder, in a stable order, without the folders of these names.
pub(crate) fn collect_files(folder: &Path, skipped: &[&str], files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(Error::file("list", folder))?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let is_skipped = path.file_name().is_some_and(|name| skipped.iter().any(|skip| name == *skip));
        let kind = std::fs::symlink_metadata(&path).map_err(Error::file("read", &path))?.file_type();
        if kind.is_dir() && !is_skipped {
            collect_files(&path, skipped, files)?;
        } else if kind.is_file() && !is_skipped {
            files.push(path);
        }
    }
    Ok(())
}

fn display(workspace: &Workspace, path: &Path) -> String {
    path.strip_prefix(workspace.root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_current_until_an_input_changes() -> Result<(), Box<dyn std::error::Error>> {
        let folder = std::env::temp_dir().join(format!("berth-xtask-stamp-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let input = folder.join("input");
        std::fs::write(&input, "one")?;
        let stamp = || Stamp::new(folder.join("made/stamp"), std::slice::from_ref(&input));
        assert!(!stamp()?.is_current(), "nothing was made yet");
        stamp()?.write()?;
        assert!(stamp()?.is_current(), "nothing changed since");
        std::fs::write(&input, "two")?;
        assert!(!stamp()?.is_current(), "the content counts, not the time");
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
