//! Berth as a process of its own, which another user runs or which sleeps for a while.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tests use more of it")]
mod ground;

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use ground::{Ground, PATIENCE};
use serde_json::{Value, json};

/// A user who owns nothing.
const STRANGER: u32 = 65_534;
const GROUP: u32 = 54_321;

/// The probe where any user may run it.
fn probe(folder: &Path) -> Command {
    let program = folder.join("engine-probe");
    std::fs::copy(env!("CARGO_BIN_EXE_engine-probe"), &program).unwrap();
    Command::new(program)
}

/// A probe that runs; it is ended with the test, asleep or not.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.0.stdout.take().unwrap()).lines()
    }

    /// What it says last.
    async fn told(mut self, lines: Lines<BufReader<ChildStdout>>) -> Value {
        let reading = tokio::task::spawn_blocking(move || {
            let answer = lines.map(Result::unwrap).last().expect("the probe says nothing");
            assert!(self.0.wait().unwrap().success());
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
        });
        tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_07_socket_of_another_user() {
    let ground = Ground::new().await;
    let socket = ground.proxy.socket();
    let folder = tempfile::tempdir().unwrap();
    let open = Permissions::from_mode(0o755);
    for path in [folder.path(), socket.parent().unwrap()] {
        std::fs::set_permissions(path, open.clone()).unwrap();
    }
    let as_stranger = async |groups: &str| {
        let data = tempfile::tempdir_in(folder.path()).unwrap();
        chown(data.path(), Some(STRANGER), Some(STRANGER)).unwrap();
        let probe = probe(folder.path());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &STRANGER.to_string(), "--regid", &STRANGER.to_string(), groups, "--"]);
        command.arg(probe.get_program()).arg("reach").arg(&socket).arg(data.path());
        let mut probe = Running::start(&mut command);
        let lines = probe.lines();
        probe.told(lines).await
    };
    let shut = |mode: u32| std::fs::set_permissions(&socket, Permissions::from_mode(mode)).unwrap();
    let no_groups = "--clear-groups";

    shut(0o600);
    let told = as_stranger(no_groups).await;
    assert_eq!((&told["denied"], &told["unreachable"]), (&json!(true), &json!(false)), "{told}");
    let words = told["explanation"].as_str().unwrap();
    assert!(words.contains("only the user `root` may"), "{words}");
    let row = &told["row"];
    assert_eq!((&row["state"], &row["error"]["code"]), (&json!("failed"), &json!("engine_permission")), "{row}");
    assert!(row["error"]["hint"].as_str().unwrap().contains("a user who may open the engine's socket"), "{row}");

    chown(&socket, None, Some(GROUP)).unwrap();
    shut(0o660);
    let told = as_stranger(no_groups).await;
    let words = told["explanation"].as_str().unwrap();
    assert!(words.contains(&format!("of the group with the number {GROUP} may")), "{words}");
    let told = as_stranger(&format!("--groups={GROUP}")).await;
    assert_eq!((&told["denied"], &told["row"]["state"]), (&json!(false), &json!("ready")), "what was advised helps");

    std::fs::set_permissions(socket.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
    let told = as_stranger(no_groups).await;
    assert_eq!((&told["denied"], &told["unreachable"]), (&json!(true), &json!(false)), "{told}");
    assert!(told["explanation"].as_str().unwrap().contains("may not enter the folder of"), "{told}");
}

/// While it slept, a log was flooded and containers came and went.
#[tokio::test(flavor = "multi_thread")]
async fn case_22_asleep_during_a_flood() {
    const LINES: u64 = 400_000;
    let ground = Ground::new().await;
    let script = format!("seq {LINES}; exec sleep 600");
    let id = ground.container("flood", &["sh", "-c", &script], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = probe(folder.path());
    command.arg("follow").arg(ground.proxy.socket()).arg(folder.path().join("data"));
    let mut probe = Running::start(command.args([id.as_str(), &LINES.to_string()]));
    let mut lines = probe.lines();
    assert_eq!(lines.next().unwrap().unwrap(), "reading");
    let process = probe.0.id().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").arg(format!("-{name}")).arg(&process).status().unwrap().success());
    };
    signal("STOP");
    ground.churn().await;
    // The connections of the sleeper break as well, as they do when a whole machine sleeps.
    ground.proxy.cut();
    let made = ground.containers(30).await;
    let (lists, inspects) = (ground.asked("/containers/json"), ground.asked("/json HTTP") + ground.asked("/json?"));
    signal("CONT");
    let told = probe.told(lines).await;
    let count = |name: &str| told[name].as_u64().unwrap();
    assert_eq!(count("lines") + count("left_out"), LINES, "every line was shown or said to be left out: {told}");
    assert_eq!((&told["rising"], &told["ended"]), (&json!(true), &json!(false)), "in order and each once");
    let mut seen: Vec<String> = serde_json::from_value(told["containers"].clone()).unwrap();
    seen.sort();
    assert_eq!(seen, ground::ids(&ground.list().await.unwrap()), "the view is that of the engine");
    assert!(made.iter().all(|id| seen.contains(&id.to_string())));
    let asked = ground.asked("/containers/json") - lists;
    assert!(asked <= 4, "{asked} lists after one sleep");
    let asked = ground.asked("/json HTTP") + ground.asked("/json?") - inspects;
    assert!(asked <= 3 * seen.len() + 10, "{asked} calls for {} containers after one sleep", seen.len());
}
