//! Where things are in this clone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::process;

/// This clone and the folder that cargo builds into.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the clone that `cargo xtask` was called in.
    pub(crate) fn find() -> Result<Self, Error> {
        let package =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        let package = PathBuf::from(package);
        let root = package.parent().unwrap_or(&package).to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => {
                std::path::absolute(&folder).map_err(Error::file("find the target folder", PathBuf::from(&folder)))?
            }
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), target: root.join("target") }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the clone.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path inside the target folder.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.target.join(relative)
    }

    /// A program that this workspace builds.
    pub(crate) fn binary(&self, name: &str, profile: Profile) -> PathBuf {
        let folder = match profile {
            Profile::Debug => "debug",
            Profile::Release => "release",
        };
        self.target.join(folder).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// A command in the root of the clone that also finds the tools xtask has installed for itself.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([self.target("tools/bin")]);
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        command
    }

    /// A program of the system, or one that xtask has installed for itself.
    pub(crate) fn tool(&self, program: &str) -> Option<PathBuf> {
        process::find(program).or_else(|| process::find_in(&self.target("tools/bin"), program))
    }

    /// The cargo that runs us.
    pub(crate) fn cargo(&self) -> Command {
        self.command("cargo")
    }
}

/// How the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}
