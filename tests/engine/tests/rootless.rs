//! The bundled engine of a user who is not root: what it lacks is named, what it has works, and nothing of it is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use berth_testkit::real::program;

#[test]
fn a_user_has_an_engine_of_his_own_and_it_leaves_nothing() {
    let berth = program("berth", "BERTH_BIN");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/rootless.py");
    let mut path = std::env::var("PATH").unwrap_or_default();
    if let Some(folder) =
        std::env::var_os("BERTH_DOCKER").as_ref().and_then(|docker| std::path::Path::new(docker).parent())
    {
        // Last, for beside it may be programs of another system.
        path = format!("{path}:{}", folder.display());
    }
    let output = Command::new("python3").arg(script).arg(berth.parent().unwrap()).env("PATH", path).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}
