//! The client and the live view against the engine Berth brings and against the oldest one it supports.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use berth_engine::{
    Changed, ContainerId, ContainerRef, ContainerState, Docker, Endpoint, ListContainers, LogLine, LogOptions,
    RemoveContainer, WatchOptions, watch,
};
use berth_testkit::image;
use berth_testkit::real::{BundledEngine, OldEngine};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// Generous, for two cores that do other work: it only says when to give up.
const PATIENCE: Duration = Duration::from_secs(60);

trait Engine {
    fn docker(&self) -> Docker;
}

impl Engine for BundledEngine {
    fn docker(&self) -> Docker {
        Docker::new(Endpoint::Unix(self.socket().to_owned()))
    }
}

impl Engine for OldEngine {
    fn docker(&self) -> Docker {
        Docker::new(Endpoint::Unix(self.socket()))
    }
}

macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        mod bundled {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let engine = super::BundledEngine::start().unwrap();
                super::$name(super::prepare(&engine).await).await;
            })*
        }
        mod debian_20_10 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let engine = super::OldEngine::start().unwrap();
                super::$name(super::prepare(&engine).await).await;
            })*
        }
    };
}

on_every_engine!(
    a_container_lives_and_dies,
    refusals_are_told_apart,
    logs_of_both_kinds,
    a_long_line_arrives_whole_or_cut,
    the_view_follows_the_engine,
);

async fn prepare(engine: &impl Engine) -> Docker {
    let docker = engine.docker();
    docker.import_image("busybox:test", image::busybox().unwrap()).await.unwrap();
    docker
}

async fn create(docker: &Docker, name: &str, command: &[&str], extra: Value) -> ContainerRef {
    let mut body = json!({
        "Image": "busybox:test", "Cmd": command, "StopTimeout": 1, "HostConfig": { "NetworkMode": "none" },
    });
    if let (Value::Object(body), Value::Object(extra)) = (&mut body, extra) {
        body.extend(extra);
    }
    docker.create_container(name, &body).await.unwrap().into()
}

async fn state(docker: &Docker, container: &ContainerRef) -> ContainerState {
    docker.inspect_container(container).await.unwrap().state.status
}

async fn a_container_lives_and_dies(docker: Docker) {
    let container = create(&docker, "life", &["sleep", "600"], json!({"Labels": {"a": "b"}})).await;
    assert_eq!(state(&docker, &container).await, ContainerState::Created);
    assert_eq!(docker.start_container(&container).await.unwrap(), Changed::Yes);
    assert_eq!(docker.start_container(&container).await.unwrap(), Changed::Already);
    docker.pause_container(&container).await.unwrap();
    assert_eq!(state(&docker, &container).await, ContainerState::Paused);
    docker.unpause_container(&container).await.unwrap();
    docker.restart_container(&container, Some(0)).await.unwrap();
    assert_eq!(state(&docker, &container).await, ContainerState::Running);

    let listed = docker.list_containers(&ListContainers { all: true, ..ListContainers::default() }).await.unwrap();
    let only = listed.first().unwrap();
    assert_eq!(only.names, ["/life"]);
    assert_eq!(only.labels.get("a").map(String::as_str), Some("b"));

    docker.kill_container(&container, Some("SIGKILL")).await.unwrap();
    assert_eq!(docker.wait_container(&container).await.unwrap().status_code, 137);
    docker.start_container(&container).await.unwrap();
    assert_eq!(docker.stop_container(&container, Some(0)).await.unwrap(), Changed::Yes);
    assert_eq!(docker.stop_container(&container, Some(0)).await.unwrap(), Changed::Already);
    docker.remove_container(&container, &RemoveContainer::default()).await.unwrap();
    assert!(docker.inspect_container(&container).await.unwrap_err().is_not_found());
}

async fn refusals_are_told_apart(docker: Docker) {
    let nobody: ContainerRef = "nobody".parse().unwrap();
    assert!(docker.start_container(&nobody).await.unwrap_err().is_not_found());
    let container = create(&docker, "busy", &["sleep", "600"], json!({})).await;
    docker.start_container(&container).await.unwrap();
    let refused = docker.remove_container(&container, &RemoveContainer::default()).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    assert!(!refused.is_retryable());
    let broken = create(&docker, "broken", &["/no/such/program"], json!({})).await;
    let refused = docker.start_container(&broken).await.unwrap_err();
    assert!(refused.to_string().contains("no such file"), "the engine's reason is kept: {refused}");
    docker.remove_container(&container, &RemoveContainer { force: true, volumes: false }).await.unwrap();
}

/// The whole log of a container that is about to end. Waits for the end first: engines of old close a log that is being
/// followed before they have written its last words.
async fn read_all(docker: &Docker, container: &ContainerRef, options: &LogOptions) -> Vec<LogLine> {
    docker.wait_container(container).await.unwrap();
    let stream = docker.container_logs(container, options);
    let batches: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect()).await.unwrap();
    batches.into_iter().flat_map(|batch| batch.unwrap()).collect()
}

async fn logs_of_both_kinds(docker: Docker) {
    let script = "echo to out; echo to err >&2; printf 'no newline'";
    let options = LogOptions { follow: true, timestamps: true, ..LogOptions::default() };
    let plain = create(&docker, "plain", &["sh", "-c", script], json!({})).await;
    docker.start_container(&plain).await.unwrap();
    let mut lines = read_all(&docker, &plain, &options).await;
    lines.sort_by_key(|line| line.nanos);
    let of =
        |stderr| lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.as_str()).collect::<Vec<_>>();
    assert_eq!(of(false), ["to out", "no newline"]);
    assert_eq!(of(true), ["to err"]);
    assert!(lines.iter().all(|line| line.nanos.is_some_and(|nanos| nanos > 1_600_000_000_000_000_000)));

    let terminal = create(&docker, "terminal", &["sh", "-c", script], json!({"Tty": true})).await;
    docker.start_container(&terminal).await.unwrap();
    let lines = read_all(&docker, &terminal, &options).await;
    let mut texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["no newline", "to err", "to out"], "a terminal's lines end in CR LF, which is taken off");

    // From the last line on: nothing comes twice.
    let last = lines.iter().filter_map(|line| line.nanos).max().unwrap();
    let again = LogOptions { since: Some(last + 1), ..options };
    assert_eq!(read_all(&docker, &terminal, &again).await, []);
}

async fn a_long_line_arrives_whole_or_cut(docker: Docker) {
    let script = "head -c 40000 /dev/zero | tr '\\0' a; echo; head -c 200000 /dev/zero | tr '\\0' b; echo; echo end";
    let container = create(&docker, "long", &["busybox", "sh", "-c", script], json!({})).await;
    docker.start_container(&container).await.unwrap();
    let options = LogOptions { follow: true, timestamps: true, ..LogOptions::default() };
    let lines = read_all(&docker, &container, &options).await;
    let shape: Vec<_> = lines.iter().map(|line| (line.text.len(), line.cut)).collect();
    assert_eq!(shape, [(40_000, false), (berth_engine::LINE_CAP, true), (3, false)]);
    assert!(
        lines.iter().take(2).all(|line| {
            let first = line.text.chars().next();
            line.text.chars().all(|character| Some(character) == first)
        }),
        "no timestamp of a partial frame is left inside a line"
    );
}

async fn the_view_follows_the_engine(docker: Docker) {
    let early = create(&docker, "early", &["sleep", "600"], json!({})).await;
    docker.start_container(&early).await.unwrap();
    let (store, _handle) = watch(docker.clone(), WatchOptions::default());
    let mut view = store.subscribe();
    let mut until = async |name: &str, wanted: Option<ContainerState>| {
        let seen = view.wait_for(|snapshot| {
            let found = snapshot.containers.values().find(|container| container.name == name);
            snapshot.listed && found.map(|container| container.state) == wanted
        });
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{name} never was {wanted:?}")).unwrap();
    };
    until("early", Some(ContainerState::Running)).await;
    let late = create(&docker, "late", &["sleep", "600"], json!({})).await;
    until("late", Some(ContainerState::Created)).await;
    docker.start_container(&late).await.unwrap();
    until("late", Some(ContainerState::Running)).await;
    docker.pause_container(&late).await.unwrap();
    until("late", Some(ContainerState::Paused)).await;
    docker.unpause_container(&late).await.unwrap();
    docker.kill_container(&late, None).await.unwrap();
    until("late", Some(ContainerState::Exited)).await;
    docker.remove_container(&late, &RemoveContainer::default()).await.unwrap();
    until("late", None).await;
    docker.remove_container(&early, &RemoveContainer { force: true, volumes: false }).await.unwrap();
    until("early", None).await;
    let id: Option<ContainerId> = store.current().containers.keys().next().cloned();
    assert_eq!(id, None);
}
