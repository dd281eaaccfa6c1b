//! The session's state, as its driver and its holders share it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::{End, core::Core};

#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Zero of the times that the core gets.
    epoch: Instant,
    /// Set once the pipe is closed as well.
    ended: watch::Sender<Option<End>>,
}

impl Shared {
    pub(crate) fn new(core: Core, epoch: Instant) -> Self {
        Self { core: Mutex::new(core), epoch, ended: watch::Sender::new(None) }
    }

    /// Does something with the state, and wakes afterwards whom it concerns.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = act(&mut core);
        let (driver, wakes) = core.take_wakes();
        drop(core);
        for waker in driver.into_iter().chain(wakes) {
            waker.wake();
        }
        outcome
    }

    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub(crate) const fn epoch(&self) -> Instant {
        self.epoch
    }

    /// The pipe is closed.
    pub(crate) fn announce(&self, end: End) {
        self.with(|core| core.finish(end.clone()));
        self.ended.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(end);
            is_first
        });
    }

    pub(crate) fn watch_end(&self) -> watch::Receiver<Option<End>> {
        self.ended.subscribe()
    }
}

/// What all holders have in common: when the last one goes, the session is closed.
#[derive(Debug)]
pub(crate) struct Holders {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.shared.with(Core::close);
    }
}

/// One stream of a session, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct StreamHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stream: u32,
    /// The control stream's own tasks do not keep the session.
    pub(crate) _holders: Option<Arc<Holders>>,
}

impl StreamHandle {
    pub(crate) fn new(holders: &Arc<Holders>, stream: u32) -> Self {
        Self { shared: Arc::clone(&holders.shared), stream, _holders: Some(Arc::clone(holders)) }
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.shared.with(|core| core.release(self.stream));
    }
}
