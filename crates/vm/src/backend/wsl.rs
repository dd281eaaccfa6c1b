//! Runs the appliance in a distribution of the Windows Subsystem for Linux, whose data is on the disk of another one.
//!
//! The order of a start: both distributions are there ([`berth_wsl::Distributions::ensure`]); the one with the data shares
//! its folder, and goes on for as long as the other does; the other runs the guest, whose standard input and output carry
//! the mux. Never run on Windows: everything but `wsl.exe` itself is what runs elsewhere, and that is a fake in tests.

mod system;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_wsl::{Distributions, Gone, Heard, Place, Program, Session};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use super::machine::{Ending, Failed, Guest, Reins, Wanted, changed, end, present};
use super::{GuestEvent, Pace};
use crate::appliance::Appliance;
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::slots::Choice;
pub(crate) use system::WslError;
use system::{END_PATIENCE, System};

/// Names a program to be taken for `wsl.exe`, for who tests or develops this.
const PROGRAM: &str = "BERTH_WSL";
/// The guest, in both distributions.
const GUEST: &str = "/usr/sbin/berth-guest";
/// What the appliance has for `wsl --import`.
const ARCHIVE: &str = "os.tar";
/// What a user's distributions share.
const SHARED: &str = "/mnt/wsl";
const WORD: &[u8] = b"shared\n";
/// `wsl.exe` tells nothing of an import but its end.
const PROGRESS: Duration = Duration::from_secs(5);

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
pub(crate) fn launch(paths: &EnginePaths, choice: &Choice) -> Guest {
    // Whose size nobody asks for.
    let (guest, reins) = Guest::new(paths.distributions_folder());
    let (paths, appliance) = (paths.clone(), choice.appliance.clone());
    tokio::spawn(Life { paths, appliance, pace: Pace::WSL, reins }.live());
    guest
}

struct Life {
    paths: EnginePaths,
    appliance: Appliance,
    pace: Pace,
    reins: Reins,
}

/// A program in a distribution, and what is heard of it.
struct Running {
    session: Session,
    heard: mpsc::Receiver<Heard>,
}

impl Running {
    fn start(program: &Program, name: &str, words: &[&str]) -> Result<Self, berth_wsl::Error> {
        let (session, heard) = Session::start(program, name, words)?;
        Ok(Self { session, heard })
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
    async fn live(self) {
        if let Err(failed) = self.run().await {
            self.reins.failed(failed).await;
        }
    }

    async fn run(&self) -> Result<(), Failed> {
        let preparing = |error: berth_wsl::Error| outside("preparing the distributions", &error);
        let program = Program::find(program().as_deref()).map_err(preparing)?;
        let distributions = Distributions::new(program.clone(), place(&self.paths));
        self.reins.stage("distributions").await;
        if !self.ensure(&distributions).await.map_err(preparing)? {
            return Ok(());
        }
        self.reins.stage("data").await;
        let shared = format!("{SHARED}/{}", distributions.place().data);
        let mut data = self.share(&program, &distributions.place().data, &shared).await?;
        self.reins.stage("guest").await;
        let words = [GUEST, "wsl", "--stdio", "--data", &shared, "--cgroup", &self.paths.cgroup()];
        let system = Running::start(&program, &distributions.place().system, &words).map_err(preparing)?;
        let over = self.watch(&program, &distributions, system, &mut data).await;
        data.session.close();
        data.gone().await;
        over
    }

    /// Has both distributions; not when it is to stop before.
    async fn ensure(&self, distributions: &Distributions) -> Result<bool, berth_wsl::Error> {
        let archive = self.appliance.folder().join(ARCHIVE);
        let making = distributions.ensure(self.appliance.id().as_str(), &archive);
        let mut making = std::pin::pin!(making);
        let mut progress = interval(PROGRESS);
        let mut wish = self.reins.wish.clone();
        let made = loop {
            tokio::select! {
                made = &mut making => break made?,
                _ = changed(&mut wish, Wanted::Run) => return Ok(false),
                _ = progress.tick() => self.reins.progress().await,
            }
        };
        if made.system_was_gone {
            let name = &distributions.place().system;
            let message = format!(
                "the distribution `{name}` was unregistered by somebody; it was made again, and no data was in it"
            );
            let _ = self.reins.tell.send(GuestEvent::Warning { message }).await;
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

    /// Holds sessions with the guest for as long as it runs.
    async fn watch(
        &self,
        program: &Program,
        distributions: &Distributions,
        running: Running,
        data: &mut Running,
    ) -> Result<(), Failed> {
        let Running { session, heard } = running;
        let system = Arc::new(System::new(session, distributions.clone(), self.pace));
        let protocol = self.appliance.manifest().agent_protocol;
        let linked = self.reins.link(Arc::<System>::clone(&system), protocol, self.pace, None);
        let over = self.follow(program, &system, heard, data).await;
        self.reins.unlink(linked);
        over
    }

    async fn follow(
        &self,
        program: &Program,
        system: &Arc<System>,
        mut heard: mpsc::Receiver<Heard>,
        data: &mut Running,
    ) -> Result<(), Failed> {
        let Place { system: system_name, data: data_name, .. } = system.place();
        let (mut wish, mut control) = (self.reins.wish.clone(), self.reins.control.subscribe());
        let mut stopping = Wanted::Run;
        let mut met = false;
        let mut lost = None;
        loop {
            tokio::select! {
                heard = heard.recv() => match heard {
                    Some(Heard::Line(line)) => self.line(&line).await,
                    Some(Heard::Gone(gone)) if stopping == Wanted::Run || lost.is_some() => {
                        let (name, gone) = lost.unwrap_or((system_name, gone));
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
                        lost = Some((data_name, gone));
                        // Its disk may be gone with it: there is nothing to be stopped in order.
                        tokio::spawn(end(self.ending(system, met), Wanted::Kill));
                    }
                },
                wanted = changed(&mut wish, stopping) => {
                    stopping = wanted;
                    tokio::spawn(end(self.ending(system, met), wanted));
                }
                () = present(&mut control), if !met => met = true,
            }
        }
    }

    fn ending(&self, system: &Arc<System>, met: bool) -> Ending {
        let (machine, control) = (Arc::<System>::clone(system), self.reins.control.subscribe());
        Ending { machine, control, pace: self.pace, met, fresh: false }
    }

    /// What the guest tells before it has an agent are events; else it is for the log.
    async fn line(&self, line: &str) {
        match serde_json::from_str::<GuestEvent>(line) {
            Ok(GuestEvent::Other) => {}
            Ok(event) => {
                tracing::info!(?event, "guest");
                let _ = self.reins.tell.send(event).await;
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
}

/// It has nothing to do with what was started.
fn outside(stage: &'static str, error: &berth_wsl::Error) -> Failed {
    Failed { outside: true, ..Failed::of(stage, error, error.fix()) }
}
