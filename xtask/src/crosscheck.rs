//! `cargo xtask crosscheck`: whether the crates that run everywhere compile for macOS and Windows.
//!
//! Only types are checked; nothing is linked or run. The standard library is compiled from source, by the compiler that
//! Debian packages together with it.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
use crate::{out, process};

/// Each system, and what is meant to run there: of that, what has no C libraries of its own that would have to be found for
/// the other system.
const TARGETS: [(&str, &[&str]); 2] = [
    ("aarch64-apple-darwin", &["berth-wire", "berth-engine", "berth-mux", "berth-vm"]),
    ("x86_64-pc-windows-msvc", &["berth-wire", "berth-engine", "berth-mux", "berth-wsl"]),
];

const COMPILER: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";

/// Stands in for the C compiler and the archiver of the other system, for build scripts such as ring's: what they
/// compile is linked in the end, which a check never does.
const STAND_IN: &str = r#"#!/bin/sh
# Writes an empty file where a compiler or an archiver would write its result.
next=
for argument; do
  if [ -n "$next" ]; then : >"$argument"; next=; continue; fi
  case $argument in
    -o) next=yes ;;
    -Fo*) : >"${argument#-Fo}" ;;
    -out:* | /OUT:* | -OUT:*) : >"${argument#*:}" ;;
    *.a) [ -e "$argument" ] || : >"$argument" ;;
  esac
done
"#;

pub(crate) fn crosscheck(workspace: &Workspace) -> Result<(), Error> {
    setup::ensure(workspace, &[Purpose::CrossCheck])?;
    for program in [COMPILER, CARGO] {
        if !Path::new(program).is_file() {
            return Err(Error::Missing { path: program.into(), needed_for: "`cargo xtask crosscheck`".to_owned() });
        }
    }
    let stand_in = stand_in(workspace)?;
    let mut failed = 0;
    for (target, packages) in TARGETS {
        out::step(format!("checking {} for {target}", packages.join(", ")));
        if let Err(error) = check(workspace, target, packages, &stand_in) {
            out::line(format!("{target}: {}", error.report()));
            failed += 1;
        }
    }
    if failed == 0 { Ok(()) } else { Err(Error::Groups { failed, total: TARGETS.len() }) }
}

fn check(workspace: &Workspace, target: &str, packages: &[&str], stand_in: &Path) -> Result<(), Error> {
    let mut command = workspace.command(CARGO);
    command.args(["check", "--locked", "-Zbuild-std=std,panic_abort", "--target", target]);
    for package in packages {
        command.args(["--package", package]);
    }
    let suffix = target.replace('-', "_");
    command
        // The toolchain that runs xtask would otherwise put its own compiler first.
        .env("PATH", path())
        .env("RUSTC", COMPILER)
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        // Another compiler's results would be thrown away at every change between the two.
        .env("CARGO_TARGET_DIR", workspace.target("crosscheck"))
        .env(format!("CC_{suffix}"), stand_in)
        .env(format!("AR_{suffix}"), stand_in)
        // Set, so that nobody looks for Xcode.
        .env("SDKROOT", workspace.target("crosscheck"));
    process::run(&mut command)
}

fn path() -> std::ffi::OsString {
    let present = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&present));
    std::env::join_paths(folders).unwrap_or(present)
}

fn stand_in(workspace: &Workspace) -> Result<PathBuf, Error> {
    let folder = workspace.target("crosscheck");
    std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let path = folder.join("stand-in");
    std::fs::write(&path, STAND_IN).map_err(Error::file("write", &path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::file("make executable", &path))?;
    }
    Ok(path)
}
