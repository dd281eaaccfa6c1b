//! The client against a real engine: `BERTH_TEST_ENGINE=unix:///path cargo nextest run -p berth-engine --run-ignored all
//! --test docker`. Makes and removes containers whose names begin with `berth-test-`, and an image of that name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

use std::{sync::Arc, time::Duration};

use berth_engine::{
    Changed, ContainerId, ContainerRef, ContainerState, Docker, Error, LogBatch, LogLine, LogOptions, RemoveContainer,
    Snapshot, Store, WatchOptions,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

const IMAGE: &str = "berth-test-image:1";

/// A tar archive with a static shell in it.
fn image() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    for name in ["busybox", "sh", "sleep", "yes", "head", "tr"] {
        std::fs::copy("/bin/busybox", folder.path().join("bin").join(name)).unwrap();
    }
    std::process::Command::new("tar").arg("-C").arg(folder.path()).args(["-c", "."]).output().unwrap().stdout
}

async fn engine() -> Docker {
    let docker = Docker::new(std::env::var("BERTH_TEST_ENGINE").unwrap().parse().unwrap());
    docker.import_image(IMAGE, image()).await.unwrap();
    docker
}

async fn create(docker: &Docker, name: &str, tty: bool, script: &str) -> ContainerId {
    let name = format!("berth-test-{name}");
    let force = RemoveContainer { force: true, volumes: true };
    let _ = docker.remove_container(&name.parse().unwrap(), &force).await;
    let body = json!({
        "Image": IMAGE, "Cmd": ["/bin/sh", "-c", script], "Tty": tty, "Env": ["PATH=/bin"],
        "HostConfig": { "NetworkMode": "none" },
    });
    docker.create_container(&name, &body).await.unwrap()
}

async fn logs(docker: &Docker, id: ContainerId, timestamps: bool) -> LogBatch {
    let options = LogOptions { follow: true, timestamps, ..LogOptions::default() };
    docker.container_logs(&id.into(), &options).try_concat().await.unwrap()
}

async fn until(store: &Store, what: impl FnMut(&Arc<Snapshot>) -> bool) -> Arc<Snapshot> {
    let mut receiver = store.subscribe();
    let found = tokio::time::timeout(Duration::from_secs(60), receiver.wait_for(what)).await;
    found.expect("it should not hang").unwrap().clone()
}

#[tokio::test]
#[ignore = "needs an engine"]
async fn logs_come_whole_with_and_without_a_terminal() {
    let docker = engine().await;
    // A line of three messages of the engine's log, whose parts carry timestamps of their own.
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo out; sleep 0.3; echo err >&2; printf end";
    for tty in [false, true] {
        let id = create(&docker, if tty { "tty" } else { "plain" }, tty, script).await;
        let container = ContainerRef::from(id);
        assert_eq!(docker.start_container(&container).await.unwrap(), Changed::Yes);
        assert_eq!(docker.wait_container(&container).await.unwrap().status_code, 0);
        let long = "x".repeat(40_000);
        for timestamps in [false, true] {
            let lines = logs(&docker, id, timestamps).await;
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(texts, [long.as_str(), "out", "err", "end"], "tty {tty}, timestamps {timestamps}");
            assert!(lines.iter().all(|line| line.nanos.is_some() == timestamps && !line.cut));
            assert_eq!(lines.iter().filter(|line| line.stderr).count(), usize::from(!tty));
            let stamps = lines.iter().map(|line: &LogLine| line.nanos);
            assert!(stamps.is_sorted(), "in order of time");
        }
        docker.remove_container(&container, &RemoveContainer::default()).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs an engine"]
async fn rows_follow_a_whole_life() {
    let docker = engine().await;
    let (store, _handle) = berth_engine::watch(docker.clone(), WatchOptions::default());
    until(&store, |snapshot| snapshot.link.is_live()).await;
    let id = create(&docker, "life", false, "trap 'exit 3' TERM; while :; do sleep 0.1; done").await;
    let container = ContainerRef::from(id);
    let is = move |state: ContainerState| {
        move |snapshot: &Arc<Snapshot>| snapshot.containers.get(&id).is_some_and(|row| row.state == state)
    };
    let row = until(&store, is(ContainerState::Created)).await.containers[&id].clone();
    assert_eq!((row.name.as_str(), row.exit_code, row.tty), ("berth-test-life", None, Some(false)));

    let mut running = std::pin::pin!(until(&store, is(ContainerState::Running)));
    let begun = std::time::Instant::now();
    let (started, row) = tokio::join!(docker.start_container(&container), async {
        let row = running.as_mut().await;
        (row, begun.elapsed())
    });
    assert_eq!(started.unwrap(), Changed::Yes);
    eprintln!("start called, finished and shown: {:?}; shown after {:?}", begun.elapsed(), row.1);
    assert!(row.0.containers[&id].started.is_some());
    assert_eq!(docker.start_container(&container).await.unwrap(), Changed::Already);

    docker.pause_container(&container).await.unwrap();
    until(&store, is(ContainerState::Paused)).await;
    assert!(docker.pause_container(&container).await.unwrap_err().is_conflict());
    docker.unpause_container(&container).await.unwrap();
    until(&store, is(ContainerState::Running)).await;
    docker.restart_container(&container, Some(5)).await.unwrap();
    assert_eq!(docker.stop_container(&container, None).await.unwrap(), Changed::Yes);
    let row = until(&store, is(ContainerState::Exited)).await.containers[&id].clone();
    assert_eq!(row.exit_code, Some(3));
    docker.remove_container(&container, &RemoveContainer::default()).await.unwrap();
    until(&store, |snapshot| !snapshot.containers.contains_key(&id)).await;
    assert!(docker.inspect_container(&container).await.unwrap_err().is_not_found());
}

#[tokio::test]
#[ignore = "needs an engine"]
async fn the_engine_tells_of_itself() {
    let docker = engine().await;
    docker.ping().await.unwrap();
    let (version, info) = (docker.version().await.unwrap(), docker.info().await.unwrap());
    assert_eq!(version.version, info.server_version);
    assert_eq!(format!("{}/{}", version.os, version.arch), info.platform());
    assert!(info.processors > 0 && info.memory_bytes > 0);
}

#[tokio::test]
#[ignore = "needs an engine"]
async fn following_ends_by_drop_and_missing_is_told() {
    let docker = engine().await;
    let id = create(&docker, "flood", false, "yes line").await;
    docker.start_container(&id.into()).await.unwrap();
    let options = LogOptions { follow: true, timestamps: true, ..LogOptions::default() };
    let mut stream = docker.container_logs(&id.into(), &options);
    let (begun, mut count) = (std::time::Instant::now(), 0);
    while count < 200_000 {
        count += stream.next().await.unwrap().unwrap().len();
    }
    eprintln!("{count} lines in {:?}", begun.elapsed());
    drop(stream);
    docker.remove_container(&id.into(), &RemoveContainer { force: true, volumes: true }).await.unwrap();
    let error: Error = docker.container_logs(&id.into(), &options).next().await.unwrap().unwrap_err();
    assert!(error.is_not_found());
}
