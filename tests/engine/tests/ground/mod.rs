//! A real dockerd behind the proxy, and what the cases do with them.

use std::sync::Arc;
use std::time::Duration;

use berth_engine::{
    ContainerRef, ContainerSummary, Docker, Endpoint, Error, ListContainers, LogLine, LogOptions, Snapshot, Store,
    WatchHandle, WatchOptions, watch,
};
use berth_testkit::daemon::Daemon;
use berth_testkit::fault::FaultProxy;
use berth_testkit::image;
use berth_testkit::raw::Raw;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// Generous, for two cores that do other work: it only says when to give up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Ground {
    pub(crate) docker: Docker,
    pub(crate) proxy: FaultProxy,
    /// Past the proxy.
    pub(crate) raw: Raw,
    pub(crate) daemon: Daemon,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        Self::on(Daemon::start().unwrap()).await
    }

    pub(crate) async fn on(daemon: Daemon) -> Self {
        let raw = Raw::new(&daemon.socket());
        raw.import_image("busybox", "test", image::busybox().unwrap()).await.unwrap();
        let proxy = FaultProxy::start(&daemon.socket()).await.unwrap();
        Self { docker: Docker::new(Endpoint::Unix(proxy.socket())), proxy, raw, daemon }
    }

    pub(crate) fn watch(&self) -> (Store, WatchHandle) {
        watch(self.docker.clone(), impatient())
    }

    pub(crate) async fn container(&self, name: &str, command: &[&str], extra: Value) -> ContainerRef {
        let mut body = json!({ "Image": "busybox:test", "Cmd": command, "HostConfig": { "NetworkMode": "none" } });
        if let (Value::Object(body), Value::Object(extra)) = (&mut body, extra) {
            body.extend(extra);
        }
        let created = self.raw.post(&format!("/containers/create?name={name}"), &body).await.unwrap();
        created["Id"].as_str().unwrap().parse().unwrap()
    }

    /// So many containers that never run.
    pub(crate) async fn containers(&self, count: usize) -> Vec<ContainerRef> {
        let mut made = Vec::with_capacity(count);
        for number in 0..count {
            made.push(self.container(&format!("idle-{number:04}"), &["true"], json!({})).await);
        }
        made
    }

    /// Ten containers stay, and others come, run and go meanwhile.
    pub(crate) async fn churn(&self) {
        for number in 0..20 {
            let id = self.container(&format!("churn-{number}"), &["true"], json!({})).await;
            self.raw.post(&format!("/containers/{id}/start"), &Value::Null).await.unwrap();
            self.raw.post(&format!("/containers/{id}/wait"), &Value::Null).await.unwrap();
            if number % 2 == 0 {
                self.raw.delete(&format!("/containers/{id}?force=1")).await;
            }
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<ContainerSummary>, Error> {
        self.docker.list_containers(&ListContainers { all: true, ..ListContainers::default() }).await
    }

    /// What can be read of a log, and how that ended.
    pub(crate) async fn log(&self, id: &ContainerRef, options: &LogOptions) -> (Vec<LogLine>, Result<(), Error>) {
        let mut stream = self.docker.container_logs(id, options);
        let mut lines = Vec::new();
        while let Some(batch) = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap() {
            match batch {
                Ok(batch) => lines.extend(batch),
                Err(error) => return (lines, Err(error)),
            }
        }
        (lines, Ok(()))
    }

    /// How often the client asked for something that contains this.
    pub(crate) fn asked(&self, part: &str) -> usize {
        self.proxy.requests().iter().filter(|line| line.contains(part)).count()
    }

    /// Waits until the client asked for it.
    pub(crate) async fn asking(&self, part: &str) {
        while self.asked(part) == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until so many exchanges suffered.
    pub(crate) async fn struck(&self, count: usize) {
        while self.proxy.struck() < count {
            tokio::task::yield_now().await;
        }
    }
}

/// A view that gives up early, so that the cases need not wait for it.
pub(crate) fn impatient() -> WatchOptions {
    WatchOptions {
        silence: Duration::from_millis(300),
        answer_within: Duration::from_secs(2),
        ..WatchOptions::default()
    }
}

pub(crate) async fn until(store: &Store, what: &str, mut wanted: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut view = store.subscribe();
    let seen = tokio::time::timeout(PATIENCE, view.wait_for(|snapshot| wanted(snapshot))).await;
    match seen {
        Ok(snapshot) => snapshot.unwrap().clone(),
        Err(_) => panic!("the view never was {what}: {:?}", store.current().link),
    }
}

pub(crate) fn is_live(snapshot: &Snapshot) -> bool {
    snapshot.link.is_live()
}

pub(crate) fn is_lost(snapshot: &Snapshot) -> bool {
    matches!(snapshot.link, berth_engine::Link::Lost { .. })
}

/// So many rows, all of containers that ended.
pub(crate) fn settled(snapshot: &Snapshot, count: usize) -> bool {
    is_live(snapshot)
        && snapshot.containers.len() == count
        && snapshot.containers.values().all(|row| row.state == berth_engine::ContainerState::Exited)
}

pub(crate) fn ids(list: &[ContainerSummary]) -> Vec<String> {
    let mut ids: Vec<String> = list.iter().map(|row| row.id.to_string()).collect();
    ids.sort();
    ids
}

pub(crate) fn texts(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|line| line.text.to_string()).collect()
}

/// Replaces bytes by as many others.
pub(crate) fn replace(mut piece: Vec<u8>, what: &[u8], by: &[u8]) -> Vec<u8> {
    assert_eq!(what.len(), by.len(), "the length of chunks is told before them");
    let mut at = 0;
    while let Some(found) = piece[at..].windows(what.len()).position(|window| window == what) {
        piece[at + found..at + found + what.len()].copy_from_slice(by);
        at += found + what.len();
    }
    piece
}

/// Memory of this process, in bytes.
pub(crate) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
