//! The thread that accepts and carries connections.
//!
//! It has a runtime of its own: what is carried does not wait for anything else the supervisor does, and one thread hands
//! a small message on sooner than several that wake each other.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::activity::{Activity, Counted, Meter};
use super::forward::{Buffers, forward};
use super::gate::{Gate, Passage, WaitingRoom};
use super::{Connection, EngineSocket, Settings};
use crate::error::Error;

/// When descriptors have run out, connections wait in the kernel's queue for some to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At the end, for clients to read what the engine or a refusal said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A socket that is served. Dropped, it takes no more connections, and those that are open are cut.
#[derive(Debug)]
pub(crate) struct Serving {
    activity: watch::Receiver<Activity>,
    close: Option<oneshot::Sender<()>>,
    closed: oneshot::Receiver<()>,
}

impl Serving {
    /// Who uses the engine.
    pub(crate) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.clone()
    }

    /// Takes no more connections, gives those that are open a moment to end, and removes the socket.
    pub(crate) async fn close(mut self) {
        if let Some(close) = self.close.take() {
            let _ = close.send(());
        }
        // It fails only if the thread is gone, and then nothing is left either.
        let _ = (&mut self.closed).await;
    }
}

/// What every connection needs.
struct Shared {
    meter: Meter,
    buffers: Buffers,
    room: WaitingRoom,
}

pub(super) fn start(socket: EngineSocket, gate: watch::Receiver<Gate>, settings: Settings) -> Result<Serving, Error> {
    let shared =
        Arc::new(Shared { meter: Meter::new(), buffers: Buffers::default(), room: WaitingRoom::new(settings) });
    let activity = shared.meter.subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::system("making the engine socket's runtime"))?;
    let (close, closing) = oneshot::channel();
    let (done, closed) = oneshot::channel();
    thread::Builder::new()
        .name("engine-socket".to_owned())
        .spawn(move || {
            // Rests are to be as short as they are meant to be, which by default they may exceed by 50 µs.
            #[cfg(target_os = "linux")]
            let _ = nix::sys::prctl::set_timerslack(1000);
            runtime.block_on(accept(socket, gate, shared, closing));
            let _ = done.send(());
        })
        .map_err(Error::system("starting the engine socket's thread"))?;
    Ok(Serving { activity, close: Some(close), closed })
}

async fn accept(
    socket: EngineSocket,
    gate: watch::Receiver<Gate>,
    shared: Arc<Shared>,
    mut closing: oneshot::Receiver<()>,
) {
    let EngineSocket { file, listener } = socket;
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the engine's socket cannot be served"),
    };
    let mut connections = JoinSet::new();
    let asked = loop {
        tokio::select! {
            asked = &mut closing => break asked.is_ok(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(attend(client, gate.clone(), Arc::clone(&shared)));
                }
                // One that failed is no reason to leave the others outside.
                Err(error) => {
                    tracing::warn!(%error, "a connection to the engine's socket cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    };
    drop(file);
    drop(listener);
    if asked {
        let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
    }
}

/// One connection, from its first moment to its last.
async fn attend(mut client: UnixStream, mut gate: watch::Receiver<Gate>, shared: Arc<Shared>) {
    let process = client.peer_cred().ok().and_then(|credentials| credentials.pid());
    // Its own questions would keep the engine awake for ever.
    let counted =
        (process.is_none() || process != shared.room.settings().uncounted).then(|| Counted::new(&shared.meter));
    match shared.room.pass(&client, process, &mut gate).await {
        Passage::Through(engine) => {
            let heard = || counted.iter().for_each(Counted::touch);
            if let Err(error) = forward(Connection::Unix(client), engine, &shared.buffers, heard).await {
                tracing::debug!(%error, "a connection to the engine broke");
            }
        }
        Passage::Refused(refusal) => refusal.tell(&mut client, shared.room.settings()).await,
        Passage::Gone => {}
    }
}
