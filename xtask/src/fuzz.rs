//! `cargo xtask fuzz`: the fuzz targets of `crates/engine/fuzz` and `crates/mux/fuzz`, one after another.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{out, process, setup};

/// The crates that have targets, in a folder `fuzz`.
const CRATES: [&str; 2] = ["crates/engine", "crates/mux"];

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
    if let Some(unknown) = wanted.iter().find(|name| !targets.iter().any(|(_, target)| target == *name)) {
        let names: Vec<&str> = targets.iter().map(|(_, target)| target.as_str()).collect();
        let problem = format!("there is no target `{unknown}`; there is: {}", names.join(", "));
        return Err(Error::Usage { problem });
    }
    setup::fuzzer(workspace)?;
    for (folder, target) in targets.iter().filter(|(_, target)| wanted.is_empty() || wanted.contains(target)) {
        out::header(target);
        let found = workspace.target("fuzz/corpus").join(target);
        fs::create_dir_all(&found).map_err(Error::file("create", &found))?;
        let mut command = workspace.cargo();
        // Without a sanitizer it needs no nightly compiler; there is no `unsafe` here that one would watch.
        command.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]).arg(workspace.target("fuzz"));
        command.arg(target).arg(&found).arg(workspace.path(folder).join("fuzz/corpus").join(target));
        command.args(["--", "-max_len=8192", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        command.arg(format!("-max_total_time={seconds}"));
        process::run(command.current_dir(workspace.path(folder)))?;
    }
    out::line(format!("{seconds} s of each target, no crash"));
    Ok(())
}

/// Every target with the crate it is of, as the folders have them.
fn targets(workspace: &Workspace) -> Result<Vec<(&'static str, String)>, Error> {
    let mut targets = Vec::new();
    for of in CRATES {
        let folder: PathBuf = workspace.path(of).join("fuzz/fuzz_targets");
        let entries = fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
        let stem = |name: String| name.strip_suffix(".rs").map(str::to_owned);
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| stem(entry.file_name().to_string_lossy().into_owned())).collect();
        names.sort();
        targets.extend(names.into_iter().map(|name| (of, name)));
    }
    Ok(targets)
}
