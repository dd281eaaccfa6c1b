//! `berth engine`: the engine Berth brings.

mod life;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use berth_vm::{
    ControlClient, EnginePaths, EngineSettings, Error, LifeError, RunOptions, SettingsChange, Shares, State, Status,
};
use clap::{Args, Subcommand};

use crate::context;

/// `berth engine status` of an engine that is stopped.
const STOPPED: u8 = 3;

/// The engine Berth brings.
#[derive(Subcommand, Debug)]
pub(crate) enum Engine {
    /// Start the engine and wait until it answers.
    Start {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
        /// Try a new system image again that was rolled back. The engine must be stopped.
        #[arg(long)]
        retry_image: bool,
        /// Have the `docker` command use this engine until it is stopped, through a context.
        #[arg(long)]
        use_context: bool,
    },
    /// Stop the engine and every container in it. `docker` uses what it used before `--use-context` again.
    Stop(Which),
    /// Show whether it runs. Exit code 0: it answers, or would when it is asked; 3: it is stopped; 1: anything else.
    Status {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Have the engine's machine give back what it does not use: blocks of its disk, and memory.
    GiveBack(Which),
    /// Show what the engine's machine uses, as one JSON object.
    Metrics(Which),
    /// Print the path of its Docker socket.
    Socket(Which),
    /// Forget what can be made again, or everything. The engine must be stopped.
    Reset(life::Reset),
    /// Write the data of a stopped engine into one file.
    Backup(life::Backup),
    /// Bring back the data that `backup` wrote.
    Restore(life::Restore),
    /// Run it in this process, until it is told to stop.
    Run {
        #[command(flatten)]
        which: Which,
        /// Leave the terminal; `start` uses this.
        #[arg(long, hide = true)]
        detached: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Data folder; the user's own when left out.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// How it is run from this start on; what is left out stays as it was.
#[derive(Args, Debug)]
pub(crate) struct How {
    /// `native`: in namespaces of this kernel. `qemu`: in a virtual machine. `vz`: in one of macOS's. `wsl`: in a distribution, on Windows. A data folder
    /// keeps to the one it began with.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Memory of the machine.
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Processors of the machine.
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Size of the machine's data disk, which takes only the room that is used of it, and never gets smaller.
    #[arg(long, value_name = "GIB")]
    disk: Option<u64>,
    /// Time without use after which it is stopped until it is used again, such as `15m` or `never`. A running container,
    /// a swarm and an open connection are use.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    idle_stop: Option<u64>,
    /// A folder that the machine sees under its own path, besides your home; `:ro` behind it: only to be read. May be
    /// repeated, and takes the place of what was shared before. `none`: no home; `home`: your home alone.
    #[arg(long, value_name = "DIR[:ro]")]
    share: Vec<String>,
    /// Whether files that change here, in shared folders that containers have mounted, wake those in the containers who
    /// watch files.
    #[arg(long, value_name = "on|off", value_parser = on_or_off)]
    file_events: Option<bool>,
}

fn on_or_off(text: &str) -> Result<bool, OnOrOff> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(OnOrOff),
    }
}

/// What is neither.
#[derive(Debug)]
struct OnOrOff;

impl std::fmt::Display for OnOrOff {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("say `on` or `off`")
    }
}

impl std::error::Error for OnOrOff {}

/// The seconds of `90s`, `15m`, `2h`, of a number of minutes, or none of `never`.
fn seconds(text: &str) -> Result<u64, IdleTime> {
    if text == "never" {
        return Ok(0);
    }
    let (digits, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "s" => 1,
        "m" | "" => 60,
        "h" => 3600,
        _ => return Err(IdleTime),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(IdleTime)
}

/// What is no time.
#[derive(Debug)]
struct IdleTime;

impl std::fmt::Display for IdleTime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("say it like `90s`, `15m` or `2h`, or `never`")
    }
}

impl std::error::Error for IdleTime {}

impl How {
    fn change(&self) -> Result<SettingsChange, Error> {
        let backend = self.backend.as_deref().map(str::parse).transpose()?;
        let shares = (!self.share.is_empty()).then(|| Shares::parse(&self.share)).transpose()?;
        Ok(SettingsChange {
            backend,
            memory_mib: self.memory,
            cpus: self.cpus,
            disk_gib: self.disk,
            idle_seconds: self.idle_stop,
            shares,
            file_events: self.file_events,
        })
    }
}

impl Which {
    pub(crate) fn paths(self) -> Result<EnginePaths, Error> {
        EnginePaths::new(self.data)
    }
}

/// Does what was asked.
pub(crate) fn run(command: Engine) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&error),
    };
    let code = runtime.block_on(act(command)).unwrap_or_else(|error| crate::fail(&error));
    // A wait for a file lock may still block a thread; nothing depends on it any more.
    runtime.shutdown_background();
    code
}

async fn act(command: Engine) -> Result<ExitCode, LifeError> {
    match command {
        Engine::Start { which, how, retry_image, use_context } => {
            let paths = which.paths()?;
            if retry_image {
                berth_vm::retry_image(&paths)?;
            }
            let ran = berth_vm::status(&paths).await.is_usable();
            let before = EngineSettings::load(&paths)?;
            let settings = EngineSettings::change(&paths, how.change()?)?;
            match berth_app::start_engine(&paths, use_context).await {
                Ok((status, notes)) => {
                    // One that ran already has not seen the new size yet; a disk that has it stays as it is.
                    if let (Some(disk), true) = (how.disk, status.features.machine) {
                        ControlClient::connect(&paths).await?.grow(disk).await?;
                    }
                    print(&describe(&status));
                    // The disk grew at once.
                    if ran && settings != (EngineSettings { disk_gib: settings.disk_gib, ..before }) {
                        print("note      it ran already: what was changed holds from its next start on\n");
                    }
                    print(&context::told(&notes));
                }
                Err(Error::Failed(_)) => {
                    let _ = std::io::stderr().write_all(describe(&berth_vm::status(&paths).await).as_bytes());
                    return Ok(ExitCode::FAILURE);
                }
                Err(error) => return Err(error.into()),
            }
            Ok(ExitCode::SUCCESS)
        }
        Engine::Stop(which) => {
            let (status, notes) = berth_app::stop_engine(&which.paths()?).await?;
            print(&describe(&status));
            print(&context::told(&notes));
            Ok(ExitCode::SUCCESS)
        }
        Engine::Status { which, json } => {
            let status = berth_vm::status(&which.paths()?).await;
            if json {
                let text = serde_json::to_string_pretty(&status).map_err(|error| Error::Protocol(error.to_string()))?;
                print(&format!("{text}\n"));
            } else {
                print(&describe(&status));
            }
            Ok(code(&status))
        }
        Engine::GiveBack(which) => {
            let mut client = ControlClient::connect(&which.paths()?).await?;
            let disk = client.trim().await?;
            let memory = client.reclaim().await?;
            print(&format!("given back  {} MiB of disk, {} MiB of memory\n", disk >> 20, memory >> 20));
            Ok(ExitCode::SUCCESS)
        }
        Engine::Metrics(which) => {
            let metrics = ControlClient::connect(&which.paths()?).await?.metrics().await?;
            let text = serde_json::to_string_pretty(&metrics).map_err(|error| Error::Protocol(error.to_string()))?;
            print(&format!("{text}\n"));
            Ok(ExitCode::SUCCESS)
        }
        Engine::Socket(which) => {
            print(&format!("{}\n", which.paths()?.socket().display()));
            Ok(ExitCode::SUCCESS)
        }
        Engine::Reset(options) => life::reset(options).await,
        Engine::Backup(options) => life::backup(options).await,
        Engine::Restore(options) => life::restore(options).await,
        Engine::Run { which, detached } => {
            let paths = which.paths()?;
            let status = berth_vm::run(paths.clone(), RunOptions { detached }).await?;
            // For one that was started by `start`, whoever stops it does this.
            if !detached {
                print(&describe(&status));
                if status.state == State::Stopped {
                    print(&context::told(&berth_app::leave_context(&paths).await));
                }
            }
            Ok(if status.state == State::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

fn code(status: &Status) -> ExitCode {
    match status.state {
        State::Ready | State::Degraded | State::Asleep => ExitCode::SUCCESS,
        State::Stopped => ExitCode::from(STOPPED),
        _ => ExitCode::FAILURE,
    }
}

/// What a person wants to know, one thing a line.
fn describe(status: &Status) -> String {
    let mut lines = vec![format!("engine    {}", status.state.name())];
    if status.is_usable() {
        let version =
            |name: &str, version: &Option<String>| version.as_ref().map(|version| format!("{name} {version}"));
        let versions = &status.versions;
        let known = [
            version("docker", &versions.engine),
            version("containerd", &versions.containerd),
            version("runc", &versions.runc),
        ];
        lines.push(format!("versions  {}", known.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        lines.push(format!("socket    {}", status.socket.display()));
        lines.push(format!("data      {}", status.data.display()));
        if let Some(pid) = status.pid {
            lines.push(format!("process   {pid}"));
        }
        if let Some(accelerator) = &status.accelerator {
            lines.push(format!("machine   {}: {}", accelerator.name, accelerator.why));
        }
        if let Some(image) = &status.image {
            lines.push(format!("image     {}, linux {}", short(&image.id), image.kernel));
        }
        let stages: Vec<_> = status
            .stages
            .iter()
            .filter_map(|stage| Some(format!("{} {:.0} ms", stage.name, stage.milliseconds?)))
            .collect();
        lines.push(format!("start     {}", stages.join(", ")));
        lines.extend(shared(status));
        lines.extend(status.notes.iter().map(|note| format!("note      {note}")));
    }
    let starting = matches!(status.state, State::Preparing | State::Booting | State::Connecting);
    if let Some(image) = status.image.as_ref().filter(|image| image.trial && starting) {
        lines.push(format!("image     {} is new, and is tried", short(&image.id)));
    }
    if status.state == State::Asleep {
        lines.push("wakes     with the first request, or by `berth engine start`".to_owned());
        lines.push(format!("socket    {}", status.socket.display()));
    }
    lines.extend(status.warnings.iter().map(|warning| format!("warning   {warning}")));
    if let Some(failure) = &status.error {
        lines.push(format!("failed    while {}: {}", failure.stage, failure.cause));
        lines.push(format!("fix       {}", failure.fix));
        lines.extend(failure.log.iter().rev().take(20).rev().map(|line| format!("  {line}")));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// The folders a machine sees, and whether what changes in them is told inside.
fn shared(status: &Status) -> Vec<String> {
    let mode = |read_only| if read_only { " (only to be read)" } else { "" };
    let shares =
        status.shares.iter().map(|share| format!("shared    {}{}", share.path.display(), mode(share.read_only)));
    let mut lines: Vec<String> = shares.collect();
    if let Some(events) = &status.file_events {
        lines.push(match events.on {
            true => format!("events    files that change here wake watchers in containers: {} folders", events.folders),
            false => "events    files that change here wake no watchers in containers".to_owned(),
        });
        lines.extend(events.note.iter().map(|note| format!("note      {note}")));
    }
    lines
}

/// As much of a digest as people are shown.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A closed pipe is the reader's wish, not an error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use berth_vm::{Failure, FileEventsStatus, ImageStatus, Share, StageTime, State, Status};

    use super::describe;

    #[test]
    fn a_running_engine_is_shown_with_its_stages() {
        let stages = vec![StageTime { name: "booting".to_owned(), milliseconds: Some(123.4) }];
        let status = Status { state: State::Ready, stages, pid: Some(7), ..Status::default() };
        let text = describe(&status);
        assert!(text.contains("engine    ready") && text.contains("booting 123 ms"), "{text}");
    }

    #[test]
    fn an_image_is_shown_and_that_it_is_tried() {
        let image = ImageStatus { id: "a".repeat(64), kernel: "7.2".to_owned(), trial: true, ..ImageStatus::default() };
        let image = Some(image);
        let text = describe(&Status { state: State::Booting, image: image.clone(), ..Status::default() });
        assert!(text.contains("image     aaaaaaaaaaaa is new"), "{text}");
        let text = describe(&Status { state: State::Ready, image, ..Status::default() });
        assert!(text.contains("image     aaaaaaaaaaaa, linux 7.2") && !text.contains("new"), "{text}");
    }

    #[test]
    fn shared_folders_are_shown_and_who_hears_of_changes() {
        let share = |path: &str, read_only| Share { path: path.into(), read_only };
        let shares = vec![share("/home/me", false), share("/srv", true)];
        let note = Some("a limit is reached".to_owned());
        let file_events = Some(FileEventsStatus { on: true, folders: 7, note });
        let text = describe(&Status { state: State::Ready, shares, file_events, ..Status::default() });
        for line in [
            "shared    /home/me\n",
            "shared    /srv (only to be read)\n",
            "containers: 7 folders\n",
            "note      a limit",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let failure =
            Failure { stage: "booting".to_owned(), cause: "no".to_owned(), fix: "do".to_owned(), log: Vec::new() };
        let status = Status { state: State::Failed, error: Some(failure), ..Status::default() };
        let text = describe(&status);
        assert!(text.contains("while booting: no") && text.contains("fix       do"), "{text}");
    }
}
