//! `cargo xtask bench`: the measurements of tests/bench, on release builds.

use std::path::PathBuf;
use std::process::Command;

use crate::error::Error;
use crate::workspace::{Profile, Workspace};
use crate::{appliance, build, out, process, setup};

const FOLDER: &str = "tests/bench";

/// The benchmarks that show the page, in a browser or in the window. The others need neither.
const PAGE: [&str; 2] = ["live", "transport"];

/// The peer that is no crate and no npm package.
const DOCKER_PY: &str = "docker==7.2.0";

/// Runs one benchmark with the arguments that follow its name, or lists what there is.
pub(crate) fn bench(workspace: &Workspace, arguments: &[String]) -> Result<(), Error> {
    let benchmarks = benchmarks(workspace)?;
    let names = || benchmarks.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let Some((wanted, rest)) = arguments.split_first() else {
        if benchmarks.is_empty() {
            out::line(format!("{FOLDER} has no benchmark yet"));
            return Ok(());
        }
        out::line(format!("benchmarks: {}", names()));
        out::line("run one with `cargo xtask bench NAME`");
        return Ok(());
    };
    let Some((_, script)) = benchmarks.iter().find(|(name, _)| name == wanted) else {
        return Err(Error::Usage { problem: format!("there is no benchmark `{wanted}`; there is: {}", names()) });
    };

    use setup::Purpose::{Browser, Build, Engine};
    setup::ensure(workspace, &[Build, Browser, Engine])?;
    let shows = PAGE.contains(&wanted.as_str());
    if shows {
        page(workspace)?;
    }
    match wanted.as_str() {
        "engine" => engine_peers(workspace)?,
        "socket" => {
            setup::ensure(workspace, &[setup::Purpose::SocketBench])?;
            bench_program(workspace, "tests/bench/socket")?;
        }
        _ => {}
    }
    let appliance = appliance::ensure(workspace)?;
    let mut packages = build::COMMAND.to_vec();
    if shows {
        packages.push(build::DESKTOP);
        // The benchmarks look for the fake engine where the tests have it.
        build::programs(workspace, Profile::Debug, &[build::TESTKIT])?;
    }
    build::programs(workspace, Profile::Release, &packages)?;
    let mut command: Command = workspace.command("node");
    command.arg(script).args(rest);
    build::environment(&mut command, workspace, Profile::Release);
    command.env("BERTH_APPLIANCE", appliance);
    process::run(&mut command)
}

/// What the benchmarks of the page need.
fn page(workspace: &Workspace) -> Result<(), Error> {
    use setup::Purpose::{BrowserTests, Desktop, DesktopTests};
    setup::ensure(workspace, &[Desktop, BrowserTests, DesktopTests])?;
    setup::tauri_driver(workspace)?;
    build::node_modules(workspace, "ui")?;
    build::ui(workspace)?;
    // They drive the page with what the end-to-end tests drive it with.
    for folder in [FOLDER, "tests/browser", "tests/desktop"] {
        if workspace.path(folder).join("package.json").is_file() {
            build::node_modules(workspace, folder)?;
        }
    }
    Ok(())
}

/// Builds the program that is our client, bollard and a raw read, and fetches dockerode and docker-py. The program is a
/// workspace of its own, so that bollard is in no lock file of ours.
fn engine_peers(workspace: &Workspace) -> Result<(), Error> {
    build::node_modules(workspace, FOLDER)?;
    let target = bench_program(workspace, "tests/bench/engine")?;
    let python = target.join("python");
    if !python.join("bin/python").exists() {
        process::run(workspace.command("python3").args(["-m", "venv"]).arg(&python))?;
    }
    process::run(workspace.command(python.join("bin/pip")).args(["install", "--quiet", DOCKER_PY]))
}

/// Builds the program of a benchmark that is a workspace of its own, and says into which target folder.
fn bench_program(workspace: &Workspace, folder: &str) -> Result<PathBuf, Error> {
    let target = workspace.target("bench");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--locked"]).current_dir(workspace.path(folder));
    process::run(cargo.env("CARGO_TARGET_DIR", &target))?;
    Ok(target)
}

/// The scripts of the folder; `transport-probe` is a part of `transport` and none of its own.
fn benchmarks(workspace: &Workspace) -> Result<Vec<(String, PathBuf)>, Error> {
    let folder = workspace.path(FOLDER);
    if !folder.is_dir() {
        return Err(Error::Missing { path: folder, needed_for: "cargo xtask bench".to_owned() });
    }
    let entries = std::fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
    let mut found: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_suffix(".mjs").map(|stem| (stem.to_owned(), entry.path()))
        })
        .collect();
    found.sort();
    let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
    found.retain(|(name, _)| !names.iter().any(|other| is_part(name, other)));
    Ok(found)
}

fn is_part(name: &str, of: &str) -> bool {
    name.strip_prefix(of).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_benchmarks() {
        assert!(is_part("transport-probe", "transport"));
        assert!(!is_part("transport", "transport"));
        assert!(!is_part("transports", "transport"));
    }
}
