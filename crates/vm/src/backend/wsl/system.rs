//! The distribution with the engine as one machine among others. The machine that it runs in is that of all distributions,
//! and nothing is asked of it.

use std::time::Duration;

use berth_wsl::{Distributions, Place, Session};
use tokio::time::timeout;

use crate::backend::Pace;
use crate::backend::machine::{Doing, MachineError, RunningMachine};
use crate::socket::Duplex;

/// For `wsl.exe` to notice that what it waited for is gone.
pub(super) const END_PATIENCE: Duration = Duration::from_secs(10);

/// Why something could not be done with the distribution.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WslError {
    #[error(transparent)]
    Program(#[from] berth_wsl::Error),
    #[error("the guest does not end within {} s, though its input has; look at the log, and start the engine again", .0.as_secs())]
    Stays(Duration),
    #[error(
        "the size of a distribution's disk is not Berth's to choose; enlarge it while the engine is stopped: \
         `wsl --manage {name} --resize SIZE`"
    )]
    CannotGrow { name: String },
}

#[derive(Debug)]
pub(super) struct System {
    session: Session,
    distributions: Distributions,
    pace: Pace,
}

impl System {
    pub(super) fn new(session: Session, distributions: Distributions, pace: Pace) -> Self {
        Self { session, distributions, pace }
    }

    pub(super) fn place(&self) -> &Place {
        self.distributions.place()
    }

    /// The end of its input is the order to stop.
    async fn stop(&self) -> Result<(), WslError> {
        self.session.close();
        timeout(self.pace.meet, self.session.ended()).await.map_err(|_| WslError::Stays(self.pace.meet))
    }

    async fn end(&self) -> Result<(), WslError> {
        self.session.close();
        let ended = self.distributions.terminate().await;
        if timeout(END_PATIENCE, self.session.ended()).await.is_err() {
            self.session.kill();
        }
        Ok(ended?)
    }
}

impl RunningMachine for System {
    fn channel(&self) -> Doing<'_, Result<Box<dyn Duplex>, MachineError>> {
        Box::pin(async { Ok(Box::new(self.session.channel().await) as Box<dyn Duplex>) })
    }

    fn over(&self) -> Doing<'_, ()> {
        Box::pin(self.session.ended())
    }

    fn quit(&self) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(self.stop().await?) })
    }

    fn kill(&self) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(self.end().await?) })
    }

    fn is_own(&self) -> bool {
        false
    }

    fn grow_disk(&self, _bytes: u64) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Err(WslError::CannotGrow { name: self.place().data.clone() }.into()) })
    }

    fn take_memory(&self, _available: u64) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(()) })
    }

    fn resident_bytes(&self) -> Option<u64> {
        None
    }
}
