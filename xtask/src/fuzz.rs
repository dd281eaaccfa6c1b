//! `cargo xtask fuzz`: the fuzz targets of `crates/engine/fuzz`, one after another.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{out, process, setup};

const FOLDER: &str = "crates/engine/fuzz";

/// Seconds of each target when nothing is said.
const SECONDS: u32 = 60;

/// Runs `cargo xtask fuzz [SECONDS] [TARGET...]`. What is found new stays in `target/fuzz`; the corpus that is kept in the
/// repository is only read.
pub(crate) fn fuzz(workspace: &Workspace, arguments: &[String]) -> Result<(), Error> {
    let (seconds, wanted) = match arguments.split_first() {
        Some((first, rest)) if first.bytes().all(|byte| byte.is_ascii_digit()) => {
            let problem = format!("`{first}` is no number of seconds");
            (first.parse().map_err(|_| Error::Usage { problem })?, rest)
        }
        _ => (SECONDS, arguments),
    };
    let targets = targets(workspace)?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        let problem = format!("there is no target `{unknown}`; there is: {}", targets.join(", "));
        return Err(Error::Usage { problem });
    }
    setup::fuzzer(workspace)?;
    for target in targets.iter().filter(|target| wanted.is_empty() || wanted.contains(target)) {
        out::header(target);
        let found = workspace.target("fuzz/corpus").join(target);
        fs::create_dir_all(&found).map_err(Error::file("create", &found))?;
        let mut command = workspace.cargo();
        // Without a sanitizer it needs no nightly compiler; there is no `unsafe` here that one would watch.
        command.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]).arg(workspace.target("fuzz"));
        command.arg(target).arg(&found).arg(workspace.path(FOLDER).join("corpus").join(target));
        command.args(["--", "-max_len=8192", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        command.arg(format!("-max_total_time={seconds}"));
        process::run(command.current_dir(workspace.path("crates/engine")))?;
    }
    out::line(format!("{seconds} s of each target, no crash"));
    Ok(())
}

/// Names of the targets, as the folder has them.
fn targets(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let folder: PathBuf = workspace.path(FOLDER).join("fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
    let stem = |name: String| name.strip_suffix(".rs").map(str::to_owned);
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| stem(entry.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    Ok(names)
}
