//! The guest program as the VM runs it: one file that needs no other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::elf::Elf;
use super::error::{ApplianceError, at};
use super::recipe::Architecture;
use crate::error::Error;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
use crate::{out, process};

/// Debian's compiler, which comes with the source of its standard library: the only way to another processor for which
/// the toolchain in use has no standard library.
const CROSS_CARGO: &str = "/usr/bin/cargo";
const CROSS_COMPILER: &str = "/usr/bin/rustc";

/// Builds the guest program and says where it is; a moment when nothing changed.
pub(super) fn build(workspace: &Workspace, architecture: Architecture) -> Result<PathBuf, Error> {
    let target = architecture.target();
    let folder = workspace.target("appliance-guest");
    let mut command = if architecture == Architecture::host() {
        workspace.cargo()
    } else {
        setup::ensure(workspace, &[Purpose::CrossCheck, Purpose::CrossGuest])?;
        cross(workspace, &target)
    };
    command
        .args(["build", "--quiet", "--locked", "--release", "--package", "berth-guest", "--target", &target])
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace))
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    out::line(format!("appliance: building berth-guest for {}", architecture.debian()));
    process::run(&mut command)?;
    let program = folder.join(&target).join("release/berth-guest");
    check(&program, architecture)?;
    Ok(program)
}

/// Static, and without the paths of this machine, which end up in messages of panics.
fn flags(workspace: &Workspace) -> OsString {
    let mut flags = OsString::from("-Ctarget-feature=+crt-static");
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    for (path, name) in [(Some(workspace.root().to_owned()), "berth"), (cargo_home, "cargo")] {
        if let Some(path) = path {
            flags.push("\u{1f}--remap-path-prefix=");
            flags.push(path);
            flags.push(format!("=/{name}"));
        }
    }
    flags
}

fn cross(workspace: &Workspace, target: &str) -> std::process::Command {
    let mut command = workspace.command(CROSS_CARGO);
    let variable = target.replace('-', "_").to_uppercase();
    let linker = target.replace("-unknown", "") + "-gcc";
    let present = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&present));
    if let Ok(path) = std::env::join_paths(folders) {
        // The toolchain that runs xtask would otherwise put its own compiler first.
        command.env("PATH", path);
    }
    command
        .arg("-Zbuild-std=std,panic_abort")
        .env("RUSTC", CROSS_COMPILER)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(format!("CARGO_TARGET_{variable}_LINKER"), linker)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO");
    command
}

fn check(program: &Path, architecture: Architecture) -> Result<(), ApplianceError> {
    let bad = |why: &str| ApplianceError::BadProgram { path: program.to_owned(), why: why.to_owned() };
    let bytes = std::fs::read(program).map_err(at(format!("reading {}", program.display())))?;
    let elf = Elf::parse(&bytes).ok_or_else(|| bad("it is no 64-bit program"))?;
    if elf.machine() != architecture.elf_machine() {
        return Err(bad("it is for another processor"));
    }
    if !elf.is_static() {
        return Err(bad("it needs a dynamic loader, which the initramfs does not have"));
    }
    Ok(())
}
