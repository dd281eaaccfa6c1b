//! The engine Berth brings: starting and stopping it, and following its supervisor.

use std::sync::Arc;
use std::time::Duration;

use berth_vm::EnginePaths;
use berth_vm::{ControlClient, State, Status};
use berth_wire::{OperationKind, OperationStarted};
use tokio::sync::{Notify, watch};

use super::Engine;
use crate::app::App;
use crate::error::AppError;
use crate::operations::{self, Subject};
use crate::shell_quote::quote;

/// Starts the bundled engine unless it runs.
pub(crate) fn start_bundled(app: &Arc<App>) -> OperationStarted {
    change(app, OperationKind::EngineStart, "start", |paths| async move {
        berth_vm::start(&paths).await?;
        Ok(())
    })
}

/// Stops the bundled engine and every container in it.
pub(crate) fn stop_bundled(app: &Arc<App>) -> OperationStarted {
    change(app, OperationKind::EngineStop, "stop", |paths| async move {
        berth_vm::stop(&paths).await?;
        Ok(())
    })
}

fn change<W, F>(app: &Arc<App>, kind: OperationKind, verb: &str, work: W) -> OperationStarted
where
    W: FnOnce(EnginePaths) -> F + Send + 'static,
    F: Future<Output = Result<(), AppError>> + Send,
{
    let Some(engine) = app.engines.bundled() else {
        return OperationStarted { operation: berth_wire::OperationId(0) };
    };
    let command = match &engine.paths {
        Some(paths) => format!("berth engine {verb} --data {}", quote(&paths.data().to_string_lossy())),
        None => format!("berth engine {verb}"),
    };
    let subject = Subject { engine: engine.id.clone(), container: None, target: engine.name.clone(), kind, command };
    operations::start(app, subject, async move {
        let paths = engine.require_bundled()?.clone();
        engine.supervisor.look_again();
        let outcome = work(paths).await;
        engine.supervisor.look_again();
        engine.watch.retry_now();
        outcome
    })
}

/// How often and how long to look for a supervisor that is about to be there.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_TIMES: u32 = 50;

/// What the supervisor of the bundled engine says, and a way to look for it.
#[derive(Debug)]
pub(crate) struct SupervisorView {
    status: watch::Sender<Option<Status>>,
    look: Notify,
}

impl SupervisorView {
    pub(crate) fn new() -> Self {
        Self { status: watch::Sender::new(None), look: Notify::new() }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Status>> {
        self.status.subscribe()
    }

    /// Looks for a supervisor now: one was started, or the engine began to answer.
    pub(crate) fn look_again(&self) {
        self.look.notify_one();
    }
}

/// Follows the supervisor whenever there is one.
pub(crate) async fn follow(engine: Arc<Engine>) {
    let Some(paths) = &engine.paths else { return };
    let mut tries = 0;
    loop {
        if let Ok(client) = ControlClient::connect(paths).await
            && let Ok(mut statuses) = client.watch().await
        {
            tries = 0;
            while let Some(status) = statuses.recv().await {
                let ready = matches!(status.state, State::Ready | State::Degraded);
                engine.supervisor.status.send_replace(Some(status));
                if ready {
                    engine.watch.retry_now();
                }
            }
        }
        if tries == 0 {
            engine.supervisor.status.send_replace(Some(berth_vm::status(paths).await));
            engine.supervisor.look.notified().await;
            tries = LOOK_TIMES;
        } else {
            tries -= 1;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
