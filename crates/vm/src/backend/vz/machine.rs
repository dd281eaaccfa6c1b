//! A machine of macOS's as one among others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::VzError;
use super::api::{Asked, Ended, MachineState, Started, VzMachine};
use super::guest::AGENT_PORT;
use super::stream::Stream;
use crate::backend::machine::{Doing, MachineError, RunningMachine};
use crate::socket::Duplex;

/// Nothing tells when somebody begins to listen in the guest.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// How long the framework may take for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// To make a machine and start it.
    pub(crate) start: Duration,
    /// To do what it is asked.
    pub(crate) command: Duration,
    /// For the guest to heed its power button.
    pub(crate) button: Duration,
}

impl Patience {
    pub(crate) const USUAL: Self =
        Self { start: Duration::from_secs(60), command: Duration::from_secs(10), button: Duration::from_secs(15) };
}

#[derive(Debug)]
pub(super) struct Machine {
    machine: Arc<dyn VzMachine>,
    state: watch::Receiver<MachineState>,
    killed: AtomicBool,
    patience: Patience,
}

impl Machine {
    pub(super) fn new(started: Started, patience: Patience) -> Self {
        let Started { machine, state } = started;
        Self { machine, state, killed: AtomicBool::new(false), patience }
    }

    pub(super) fn state(&self) -> watch::Receiver<MachineState> {
        self.state.clone()
    }

    pub(super) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// How it ended, once it has.
    pub(super) async fn ended(&self) -> Ended {
        let mut state = self.state.clone();
        let over = state.wait_for(|state| state.ended.is_some()).await.ok().and_then(|state| state.ended.clone());
        // Whoever was to tell is gone, and with it the machine.
        over.unwrap_or(Ended::Stopped)
    }

    async fn asked<T>(&self, what: &'static str, asked: Asked<'_, T>) -> Result<T, VzError> {
        let patience = self.patience.command;
        timeout(patience, asked).await.unwrap_or_else(|_| Err(late(what, patience)))
    }

    /// Tries until somebody listens there, or it has taken too long.
    async fn connect(&self) -> Result<Stream, VzError> {
        let deadline = Instant::now() + self.patience.command;
        loop {
            match self.asked("connect to the guest", self.machine.connect(AGENT_PORT)).await {
                Err(VzError::Refused) if self.state.borrow().ended.is_some() => return Err(VzError::Gone),
                Err(VzError::Refused) if Instant::now() < deadline => sleep(REFUSED_PAUSE).await,
                connected => return Stream::new(connected?).map_err(VzError::Connection),
            }
        }
    }

    async fn stop(&self) -> Result<(), VzError> {
        let pressed = self.asked("press the machine's power button", self.machine.request_stop()).await;
        match pressed {
            Ok(()) if timeout(self.patience.button, self.ended()).await.is_ok() => return Ok(()),
            Ok(()) => tracing::warn!("the guest does not heed its power button and is killed"),
            Err(error) => tracing::warn!(%error, "the machine is killed"),
        }
        self.end().await
    }

    async fn end(&self) -> Result<(), VzError> {
        if self.state.borrow().ended.is_some() {
            return Ok(());
        }
        self.killed.store(true, Ordering::Release);
        self.asked("end the machine", self.machine.kill()).await?;
        let patience = self.patience.command;
        timeout(patience, self.ended()).await.map(drop).map_err(|_| late("end the machine", patience))
    }
}

pub(super) fn late(what: &'static str, patience: Duration) -> VzError {
    VzError::Silent { what, seconds: patience.as_secs_f32() }
}

impl RunningMachine for Machine {
    fn channel(&self) -> Doing<'_, Result<Box<dyn Duplex>, MachineError>> {
        Box::pin(async { Ok(Box::new(self.connect().await?) as Box<dyn Duplex>) })
    }

    fn over(&self) -> Doing<'_, ()> {
        Box::pin(async { drop(self.ended().await) })
    }

    fn quit(&self) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(self.stop().await?) })
    }

    fn kill(&self) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(self.end().await?) })
    }

    fn grow_disk(&self, _bytes: u64) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Err(VzError::CannotGrow.into()) })
    }

    fn take_memory(&self, _available: u64) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(()) })
    }

    fn resident_bytes(&self) -> Option<u64> {
        None
    }
}
