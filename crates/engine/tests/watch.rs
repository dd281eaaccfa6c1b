//! The live view against an engine whose containers come, change and go.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use berth_engine::{ContainerId, ContainerState, Link, Snapshot, Store, WatchHandle, WatchOptions};
use serde_json::{Value, json};
use support::{Reply, Request, Server, answer, docker, no_such_container, ping, socket, soon, stream_head};
use tokio::sync::broadcast;

fn id(number: u8) -> ContainerId {
    format!("{number:064x}").parse().unwrap()
}

/// Containers by id, with the word for their state; an engine's memory.
#[derive(Clone)]
struct Fake {
    containers: Arc<Mutex<BTreeMap<ContainerId, &'static str>>>,
    events: broadcast::Sender<Vec<u8>>,
    api: &'static str,
}

impl Fake {
    fn new(containers: &[(u8, &'static str)]) -> Self {
        Self {
            containers: Arc::new(Mutex::new(containers.iter().map(|(number, state)| (id(*number), *state)).collect())),
            events: broadcast::channel(256).0,
            api: "1.51",
        }
    }

    fn serve(&self, path: &Path) -> Server {
        let fake = self.clone();
        Server::start(path, move |request| fake.reply(request))
    }

    /// Changes a container and says so, or removes it if there is no state.
    fn set(&self, number: u8, state: Option<&'static str>, action: &str) {
        {
            let mut containers = self.containers.lock().unwrap();
            match state {
                Some(state) => containers.insert(id(number), state),
                None => containers.remove(&id(number)),
            };
        }
        self.tell(&json!({ "Type": "container", "Action": action, "Actor": { "ID": id(number).as_str() } }));
    }

    fn tell(&self, event: &Value) {
        self.events.send(format!("{event}\r\n").into_bytes()).unwrap();
    }

    fn reply(&self, request: &Request) -> Reply {
        let containers = self.containers.lock().unwrap();
        match request.line.as_str() {
            "GET /_ping" => ping(self.api),
            "GET /info" => support::json(&json!({ "Name": "fake", "NCPU": 4, "MemTotal": 8 })),
            "GET /containers/json?all=1" => {
                let row = |(id, state): (&ContainerId, &&str)| json!({ "Id": id.as_str(), "Names": ["/x"], "State": state, "Status": "Up 3 hours" });
                support::json(&containers.iter().map(row).collect())
            }
            line if line.starts_with("GET /events") => Reply::Chunks(stream_head(""), self.events.subscribe()),
            line => {
                let asked = line.trim_start_matches("GET /containers/").trim_end_matches("/json");
                let Some(state) = asked.parse().ok().and_then(|id: ContainerId| containers.get(&id)) else {
                    return no_such_container();
                };
                let state = json!({ "Status": state, "StartedAt": "2024-02-29T12:34:56Z", "ExitCode": 3 });
                support::json(&json!({ "Id": asked, "Name": "/x", "State": state, "RestartCount": 7 }))
            }
        }
    }
}

fn watch(path: &Path) -> (Store, WatchHandle) {
    berth_engine::watch(docker(path), WatchOptions::default())
}

/// The first snapshot, from now on, of which this is true.
async fn until(store: &Store, what: impl FnMut(&Arc<Snapshot>) -> bool) -> Arc<Snapshot> {
    soon(async { store.subscribe().wait_for(what).await.unwrap().clone() }).await
}

fn state(snapshot: &Snapshot, number: u8) -> Option<ContainerState> {
    snapshot.containers.get(&id(number)).map(|row| row.state)
}

fn inspected(snapshot: &Snapshot) -> bool {
    snapshot.link.is_live() && snapshot.containers.values().all(|row| row.tty.is_some())
}

#[tokio::test]
async fn rows_follow_the_engine() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[(1, "running"), (2, "exited")]);
    let server = fake.serve(&path);
    let (store, _handle) = watch(&path);
    let snapshot = until(&store, |snapshot| inspected(snapshot)).await;
    assert!(snapshot.listed);
    let Link::Live { api, info, .. } = &snapshot.link else { panic!("it is live") };
    assert_eq!((api.to_string().as_str(), info.name.as_str(), info.processors), ("1.51", "fake", 4));
    let row = &snapshot.containers[&id(2)];
    assert_eq!((row.exit_code, row.restart_count, row.status.as_str()), (Some(3), 7, ""));
    let lines = server.lines();
    let place = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
    assert!(place("GET /events") < place("GET /containers/json"), "events are open before the list is made");

    fake.set(2, Some("running"), "start");
    until(&store, |snapshot| state(snapshot, 2) == Some(ContainerState::Running)).await;
    fake.set(3, Some("created"), "create");
    until(&store, |snapshot| state(snapshot, 3) == Some(ContainerState::Created)).await;
    fake.set(1, None, "destroy");
    let snapshot = until(&store, |snapshot| state(snapshot, 1).is_none()).await;
    assert_eq!(snapshot.containers.len(), 2);
    assert_eq!(fake.containers.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn noise_is_not_looked_into_and_networks_are() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[(1, "running"), (2, "running")]);
    let server = fake.serve(&path);
    let (store, _handle) = watch(&path);
    until(&store, |snapshot| inspected(snapshot)).await;
    let before = server.lines().len();
    for action in ["exec_create: sh", "exec_start: sh", "exec_die", "top"] {
        fake.set(1, Some("running"), action);
    }
    fake.containers.lock().unwrap().insert(id(2), "paused");
    let attributes = json!({ "container": id(2).as_str() });
    fake.tell(&json!({ "Type": "network", "Action": "connect", "Actor": { "ID": "net", "Attributes": attributes } }));
    until(&store, |snapshot| state(snapshot, 2) == Some(ContainerState::Paused)).await;
    let asked = server.lines().split_off(before);
    assert_eq!(asked, [format!("GET /containers/{}/json", id(2))], "events come in order, so noise asked for nothing");
}

#[tokio::test]
async fn a_change_between_list_and_events_is_not_lost() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[(1, "running"), (2, "running")]);
    let inner = fake.clone();
    let _server = Server::start(&path, move |request| {
        let reply = inner.reply(request);
        if request.line.starts_with("GET /containers/json") {
            // The list is already made when this happens, and does not show it.
            inner.set(1, None, "destroy");
            inner.set(3, Some("running"), "start");
        }
        reply
    });
    let (store, _handle) = watch(&path);
    let snapshot = until(&store, |snapshot| state(snapshot, 1).is_none() && state(snapshot, 3).is_some()).await;
    assert!(snapshot.listed);
}

#[tokio::test]
async fn a_lost_engine_keeps_its_rows_and_comes_back_without_ghosts() {
    let (_folder, path) = socket();
    let server = Fake::new(&[(1, "running"), (2, "exited")]).serve(&path);
    let (store, handle) = watch(&path);
    until(&store, |snapshot| inspected(snapshot)).await;
    drop(server);
    let lost = until(&store, |snapshot| matches!(snapshot.link, Link::Lost { .. })).await;
    assert_eq!((lost.containers.len(), lost.listed), (2, true), "rows stay as last seen");
    let trying = until(&store, |snapshot| matches!(snapshot.link, Link::Lost { attempts: 2.., .. })).await;
    let (Link::Lost { since_ms: first, .. }, Link::Lost { since_ms, error, .. }) = (&lost.link, &trying.link) else {
        panic!("it is lost")
    };
    assert!(error.is_unreachable());
    assert!((since_ms - first).abs() < f64::EPSILON, "it is lost since the first moment");

    let mut other = Fake::new(&[(2, "running"), (3, "running")]);
    other.api = "1.41";
    let _server = other.serve(&path);
    handle.retry_now();
    let back = until(&store, |snapshot| snapshot.link.is_live()).await;
    assert_eq!(state(&back, 1), None, "no ghost, not even for a moment");
    assert_eq!((state(&back, 2), state(&back, 3)), (Some(ContainerState::Running), Some(ContainerState::Running)));
    assert!(back.revision > trying.revision);
    let Link::Live { api, .. } = &back.link else { panic!("it is live") };
    assert_eq!(api.to_string(), "1.41", "it came back as another version");
}

#[tokio::test]
async fn an_engine_that_is_not_there_yet_is_found() {
    let (_folder, path) = socket();
    let (store, _handle) = watch(&path);
    assert!(matches!(store.current().link, Link::Connecting));
    let lost = until(&store, |snapshot| matches!(snapshot.link, Link::Lost { .. })).await;
    assert!(!lost.listed && lost.containers.is_empty());
    let _server = Fake::new(&[(1, "running")]).serve(&path);
    until(&store, |snapshot| inspected(snapshot)).await;
}

#[tokio::test]
async fn half_a_list_is_never_shown() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[(1, "running")]);
    let inner = fake.clone();
    let cuts = Mutex::new(3);
    let _server = Server::start(&path, move |request| {
        if request.line.starts_with("GET /containers/json") && *cuts.lock().unwrap() > 0 {
            *cuts.lock().unwrap() -= 1;
            let whole = answer(200, "", format!("[{{\"Id\":\"{}\"}},{{\"Id\":\"{}\"}}]", id(8), id(9)));
            return Reply::Close(whole[..whole.len() - 1].to_vec());
        }
        inner.reply(request)
    });
    let (store, _handle) = watch(&path);
    let mut seen = Vec::new();
    until(&store, |snapshot| {
        seen.push(snapshot.containers.len());
        inspected(snapshot)
    })
    .await;
    assert!(seen.iter().all(|count| *count <= 1), "{seen:?}");
}

#[tokio::test]
async fn a_failing_inspect_leaves_the_row_and_the_link() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[(1, "running"), (2, "running")]);
    let inner = fake.clone();
    let bad = format!("GET /containers/{}/json", id(1));
    let _server = Server::start(&path, move |request| {
        if request.line == bad {
            return Reply::Keep(answer(500, "", r#"{"message":"layer does not exist"}"#));
        }
        inner.reply(request)
    });
    let (store, _handle) = watch(&path);
    let snapshot = until(&store, |snapshot| snapshot.containers.get(&id(2)).is_some_and(|row| row.tty.is_some())).await;
    assert!(snapshot.link.is_live());
    assert_eq!(state(&snapshot, 1), Some(ContainerState::Running), "as the list has it");
}

#[tokio::test]
async fn lost_events_are_found_by_the_next_list() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[(1, "running"), (2, "running")]);
    let _server = fake.serve(&path);
    let options = WatchOptions { relist_every: Duration::from_millis(20), ..WatchOptions::default() };
    let (store, _handle) = berth_engine::watch(docker(&path), options);
    until(&store, |snapshot| inspected(snapshot)).await;
    {
        let mut containers = fake.containers.lock().unwrap();
        containers.remove(&id(1));
        containers.insert(id(2), "paused");
        containers.insert(id(3), "running");
    }
    until(&store, |snapshot| {
        state(snapshot, 1).is_none()
            && state(snapshot, 2) == Some(ContainerState::Paused)
            && state(snapshot, 3) == Some(ContainerState::Running)
    })
    .await;
}

#[tokio::test]
async fn a_frozen_engine_is_noticed_without_a_word_from_it() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[(1, "running")]);
    let inner = fake.clone();
    let answering = Arc::new(Mutex::new(true));
    let asked = Arc::clone(&answering);
    let _server = Server::start(&path, move |request| {
        if *asked.lock().unwrap() { inner.reply(request) } else { Reply::Hold(Vec::new(), Arc::default()) }
    });
    let options = WatchOptions {
        silence: Duration::from_millis(20),
        answer_within: Duration::from_millis(500),
        ..WatchOptions::default()
    };
    let (store, _handle) = berth_engine::watch(docker(&path), options);
    until(&store, |snapshot| inspected(snapshot)).await;
    *answering.lock().unwrap() = false;
    let lost = until(&store, |snapshot| !snapshot.link.is_live()).await;
    assert_eq!(lost.containers.len(), 1);
}

#[tokio::test]
async fn dropping_the_handle_ends_the_watch() {
    let (_folder, path) = socket();
    let fake = Fake::new(&[]);
    let _server = fake.serve(&path);
    let (store, handle) = watch(&path);
    until(&store, |snapshot| snapshot.link.is_live()).await;
    drop(handle);
    let mut snapshots = store.subscribe();
    soon(async { while snapshots.changed().await.is_ok() {} }).await;
}
