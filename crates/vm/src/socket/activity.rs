//! Who uses the engine, for whoever decides that nobody does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Requests within this time of the last one that was told are not told.
const RESOLUTION: Duration = Duration::from_secs(1);

/// The use of the engine's socket, but for the supervisor's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Connections that are open at this moment, held ones as well.
    pub(crate) connections: usize,
    /// When a client last connected, sent something, or left; to within a second.
    pub(crate) last: Instant,
}

#[cfg(test)]
impl Activity {
    pub(crate) fn none() -> Self {
        Self { connections: 0, last: Instant::now() }
    }
}

/// Keeps the count.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    /// Milliseconds from `began` to what was told last.
    told: AtomicU64,
    activity: watch::Sender<Activity>,
}

impl Meter {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        Self { began, told: AtomicU64::new(0), activity: watch::Sender::new(Activity { connections: 0, last: began }) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Bytes came from a client.
    pub(super) fn touch(&self) {
        let now = Instant::now();
        let since = now.duration_since(self.began).as_millis().try_into().unwrap_or(u64::MAX);
        let told = self.told.load(Ordering::Relaxed);
        if u128::from(since.saturating_sub(told)) >= RESOLUTION.as_millis() {
            self.told.store(since, Ordering::Relaxed);
            self.activity.send_modify(|activity| activity.last = now);
        }
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        self.activity.send_modify(|activity| {
            activity.connections = change(activity.connections);
            activity.last = Instant::now();
        });
    }
}

/// One connection that counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a Meter);

impl<'a> Counted<'a> {
    pub(super) fn new(meter: &'a Meter) -> Self {
        meter.change(|connections| connections.saturating_add(1));
        Self(meter)
    }

    pub(super) fn touch(&self) {
        self.0.touch();
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.change(|connections| connections.saturating_sub(1));
    }
}
