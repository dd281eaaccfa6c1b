//! The command layer over a fake engine: what a page sees, whatever the transport.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use berth_app::wire::{
    Code, ContainerState, FrameBody, Host, OperationPhase, RpcRequest, SessionPollRes, WireError, WorldPatch,
};
use berth_app::{App, Config, Endpoint, EngineChoice};
use berth_testkit::fake::{FakeContainer, FakeEngine};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Only says when to give up.
const PATIENCE: Duration = Duration::from_secs(30);

struct Fixture {
    app: Arc<App>,
    engine: FakeEngine,
    _background: Box<dyn std::any::Any>,
    folder: TempDir,
}

fn start() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let engine = FakeEngine::listen(&folder.path().join("engine.sock")).unwrap();
    let (app, background) = App::start(config(&folder)).unwrap();
    Fixture { app, engine, _background: Box::new(background), folder }
}

fn config(folder: &TempDir) -> Config {
    Config {
        host: Host::Browser,
        data: Some(folder.path().join("data")),
        engine: EngineChoice::Adopted(Endpoint::Unix(folder.path().join("engine.sock"))),
    }
}

fn container(name: &str) -> FakeContainer {
    FakeContainer { name: name.to_owned(), running: true, project: None }
}

async fn call(app: &Arc<App>, cmd: &str, payload: Value, request: Option<&str>) -> Result<Value, WireError> {
    let request = RpcRequest {
        cmd: cmd.to_owned(),
        payload,
        client: "page".parse().unwrap(),
        request_id: request.map(|id| id.parse().unwrap()),
    };
    app.dispatch(request).await.map(|text| serde_json::from_str(&text).unwrap())
}

/// A page: polls, applies and acknowledges.
struct Page {
    app: Arc<App>,
    acks: Vec<Value>,
}

impl Page {
    async fn open(app: &Arc<App>) -> Self {
        call(app, "world_open", json!({}), None).await.unwrap();
        Self { app: app.clone(), acks: Vec::new() }
    }

    async fn patch(&mut self) -> Vec<WorldPatch> {
        let poll = json!({"acks": self.acks, "maxBytes": 262_144, "waitMilliseconds": 1000});
        let answer: SessionPollRes =
            serde_json::from_value(call(&self.app, "session_poll", poll, None).await.unwrap()).unwrap();
        let patches = answer.frames.into_iter().map(|frame| {
            self.acks = vec![json!({"stream": frame.stream, "sequence": frame.sequence})];
            match frame.body {
                FrameBody::World(patch) => patch,
                other => panic!("the world stream said {other:?}"),
            }
        });
        patches.collect()
    }

    async fn until(&mut self, what: &str, mut wanted: impl FnMut(&WorldPatch) -> bool) {
        let seen = async { while !self.patch().await.iter().any(&mut wanted) {} };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never saw {what}"));
    }
}

fn key(id: &str) -> Value {
    json!({"container": {"engine": "adopted", "id": id}})
}

#[tokio::test]
async fn a_page_sees_containers_come_change_and_go() {
    let fixture = start();
    let id = fixture.engine.add(container("web"));
    let mut page = Page::open(&fixture.app).await;
    page.until("the row", |patch| patch.containers.iter().any(|row| row.name == "web")).await;
    call(&fixture.app, "container_stop", key(&id), Some("stop-1")).await.unwrap();
    page.until("the stopped row", |patch| patch.containers.iter().any(|row| row.state == ContainerState::Exited)).await;
    fixture.engine.remove(&id, false);
    page.until("the removal", |patch| !patch.containers_removed.is_empty()).await;
}

#[tokio::test]
async fn a_mutation_sent_twice_runs_once() {
    let fixture = start();
    let id = fixture.engine.add(container("web"));
    let (first, second) = tokio::join!(
        call(&fixture.app, "container_restart", key(&id), Some("same")),
        call(&fixture.app, "container_restart", key(&id), Some("same")),
    );
    let third = call(&fixture.app, "container_restart", key(&id), Some("same")).await;
    assert_eq!(first.clone().unwrap(), second.unwrap());
    assert_eq!(first.unwrap(), third.unwrap(), "the same operation, not another one");
    let without = call(&fixture.app, "container_restart", key(&id), None).await.unwrap_err();
    assert_eq!(without.code, Code::Invalid, "a mutation needs a request id");
}

#[tokio::test]
async fn calls_that_fit_no_command_are_refused() {
    let fixture = start();
    let traversal = json!({"container": {"engine": "adopted", "id": "../../version?x="}});
    let surplus = json!({"container": {"engine": "adopted", "id": "0".repeat(64)}, "sudo": true});
    let calls = [
        ("no_such_command", json!({})),
        ("about", json!({"unknown": 1})),
        ("about", json!([])),
        ("container_stop", traversal),
        ("container_stop", surplus),
        (
            "container_stop",
            json!({"container": {"engine": "adopted", "id": "0".repeat(64)}, "timeoutSeconds": 4_000_000}),
        ),
        (
            "logs_open",
            json!({"container": {"engine": "adopted", "id": "0".repeat(64)}, "tail": 4_000_000_000_u32, "follow": true}),
        ),
    ];
    for (number, (cmd, payload)) in calls.into_iter().enumerate() {
        let request = format!("request-{number}");
        let refused = call(&fixture.app, cmd, payload.clone(), Some(&request)).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code, Code::Invalid, "{cmd} {payload}");
    }
    let stranger = call(&fixture.app, "engine_stop", json!({"engine": "elsewhere"}), Some("r2")).await.unwrap_err();
    assert_eq!(stranger.code, Code::NotFound);
    let adopted = call(&fixture.app, "engine_stop", json!({"engine": "adopted"}), Some("r3")).await.unwrap_err();
    assert_eq!(adopted.code, Code::Conflict, "an adopted engine is not ours to stop");
}

#[tokio::test]
async fn what_the_engine_answers_instead_is_told_whole() {
    let fixture = start();
    let id = fixture.engine.add(container("web"));
    let mut page = Page::open(&fixture.app).await;
    page.until("the row", |patch| !patch.containers.is_empty()).await;
    fixture.engine.behave(|behaviour| behaviour.refuse = Some((503, "<html>Bad gateway</html>")));
    call(&fixture.app, "container_stop", key(&id), Some("stop")).await.unwrap();
    let mut error = None;
    page.until("the failure", |patch| {
        let failed = patch.operations.iter().find(|operation| operation.phase == OperationPhase::Failed);
        error = failed.and_then(|operation| operation.error.clone());
        error.is_some()
    })
    .await;
    let error = error.unwrap();
    assert_eq!(error.message, "web could not be stopped");
    let detail = error.detail.unwrap_or_default();
    assert!(detail.contains("Bad gateway"), "what came instead is told: {detail}");
}

#[tokio::test]
async fn rows_stay_while_the_engine_is_away_and_ghosts_do_not() {
    use berth_app::wire::EngineState;
    let mut fixture = start();
    fixture.engine.add(container("stays"));
    fixture.engine.add(container("goes"));
    let mut page = Page::open(&fixture.app).await;
    page.until("both rows and a ready engine", |patch| patch.engines.iter().any(|row| row.state == EngineState::Ready))
        .await;
    let socket = fixture.engine.socket().to_owned();
    drop(fixture.engine);
    page.until("the loss", |patch| {
        assert!(patch.containers_removed.is_empty(), "rows stay while the engine is away");
        patch.engines.iter().any(|row| row.state == EngineState::Lost)
    })
    .await;
    fixture.engine = FakeEngine::listen(&socket).unwrap();
    fixture.engine.add(container("stays"));
    page.until("the ghost's removal", |patch| patch.containers_removed.len() == 1).await;
}

#[tokio::test]
async fn settings_are_remembered_over_a_restart() {
    let fixture = start();
    let settings = json!({"theme": "dark", "sidebarCollapsed": true, "containersGrouped": false});
    call(&fixture.app, "settings_write", json!({"settings": settings}), Some("write")).await.unwrap();
    let huge = json!({"settings": {"layout": "x".repeat(1_000_000)}});
    assert!(call(&fixture.app, "settings_write", huge, Some("huge")).await.is_err());
    let (again, _background) = App::start(config(&fixture.folder)).unwrap();
    let read = call(&again, "settings_read", json!({}), None).await.unwrap();
    assert_eq!(read["theme"], "dark");
    assert_eq!(read["sidebarCollapsed"], true);
}
