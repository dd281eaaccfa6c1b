//! What a running machine can be asked to do: tell what it uses, and give back what it does not.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_mux::control::{Reply, Request};
use berth_mux::{ControlError, ControlSender};
use tokio::sync::watch;

use super::{MachineError, RunningMachine};
use crate::status::Metrics;

/// A trim of a large disk, or writing all caches out, takes as long as it takes.
const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_secs(20);

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpkeepError {
    #[error("the engine's machine cannot be reached at the moment; wait until the engine is ready, and ask again")]
    NotReached,
    #[error("the engine's machine did not do it: {0}")]
    Guest(#[from] ControlError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("this system takes no memory back from a machine that runs; stop the engine, and all of it is free")]
    NoReclaim,
    #[error("the guest answered something else than it was asked; start the engine again")]
    Misunderstood,
}

/// The hands on a machine, as long as there is one.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    machine: watch::Receiver<Option<Arc<dyn RunningMachine>>>,
    control: watch::Receiver<Option<ControlSender>>,
    data_disk: PathBuf,
}

impl Upkeep {
    pub(super) fn new(
        machine: watch::Receiver<Option<Arc<dyn RunningMachine>>>,
        control: watch::Receiver<Option<ControlSender>>,
        data_disk: PathBuf,
    ) -> Self {
        Self { machine, control, data_disk }
    }

    fn machine(&self) -> Result<Arc<dyn RunningMachine>, UpkeepError> {
        self.machine.borrow().clone().ok_or(UpkeepError::NotReached)
    }

    async fn ask(&self, request: Request, patience: Duration) -> Result<Reply, UpkeepError> {
        let control = self.control.borrow().clone().ok_or(UpkeepError::NotReached)?;
        Ok(control.request(request, patience).await?)
    }

    /// Gives unused blocks of the data disk back, and says how many bytes the host has gained.
    pub(crate) async fn trim(&self) -> Result<u64, UpkeepError> {
        let before = self.disk_bytes();
        // What was removed a moment ago can be given back only when the guest's journal has it.
        self.ask(Request::Sync, LONG).await?;
        self.ask(Request::Trim, LONG).await?;
        Ok(before.saturating_sub(self.disk_bytes()))
    }

    /// Gives unused memory back, and says how many bytes the host has gained.
    pub(crate) async fn reclaim(&self) -> Result<u64, UpkeepError> {
        let machine = self.machine()?;
        let before = machine.resident_bytes().ok_or(UpkeepError::NoReclaim)?;
        self.ask(Request::Reclaim, LONG).await?;
        let control = self.control.borrow().clone().ok_or(UpkeepError::NotReached)?;
        // Also when nobody waits for it any more: what was begun with the machine is to be ended.
        let _ = tokio::spawn(take_what_is_free(Arc::clone(&machine), control)).await;
        Ok(before.saturating_sub(machine.resident_bytes().unwrap_or_default()))
    }

    /// What is used, inside and outside.
    pub(crate) async fn metrics(&self) -> Result<Metrics, UpkeepError> {
        let machine = self.machine()?;
        let Reply::Metrics(guest) = self.ask(Request::Metrics, SHORT).await? else {
            return Err(UpkeepError::Misunderstood);
        };
        Ok(Metrics {
            memory_total_bytes: guest.memory.total_bytes,
            memory_available_bytes: guest.memory.available_bytes,
            memory_cached_bytes: guest.memory.cached_bytes,
            memory_host_bytes: machine.resident_bytes().unwrap_or_default(),
            disk_total_bytes: guest.disk.total_bytes,
            disk_free_bytes: guest.disk.free_bytes,
            disk_host_bytes: self.disk_bytes(),
            ..Metrics::default()
        })
    }

    /// Makes the data disk larger while it is in use.
    pub(crate) async fn grow(&self, bytes: u64) -> Result<(), UpkeepError> {
        self.machine()?.grow_disk(bytes).await?;
        self.ask(Request::Grow, LONG).await.map(drop)
    }

    /// What the disk takes of the host's.
    fn disk_bytes(&self) -> u64 {
        const BLOCK: u64 = 512;
        self.data_disk.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(BLOCK))
    }
}

/// Asks the guest how much of its memory is free, and takes that.
pub(super) async fn take_what_is_free(machine: Arc<dyn RunningMachine>, control: ControlSender) {
    let outcome = match control.request(Request::Metrics, SHORT).await {
        Ok(Reply::Metrics(guest)) => {
            machine.take_memory(guest.memory.available_bytes).await.map_err(|error| error.to_string())
        }
        Ok(_) => Err(UpkeepError::Misunderstood.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = outcome {
        tracing::info!(why, "the guest's free memory was not taken back");
    }
}
