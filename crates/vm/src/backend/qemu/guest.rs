//! The engine in a machine: its life from the choice of an accelerator to its end, told in [`GuestEvent`]s.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_mux::{ControlSender, Opener, Target};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::accelerator::of_this_system;
use super::session::{Link, keep_link};
use super::shares::Serving;
use super::shutdown::{Ending, end, is_fresh};
use super::{
    Accelerator, Exit, ExitCause, Machine, MachineEvent, MachineSpec, Program, QemuError, Upkeep, choose_accelerator,
    find_program, reject_accelerator,
};
use crate::appliance::VmImage;
use crate::backend::{Condition, EngineSettings, GuestEvent, Pace};
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::ports::as_io;
use crate::slots::Choice;
use crate::socket::{Connection, Dialling, EngineDial};

/// Where dockerd listens in the guest.
const DOCKER: &str = "/run/docker.sock";
/// A console that speaks is a sign of progress, but not each of its lines.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether a full disk of the host has room again: nothing tells that.
const ROOM_PAUSE: Duration = Duration::from_secs(2);
/// Room with which a machine that was paused for the lack of it goes on.
const ROOM_BYTES: u64 = 256 << 20;

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Wanted {
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
    upkeep: Upkeep,
}

/// What machines are made with; tests bring their own.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// QEMU; without one, the one there is.
    pub(crate) program: Option<PathBuf>,
    /// The accelerator to try.
    pub(crate) hardware: Accelerator,
    pub(crate) pace: fn(Accelerator) -> Pace,
}

impl Default for Tools {
    fn default() -> Self {
        Self { program: None, hardware: of_this_system(), pace: Accelerator::pace }
    }
}

impl Accelerator {
    /// What may be expected of a machine that it runs.
    pub(crate) fn pace(self) -> Pace {
        if self == Self::Tcg { Pace::EMULATED } else { Pace::MACHINE }
    }
}

impl Guest {
    pub(crate) fn launch(
        paths: &EnginePaths,
        choice: &Choice,
        settings: &EngineSettings,
        tools: Tools,
    ) -> Result<Self, Error> {
        let image = choice.appliance.vm()?;
        paths.create_machine_folder()?;
        let (tell, events) = mpsc::channel(64);
        let (wanted, wish) = watch::channel(Wanted::Run);
        let (opener, control, machine) = (watch::Sender::new(None), watch::Sender::new(None), watch::Sender::new(None));
        let upkeep = Upkeep::new(machine.subscribe(), control.subscribe(), paths.data_disk());
        let guest = Self { events, wanted, opener: opener.subscribe(), upkeep };
        let paths = paths.clone();
        let (settings, trial) = (settings.clone(), choice.trial);
        let life = Life { paths, image, trial, settings, tools, tell, wish, opener, control, machine };
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

    pub(crate) fn upkeep(&self) -> Upkeep {
        self.upkeep.clone()
    }

    pub(crate) fn dial(&self) -> MachineEngine {
        MachineEngine::new(self.opener.clone())
    }
}

/// The engine of a machine, as long as there is a session with its agent.
#[derive(Debug)]
pub(crate) struct MachineEngine {
    opener: watch::Receiver<Option<Opener>>,
}

impl MachineEngine {
    pub(crate) fn new(opener: watch::Receiver<Option<Opener>>) -> Self {
        Self { opener }
    }
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
    /// The image has to show that it works: what goes wrong is its doing, and it is started once for each time it was
    /// counted.
    trial: bool,
    settings: EngineSettings,
    tools: Tools,
    tell: mpsc::Sender<GuestEvent>,
    wish: watch::Receiver<Wanted>,
    opener: watch::Sender<Option<Opener>>,
    control: watch::Sender<Option<ControlSender>>,
    machine: watch::Sender<Option<Arc<Machine>>>,
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
    pub(crate) fn of(stage: &'static str, error: &impl std::fmt::Display, fix: &str) -> Self {
        let text = error.to_string();
        let cause = text.strip_suffix(&format!("; {fix}")).unwrap_or(&text).to_owned();
        Self { fix: Some(fix.to_owned()), ..Self::new(stage, cause) }
    }
}

impl From<Box<Exit>> for Failed {
    fn from(exit: Box<Exit>) -> Self {
        let cause = match exit.cause {
            ExitCause::PoweredOff => "the guest turned itself off; its console may say why".to_owned(),
            _ => format!("the machine ended: {exit}"),
        };
        let Exit { console_tail: mut log, errors, .. } = *exit;
        log.extend(errors.into_iter().map(|line| format!("qemu: {line}")));
        Self { log, ..Self::new("running", cause) }
    }
}

/// How a machine's run ended.
enum Over {
    Ended,
    Failed(Failed),
    /// Its accelerator runs no guests.
    Accelerator(String),
    /// Its kernel gave up before anything ran in it.
    Panicked(Failed),
}

impl Life {
    async fn live(mut self) {
        if let Err(Failed { stage, cause, fix, log, outside }) = self.run().await {
            let _ = self.tell.send(GuestEvent::Failed { stage: stage.to_owned(), cause, fix, log, outside }).await;
        }
    }

    async fn run(&mut self) -> Result<(), Failed> {
        let outside = |stage, error: QemuError| Failed { outside: true, ..Failed::of(stage, &error, error.fix()) };
        let preparing = |error| outside("preparing the machine", error);
        let program = find_program(self.tools.program.as_deref()).await.map_err(preparing)?;
        let cache = self.paths.accelerator_file();
        let mut choice = choose_accelerator(&program, &cache, self.paths.runtime(), self.tools.hardware).await;
        let mut panicked = false;
        loop {
            tracing::info!(accelerator = choice.accelerator.name(), why = choice.why, "machine");
            let pace = (self.tools.pace)(choice.accelerator);
            let (name, why) = (choice.accelerator.name().to_owned(), choice.why.clone());
            let _ = self.tell.send(GuestEvent::Accelerator { name, why, pace }).await;
            if *self.wish.borrow() != Wanted::Run {
                return Ok(());
            }
            let fresh = is_fresh(&self.paths.data_disk());
            let serving = Serving::start(&self.settings.shares.list(), &self.paths).await;
            for message in &serving.warnings {
                let _ = self.tell.send(GuestEvent::Warning { message: message.clone() }).await;
            }
            let _watched = serving.watch(&self.tell);
            let over = match Machine::launch(&self.spec(&program, choice.accelerator, &serving)).await {
                Ok((machine, events)) => {
                    self.stage("kernel").await;
                    self.watch(Arc::new(machine), events, choice.accelerator, fresh).await
                }
                // A hypervisor may run the canary and break on the whole machine, with the first instruction.
                Err(error @ (QemuError::Ended(_) | QemuError::Silent { .. } | QemuError::Greeting(_))) => {
                    if choice.accelerator == Accelerator::Tcg {
                        return Err(Failed::of("starting the machine", &error, error.fix()));
                    }
                    Over::Accelerator(error.to_string())
                }
                Err(error) => return Err(outside("starting the machine", error)),
            };
            match over {
                Over::Ended => return Ok(()),
                Over::Failed(failed) => return Err(failed),
                // The accelerator has run the image that works.
                Over::Accelerator(why) if self.trial => return Err(Failed::new("starting the machine", why)),
                Over::Panicked(failed) if self.trial => return Err(failed),
                // Emulators now and then trip over a kernel that changes its own code while it starts.
                Over::Panicked(failed) if panicked => return Err(failed),
                Over::Panicked(failed) => {
                    tracing::warn!(failed.cause, "it is started once more");
                    panicked = true;
                }
                Over::Accelerator(why) => choice = reject_accelerator(&program, &cache, choice.accelerator, &why),
            }
        }
    }

    fn spec(&self, program: &Program, accelerator: Accelerator, serving: &Serving) -> MachineSpec {
        MachineSpec {
            program: program.clone(),
            kernel: self.image.kernel.path().to_path_buf(),
            initramfs: self.image.initramfs.path().to_path_buf(),
            os_image: self.image.os.path().to_path_buf(),
            command_line: format!(
                "{} berth.agent=1{}{}",
                self.image.command_line,
                engine_word(self.image.engine_version.as_deref()),
                serving.words
            ),
            data_disk: self.paths.data_disk(),
            data_disk_bytes: self.settings.disk_bytes(),
            memory_mib: self.settings.memory_mib,
            cpus: self.settings.cpus,
            runtime: self.paths.runtime().to_path_buf(),
            console: self.paths.console_log(),
            accelerator,
            shares: serving.devices.clone(),
        }
    }

    /// Follows one machine to its end.
    async fn watch(
        &mut self,
        machine: Arc<Machine>,
        mut events: mpsc::Receiver<MachineEvent>,
        accelerator: Accelerator,
        fresh: bool,
    ) -> Over {
        let link = Link {
            line: Arc::<Machine>::clone(&machine),
            protocol: self.image.agent_protocol,
            pace: (self.tools.pace)(accelerator),
            tell: self.tell.clone(),
            opener: self.opener.clone(),
            control: self.control.clone(),
        };
        self.machine.send_replace(Some(Arc::clone(&machine)));
        let linked = AbortOnDrop(tokio::spawn(keep_link(link)));
        let over = self.follow(&machine, &mut events, accelerator, fresh).await;
        drop(linked);
        self.machine.send_replace(None);
        self.opener.send_replace(None);
        self.control.send_replace(None);
        over
    }

    async fn follow(
        &mut self,
        machine: &Arc<Machine>,
        events: &mut mpsc::Receiver<MachineEvent>,
        accelerator: Accelerator,
        fresh: bool,
    ) -> Over {
        let born = Instant::now();
        let pace = (self.tools.pace)(accelerator);
        let emulated = accelerator == Accelerator::Tcg;
        // A quiet kernel says nothing on the console: what opens the agent's port lives as well.
        let (mut alive, mut met, mut full) = (false, false, false);
        let mut progress = born;
        let mut rejected: Option<String> = None;
        let mut wish = self.wish.clone();
        let mut control = self.control.subscribe();
        let mut stopping = Wanted::Run;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(MachineEvent::Exited(exit)) => {
                        // What a processor cannot do it shows before the agent speaks.
                        let broke = !emulated && !met && stopping == Wanted::Run && exit.cause == ExitCause::Failed;
                        let rejected = rejected.or_else(|| broke.then(|| exit.to_string()));
                        if exit.cause == ExitCause::Panicked && !met && stopping == Wanted::Run {
                            return Over::Panicked(Box::new(exit).into());
                        }
                        return over(exit, stopping, rejected);
                    }
                    None => {
                        return Over::Failed(Failed::new("running", "QEMU ended, and nobody knows how".to_owned()));
                    }
                    Some(event @ (MachineEvent::KernelAlive | MachineEvent::AgentPort(true))) => {
                        tracing::debug!(?event, "machine");
                        alive = true;
                        self.progress().await;
                    }
                    Some(MachineEvent::InternalError) => {
                        if !emulated && !met {
                            rejected = Some("it gave up in the middle of the guest's start".to_owned());
                        }
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
                    Some(MachineEvent::ConsoleLine(line)) => {
                        tracing::debug!(line, "console");
                        if !met && progress.elapsed() >= PROGRESS_PAUSE {
                            progress = Instant::now();
                            self.progress().await;
                        }
                    }
                    Some(MachineEvent::Paused { reason }) => tracing::info!(reason, "the machine is paused"),
                    Some(MachineEvent::AgentPort(open)) => tracing::debug!(open, "the agent's port"),
                    Some(event) => tracing::debug!(?event, "machine"),
                },
                wanted = changed(&mut wish, stopping) => {
                    stopping = wanted;
                    let control = self.control.subscribe();
                    let ending = Ending { machine: Arc::clone(machine), control, pace, met, fresh };
                    tokio::spawn(end(ending, wanted));
                }
                () = present(&mut control), if !met => (alive, met) = (true, true),
                () = sleep_until(born + pace.kernel), if !alive && !emulated && rejected.is_none() => {
                    rejected = Some("the guest's kernel never showed a sign of life".to_owned());
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

    async fn progress(&self) {
        let _ = self.tell.send(GuestEvent::Progress).await;
    }

    async fn stage(&self, name: &str) {
        let _ = self.tell.send(GuestEvent::Stage { name: name.to_owned() }).await;
    }

    async fn condition(&self, what: Condition, text: Option<String>) {
        let _ = self.tell.send(GuestEvent::Condition { what, text }).await;
    }
}

/// Tells the guest which dockerd it has, which is written down on the data disk before it is started.
fn engine_word(version: Option<&str>) -> String {
    let is_plain = |text: &&str| {
        let plain = |character: char| character.is_ascii_alphanumeric() || ".+~:-".contains(character);
        !text.is_empty() && text.len() <= 64 && text.chars().all(plain)
    };
    version.filter(is_plain).map_or_else(String::new, |version| format!(" berth.engine={version}"))
}

/// Waits for the first session.
async fn present(control: &mut watch::Receiver<Option<ControlSender>>) {
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

fn over(exit: Exit, stopping: Wanted, rejected: Option<String>) -> Over {
    match rejected {
        _ if stopping != Wanted::Run => Over::Ended,
        Some(why) => Over::Accelerator(why),
        None => Over::Failed(Box::new(exit).into()),
    }
}

/// Bytes that this user may still write there.
async fn room(folder: PathBuf) -> u64 {
    let free = tokio::task::spawn_blocking(move || {
        nix::sys::statvfs::statvfs(&folder).map(|of| of.blocks_available().saturating_mul(of.fragment_size()))
    });
    free.await.ok().and_then(Result::ok).unwrap_or_default()
}

#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
