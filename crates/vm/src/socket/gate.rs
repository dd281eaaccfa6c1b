//! Whether there is an engine, and the wait for it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::refusal::Refusal;
use super::{Connection, Settings, is_closed_by_peer};
use crate::status::Failure;

/// An engine that was said to be there and takes no connection is asked again after this.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A client that was just refused after its wait usually tries something else at once, and is not made to wait again.
const REFUSAL_HOLDS: Duration = Duration::from_secs(5);
const REFUSED_CLIENTS: usize = 256;

/// Where the engine is at this moment.
#[derive(Clone)]
pub(crate) enum Gate {
    /// It is coming: connections are held.
    Starting {
        /// What it is doing, as a user would say it.
        stage: String,
    },
    /// It takes connections.
    Open(Arc<dyn EngineDial>),
    /// It will not come: connections are refused at once.
    Closed {
        /// Why, and what to do.
        message: String,
    },
}

impl Gate {
    /// Of an engine that did not start or stay up.
    pub(crate) fn failed(failure: &Failure) -> Self {
        let Failure { stage, cause, fix, .. } = failure;
        Self::Closed { message: format!("the engine failed while {stage}: {cause}; {fix}") }
    }
}

pub(crate) type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send + 'a>>;

/// How the engine is reached.
pub(crate) trait EngineDial: Send + Sync + 'static {
    /// A new connection to the engine.
    fn dial(&self) -> Dialling<'_>;
}

/// An engine that listens on a unix socket of this machine.
#[derive(Debug)]
pub(crate) struct UnixEngine(pub(crate) PathBuf);

impl EngineDial for UnixEngine {
    fn dial(&self) -> Dialling<'_> {
        // Without a wait: connecting to a socket of this machine succeeds at once, or its queue is full.
        let connection = connect(&self.0).map(Connection::Unix);
        Box::pin(std::future::ready(connection))
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    UnixStream::from_std(socket.into())
}

/// What became of a connection that came to the gate.
pub(super) enum Passage {
    Through(Connection),
    Refused(Refusal),
    /// The client left while it waited.
    Gone,
}

/// The wait that all connections share.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    settings: Settings,
    places: Semaphore,
    /// The processes that were refused after their wait, and when.
    refused: Mutex<Vec<(i32, Instant)>>,
}

impl WaitingRoom {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, places: Semaphore::new(settings.held), refused: Mutex::default() }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    /// Lets a client through to the engine, as soon as there is one. `process` is the client's.
    pub(super) async fn pass(
        &self,
        client: &UnixStream,
        process: Option<i32>,
        gate: &mut watch::Receiver<Gate>,
    ) -> Passage {
        let deadline = Instant::now() + self.settings.hold;
        let mut place = None;
        let mut pause = RETRY_PAUSE;
        let mut why = String::new();
        loop {
            let now = gate.borrow_and_update().clone();
            let asked_again = matches!(now, Gate::Open(_));
            match now {
                Gate::Closed { message } => return Passage::Refused(Refusal::new(message)),
                Gate::Starting { stage } => why = format!("the engine is not ready yet: it is {stage}"),
                Gate::Open(engine) => tokio::select! {
                    biased;
                    dialled = engine.dial() => match dialled {
                        Ok(connection) => return Passage::Through(connection),
                        Err(error) => why = format!("the engine takes no connections at the moment ({error})"),
                    },
                    changed = gate.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return Passage::Refused(ended()),
                    },
                    () = gone(client) => return Passage::Gone,
                    () = sleep_until(deadline) => {}
                },
            }
            if place.is_none() {
                if self.was_refused(process) {
                    return Passage::Refused(self.not_yet(&why));
                }
                match self.places.try_acquire() {
                    Ok(free) => place = Some(free),
                    Err(_) => {
                        return Passage::Refused(Refusal::new(format!("{why}, and too many wait for it already")));
                    }
                }
            }
            tokio::select! {
                biased;
                changed = gate.changed() => {
                    if changed.is_err() {
                        return Passage::Refused(ended());
                    }
                    pause = RETRY_PAUSE;
                }
                () = gone(client) => return Passage::Gone,
                () = sleep_until(deadline) => {
                    self.remember(process);
                    return Passage::Refused(self.not_yet(&why));
                }
                () = sleep(pause), if asked_again => pause = (pause * 2).min(LONGEST_RETRY_PAUSE),
            }
        }
    }

    fn not_yet(&self, why: &str) -> Refusal {
        let waited = self.settings.hold.as_secs_f64().round();
        Refusal::new(format!(
            "{why}; this request waited {waited} s for it. Try again in a moment; `berth engine status` says more"
        ))
    }

    fn remember(&self, process: Option<i32>) {
        let Some(process) = process else { return };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|(other, at)| *other != process && at.elapsed() < REFUSAL_HOLDS);
        if refused.len() < REFUSED_CLIENTS {
            refused.push((process, Instant::now()));
        }
    }

    fn was_refused(&self, process: Option<i32>) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().any(|(other, at)| Some(*other) == process && at.elapsed() < REFUSAL_HOLDS)
    }
}

fn ended() -> Refusal {
    Refusal::new("the engine's supervisor is ending; start the engine with `berth engine start`".to_owned())
}

/// Returns when the client closed its connection. Half of it closed is no reason: its request stands.
#[cfg(target_os = "linux")]
async fn gone(client: &UnixStream) {
    // A unix socket has no such data: only an end makes it ready, and not the request that waits in it.
    let ended = client.ready(tokio::io::Interest::PRIORITY).await;
    if ended.is_ok() && !is_closed_by_peer(client) {
        std::future::pending::<()>().await;
    }
}

/// The system does not tell a request from an end: whoever left is found out when the wait is over.
#[cfg(not(target_os = "linux"))]
async fn gone(_client: &UnixStream) {
    std::future::pending().await
}
