//! Operations: work that was asked for, visible to every window from its beginning to its end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_wire::{
    ContainerKey, EngineId, OperationId, OperationKind, OperationPhase, OperationRow, OperationStarted, WireError,
};

use crate::app::App;
use crate::clock::now_milliseconds;
use crate::error::AppError;

/// How long pages are shown that something succeeded.
const SHOW_SUCCESS: Duration = Duration::from_secs(3);

/// Gives operations their numbers.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    next: AtomicU64,
}

/// What an operation is about.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) engine: EngineId,
    pub(crate) container: Option<ContainerKey>,
    /// Name for people.
    pub(crate) target: String,
    pub(crate) kind: OperationKind,
    /// The equivalent command line.
    pub(crate) command: String,
}

/// Starts an operation; `work` goes on whatever becomes of the page that asked for it.
pub(crate) fn start<F>(app: &Arc<App>, subject: Subject, work: F) -> OperationStarted
where
    F: Future<Output = Result<(), AppError>> + Send + 'static,
{
    let id = OperationId(app.operations.next.fetch_add(1, Ordering::Relaxed) + 1);
    let mut row = OperationRow {
        id,
        engine: subject.engine,
        container: subject.container.as_ref().map(|key| key.id.clone()),
        target: subject.target,
        kind: subject.kind,
        phase: OperationPhase::Running,
        started: now_milliseconds(),
        finished: None,
        error: None,
        command: subject.command,
    };
    app.world.edit(|edit| {
        edit.supersede(&row.engine, row.container.as_ref());
        edit.set_operation(row.clone());
    });

    let app = app.clone();
    tokio::spawn(async move {
        let outcome = match tokio::spawn(work).await {
            Ok(outcome) => outcome.map_err(WireError::from),
            Err(panic) => Err(crate::router::internal_error(&panic)),
        };
        row.finished = Some(now_milliseconds());
        match outcome {
            Ok(()) => {
                tracing::info!(operation = id.0, kind = ?row.kind, "operation succeeded");
                row.phase = OperationPhase::Succeeded;
                app.world.edit(|edit| edit.set_operation(row));
                tokio::time::sleep(SHOW_SUCCESS).await;
                app.world.edit(|edit| edit.remove_operation(id));
            }
            Err(mut error) => {
                tracing::info!(operation = id.0, kind = ?row.kind, code = ?error.code, "operation failed");
                error.operation = Some(id);
                row.phase = OperationPhase::Failed;
                row.error = Some(error);
                app.world.edit(|edit| edit.set_operation(row));
            }
        }
    });
    OperationStarted { operation: id }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn running(id: OperationId) -> OperationRow {
        OperationRow {
            id,
            engine: "bundled".parse().unwrap(),
            container: None,
            target: "web".into(),
            kind: OperationKind::ContainerStop,
            phase: OperationPhase::Running,
            started: 0.0,
            finished: None,
            error: None,
            command: "docker stop web".into(),
        }
    }
}
