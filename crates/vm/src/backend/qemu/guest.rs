//! The engine in a machine: its life from the choice of an accelerator to its end, told in [`GuestEvent`]s.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_mux::control::Request;
use berth_mux::{ControlSender, Opener, Target};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::session::{Link, keep_link};
use super::{
    Accelerator, Exit, ExitCause, Machine, MachineEvent, MachineSpec, QemuError, choose_accelerator, find_program,
    reject_accelerator,
};
use crate::appliance::{Appliance, VmImage};
use crate::backend::{Condition, EngineSettings, GuestEvent};
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::ports::as_io;
use crate::socket::{Connection, Dialling, EngineDial};

/// Where dockerd listens in the guest.
const DOCKER: &str = "/run/docker.sock";
/// A processor shows the kernel's first words after a tenth of it; one that never does runs no guests.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);
/// What containers get to stop by themselves.
const GRACE_SECONDS: u32 = 60;
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether a full disk of the host has room again: nothing tells that.
const ROOM_PAUSE: Duration = Duration::from_secs(2);
/// Room with which a machine that was paused for the lack of it goes on.
const ROOM_BYTES: u64 = 256 << 20;

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Wanted {
    Run,
    Stop,
    Kill,
}

/// A machine with an engine in it.
#[derive(Debug)]
pub(crate) struct Guest {
    events: mpsc::Receiver<GuestEvent>,
    wanted: watch::Sender<Wanted>,
    opener: watch::Receiver<Option<Opener>>,
}

impl Guest {
    pub(crate) fn launch(paths: &EnginePaths, appliance: &Appliance, settings: &EngineSettings) -> Result<Self, Error> {
        let image = appliance.vm()?;
        paths.create_machine_folder()?;
        let (tell, events) = mpsc::channel(64);
        let (wanted, wish) = watch::channel(Wanted::Run);
        let opener = watch::Sender::new(None);
        let guest = Self { events, wanted, opener: opener.subscribe() };
        let life = Life { paths: paths.clone(), image, settings: *settings, tell, wish, opener };
        tokio::spawn(life.live());
        Ok(guest)
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

    pub(crate) fn dial(&self) -> MachineEngine {
        MachineEngine { opener: self.opener.clone() }
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

/// Everything one machine after another is run with.
struct Life {
    paths: EnginePaths,
    image: VmImage,
    settings: EngineSettings,
    tell: mpsc::Sender<GuestEvent>,
    wish: watch::Receiver<Wanted>,
    opener: watch::Sender<Option<Opener>>,
}

/// Why there is no machine any more.
struct Failed {
    stage: &'static str,
    cause: String,
    fix: Option<String>,
}

impl Failed {
    fn new(stage: &'static str, cause: String) -> Self {
        Self { stage, cause, fix: None }
    }

    /// The errors' texts end with what to do, which is shown apart.
    fn of(stage: &'static str, error: &impl std::fmt::Display, fix: &str) -> Self {
        let text = error.to_string();
        let cause = text.strip_suffix(&format!("; {fix}")).unwrap_or(&text).to_owned();
        Self { stage, cause, fix: Some(fix.to_owned()) }
    }
}

/// How a machine's run ended.
enum Over {
    Ended,
    Failed(String),
    /// Its accelerator runs no guests.
    Accelerator(String),
}

impl Life {
    async fn live(mut self) {
        if let Err(Failed { stage, cause, fix }) = self.run().await {
            let _ = self.tell.send(GuestEvent::Failed { stage: stage.to_owned(), cause, fix }).await;
        }
    }

    async fn run(&mut self) -> Result<(), Failed> {
        let preparing = |error: QemuError| Failed::of("preparing the machine", &error, error.fix());
        let verified = {
            let image = self.image.clone();
            tokio::task::spawn_blocking(move || image.verify()).await
        };
        match verified {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Failed::of("preparing the machine", &error, error.fix())),
            Err(error) => return Err(Failed::new("preparing the machine", error.to_string())),
        }
        let program = find_program(None).await.map_err(preparing)?;
        let cache = self.paths.accelerator_file();
        let mut choice = choose_accelerator(&program, &cache, self.paths.runtime()).await;
        loop {
            tracing::info!(accelerator = choice.accelerator.name(), why = choice.why, "machine");
            let told = GuestEvent::Accelerator { name: choice.accelerator.name().to_owned(), why: choice.why.clone() };
            let _ = self.tell.send(told).await;
            let spec = MachineSpec {
                program: program.clone(),
                kernel: self.image.kernel.path().to_path_buf(),
                initramfs: self.image.initramfs.path().to_path_buf(),
                os_image: self.image.os.path().to_path_buf(),
                command_line: format!("{} berth.agent=1", self.image.command_line),
                data_disk: self.paths.data_disk(),
                data_disk_bytes: self.settings.disk_bytes(),
                memory_mib: self.settings.memory_mib,
                cpus: self.settings.cpus,
                runtime: self.paths.runtime().to_path_buf(),
                console: self.paths.console_log(),
                accelerator: choice.accelerator,
            };
            if *self.wish.borrow() != Wanted::Run {
                return Ok(());
            }
            let (machine, events) = Machine::launch(&spec)
                .await
                .map_err(|error| Failed::of("starting the machine", &error, error.fix()))?;
            match self.watch(Arc::new(machine), events, choice.accelerator).await {
                Over::Ended => return Ok(()),
                Over::Failed(cause) => return Err(Failed::new("running", cause)),
                Over::Accelerator(why) => choice = reject_accelerator(&program, &cache, choice.accelerator, &why),
            }
        }
    }

    /// Follows one machine to its end.
    async fn watch(
        &mut self,
        machine: Arc<Machine>,
        mut events: mpsc::Receiver<MachineEvent>,
        accelerator: Accelerator,
    ) -> Over {
        let control = watch::Sender::new(None);
        let link = Link {
            machine: Arc::clone(&machine),
            protocol: self.image.agent_protocol,
            emulated: accelerator == Accelerator::Tcg,
            tell: self.tell.clone(),
            opener: self.opener.clone(),
            control: control.clone(),
        };
        let linked = AbortOnDrop(tokio::spawn(keep_link(link)));
        let over = self.follow(&machine, &mut events, &control, accelerator).await;
        drop(linked);
        self.opener.send_replace(None);
        over
    }

    async fn follow(
        &mut self,
        machine: &Arc<Machine>,
        events: &mut mpsc::Receiver<MachineEvent>,
        control: &watch::Sender<Option<ControlSender>>,
        accelerator: Accelerator,
    ) -> Over {
        let born = Instant::now();
        let emulated = accelerator == Accelerator::Tcg;
        let (mut alive, mut full) = (false, false);
        let mut rejected = None;
        let mut wish = self.wish.clone();
        let mut stopping = Wanted::Run;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(MachineEvent::Exited(exit)) => return over(&exit, stopping, rejected),
                    None => return Over::Failed("QEMU ended, and nobody knows how".to_owned()),
                    Some(MachineEvent::KernelAlive) => {
                        alive = true;
                        self.stage("kernel").await;
                    }
                    Some(MachineEvent::InternalError) if !emulated => {
                        rejected = Some("it gave up in the middle of the guest".to_owned());
                        let _ = machine.kill().await;
                    }
                    Some(MachineEvent::DiskError { no_space, reason }) => {
                        full |= no_space;
                        let data = self.paths.data().display();
                        let text = if no_space {
                            format!("the disk of {data} is full: the engine is paused, and goes on when there is room")
                        } else {
                            format!("the data disk cannot be read or written: {reason}; look after the disk of {data}")
                        };
                        self.condition(Condition::Disk, Some(text)).await;
                    }
                    Some(MachineEvent::Resumed) => {
                        if std::mem::take(&mut full) {
                            self.condition(Condition::Disk, None).await;
                        }
                    }
                    Some(MachineEvent::ControlLost { why }) => {
                        tracing::warn!(why, "QEMU cannot be controlled and is killed");
                        let _ = machine.kill().await;
                    }
                    Some(MachineEvent::ConsoleLine(line)) => tracing::debug!(line, "console"),
                    Some(MachineEvent::Paused { reason }) => tracing::info!(reason, "the machine is paused"),
                    Some(MachineEvent::AgentPort(open)) => tracing::debug!(open, "the agent's port"),
                    Some(event) => tracing::debug!(?event, "machine"),
                },
                wanted = changed(&mut wish, stopping) => {
                    stopping = wanted;
                    let machine = Arc::clone(machine);
                    let control = control.borrow().clone();
                    tokio::spawn(end(machine, control, wanted));
                }
                () = sleep_until(born + KERNEL_PATIENCE), if !alive && !emulated && rejected.is_none() => {
                    rejected = Some("the guest's kernel never said anything".to_owned());
                    let _ = machine.kill().await;
                }
                () = tokio::time::sleep(ROOM_PAUSE), if full => {
                    if room(self.paths.data().to_path_buf()).await >= ROOM_BYTES {
                        let _ = machine.resume().await;
                    }
                }
            }
        }
    }

    async fn stage(&self, name: &str) {
        let _ = self.tell.send(GuestEvent::Stage { name: name.to_owned() }).await;
    }

    async fn condition(&self, what: Condition, text: Option<String>) {
        let _ = self.tell.send(GuestEvent::Condition { what, text }).await;
    }
}

/// Waits until more is wanted than before.
async fn changed(wish: &mut watch::Receiver<Wanted>, before: Wanted) -> Wanted {
    let wanted = wish.wait_for(|wanted| *wanted > before).await.map(|wanted| *wanted).ok();
    match wanted {
        Some(wanted) => wanted,
        // Nobody is there who could want anything: the supervisor has let go of it.
        None if before < Wanted::Kill => Wanted::Kill,
        None => std::future::pending().await,
    }
}

/// Brings the machine to its end; what came of it, its events tell.
async fn end(machine: Arc<Machine>, control: Option<ControlSender>, wanted: Wanted) {
    if wanted == Wanted::Stop {
        if let Some(control) = control {
            let request = Request::Shutdown { grace_seconds: GRACE_SECONDS };
            match control.request(request, SHUTDOWN_PATIENCE).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, "the guest does not shut down"),
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

fn over(exit: &Exit, stopping: Wanted, rejected: Option<String>) -> Over {
    if let Some(why) = rejected {
        return Over::Accelerator(why);
    }
    match exit.cause {
        _ if stopping != Wanted::Run => Over::Ended,
        ExitCause::PoweredOff => Over::Failed("the guest turned itself off; its console says why".to_owned()),
        _ => Over::Failed(format!("the machine ended: {exit}")),
    }
}

/// Bytes that this user may still write there.
async fn room(folder: PathBuf) -> u64 {
    let free = tokio::task::spawn_blocking(move || {
        nix::sys::statvfs::statvfs(&folder).map(|of| of.blocks_available().saturating_mul(of.fragment_size()))
    });
    free.await.ok().and_then(Result::ok).unwrap_or_default()
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
