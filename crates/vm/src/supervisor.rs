//! `berth engine run`: one process that owns the engine of one data folder from its start to its end.

mod engine;
mod journal;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::appliance::Appliance;
use crate::backend::rootless::{self, Delegated};
use crate::backend::{Backend, EngineSettings, Identities, Tools, Upkeep};
use crate::control::{ControlServer, Subject};
use crate::error::Error;
use crate::lock::EngineLock;
use crate::paths::EnginePaths;
use crate::ports;
use crate::slots::Slots;
use crate::socket::{Activity, EngineSocket, Gate, OpenFiles, Settings};
use crate::status::{Failure, State, Status};
use journal::Journal;
pub(crate) use journal::{forget_state, read_state};

/// How a supervisor is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Started by [`crate::launch::start`]: leave the terminal, and say on stdout when the control socket is there.
    pub detached: bool,
}

/// What a detached supervisor says when it can be asked.
pub(crate) const LISTENING: &str = "listening\n";

/// Runs the engine until it is asked to stop: over the control socket, or by SIGTERM or SIGINT.
///
/// # Errors
///
/// What it needs is missing, another supervisor holds the data folder, or the engine failed: the status it told last says why.
pub async fn run(paths: EnginePaths, options: RunOptions) -> Result<Status, Error> {
    if options.detached {
        // Fails only when it leads a session already, which is what is wanted.
        let _ = nix::unistd::setsid();
    }
    let settings = EngineSettings::load(&paths)?;
    settings.backend.check_system()?;
    let identities = if settings.backend == Backend::Native { rootless::check(&paths)? } else { None };
    paths.create_data()?;
    let lock = EngineLock::take(&paths)?;
    crate::life::refuse_half_reset(&paths)?;
    if crate::life::finish_restore(&paths)? {
        tracing::info!("a restore that was cut off was finished");
    }
    let open_files = OpenFiles::raise();
    paths.create_runtime()?;
    // From the first moment a request waits for the engine instead of failing.
    let gate = watch::Sender::new(Gate::Starting { stage: State::Preparing.name().to_owned() });
    let socket = EngineSocket::bind(paths.socket()).await?.serve(gate.subscribe(), Settings::default())?;
    let watching = EngineSocket::bind(&paths.watch_socket()).await?.serve(gate.subscribe(), Settings::default())?;

    let journal = Journal::new(&paths);
    // Before anybody can ask: `Stopped` would be taken for the end.
    journal.enter(State::Preparing);
    let (stop, stopping) = watch::channel(false);
    let upkeep = watch::Sender::new(None);
    let wake = Arc::new(Notify::new());
    let subject = Subject {
        status: journal.subscribe(),
        stop: stop.clone(),
        upkeep: upkeep.subscribe(),
        activity: socket.activity(),
        wake: Arc::clone(&wake),
    };
    let control = ControlServer::start(&paths.control_socket(), subject)?;
    stop_on_signals(&stop)?;
    if options.detached {
        let mut stdout = std::io::stdout();
        // Whoever started this may be gone; the engine is then for others.
        let _ = stdout.write_all(LISTENING.as_bytes()).and_then(|()| stdout.flush());
    }

    let surroundings = Surroundings { identities, open_files, stopping, upkeep, activity: socket.activity(), wake };
    let outcome = prepare_and_run(&paths, settings, &journal, &gate, surroundings).await;
    let stopped = || Gate::Closed { message: "the engine was stopped; start it with `berth engine start`".to_owned() };
    gate.send_replace(outcome.as_ref().err().map_or_else(stopped, Gate::failed));
    tokio::join!(socket.close(), watching.close());
    paths.remove_runtime();
    // Before the last word: whoever hears it may start the engine again at once.
    drop(lock);
    match outcome {
        Ok(()) => {
            journal.enter(State::Stopped);
        }
        Err(failure) => journal.fail(failure),
    }
    control.finish().await;
    Ok(journal.now())
}

/// What an engine hears from around it, and tells.
struct Surroundings {
    /// Of an engine without root.
    identities: Option<Identities>,
    open_files: OpenFiles,
    stopping: watch::Receiver<bool>,
    upkeep: watch::Sender<Option<Upkeep>>,
    activity: watch::Receiver<Activity>,
    wake: Arc<Notify>,
}

async fn prepare_and_run(
    paths: &EnginePaths,
    settings: EngineSettings,
    journal: &Journal,
    gate: &watch::Sender<Gate>,
    surroundings: Surroundings,
) -> Result<(), Failure> {
    let Surroundings { identities, open_files, stopping, upkeep, activity, wake } = surroundings;
    let listener = ports::bind(&paths.ports_socket()).map_err(|error| unprepared(&error))?;
    let mut notes = Vec::new();
    // Put back when the engine has ended.
    let mut delegated = None;
    let identities = match identities {
        Some(identities) => {
            notes = rootless::probe(paths, &identities).await.map_err(|error| unprepared(&error))?;
            let taken = Delegated::take(paths);
            notes.extend(rootless::limits(taken.as_ref()));
            delegated = taken.ok();
            Some(match &delegated {
                Some(cgroup) => identities.with_cgroup(cgroup.engine()),
                None => identities,
            })
        }
        None => None,
    };
    journal.change(|status| {
        status.features = settings.backend.features();
        status.notes = notes;
        status.backend.replace(settings.backend) != Some(settings.backend)
    });
    let idle_after = settings.idle();
    let given = engine::Given {
        images: engine::Images::new(Slots::open(paths, settings.backend.features().machine, Appliance::find())),
        settings,
        identities,
        listener: Arc::new(listener),
        open_files,
        tools: Tools::default(),
        activity,
        idle_after,
        wake,
    };
    let outcome = engine::Engine::new(paths, journal, gate, given, stopping, upkeep).run().await;
    drop(delegated);
    outcome
}

fn unprepared(error: &Error) -> Failure {
    let fix = match error {
        Error::Rootless(missing) => missing.fix(),
        error => error.fix().to_owned(),
    };
    let text = error.to_string();
    let cause = text.strip_suffix(&format!("; {fix}")).unwrap_or(&text).to_owned();
    Failure { stage: State::Preparing.name().to_owned(), cause, fix, log: Vec::new() }
}

fn stop_on_signals(stop: &watch::Sender<bool>) -> Result<(), Error> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(Error::system("listening for signals"))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                stop.send_replace(true);
            }
        });
    }
    // A terminal that is closed is no reason to stop containers.
    let mut hangups = signal(SignalKind::hangup()).map_err(Error::system("listening for signals"))?;
    tokio::spawn(async move { while hangups.recv().await.is_some() {} });
    Ok(())
}
