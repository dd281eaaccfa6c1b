//! From one engine's live view and its supervisor's status to rows of the world.

use std::collections::HashMap;
use std::sync::Arc;

use berth_engine::{Container, ContainerId, Link, Snapshot};
use berth_vm::{State, Status};
use berth_wire::{Code, ContainerKey, EngineRow, EngineStage, EngineState};

use super::Engine;
use crate::app::App;
use crate::clock::now_milliseconds;
use crate::error::{engine_error, engine_failure};
use crate::project;

/// Follows one engine for as long as it is known.
pub(crate) async fn project(app: Arc<App>, engine: Arc<Engine>) {
    let mut view = engine.store.subscribe();
    let mut supervisor = engine.supervisor.subscribe();
    let mut shown: Arc<HashMap<ContainerId, Arc<Container>>> = Arc::default();
    let mut seen = (EngineState::Starting, now_milliseconds());
    loop {
        let snapshot = view.borrow_and_update().clone();
        let status = supervisor.borrow_and_update().clone();
        let mut row = engine_row(&engine, &snapshot, status.as_ref());
        if row.state != seen.0 {
            seen = (row.state, now_milliseconds());
        }
        row.since = told_since(row.state, &snapshot, status.as_ref()).unwrap_or(seen.1);
        app.world.edit(|edit| {
            for (id, container) in snapshot.containers.iter() {
                if shown.get(id).is_some_and(|before| Arc::ptr_eq(before, container)) {
                    continue;
                }
                if let Some(row) = project::container_row(&engine.id, container) {
                    edit.set_container(row);
                }
            }
            for id in shown.keys().filter(|id| !snapshot.containers.contains_key(*id)) {
                if let Ok(id) = id.as_str().parse() {
                    edit.remove_container(&ContainerKey { engine: engine.id.clone(), id });
                }
            }
            edit.set_engine(row);
        });
        shown = snapshot.containers.clone();

        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            changed = supervisor.changed() => if changed.is_err() { return },
        }
    }
}

fn engine_row(engine: &Engine, snapshot: &Snapshot, status: Option<&Status>) -> EngineRow {
    let mut row = EngineRow {
        id: engine.id.clone(),
        name: engine.name.clone(),
        kind: engine.kind,
        endpoint: engine.endpoint.to_string(),
        state: EngineState::Starting,
        since: 0.0,
        error: None,
        stages: Vec::new(),
        version: None,
        api_version: None,
        platform: None,
        processors: None,
        memory_bytes: None,
        warnings: Vec::new(),
        listed: snapshot.listed,
    };
    describe_link(&mut row, snapshot);
    if let Some(status) = status {
        describe_supervisor(&mut row, status);
    }
    row
}

/// How the connection alone would have it.
fn link_state(snapshot: &Snapshot) -> EngineState {
    match snapshot.link {
        Link::Connecting => EngineState::Starting,
        Link::Live { .. } => EngineState::Ready,
        Link::Lost { .. } if snapshot.listed => EngineState::Lost,
        Link::Lost { .. } => EngineState::Failed,
    }
}

/// Since when the row's state holds, where the supervisor or the connection tells; else it holds since it was seen.
fn told_since(state: EngineState, snapshot: &Snapshot, status: Option<&Status>) -> Option<f64> {
    if let Some(status) = status.filter(|status| state == EngineState::Ready && status.is_usable()) {
        return Some(status.since_ms);
    }
    match snapshot.link {
        Link::Live { since_ms, .. } | Link::Lost { since_ms, .. } => {
            (state == link_state(snapshot)).then_some(since_ms)
        }
        Link::Connecting => None,
    }
}

fn describe_link(row: &mut EngineRow, snapshot: &Snapshot) {
    row.state = link_state(snapshot);
    match &snapshot.link {
        Link::Connecting => {}
        Link::Live { api, info, .. } => {
            row.api_version = Some(api.to_string());
            row.version = Some(info.server_version.clone()).filter(|version| !version.is_empty());
            row.platform = Some(info.platform());
            row.processors = Some(info.processors).filter(|processors| *processors > 0);
            #[expect(clippy::cast_precision_loss, reason = "shown to people; exact up to 9 PB")]
            let memory = info.memory_bytes as f64;
            row.memory_bytes = Some(memory).filter(|bytes| *bytes > 0.0);
        }
        Link::Lost { error, .. } => {
            row.error = Some(engine_error(format!("{} does not answer", row.name), error));
        }
    }
}

/// What the supervisor knows goes before what a refused connection suggests.
fn describe_supervisor(row: &mut EngineRow, status: &Status) {
    row.stages = status
        .stages
        .iter()
        .map(|stage| EngineStage { name: stage.name.clone(), milliseconds: stage.milliseconds })
        .collect();
    row.warnings.clone_from(&status.warnings);
    let live = row.state == EngineState::Ready;
    let state = match status.state {
        // An engine that answers is not stopped, whatever its supervisor left behind.
        State::Stopped | State::Failed if live => EngineState::Ready,
        State::Stopped => EngineState::Stopped,
        State::Preparing | State::Booting | State::Connecting => EngineState::Starting,
        State::Ready | State::Degraded if live => EngineState::Ready,
        State::Ready | State::Degraded if row.listed => EngineState::Lost,
        State::Ready | State::Degraded if refuses_us(row) => EngineState::Failed,
        State::Ready | State::Degraded => EngineState::Starting,
        State::Asleep => EngineState::Asleep,
        State::Stopping => EngineState::Stopping,
        State::Failed => EngineState::Failed,
    };
    match (&status.error, state) {
        (Some(failure), EngineState::Failed) => {
            row.error = Some(engine_failure(failure));
        }
        (_, EngineState::Lost | EngineState::Failed) => {}
        _ => row.error = None,
    }
    row.state = state;
}

/// It answers, and waiting will not make it more willing.
fn refuses_us(row: &EngineRow) -> bool {
    row.error.as_ref().is_some_and(|error| error.code != Code::EngineUnreachable)
}

#[cfg(test)]
mod tests {
    use berth_wire::{EngineKind, WireError};

    use super::*;

    fn row(state: EngineState, listed: bool) -> EngineRow {
        EngineRow {
            id: "bundled".parse().unwrap(),
            name: "Berth engine".into(),
            kind: EngineKind::Bundled,
            endpoint: String::new(),
            state,
            since: 1.0,
            error: matches!(state, EngineState::Lost | EngineState::Failed)
                .then(|| WireError::new(Code::EngineUnreachable, "no answer")),
            stages: Vec::new(),
            version: None,
            api_version: None,
            platform: None,
            processors: None,
            memory_bytes: None,
            warnings: Vec::new(),
            listed,
        }
    }

    fn timeout() -> berth_engine::Error {
        berth_engine::Error::Timeout { what: "GET /_ping".into(), seconds: 5 }
    }

    fn seen(supervisor: State, link: EngineState, listed: bool) -> EngineRow {
        let mut row = row(link, listed);
        describe_supervisor(&mut row, &Status { state: supervisor, since_ms: 7.0, ..Status::default() });
        row
    }

    #[test]
    fn an_engine_that_answers_is_ready_whatever_its_supervisor_left_behind() {
        for supervisor in [State::Stopped, State::Failed, State::Ready, State::Degraded] {
            let row = seen(supervisor, EngineState::Ready, true);
            assert_eq!(row.state, EngineState::Ready, "supervisor {supervisor:?}");
            assert_eq!(row.error, None);
        }
    }

    #[test]
    fn an_engine_that_does_not_answer_is_what_its_supervisor_says() {
        for (supervisor, listed, wanted) in [
            (State::Stopped, true, EngineState::Stopped),
            (State::Preparing, false, EngineState::Starting),
            (State::Booting, true, EngineState::Starting),
            (State::Ready, false, EngineState::Starting),
            (State::Degraded, true, EngineState::Lost),
            (State::Stopping, true, EngineState::Stopping),
            (State::Asleep, true, EngineState::Asleep),
            (State::Asleep, false, EngineState::Asleep),
            (State::Failed, true, EngineState::Failed),
        ] {
            let link = if listed { EngineState::Lost } else { EngineState::Failed };
            assert_eq!(seen(supervisor, link, listed).state, wanted, "supervisor {supervisor:?}, listed {listed}");
        }
    }

    #[test]
    fn a_state_begins_when_the_one_who_knows_says_so() {
        let lost = Link::Lost { since_ms: 3.0, error: Arc::new(timeout()), attempts: 1 };
        let snapshot = |listed, link: &Link| Snapshot { listed, link: link.clone(), ..Snapshot::default() };
        let ready = Status { state: State::Ready, since_ms: 7.0, ..Status::default() };
        let stopped = Status { since_ms: 7.0, ..Status::default() };
        for (state, snapshot, status, wanted) in [
            (EngineState::Starting, snapshot(false, &Link::Connecting), None, None),
            (EngineState::Lost, snapshot(true, &lost), None, Some(3.0)),
            (EngineState::Failed, snapshot(false, &lost), None, Some(3.0)),
            (EngineState::Ready, snapshot(true, &Link::Connecting), Some(&ready), Some(7.0)),
            (EngineState::Lost, snapshot(true, &lost), Some(&ready), Some(3.0)),
            (EngineState::Stopped, snapshot(true, &lost), Some(&stopped), None),
        ] {
            assert_eq!(told_since(state, &snapshot, status), wanted, "{state:?}");
        }
    }

    #[test]
    fn a_refusal_is_not_taken_for_a_start_that_takes_long() {
        let mut refused = row(EngineState::Failed, false);
        refused.error = Some(WireError::new(Code::EnginePermission, "not for you"));
        describe_supervisor(&mut refused, &Status { state: State::Ready, ..Status::default() });
        assert_eq!(refused.state, EngineState::Failed);
        assert!(refused.error.is_some(), "and the reason is kept");
    }
}
