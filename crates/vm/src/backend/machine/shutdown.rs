//! The end of a machine that is to end: in order if it can be had, and in any case.

use std::path::Path;
use std::sync::Arc;

use berth_mux::ControlSender;
use berth_mux::control::Request;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{RunningMachine, Wanted};
use crate::backend::Pace;

/// What containers get to stop by themselves.
const GRACE_SECONDS: u32 = 60;

/// A machine, and what is known of it when it is to end.
pub(crate) struct Ending {
    pub(crate) machine: Arc<dyn RunningMachine>,
    pub(crate) control: watch::Receiver<Option<ControlSender>>,
    pub(crate) pace: Pace,
    /// Its agent was there before.
    pub(crate) met: bool,
    /// Its data disk was empty when it started.
    pub(crate) fresh: bool,
}

/// Brings the machine to its end; what came of it, its events tell.
pub(crate) async fn end(mut ending: Ending, wanted: Wanted) {
    let Ending { machine, pace, .. } = &ending;
    let (machine, pace) = (Arc::clone(machine), *pace);
    if wanted == Wanted::Stop {
        if let Some(control) = ending.agent().await {
            let request = Request::Shutdown { grace_seconds: GRACE_SECONDS };
            match control.request(request, pace.answer).await {
                Ok(_) if timeout(pace.shutdown, machine.over()).await.is_ok() => return,
                Ok(_) => tracing::warn!("the guest does not get done with shutting down"),
                Err(error) => tracing::warn!(%error, "the guest does not shut down"),
            }
            if let Err(error) = control.request(Request::Sync, pace.answer).await {
                tracing::warn!(%error, "the guest does not write its data out");
            }
        }
        if machine.quit().await.is_ok() {
            return;
        }
    }
    if let Err(error) = machine.kill().await {
        tracing::warn!(%error, "the machine cannot be killed");
    }
}

impl Ending {
    /// The agent, which may be away for a moment. Before it was ever there nothing runs that has to be stopped, unless a
    /// file system is being made, which must not be left half made.
    async fn agent(&mut self) -> Option<ControlSender> {
        let present = self.control.borrow().clone();
        let patience = match (present, self.met, self.fresh) {
            (Some(control), _, _) => return Some(control),
            (None, true, _) => self.pace.answer,
            (None, false, true) => self.pace.stage,
            (None, false, false) => return None,
        };
        let exit = self.machine.over();
        tokio::select! {
            found = timeout(patience, self.control.wait_for(Option::is_some)) => found.ok()?.ok()?.clone(),
            () = exit => None,
        }
    }
}

/// Whether there is no file system of ours on the disk yet.
pub(crate) fn is_fresh(disk: &Path) -> bool {
    use std::os::unix::fs::FileExt as _;
    const MAGIC_AT: u64 = 1024 + 56;
    let mut magic = [0; 2];
    let read = std::fs::File::open(disk).and_then(|file| file.read_exact_at(&mut magic, MAGIC_AT));
    read.is_err() || magic == [0, 0]
}
