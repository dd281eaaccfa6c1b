//! Runs the appliance in a distribution of the Windows Subsystem for Linux, whose data is on the disk of another one.
//!
//! The order of a start: both distributions are there ([`berth_wsl::Distributions::ensure`]); the one with the data shares
//! its folder, and goes on for as long as the other does; the other runs the guest, whose standard input and output carry
//! the mux. Never run on Windows: everything but `wsl.exe` itself is what runs elsewhere, and that is a fake in tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_mux::control::Request;
use berth_mux::{ControlSender, Opener};
use berth_wsl::{Distributions, Gone, Heard, Place, Program, Session};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, timeout};

use super::qemu::{AbortOnDrop, Failed, Line, Link, MachineEngine, Opening, Wanted, changed, keep_link};
use super::{GuestEvent, Pace};
use crate::appliance::Appliance;
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::slots::Choice;
use crate::socket::Duplex;

/// Names a program to be taken for `wsl.exe`, for who tests or develops this.
const PROGRAM: &str = "BERTH_WSL";
/// The guest, in both distributions.
const GUEST: &str = "/usr/sbin/berth-guest";
/// What the appliance has for `wsl --import`.
const ARCHIVE: &str = "os.tar";
/// What a user's distributions share.
const SHARED: &str = "/mnt/wsl";
const WORD: &[u8] = b"shared\n";
/// What containers get to stop by themselves.
const GRACE_SECONDS: u32 = 60;
/// `wsl.exe` tells nothing of an import but its end.
const PROGRESS: Duration = Duration::from_secs(5);
/// For `wsl.exe` to notice that what it waited for is gone.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Whether a program is named that stands in for `wsl.exe`.
pub(super) fn is_stood_in_for() -> bool {
    program().is_some()
}

fn program() -> Option<PathBuf> {
    std::env::var_os(PROGRAM).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn place(paths: &EnginePaths) -> Place {
    let (system, data) = paths.distribution_names();
    Place { folder: paths.distributions_folder(), system, data }
}

/// Unregisters both distributions, if there are any. Blocks.
pub(crate) fn remove(paths: &EnginePaths) -> Result<(), Error> {
    if !paths.distributions_file().exists() {
        return Ok(());
    }
    let distributions = Distributions::new(Program::find(program().as_deref())?, place(paths));
    // Whoever calls may be in a runtime, which must not be blocked by another.
    let removing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::system("starting a runtime"))?;
        runtime.block_on(distributions.remove()).map_err(Error::Wsl)
    });
    removing.join().unwrap_or_else(|_| Err(Error::NotDone("the distributions were not removed".to_owned())))
}

/// A distribution with an engine in it.
#[derive(Debug)]
pub(crate) struct Guest {
    events: mpsc::Receiver<GuestEvent>,
    wanted: watch::Sender<Wanted>,
    opener: watch::Receiver<Option<Opener>>,
}

impl Guest {
    pub(crate) fn launch(paths: &EnginePaths, choice: &Choice) -> Self {
        let (tell, events) = mpsc::channel(64);
        let (wanted, wish) = watch::channel(Wanted::Run);
        let (opener, control) = (watch::Sender::new(None), watch::Sender::new(None));
        let guest = Self { events, wanted, opener: opener.subscribe() };
        let (paths, appliance) = (paths.clone(), choice.appliance.clone());
        tokio::spawn(Life { paths, appliance, pace: Pace::WSL, tell, wish, opener, control }.live());
        guest
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
        MachineEngine::new(self.opener.clone())
    }
}

impl Line for Session {
    fn channel(&self) -> Opening<'_> {
        Box::pin(async { Ok(Box::new(Session::channel(self).await) as Box<dyn Duplex>) })
    }
}

struct Life {
    paths: EnginePaths,
    appliance: Appliance,
    pace: Pace,
    tell: mpsc::Sender<GuestEvent>,
    wish: watch::Receiver<Wanted>,
    opener: watch::Sender<Option<Opener>>,
    control: watch::Sender<Option<ControlSender>>,
}

/// A program in a distribution, and what is heard of it.
struct Running {
    session: Arc<Session>,
    heard: mpsc::Receiver<Heard>,
}

impl Running {
    fn start(program: &Program, name: &str, words: &[&str]) -> Result<Self, berth_wsl::Error> {
        let (session, heard) = Session::start(program, name, words)?;
        Ok(Self { session: Arc::new(session), heard })
    }

    /// How it ended, or that it was ended because it does not.
    async fn gone(&mut self) -> Gone {
        let gone = timeout(END_PATIENCE, async {
            loop {
                match self.heard.recv().await {
                    Some(Heard::Line(_)) => {}
                    Some(Heard::Gone(gone)) => return gone,
                    None => return Gone::default(),
                }
            }
        });
        let gone = gone.await;
        self.session.kill();
        gone.unwrap_or_default()
    }
}

impl Life {
    async fn live(mut self) {
        if let Err(Failed { stage, cause, fix, log, outside }) = self.run().await {
            let _ = self.tell.send(GuestEvent::Failed { stage: stage.to_owned(), cause, fix, log, outside }).await;
        }
    }

    async fn run(&mut self) -> Result<(), Failed> {
        let preparing = |error: berth_wsl::Error| outside("preparing the distributions", &error);
        let program = Program::find(program().as_deref()).map_err(preparing)?;
        let distributions = Distributions::new(program.clone(), place(&self.paths));
        self.stage("distributions").await;
        if !self.ensure(&distributions).await.map_err(preparing)? {
            return Ok(());
        }
        self.stage("data").await;
        let shared = format!("{SHARED}/{}", distributions.place().data);
        let mut data = self.share(&program, &distributions.place().data, &shared).await?;
        self.stage("guest").await;
        let words = [GUEST, "wsl", "--stdio", "--data", &shared, "--cgroup", &self.paths.cgroup()];
        let system = Running::start(&program, &distributions.place().system, &words).map_err(preparing)?;
        let over = self.watch(&program, &distributions, system, &mut data).await;
        data.session.close();
        data.gone().await;
        over
    }

    /// Has both distributions; not when it is to stop before.
    async fn ensure(&mut self, distributions: &Distributions) -> Result<bool, berth_wsl::Error> {
        let archive = self.appliance.folder().join(ARCHIVE);
        let making = distributions.ensure(self.appliance.id().as_str(), &archive);
        let mut making = std::pin::pin!(making);
        let mut progress = interval(PROGRESS);
        let made = loop {
            tokio::select! {
                made = &mut making => break made?,
                _ = changed(&mut self.wish, Wanted::Run) => return Ok(false),
                _ = progress.tick() => drop(self.tell.send(GuestEvent::Progress).await),
            }
        };
        if made.system_was_gone {
            let name = &distributions.place().system;
            self.warn(format!(
                "the distribution `{name}` was unregistered by somebody; it was made again, and no data was in it"
            ))
            .await;
        }
        Ok(true)
    }

    /// Has the distribution with the data share its folder.
    async fn share(&self, program: &Program, name: &str, at: &str) -> Result<Running, Failed> {
        let mut data = Running::start(program, name, &[GUEST, "wsl-data", "--share", at])
            .map_err(|error| outside("sharing the data", &error))?;
        let mut channel = data.session.channel().await;
        let mut said = [0; WORD.len()];
        let shared = timeout(self.pace.stage, channel.read_exact(&mut said)).await;
        if matches!(shared, Ok(Ok(_))) && said == WORD {
            return Ok(data);
        }
        drop(channel);
        data.session.close();
        let gone = data.gone().await;
        Err(self.ended(program, name, gone, "sharing the data").await)
    }

    async fn watch(
        &mut self,
        program: &Program,
        distributions: &Distributions,
        mut system: Running,
        data: &mut Running,
    ) -> Result<(), Failed> {
        let link = Link {
            line: Arc::<Session>::clone(&system.session),
            protocol: self.appliance.manifest().agent_protocol,
            pace: self.pace,
            tell: self.tell.clone(),
            opener: self.opener.clone(),
            control: self.control.clone(),
        };
        let linked = AbortOnDrop(tokio::spawn(keep_link(link)));
        let over = self.follow(program, distributions, &mut system, data).await;
        drop(linked);
        self.opener.send_replace(None);
        self.control.send_replace(None);
        over
    }

    async fn follow(
        &mut self,
        program: &Program,
        distributions: &Distributions,
        system: &mut Running,
        data: &mut Running,
    ) -> Result<(), Failed> {
        let mut stopping = Wanted::Run;
        let mut lost = None;
        loop {
            tokio::select! {
                heard = system.heard.recv() => match heard {
                    Some(Heard::Line(line)) => self.line(&line).await,
                    Some(Heard::Gone(gone)) if stopping == Wanted::Run || lost.is_some() => {
                        let (name, gone) = lost.unwrap_or((&distributions.place().system, gone));
                        return Err(self.ended(program, name, gone, "running").await);
                    }
                    Some(Heard::Gone(_)) | None => return Ok(()),
                },
                heard = data.heard.recv(), if lost.is_none() => match heard {
                    Some(Heard::Line(line)) => tracing::info!(line, "the distribution with the data"),
                    gone => {
                        let gone = match gone {
                            Some(Heard::Gone(gone)) => gone,
                            _ => Gone::default(),
                        };
                        lost = Some((&distributions.place().data, gone));
                        // Its disk may be gone with it: there is nothing to be stopped in order.
                        tokio::spawn(end(self.ending(system, distributions), Wanted::Kill));
                    }
                },
                wanted = changed(&mut self.wish, stopping) => {
                    stopping = wanted;
                    tokio::spawn(end(self.ending(system, distributions), wanted));
                }
            }
        }
    }

    fn ending(&self, system: &Running, distributions: &Distributions) -> Ending {
        Ending {
            session: Arc::clone(&system.session),
            distributions: distributions.clone(),
            control: self.control.subscribe(),
            pace: self.pace,
        }
    }

    /// What the guest tells before it has an agent are events; else it is for the log.
    async fn line(&self, line: &str) {
        match serde_json::from_str::<GuestEvent>(line) {
            Ok(GuestEvent::Other) => {}
            Ok(event) => {
                tracing::info!(?event, "guest");
                let _ = self.tell.send(event).await;
            }
            Err(_) => tracing::info!(line, "guest"),
        }
    }

    /// Why a program ended that nobody asked to.
    async fn ended(&self, program: &Program, name: &str, gone: Gone, stage: &'static str) -> Failed {
        let Gone { code, tail: log } = gone;
        let is_there = program.names().await.map(|names| names.iter().any(|other| other.eq_ignore_ascii_case(name)));
        if let Ok(false) = is_there {
            let error = berth_wsl::Error::Vanished { name: name.to_owned() };
            return Failed { log, ..outside(stage, &error) };
        }
        let how = code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit code {code}"));
        let own = log.iter().rev().find_map(|line| line.strip_prefix("berth-guest: "));
        let cause = match own {
            Some(own) => format!("the distribution `{name}` ended ({how}): {own}"),
            None => format!(
                "the distribution `{name}` ended ({how}): somebody ended it, as `wsl --shutdown` and `wsl --terminate` do, or \
                 its machine died"
            ),
        };
        Failed { log, ..Failed::new(stage, cause) }
    }

    async fn stage(&self, name: &str) {
        let _ = self.tell.send(GuestEvent::Stage { name: name.to_owned() }).await;
    }

    async fn warn(&self, message: String) {
        let _ = self.tell.send(GuestEvent::Warning { message }).await;
    }
}

/// It has nothing to do with what was started.
fn outside(stage: &'static str, error: &berth_wsl::Error) -> Failed {
    Failed { outside: true, ..Failed::of(stage, error, error.fix()) }
}

struct Ending {
    session: Arc<Session>,
    distributions: Distributions,
    control: watch::Receiver<Option<ControlSender>>,
    pace: Pace,
}

/// Brings the guest to its end: in order if it can be had, and in any case.
async fn end(ending: Ending, wanted: Wanted) {
    let Ending { session, distributions, control, pace } = ending;
    if wanted == Wanted::Stop {
        let control = control.borrow().clone();
        if let Some(control) = control {
            match control.request(Request::Shutdown { grace_seconds: GRACE_SECONDS }, pace.answer).await {
                Ok(_) if timeout(pace.shutdown, session.ended()).await.is_ok() => return,
                Ok(_) => tracing::warn!("the guest does not get done with shutting down"),
                Err(error) => tracing::warn!(%error, "the guest does not shut down"),
            }
        }
        // The end of its input is the same order.
        session.close();
        if timeout(pace.meet, session.ended()).await.is_ok() {
            return;
        }
    }
    session.close();
    if let Err(error) = distributions.terminate().await {
        tracing::warn!(%error, "the distribution cannot be ended");
    }
    if timeout(END_PATIENCE, session.ended()).await.is_err() {
        session.kill();
    }
}
