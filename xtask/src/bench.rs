//! `cargo xtask bench`: the measurements of tests/bench, on release builds.

use std::path::PathBuf;
use std::process::Command;

use crate::error::Error;
use crate::workspace::{Profile, Workspace};
use crate::{build, out, process, setup};

const FOLDER: &str = "tests/bench";

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

    let mut purposes = vec![setup::Purpose::Build, setup::Purpose::Engine, setup::Purpose::Browser];
    purposes.extend([setup::Purpose::Desktop, setup::Purpose::DesktopTests]);
    setup::ensure(workspace, &purposes)?;
    setup::tauri_driver(workspace)?;
    build::node_modules(workspace, "ui")?;
    build::ui(workspace)?;
    if workspace.path(FOLDER).join("package.json").is_file() {
        build::node_modules(workspace, FOLDER)?;
    }
    let appliance = build::appliance(workspace, false)?;
    let [berth, guest] = build::COMMAND;
    build::programs(workspace, Profile::Release, &[berth, guest, build::DESKTOP, build::TESTKIT])?;
    let mut command: Command = workspace.command("node");
    command.arg(script).args(rest);
    build::environment(&mut command, workspace, Profile::Release);
    command.env("BERTH_APPLIANCE", appliance);
    process::run(&mut command)
}

/// The scripts of the folder; what starts with an underscore or has a second dot is a part of another.
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
            let stem = name.strip_suffix(".mjs")?;
            let is_script = !stem.starts_with('_') && !stem.contains('.');
            is_script.then(|| (stem.to_owned(), entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}
