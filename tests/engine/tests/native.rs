//! The bundled engine as a whole: its ports, its way out, its crashes, its data, Docker's context for it, and that nothing
//! of it is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use berth_testkit::real::program;

fn run(script: &str, arguments: &[&str]) {
    let berth = program("berth", "BERTH_BIN");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut path = std::env::var("PATH").unwrap_or_default();
    if let Some(folder) = std::env::var_os("BERTH_DOCKER").as_ref().and_then(|docker| Path::new(docker).parent()) {
        // Last, for beside it may be programs of another system.
        path = format!("{path}:{}", folder.display());
    }
    let mut command = Command::new("bash");
    command.arg(script).arg(berth.parent().unwrap()).args(arguments).env("PATH", path);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn the_engine_starts_serves_crashes_recovers_and_leaves_nothing() {
    run("native.sh", &["2"]);
}

#[test]
fn its_data_is_kept_and_comes_back_as_it_was() {
    run("data.sh", &[]);
}

#[test]
fn dockers_context_leads_to_it_and_is_taken_back() {
    run("context.sh", &[]);
}
