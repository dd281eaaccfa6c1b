//! `berth engine reset`, `backup` and `restore`: what becomes of the data of an engine that does not run.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_vm::{Cancel, EnginePaths, LifeError, ResetScope};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Which, print};

const MIB: u64 = 1 << 20;
/// How often progress is told at most.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
const ANSWER_LIMIT: u64 = 64;

#[derive(Args, Debug)]
pub(crate) struct Reset {
    #[command(flatten)]
    which: Which,
    /// Forget what can be made again: logs, the last failure, the chosen accelerator, which system images were rolled back,
    /// the machine's memory and processors. Images, containers and volumes stay.
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    keep_data: bool,
    /// Remove everything: every image, container and volume too.
    #[arg(long)]
    all: bool,
    /// Do not ask before `--all`.
    #[arg(long, requires = "all")]
    yes: bool,
    /// Stop the engine first if it runs.
    #[arg(long)]
    stop: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// The file to write.
    file: PathBuf,
    #[command(flatten)]
    which: Which,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// A file that `berth engine backup` wrote.
    file: PathBuf,
    #[command(flatten)]
    which: Which,
    /// Replace the data that the engine has.
    #[arg(long)]
    force: bool,
}

pub(super) async fn reset(options: Reset) -> Result<ExitCode, LifeError> {
    let paths = options.which.paths()?;
    let scope = if options.all { ResetScope::All } else { ResetScope::KeepData };
    if options.all && !options.yes && !confirmed(&paths) {
        say("nothing was removed; `--yes` removes without asking");
        return Ok(ExitCode::FAILURE);
    }
    if options.stop && paths.data().exists() {
        let (_, notes) = berth_app::stop_engine(&paths).await?;
        print(&crate::context::told(&notes));
    }
    let report = tokio::task::spawn_blocking(move || berth_vm::reset(&paths, scope)).await.map_err(ended)??;
    for (name, bytes) in &report.removed {
        print(&format!("removed   {} ({bytes} bytes)\n", name.display()));
    }
    print(&format!("freed     {} bytes\n", report.bytes()));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn backup(options: Backup) -> Result<ExitCode, LifeError> {
    let paths = options.which.paths()?;
    let cancel = cancel_on_signals()?;
    let (file, force) = (options.file, options.force);
    let shown = file.display().to_string();
    let work = move || berth_vm::backup(&paths, &file, force, &cancel, progress("backup"));
    let report = tokio::task::spawn_blocking(work).await.map_err(ended)??;
    print(&format!("backup    {shown} ({} bytes)\nkept      {} bytes\n", report.file_bytes, report.kept_bytes));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn restore(options: Restore) -> Result<ExitCode, LifeError> {
    let paths = options.which.paths()?;
    let cancel = cancel_on_signals()?;
    let (file, force) = (options.file, options.force);
    let data = paths.data().display().to_string();
    let work = move || berth_vm::restore(&paths, &file, force, &cancel, progress("restore"));
    let report = tokio::task::spawn_blocking(work).await.map_err(ended)??;
    let what = match report.disk_bytes {
        Some(disk) => format!("{} bytes on a disk of {} GiB", report.written_bytes, disk.div_ceil(1 << 30)),
        None => format!("{} bytes in {} files and folders", report.written_bytes, report.entries),
    };
    print(&format!("restored  {data} ({what})\n"));
    Ok(ExitCode::SUCCESS)
}

/// Asks on a terminal; without one, nobody can say yes.
fn confirmed(paths: &EnginePaths) -> bool {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return false;
    }
    let data: &Path = paths.data();
    let _ = write!(
        std::io::stderr(),
        "Every image, container and volume in {} is removed for good. Type `yes` to go on: ",
        data.display()
    );
    let mut answer = String::new();
    stdin.lock().take(ANSWER_LIMIT).read_line(&mut answer).is_ok_and(|_| answer.trim() == "yes")
}

/// Ctrl-C, or being asked to end, leaves no half file behind.
fn cancel_on_signals() -> Result<Cancel, LifeError> {
    let cancel = Cancel::default();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let listening =
            signal(kind).map_err(|source| berth_vm::Error::System { what: "listening for signals", source });
        let mut signals = listening?;
        let cancel = cancel.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                cancel.cancel();
            }
        });
    }
    Ok(cancel)
}

/// One line that is written anew on a terminal; elsewhere nothing.
fn progress(what: &'static str) -> impl FnMut(u64, u64) {
    let is_shown = std::io::stderr().is_terminal();
    let mut told: Option<Instant> = None;
    move |done, of| {
        let is_due = done == of || told.is_none_or(|told| told.elapsed() >= PROGRESS_PAUSE);
        if is_shown && is_due {
            told = Some(Instant::now());
            let end = if done == of { "\n" } else { "" };
            let _ = write!(std::io::stderr(), "\r{what}    {} of {} MiB{end}", done / MIB, of / MIB);
        }
    }
}

fn ended(error: tokio::task::JoinError) -> LifeError {
    let source = std::io::Error::other(error);
    LifeError::Engine(berth_vm::Error::System { what: "the work ended early", source })
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "berth: {text}");
}
