//! The engine Berth brings: starting and stopping it, and following its supervisor.

use std::sync::Arc;
use std::time::Duration;

use berth_vm::EnginePaths;
use berth_vm::{ControlClient, Status};
use berth_wire::{OperationKind, OperationStarted};
use tokio::sync::{Notify, watch};

use super::Engine;
use crate::app::App;
use crate::error::AppError;
use crate::operations::{self, Subject};
use crate::shell_quote::quote;

/// Starts the bundled engine unless it runs.
pub(crate) fn start_bundled(app: &Arc<App>, engine: &Arc<Engine>) -> Result<OperationStarted, AppError> {
    change(app, engine, OperationKind::EngineStart, "start", |paths| async move {
        crate::start_engine(&paths, false).await?;
        Ok(())
    })
}

/// Stops the bundled engine and every container in it.
pub(crate) fn stop_bundled(app: &Arc<App>, engine: &Arc<Engine>) -> Result<OperationStarted, AppError> {
    change(app, engine, OperationKind::EngineStop, "stop", |paths| async move {
        crate::stop_engine(&paths).await?;
        Ok(())
    })
}

/// Has the machine of the bundled engine give back the disk and the memory that it does not use.
pub(crate) fn give_back_bundled(app: &Arc<App>, engine: &Arc<Engine>) -> Result<OperationStarted, AppError> {
    change(app, engine, OperationKind::EngineGiveBack, "give-back", |paths| async move {
        let mut client = ControlClient::connect(&paths).await?;
        client.trim().await?;
        client.reclaim().await?;
        Ok(())
    })
}

fn change<W, F>(
    app: &Arc<App>,
    engine: &Arc<Engine>,
    kind: OperationKind,
    verb: &str,
    work: W,
) -> Result<OperationStarted, AppError>
where
    W: FnOnce(EnginePaths) -> F + Send + 'static,
    F: Future<Output = Result<(), AppError>> + Send,
{
    let paths = engine.require_bundled()?.clone();
    let subject = Subject {
        engine: engine.id.clone(),
        container: None,
        target: engine.name.clone(),
        kind,
        command: format!("berth engine {verb} --data {}", quote(&paths.data().to_string_lossy())),
    };
    let engine = engine.clone();
    Ok(operations::start(app, subject, async move {
        engine.supervisor.look_again();
        let outcome = work(paths).await;
        engine.supervisor.look_again();
        engine.watch.retry_now();
        outcome
    }))
}

/// A supervisor may be started or killed by anybody, and nothing tells of it; a look costs one connect(2).
const LOOK_EVERY: Duration = Duration::from_millis(500);

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

    fn tell(&self, status: Status) {
        self.status.send_if_modified(|told| {
            let news = told.as_ref() != Some(&status);
            if news {
                *told = Some(status);
            }
            news
        });
    }

    /// Looks for a supervisor now: one was started or stopped.
    pub(crate) fn look_again(&self) {
        self.look.notify_one();
    }
}

/// Follows the supervisor whenever there is one.
pub(crate) async fn follow(engine: Arc<Engine>) {
    let Some(paths) = &engine.paths else { return };
    let view = &engine.supervisor;
    loop {
        if let Ok(client) = ControlClient::connect(paths).await
            && let Ok(mut statuses) = client.watch().await
        {
            while let Some(status) = statuses.recv().await {
                let usable = status.is_usable();
                view.tell(status);
                if usable {
                    engine.watch.retry_now();
                }
            }
        }
        view.tell(berth_vm::status(paths).await);
        // The time-out is the ordinary case, a start through this program the other.
        let _ = tokio::time::timeout(LOOK_EVERY, view.look.notified()).await;
    }
}
