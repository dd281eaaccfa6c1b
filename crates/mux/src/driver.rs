//! Carries bytes between a pipe and the session's state. One task for each session, which owns the pipe.

mod greet;
mod pump;

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::{
    Config, ConnectError, Role, Session,
    control::Control,
    core::Core,
    session::{Ended, Incoming, Opener},
    shared::{Holders, Shared},
    wire::{greeting::Greeting, intake::Intake},
};

/// Shakes hands with the peer over `transport` and starts the session.
///
/// What an older session left in the pipe is discarded. The call waits for the peer as long as it takes; a caller that has
/// a deadline drops it. The session runs in a task of its own and ends when one side closes it, the pipe ends or fails,
/// the peer is silent or breaks the protocol, or the last of [`Opener`], [`Incoming`], [`Control`] and all streams is
/// dropped. The transport is dropped before [`Ended`] says so.
///
/// # Errors
/// If the transport ends or fails, or the peer speaks another version.
pub async fn connect<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut transport: T,
    role: Role,
    config: Config,
) -> Result<Session, ConnectError> {
    let epoch = Instant::now();
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(ConnectError::Random)?;
    let mut intake = Intake::default();
    let mut greeting = Greeting::new(role, random, config.checksums, config.greeting, epoch.elapsed());
    let established = greet::greet(&mut transport, &mut greeting, &mut intake, epoch).await?;
    let core = Core::new(role, config, &established, epoch.elapsed());
    let shared = Arc::new(Shared::new(core, epoch));
    let ended = Ended::new(shared.watch_end());
    tokio::spawn(pump::run(transport, Arc::clone(&shared), intake, &established));
    let holders = Arc::new(Holders { shared });
    Ok(Session {
        opener: Opener::new(Arc::clone(&holders)),
        incoming: Incoming::new(Arc::clone(&holders)),
        control: Control::start(&holders),
        ended,
    })
}
