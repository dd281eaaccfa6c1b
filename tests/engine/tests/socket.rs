//! The engine's socket with the real engine behind it: what is said over it arrives whole, whatever else goes on, and who
//! comes while dockerd is away waits for it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_testkit::image;
use berth_testkit::raw::Raw;
use berth_testkit::real::{BundledEngine, program};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Only a bound against hanging.
const PATIENCE: Duration = Duration::from_secs(120);
const FOLLOWERS: usize = 300;

struct Ground {
    engine: BundledEngine,
    raw: Raw,
    folder: tempfile::TempDir,
}

impl Ground {
    async fn new() -> Self {
        let engine = BundledEngine::start().unwrap();
        let raw = Raw::new(engine.socket());
        raw.import_image("busybox", "test", image::busybox().unwrap()).await.unwrap();
        Self { engine, raw, folder: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the shell with the docker command as `docker`, in the folder of this ground.
    async fn shell(&self, script: &str) -> Output {
        let docker = std::env::var_os("BERTH_DOCKER").map_or_else(|| PathBuf::from("docker"), PathBuf::from);
        let mut command = Command::new("bash");
        command
            .args([
                "-ec",
                &format!("set -o pipefail\ndocker() {{ timeout 100 '{}' \"$@\"; }}\n{script}", docker.display()),
            ])
            .current_dir(self.folder.path())
            .env("DOCKER_HOST", format!("unix://{}", self.engine.socket().display()))
            .stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// What a command prints that must succeed.
    async fn said(&self, script: &str) -> String {
        let output = self.shell(script).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "{script}: {}\n{}", output.status, text(&output.stderr));
        text(&output.stdout)
    }

    async fn run(&self, name: &str, command: &[&str], open_stdin: bool) {
        let body = json!({
            "Image": "busybox:test", "Cmd": command, "OpenStdin": open_stdin, "StdinOnce": open_stdin,
            "StopTimeout": 1, "HostConfig": { "NetworkMode": "none" },
        });
        self.raw.post(&format!("/containers/create?name={name}"), &body).await.unwrap();
        self.raw.post(&format!("/containers/{name}/start"), &Value::Null).await.unwrap();
    }

    fn supervisor(&self) -> u32 {
        let berth = program("berth", "BERTH_BIN");
        let mut command = Command::new(berth);
        command.args(["engine", "status", "--json", "--data"]).arg(self.engine.data());
        let status: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        status["pid"].as_u64().unwrap().try_into().unwrap()
    }

    fn dockerd(&self) -> u32 {
        let mut below = vec![self.supervisor()];
        while let Some(pid) = below.pop() {
            if std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd") {
                return pid;
            }
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                below.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        panic!("dockerd is not there");
    }
}

/// A file of bytes that no one guesses, and its digest as `sha256sum` prints it.
fn random_file(path: &Path, megabytes: usize) -> String {
    let mut random = File::open("/dev/urandom").unwrap();
    let (mut file, mut digest) = (File::create(path).unwrap(), Sha256::new());
    let mut block = vec![0; 1 << 20];
    for _ in 0..megabytes {
        std::io::Read::read_exact(&mut random, &mut block).unwrap();
        digest.update(&block);
        file.write_all(&block).unwrap();
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn streams_with_a_client_on_both_ends_are_whole_and_end() {
    let ground = Ground::new().await;
    ground.run("idle", &["sleep", "1000000"], false).await;
    let digest = random_file(&ground.at("sent"), 100);
    let got = ground.said("docker exec -i idle cat < sent | sha256sum").await;
    assert_eq!(got, format!("{digest}  -"), "100 MB there and back");
    // The engine ends early while the client still writes.
    assert_eq!(ground.said("docker exec -i idle head -c 5 < sent | wc -c").await, "5");
    // Nothing is said at all: the end of the input is what ends `cat`, and with it the container.
    ground.run("reader", &["cat"], true).await;
    assert_eq!(ground.said("docker attach reader < /dev/null").await, "");
    assert_eq!(ground.said("docker wait reader").await, "0");
    // The input stays open while the container ends.
    let script =
        "mkfifo open; sleep 1000 > open & docker run --rm -i --network none busybox:test echo over < open; kill %1";
    assert_eq!(ground.said(script).await, "over");
    // A session that is upgraded, and one without an upgrade, by hand.
    for upgrade in ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""] {
        let exec = json!({ "AttachStdin": true, "AttachStdout": true, "Cmd": ["cat"] });
        let exec = ground.raw.post("/containers/idle/exec", &exec).await.unwrap();
        let id = exec["Id"].as_str().unwrap();
        let mut stream = UnixStream::connect(ground.engine.socket()).await.unwrap();
        let body = r#"{"Detach":false,"Tty":false}"#;
        let length = body.len();
        let head = format!(
            "POST /exec/{id}/start HTTP/1.1\r\nHost: x\r\n{upgrade}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // dockerd forgets what comes before it has answered.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert_ne!(timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
        }
        stream.write_all(b"through").await.unwrap();
        stream.shutdown().await.unwrap();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with(b"\x01\0\0\0\0\0\0\x07through"), "{}", String::from_utf8_lossy(&answer));
    }
}

/// Reads an answer that does not end, and counts what comes.
async fn follow(socket: PathBuf, path: String, read: Arc<AtomicUsize>, marker: Option<&'static str>) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut buffer = vec![0; 16 << 10];
    let mut text = Vec::new();
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "{path} ended");
        read.fetch_add(count, Ordering::Relaxed);
        if let Some(marker) = marker {
            text.extend_from_slice(&buffer[..count]);
            if text.windows(marker.len()).any(|window| window == marker.as_bytes()) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_followers_and_a_large_upload_do_not_starve_each_other() {
    let ground = Ground::new().await;
    ground.run("chatty", &["sh", "-c", "while :; do echo a line of a log; usleep 50000; done"], false).await;
    random_file(&ground.at("big"), 512);
    let made = ground.said("tar -c big | docker import - big:1 && docker save big:1 -o image.tar && rm big").await;
    ground.said("docker rmi big:1").await;

    let (mut events, mut logs, mut counts) = (JoinSet::new(), JoinSet::new(), Vec::new());
    for number in 0..FOLLOWERS {
        let (socket, count) = (ground.engine.socket().to_owned(), Arc::new(AtomicUsize::new(0)));
        if number % 2 == 0 {
            events.spawn(follow(socket, "/events".to_owned(), count, Some("the-last-one")));
        } else {
            counts.push(Arc::clone(&count));
            logs.spawn(follow(socket, "/containers/chatty/logs?follow=1&stdout=1&tail=0".to_owned(), count, None));
        }
    }
    let more = async |counts: &[Arc<AtomicUsize>]| {
        let before: Vec<usize> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let grown = async {
            while counts.iter().zip(&before).any(|(count, before)| count.load(Ordering::Relaxed) <= *before) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, grown).await.unwrap();
    };
    more(&counts).await;
    let loading = ground.said("docker load -q -i image.tar");
    tokio::pin!(loading);
    let mut pings = 0;
    let loaded = loop {
        tokio::select! {
            loaded = &mut loading => break loaded,
            answer = ground.raw.get("/_ping") => {
                answer.unwrap();
                pings += 1;
            }
        }
    };
    assert!(loaded.contains("big:1") && pings > 0, "{loaded}, {pings} pings meanwhile");
    assert_eq!(ground.said("docker inspect --format '{{.Id}}' big:1").await, made);
    more(&counts).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", ground.supervisor())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let kilobytes: usize = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(kilobytes < 100 << 10, "the supervisor used {peak}");
    ground.run("the-last-one", &["true"], false).await;
    timeout(PATIENCE, async {
        while let Some(ended) = events.join_next().await {
            ended.unwrap();
        }
    })
    .await
    .unwrap();
    assert!(logs.try_join_next().is_none(), "a log that is followed does not end");
    logs.abort_all();
}

#[tokio::test]
async fn who_comes_while_dockerd_is_away_waits_for_it() {
    let ground = Ground::new().await;
    ground.run("idle", &["sleep", "1000000"], false).await;
    for round in 0..3 {
        let victim = ground.dockerd();
        assert!(Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap().success());
        // Gone with all its threads: what it had taken itself was lost with it.
        while Path::new(&format!("/proc/{victim}")).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut asked = JoinSet::new();
        for _ in 0..100 {
            let raw = ground.raw.clone();
            asked.spawn(async move { raw.get("/containers/json").await });
        }
        let mut answers = 0;
        while let Some(answer) = timeout(PATIENCE, asked.join_next()).await.unwrap() {
            let containers = answer.unwrap().unwrap();
            assert_eq!(containers.as_array().unwrap().len(), 1, "round {round}: {containers}");
            answers += 1;
        }
        assert_eq!(answers, 100);
        assert_ne!(ground.dockerd(), victim);
    }
}

#[tokio::test]
async fn who_comes_while_the_engine_starts_waits_for_it() {
    let berth = program("berth", "BERTH_BIN");
    let data = tempfile::tempdir().unwrap();
    let engine = |verb: &str| {
        let mut command = Command::new(&berth);
        command.args(["engine", verb, "--data"]).arg(data.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    };
    let socket = PathBuf::from(String::from_utf8(engine("socket").output().unwrap().stdout).unwrap().trim());
    let mut starting = engine("start").spawn().unwrap();
    let answer = timeout(PATIENCE, async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Raw::new(&socket).get("/version").await
    });
    let answer = answer.await;
    let started = starting.wait().unwrap();
    let stopped = engine("stop").output().unwrap();
    assert!(started.success() && stopped.status.success());
    assert!(answer.unwrap().unwrap()["ApiVersion"].is_string());
    assert!(!socket.exists());
}
