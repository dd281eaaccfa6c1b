//! The engine in a machine: its life from the choice of an accelerator to its end, told in [`GuestEvent`]s.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::accelerator::of_this_system;
use super::file_events::{self, FileEvents};
use super::shares::Serving;
use super::{
    Accelerator, Exit, ExitCause, Machine, MachineEvent, MachineSpec, Program, QemuError, choose_accelerator,
    find_program, reject_accelerator,
};
use crate::appliance::VmImage;
use crate::backend::machine::{
    Companion, Ending, Failed, Guest, Reins, Wanted, changed, end, engine_word, is_fresh, present,
};
use crate::backend::{Condition, EngineSettings, GuestEvent, Pace};
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::room::free_bytes;
use crate::slots::Choice;

/// A console that speaks is a sign of progress, but not each of its lines.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether a full disk of the host has room again: nothing tells that.
const ROOM_PAUSE: Duration = Duration::from_secs(2);
/// Room with which a machine that was paused for the lack of it goes on.
const ROOM_BYTES: u64 = 256 << 20;

/// Where emulators stumble over what a kernel does while it starts.
const HANGS: &str = "the guest did not come as far as its agent in time";

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

/// A machine with an engine in it.
pub(crate) fn launch(
    paths: &EnginePaths,
    choice: &Choice,
    settings: &EngineSettings,
    tools: Tools,
) -> Result<Guest, Error> {
    let image = choice.appliance.vm()?;
    paths.create_machine_folder()?;
    let (guest, reins) = Guest::new(paths.data_disk());
    let (paths, settings, trial) = (paths.clone(), settings.clone(), choice.trial);
    tokio::spawn(Life { paths, image, trial, settings, tools, reins }.live());
    Ok(guest)
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
    reins: Reins,
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
        if let Err(failed) = self.run().await {
            self.reins.failed(failed).await;
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
            let _ = self.reins.tell.send(GuestEvent::Accelerator { name, why, pace }).await;
            if *self.reins.wish.borrow() != Wanted::Run {
                return Ok(());
            }
            let fresh = is_fresh(&self.paths.data_disk());
            let serving = Serving::start(&self.settings.shares.list(), &self.paths).await;
            for message in &serving.warnings {
                let _ = self.reins.tell.send(GuestEvent::Warning { message: message.clone() }).await;
            }
            let _watched = serving.watch(&self.reins.tell);
            let file_events = FileEvents::new(&serving.shared, self.settings.file_events);
            let _ = self.reins.tell.send(GuestEvent::Shares(serving.shared.clone())).await;
            if let Some(status) = file_events::status(&serving.shared, file_events.as_ref()) {
                let _ = self.reins.tell.send(GuestEvent::FileEvents(status)).await;
            }
            let over = match Machine::launch(&self.spec(&program, choice.accelerator, &serving)).await {
                Ok((machine, events)) => {
                    self.reins.stage("kernel").await;
                    self.watch(Arc::new(machine), events, choice.accelerator, fresh, file_events).await
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
        file_events: Option<FileEvents>,
    ) -> Over {
        let pace = (self.tools.pace)(accelerator);
        let companion = file_events.map(|events| Arc::new(events) as Arc<dyn Companion>);
        let linked = self.reins.link(Arc::<Machine>::clone(&machine), self.image.agent_protocol, pace, companion);
        let over = self.follow(&machine, &mut events, accelerator, fresh).await;
        self.reins.unlink(linked);
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
        let mut hangs = false;
        let mut wish = self.reins.wish.clone();
        let mut control = self.reins.control.subscribe();
        let mut stopping = Wanted::Run;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(MachineEvent::Exited(exit)) => {
                        // What a processor cannot do it shows before the agent speaks.
                        let broke = !emulated && !met && stopping == Wanted::Run && exit.cause == ExitCause::Failed;
                        let rejected = rejected.or_else(|| broke.then(|| exit.to_string()));
                        let gave_up = exit.cause == ExitCause::Panicked || hangs;
                        if gave_up && !met && stopping == Wanted::Run {
                            let failed = Failed::from(Box::new(exit));
                            return Over::Panicked(if hangs { Failed { cause: HANGS.to_owned(), ..failed } } else { failed });
                        }
                        return over(exit, stopping, rejected);
                    }
                    None => {
                        return Over::Failed(Failed::new("running", "QEMU ended, and nobody knows how".to_owned()));
                    }
                    Some(event @ (MachineEvent::KernelAlive | MachineEvent::AgentPort(true))) => {
                        tracing::debug!(?event, "machine");
                        alive = true;
                        progress = Instant::now();
                        self.reins.progress().await;
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
                        self.reins.condition(Condition::Disk, Some(text)).await;
                    }
                    Some(MachineEvent::Resumed) => {
                        if std::mem::take(&mut full) {
                            self.reins.condition(Condition::Disk, None).await;
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
                            self.reins.progress().await;
                        }
                    }
                    Some(MachineEvent::Paused { reason }) => tracing::info!(reason, "the machine is paused"),
                    Some(MachineEvent::AgentPort(open)) => tracing::debug!(open, "the agent's port"),
                    Some(event) => tracing::debug!(?event, "machine"),
                },
                wanted = changed(&mut wish, stopping) => {
                    stopping = wanted;
                    let control = self.reins.control.subscribe();
                    let machine = Arc::<Machine>::clone(machine);
                    let ending = Ending { machine, control, pace, met, fresh };
                    tokio::spawn(end(ending, wanted));
                }
                () = present(&mut control), if !met => (alive, met) = (true, true),
                () = sleep_until(born + pace.kernel), if !alive && !emulated && rejected.is_none() => {
                    rejected = Some("the guest's kernel never showed a sign of life".to_owned());
                    let _ = machine.kill().await;
                }
                () = sleep_until(progress + pace.kernel), if emulated && !met && !hangs && stopping == Wanted::Run => {
                    tracing::warn!(HANGS);
                    hangs = true;
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
    let free = tokio::task::spawn_blocking(move || free_bytes(&folder));
    free.await.ok().and_then(Result::ok).unwrap_or_default()
}
