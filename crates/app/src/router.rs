//! From a call to its command body and back, the same for every transport.
//!
//! Refuses unknown commands and fields, runs a `mutate` command once per request id, and turns a panic into
//! an error with a number that is found in the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_wire::{
    About, AboutReq, Code, Command, CommandKind, ContainerDetail, ContainerInspectReq, ContainerKillReq,
    ContainerRemoveReq, ContainerReq, ContainerStopReq, Done, EngineDetail, EngineReq, LogsOpenReq,
    OperationDismissReq, OperationStarted, RequestId, RpcRequest, SessionPollReq, SessionPollRes, Settings,
    SettingsReadReq, SettingsWriteReq, StreamCloseReq, StreamId, WireError, WorldOpenReq, with_commands,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::app::{App, Ctx};
use crate::commands;
use crate::error::AppError;

/// Largest request a transport should accept, in bytes.
pub const REQUEST_LIMIT: usize = 4 * 1024 * 1024;
/// How long a request id is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How many request ids are remembered.
const REMEMBERED_COUNT: usize = 4096;

type Outcome = Result<Arc<str>, WireError>;
/// An outcome that may still be awaited.
type Pending = watch::Receiver<Option<Outcome>>;

/// Requests that have run or are running.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    seen: Mutex<HashMap<RequestId, (Instant, Pending)>>,
}

impl App {
    /// Carries out one call and answers with the response as JSON text.
    ///
    /// # Errors
    /// Whatever the command answers; `invalid` for a call that fits no command.
    pub async fn dispatch(self: &Arc<Self>, request: RpcRequest) -> Result<Arc<str>, WireError> {
        let command = Command::parse(&request.cmd).ok_or_else(|| {
            let name = request.cmd.chars().take(80).collect();
            WireError::from(AppError::UnknownCommand { name })
        })?;
        let cx = Ctx { app: self.clone(), client: request.client };
        if command.kind() != CommandKind::mutate {
            let body = AbortOnDropHandle::new(tokio::spawn(run(command, cx, request.payload)));
            return settle(body.await);
        }
        let id = request.request_id.ok_or_else(|| {
            WireError::from(AppError::Invalid { reason: format!("{} needs a requestId", command.name()) })
        })?;
        let mut outcome = self.requests.once(id, || {
            let (sender, receiver) = watch::channel(None);
            // Detached on purpose: a page that reloads drops its call, not the work.
            tokio::spawn(async move {
                let outcome = settle(tokio::spawn(run(command, cx, request.payload)).await);
                sender.send_replace(Some(outcome));
            });
            receiver
        });
        let settled = outcome.wait_for(Option::is_some).await;
        settled
            .ok()
            .and_then(|outcome| outcome.clone())
            .unwrap_or_else(|| Err(WireError::new(Code::Internal, "Berth is shutting down")))
    }
}

impl Requests {
    fn once(&self, id: RequestId, begin: impl FnOnce() -> Pending) -> Pending {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, outcome)) = seen.get(&id) {
            return outcome.clone();
        }
        if seen.len() >= REMEMBERED_COUNT {
            seen.retain(|_, (at, outcome)| at.elapsed() < REMEMBERED || outcome.borrow().is_none());
            if seen.len() >= REMEMBERED_COUNT
                && let Some(oldest) = seen.iter().min_by_key(|(_, (at, _))| *at).map(|(id, _)| id.clone())
            {
                seen.remove(&oldest);
            }
        }
        let outcome = begin();
        seen.insert(id, (Instant::now(), outcome.clone()));
        outcome
    }
}

fn settle(joined: Result<Outcome, JoinError>) -> Outcome {
    joined.unwrap_or_else(|error| Err(internal_error(&error)))
}

/// The error for a body that panicked.
pub(crate) fn internal_error(error: &JoinError) -> WireError {
    let incident = format!("{:08x}", getrandom::u32().unwrap_or_default());
    tracing::error!(%incident, %error, "a command body panicked");
    WireError::new(Code::Internal, "Something went wrong inside Berth")
        .with_detail(format!("Incident {incident} in Berth's log"))
        .with_hint("Please report it with the log; nothing else was affected.")
}

fn decode<T: DeserializeOwned>(payload: Value) -> Result<T, AppError> {
    // Serde would take a list for a struct, field by field.
    if !payload.is_object() {
        return Err(AppError::Invalid { reason: "the payload is no object".to_owned() });
    }
    serde_json::from_value(payload).map_err(|error| AppError::Invalid { reason: error.to_string() })
}

fn encode<T: Serialize>(response: &T) -> Result<Arc<str>, AppError> {
    serde_json::to_string(response)
        .map(Arc::from)
        .map_err(|error| AppError::Internal { what: format!("the response could not be written: {error}") })
}

macro_rules! define_router {
    ($($name:ident($request:ident) -> $response:ident, $kind:ident;)*) => {
        async fn run(command: Command, cx: Ctx, payload: Value) -> Outcome {
            match command {
                $(Command::$name => Box::pin(async move {
                    let request: $request = decode(payload)?;
                    let response: $response = commands::$name(cx, request).await?;
                    encode(&response)
                }).await.map_err(|error: AppError| WireError::from(error)),)*
            }
        }
    };
}
with_commands!(define_router);
