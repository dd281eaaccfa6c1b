//! Cargo's helpers, in target/tools where they disturb nobody.

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{out, process};

/// The test runner.
pub(crate) fn nextest(workspace: &Workspace) -> Result<(), Error> {
    // Without what it would need to update itself: half of the crates.
    install(workspace, "cargo-nextest", "0.9.128", &["--no-default-features", "--features", "default-no-update"])
}

/// WebDriver for the desktop window.
pub(crate) fn tauri_driver(workspace: &Workspace) -> Result<(), Error> {
    install(workspace, "tauri-driver", "2.1.0", &[])
}

/// The fuzzer.
pub(crate) fn fuzzer(workspace: &Workspace) -> Result<(), Error> {
    install(workspace, "cargo-fuzz", "0.13.2", &[])
}

fn install(workspace: &Workspace, name: &str, version: &str, features: &[&str]) -> Result<(), Error> {
    if workspace.tool(name).is_some() {
        return Ok(());
    }
    out::step(format!("installing {name} {version} into target/tools"));
    let mut command = workspace.cargo();
    command
        .args(["install", name, "--locked", "--version", version, "--root"])
        .arg(workspace.target("tools"))
        .args(features);
    // A build for one machine's tests: compile time counts, speed does not.
    command.envs([
        ("CARGO_PROFILE_RELEASE_LTO", "false"),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64"),
        ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ]);
    process::run(&mut command)
}
