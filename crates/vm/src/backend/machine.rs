//! What machines have in common, whatever runs them: how the supervisor holds one, the sessions with the agent in it, its
//! orderly end, its data disk and its console.

mod console;
mod disk;
#[cfg(target_os = "linux")]
mod image_lock;
#[cfg(not(target_os = "linux"))]
#[path = "machine/image_lock_elsewhere.rs"]
mod image_lock;
mod session;
mod shutdown;
mod upkeep;
#[cfg(target_os = "linux")]
mod wall_clock;
#[cfg(not(target_os = "linux"))]
#[path = "machine/wall_clock_elsewhere.rs"]
mod wall_clock;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use berth_mux::{ControlSender, Opener, Target};
use tokio::sync::{mpsc, watch};

use super::qemu::QemuError;
use super::vz::VzError;
use super::wsl::WslError;
use super::{Condition, GuestEvent};
use crate::ports::as_io;
use crate::socket::{Connection, Dialling, Duplex, EngineDial};
pub(crate) use console::{LogFile, SharedTail, Told};
pub(crate) use disk::{DataDisk, DiskError};
pub(crate) use image_lock::in_use as disk_in_use;
pub(crate) use session::{Link, keep_link};
pub(crate) use shutdown::{Ending, end, is_fresh};
pub(crate) use upkeep::{Upkeep, UpkeepError};

/// Where dockerd listens in the guest.
pub(super) const DOCKER: &str = "/run/docker.sock";

/// Something that is being done with a machine.
pub(crate) type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A machine that was started, whatever runs it.
pub(crate) trait RunningMachine: fmt::Debug + Send + Sync {
    /// A new connection to the guest's agent.
    fn channel(&self) -> Doing<'_, Result<Box<dyn Duplex>, MachineError>>;

    /// Returns when it is over.
    fn over(&self) -> Doing<'_, ()>;

    /// Ends it with what its disks still hold written back; kills it when that takes too long. The guest should have shut
    /// down before.
    fn quit(&self) -> Doing<'_, Result<(), MachineError>>;

    /// Ends it as a power cut would. May be repeated.
    fn kill(&self) -> Doing<'_, Result<(), MachineError>>;

    /// Whether its clock, its memory and its disk are the engine's alone, and Berth's to look after.
    fn is_own(&self) -> bool {
        true
    }

    /// Makes the data disk larger; the guest's file system grows only when the guest is asked to.
    fn grow_disk(&self, bytes: u64) -> Doing<'_, Result<(), MachineError>>;

    /// Takes memory of which the guest says that so much is available to programs there. The guest has the use of it again
    /// afterwards. Nothing is done where the system has no way to.
    fn take_memory(&self, available: u64) -> Doing<'_, Result<(), MachineError>>;

    /// What it takes of the host's memory; none where the system neither says so nor takes any back.
    fn resident_bytes(&self) -> Option<u64>;
}

/// Something that goes on as long as a session and the dockerd that was ready in it.
pub(crate) trait Companion: Send + Sync {
    fn run(&self, opener: Opener, control: ControlSender, tell: mpsc::Sender<GuestEvent>) -> Doing<'static, ()>;
}

/// Why something could not be done with a machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error(transparent)]
    Qemu(#[from] QemuError),
    #[error(transparent)]
    Vz(#[from] VzError),
    #[error(transparent)]
    Wsl(#[from] WslError),
}

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Wanted {
    Run,
    Stop,
    Kill,
}

/// A machine with an engine in it, as the supervisor holds it.
#[derive(Debug)]
pub(crate) struct Guest {
    events: mpsc::Receiver<GuestEvent>,
    wanted: watch::Sender<Wanted>,
    opener: watch::Receiver<Option<Opener>>,
    upkeep: Upkeep,
}

/// The other side of it, of whoever runs one machine after another.
pub(crate) struct Reins {
    pub(crate) tell: mpsc::Sender<GuestEvent>,
    pub(crate) wish: watch::Receiver<Wanted>,
    pub(crate) opener: watch::Sender<Option<Opener>>,
    pub(crate) control: watch::Sender<Option<ControlSender>>,
    pub(crate) machine: watch::Sender<Option<Arc<dyn RunningMachine>>>,
}

impl Guest {
    pub(crate) fn new(data_disk: PathBuf) -> (Self, Reins) {
        let (tell, events) = mpsc::channel(64);
        let (wanted, wish) = watch::channel(Wanted::Run);
        let (opener, control, machine) = (watch::Sender::new(None), watch::Sender::new(None), watch::Sender::new(None));
        let upkeep = Upkeep::new(machine.subscribe(), control.subscribe(), data_disk);
        let guest = Self { events, wanted, opener: opener.subscribe(), upkeep };
        (guest, Reins { tell, wish, opener, control, machine })
    }

    pub(crate) async fn next(&mut self) -> Option<GuestEvent> {
        self.events.recv().await
    }

    pub(crate) fn stop(&mut self) {
        self.wish(Wanted::Stop);
    }

    pub(crate) fn kill(&mut self) {
        self.wish(Wanted::Kill);
    }

    fn wish(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|present| {
            let more = wanted > *present;
            if more {
                *present = wanted;
            }
            more
        });
    }

    pub(crate) fn upkeep(&self) -> Upkeep {
        self.upkeep.clone()
    }

    pub(crate) fn dial(&self) -> MachineEngine {
        MachineEngine { opener: self.opener.clone() }
    }
}

impl Reins {
    pub(crate) async fn progress(&self) {
        let _ = self.tell.send(GuestEvent::Progress).await;
    }

    pub(crate) async fn stage(&self, name: &str) {
        let _ = self.tell.send(GuestEvent::Stage { name: name.to_owned() }).await;
    }

    pub(crate) async fn condition(&self, what: Condition, text: Option<String>) {
        let _ = self.tell.send(GuestEvent::Condition { what, text }).await;
    }

    pub(crate) async fn failed(&self, failed: Failed) {
        let Failed { stage, cause, fix, log, outside } = failed;
        let _ = self.tell.send(GuestEvent::Failed { stage: stage.to_owned(), cause, fix, log, outside }).await;
    }

    /// Sessions with the agent of that machine, for as long as what is returned is kept.
    pub(crate) fn link(
        &self,
        machine: Arc<dyn RunningMachine>,
        protocol: u32,
        pace: super::Pace,
        companion: Option<Arc<dyn Companion>>,
    ) -> AbortOnDrop {
        self.machine.send_replace(Some(Arc::clone(&machine)));
        let (tell, opener, control) = (self.tell.clone(), self.opener.clone(), self.control.clone());
        AbortOnDrop(tokio::spawn(keep_link(Link { machine, protocol, pace, tell, opener, control, companion })))
    }

    /// There is no machine any more.
    pub(crate) fn unlink(&self, linked: AbortOnDrop) {
        drop(linked);
        self.machine.send_replace(None);
        self.opener.send_replace(None);
        self.control.send_replace(None);
    }
}

/// The engine of a machine, as long as there is a session with its agent.
#[derive(Debug)]
pub(crate) struct MachineEngine {
    opener: watch::Receiver<Option<Opener>>,
}

impl EngineDial for MachineEngine {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let opener = self.opener.borrow().clone();
            let opener = opener.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let stream = opener.open(&Target::unix(DOCKER)).await.map_err(as_io)?;
            Ok(Connection::Other(Box::new(stream)))
        })
    }
}

/// Why there is no machine any more.
pub(crate) struct Failed {
    pub(crate) stage: &'static str,
    pub(crate) cause: String,
    pub(crate) fix: Option<String>,
    pub(crate) log: Vec<String>,
    /// It has nothing to do with the image.
    pub(crate) outside: bool,
}

impl Failed {
    pub(crate) fn new(stage: &'static str, cause: String) -> Self {
        Self { stage, cause, fix: None, log: Vec::new(), outside: false }
    }

    /// The errors' texts end with what to do, which is shown apart.
    pub(crate) fn of(stage: &'static str, error: &impl fmt::Display, fix: &str) -> Self {
        let text = error.to_string();
        let cause = text.strip_suffix(&format!("; {fix}")).unwrap_or(&text).to_owned();
        Self { fix: Some(fix.to_owned()), ..Self::new(stage, cause) }
    }
}

/// Tells the guest which dockerd it has, which is written down on the data disk before it is started.
pub(crate) fn engine_word(version: Option<&str>) -> String {
    let is_plain = |text: &&str| {
        let plain = |character: char| character.is_ascii_alphanumeric() || ".+~:-".contains(character);
        !text.is_empty() && text.len() <= 64 && text.chars().all(plain)
    };
    version.filter(is_plain).map_or_else(String::new, |version| format!(" berth.engine={version}"))
}

/// Waits for the first session.
pub(crate) async fn present(control: &mut watch::Receiver<Option<ControlSender>>) {
    if control.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until more is wanted than before.
pub(crate) async fn changed(wish: &mut watch::Receiver<Wanted>, before: Wanted) -> Wanted {
    let wanted = wish.wait_for(|wanted| *wanted > before).await.map(|wanted| *wanted).ok();
    match wanted {
        Some(wanted) => wanted,
        // Nobody is there who could want anything: the supervisor has let go of it.
        None if before < Wanted::Kill => Wanted::Kill,
        None => std::future::pending().await,
    }
}

#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
