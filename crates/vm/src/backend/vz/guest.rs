//! The engine in a machine of macOS's: its life from its configuration to its end, told in [`GuestEvent`]s.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::api::{Configuration, Disk, Ended, Folder, MachineState, Started, VzApi};
use super::machine::{Machine, Patience, late};
use super::{VzError, framework, identity};
use crate::appliance::VmImage;
use crate::backend::machine::{
    DataDisk, Ending, Failed, Guest, LogFile, Reins, SharedTail, Told, Wanted, changed, end, engine_word, is_fresh,
    present,
};
use crate::backend::{EngineSettings, GuestEvent, Pace, Share, words};
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::slots::Choice;

/// Where the agent listens in the guest, which is told so on its kernel's command line.
pub(crate) const AGENT_PORT: u32 = 1024;
const NAME: &str = "Virtualization.framework";
const WHY: &str = "It is what macOS runs machines with.";
const CONSOLE_LINES: usize = 200;
/// Lines that wait to be heard; more are left out, but for the console's file.
const CONSOLE_QUEUE: usize = 64;
/// A console that speaks is a sign of progress, but not each of its lines.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// What was said before the end is still in the pipe.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);
const MIB: u64 = 1 << 20;

/// What machines are made with; tests bring their own.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// The framework; without one, this system's.
    pub(crate) api: Option<Arc<dyn VzApi>>,
    pub(crate) pace: Pace,
    pub(crate) patience: Patience,
}

impl Default for Tools {
    fn default() -> Self {
        Self { api: None, pace: Pace::MACHINE, patience: Patience::USUAL }
    }
}

/// A machine with an engine in it.
pub(crate) fn launch(
    paths: &EnginePaths,
    choice: &Choice,
    settings: &EngineSettings,
    tools: &Tools,
) -> Result<Guest, Error> {
    let api = match &tools.api {
        Some(api) => Arc::clone(api),
        None => framework::of_this_system()?,
    };
    let image = choice.appliance.vm()?;
    paths.create_machine_folder()?;
    let (guest, reins) = Guest::new(paths.data_disk());
    let (paths, settings, trial) = (paths.clone(), settings.clone(), choice.trial);
    let Tools { pace, patience, .. } = *tools;
    tokio::spawn(Life { paths, image, trial, settings, api, pace, patience, reins }.live());
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
    api: Arc<dyn VzApi>,
    pace: Pace,
    patience: Patience,
    reins: Reins,
}

/// How a machine's run ended.
enum Over {
    Ended,
    Failed(Failed),
    /// Its kernel gave up before anything ran in it.
    Panicked(Failed),
}

impl From<VzError> for Failed {
    /// Of a start.
    fn from(error: VzError) -> Self {
        // A kernel that it cannot begin with looks like any other failure.
        let outside = !matches!(error, VzError::Failed { .. } | VzError::Silent { .. });
        Self { outside, ..Self::of("starting the machine", &error, error.fix()) }
    }
}

/// The console of one machine.
struct Console {
    tail: SharedTail,
    told: mpsc::Receiver<Told>,
    hearing: JoinHandle<()>,
}

impl Life {
    async fn live(mut self) {
        if let Err(failed) = self.run().await {
            self.reins.failed(failed).await;
        }
    }

    async fn run(&mut self) -> Result<(), Failed> {
        let mut panicked = false;
        loop {
            let (name, why, pace) = (NAME.to_owned(), WHY.to_owned(), self.pace);
            let _ = self.reins.tell.send(GuestEvent::Accelerator { name, why, pace }).await;
            if *self.reins.wish.borrow() != Wanted::Run {
                return Ok(());
            }
            let fresh = is_fresh(&self.paths.data_disk());
            let (machine, console) = self.start().await?;
            self.reins.stage("kernel").await;
            let machine = Arc::new(machine);
            let linked = self.reins.link(Arc::<Machine>::clone(&machine), self.image.agent_protocol, self.pace, None);
            let over = self.follow(&machine, console, fresh).await;
            self.reins.unlink(linked);
            match over {
                Over::Ended => return Ok(()),
                Over::Failed(failed) => return Err(failed),
                Over::Panicked(failed) if self.trial || panicked => return Err(failed),
                Over::Panicked(failed) => {
                    tracing::warn!(failed.cause, "it is started once more");
                    panicked = true;
                }
            }
        }
    }

    async fn start(&self) -> Result<(Machine, Console), VzError> {
        // Checked, grown and let go of: the framework locks it by itself, and would find it taken. Who else could be its
        // owner is kept out by the lock of the data folder.
        drop(DataDisk::open(&self.paths.data_disk(), self.settings.disk_bytes()).await?);
        let identifier = identity::identifier(&*self.api, &self.paths.machine_identifier())?;
        let shared = self.shared().await;
        let (console, theirs) = self.hear().await?;
        let configuration = self.configuration(&shared, identifier, theirs);
        let starting = timeout(self.patience.start, self.api.start(configuration)).await;
        let started: Started = starting.map_err(|_| late("start the machine", self.patience.start))??;
        Ok((Machine::new(started, self.patience), console))
    }

    /// The folders to share that are there; of each other one it is told that it is not.
    async fn shared(&self) -> Vec<Share> {
        let (there, missing): (Vec<_>, Vec<_>) =
            self.settings.shares.list().into_iter().partition(|share| share.path.is_dir());
        for share in missing {
            let message =
                format!("the machine has not the folder {}: there is no such folder here", share.path.display());
            let _ = self.reins.tell.send(GuestEvent::Warning { message }).await;
        }
        there
    }

    async fn hear(&self) -> Result<(Console, OwnedFd), VzError> {
        let log = self.paths.console_log();
        let file = LogFile::create(&log).await.map_err(VzError::file("write", &log))?;
        let broken = |why: io::Error| VzError::Failed { what: "give the machine a console", why: why.to_string() };
        let (ours, theirs) = io::pipe().map_err(broken)?;
        let output = pipe::Receiver::from_owned_fd(ours.into()).map_err(broken)?;
        let (tell, told) = mpsc::channel(CONSOLE_QUEUE);
        let tail = SharedTail::new(CONSOLE_LINES);
        let of_task = tail.clone();
        let hearing = tokio::spawn(async move {
            of_task.follow(output, Some(file), |what| drop(tell.try_send(what))).await;
        });
        Ok((Console { tail, told, hearing }, theirs.into()))
    }

    fn configuration(&self, shared: &[Share], identifier: Vec<u8>, console: OwnedFd) -> Configuration {
        let disk =
            |path: &std::path::Path, read_only, identifier| Disk { path: path.to_path_buf(), read_only, identifier };
        let folder = |(number, share): (usize, &Share)| Folder {
            tag: format!("berth-share-{number}"),
            path: share.path.clone(),
            read_only: share.read_only,
        };
        Configuration {
            kernel: self.image.kernel.path().to_path_buf(),
            initramfs: self.image.initramfs.path().to_path_buf(),
            command_line: format!(
                "{} console=hvc0 berth.agent=1 berth.vsock={AGENT_PORT} berth.net=dhcp{}{}",
                self.image.command_line,
                engine_word(self.image.engine_version.as_deref()),
                words(shared)
            ),
            cpus: self.settings.cpus,
            memory_bytes: u64::from(self.settings.memory_mib) * MIB,
            disks: vec![
                disk(self.image.os.path(), true, "berth-os"),
                disk(&self.paths.data_disk(), false, "berth-data"),
            ],
            folders: shared.iter().enumerate().map(folder).collect(),
            console,
            identifier,
            hardware_address: identity::hardware_address(&self.paths),
        }
    }

    /// Follows one machine to its end.
    async fn follow(&mut self, machine: &Arc<Machine>, mut console: Console, fresh: bool) -> Over {
        let born = Instant::now();
        let (mut alive, mut met, mut silent, mut hears) = (false, false, false, true);
        let mut progress = born;
        let mut wish = self.reins.wish.clone();
        let mut control = self.reins.control.subscribe();
        let mut state = machine.state();
        let mut network_lost = None;
        let mut stopping = Wanted::Run;
        loop {
            tokio::select! {
                ended = machine.ended() => {
                    let tail = console.last_words().await;
                    return over(&ended, machine, tail, Seen { stopping, met, silent, panicked: console.tail.panicked() });
                }
                told = console.told.recv(), if hears => match told {
                    Some(Told::FirstByte) => {
                        alive = true;
                        self.reins.progress().await;
                    }
                    Some(Told::Line(line)) => {
                        tracing::debug!(line, "console");
                        // It may start over by itself, which nobody would notice.
                        if console.tail.panicked() && !machine.was_killed() {
                            end_now(machine);
                        } else if !met && progress.elapsed() >= PROGRESS_PAUSE {
                            progress = Instant::now();
                            self.reins.progress().await;
                        }
                    }
                    None => hears = false,
                },
                wanted = changed(&mut wish, stopping) => {
                    stopping = wanted;
                    let (machine, control) = (Arc::<Machine>::clone(machine), self.reins.control.subscribe());
                    tokio::spawn(end(Ending { machine, control, pace: self.pace, met, fresh }, wanted));
                }
                () = present(&mut control), if !met => (alive, met) = (true, true),
                () = sleep_until(born + self.pace.kernel), if !alive && !silent => {
                    silent = true;
                    end_now(machine);
                }
                why = lost(&mut state, &network_lost) => {
                    if let Some(why) = &why {
                        let message = format!("the machine has no network any more: {why}; stop the engine and start it again");
                        let _ = self.reins.tell.send(GuestEvent::Warning { message }).await;
                    }
                    network_lost = why;
                }
            }
        }
    }
}

/// What was seen of a machine before it ended.
#[derive(Clone, Copy)]
struct Seen {
    stopping: Wanted,
    /// Its agent was there.
    met: bool,
    /// Its kernel never showed a sign of life.
    silent: bool,
    panicked: bool,
}

fn over(ended: &Ended, machine: &Machine, log: Vec<String>, seen: Seen) -> Over {
    if seen.stopping != Wanted::Run {
        return Over::Ended;
    }
    let cause = match ended {
        _ if seen.silent => "the guest's kernel never showed a sign of life".to_owned(),
        _ if seen.panicked => {
            let panic = log.iter().find(|line| line.contains("Kernel panic"));
            format!("the guest's kernel gave up: {}", panic.map_or("it did not say why", String::as_str))
        }
        Ended::Failed(why) => format!("the machine ended: macOS says: {why}"),
        Ended::Stopped if machine.was_killed() => "the machine was killed".to_owned(),
        Ended::Stopped => "the guest turned itself off; its console may say why".to_owned(),
    };
    let failed = Failed { log, ..Failed::new("running", cause) };
    if seen.panicked && !seen.met { Over::Panicked(failed) } else { Over::Failed(failed) }
}

impl Console {
    /// The last lines, when no more can come.
    async fn last_words(&mut self) -> Vec<String> {
        if timeout(LAST_WORDS_PATIENCE, &mut self.hearing).await.is_err() {
            self.hearing.abort();
        }
        self.tail.lines()
    }
}

/// In a task of its own: meanwhile it is followed.
fn end_now(machine: &Arc<Machine>) {
    let machine = Arc::clone(machine);
    tokio::spawn(async move {
        if let Err(error) = crate::backend::machine::RunningMachine::kill(&*machine).await {
            tracing::warn!(%error, "the machine cannot be killed");
        }
    });
}

/// Waits until the network card is off that was on, or the other way around.
async fn lost(state: &mut tokio::sync::watch::Receiver<MachineState>, before: &Option<String>) -> Option<String> {
    let changed = state.wait_for(|state| state.network_lost != *before).await.map(|state| state.network_lost.clone());
    match changed {
        Ok(lost) => lost,
        Err(_) => std::future::pending().await,
    }
}
