//! Starting, stopping and asking for the engine, for everyone who is not its supervisor.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::backend::{Backend, EngineSettings, rootless};
use crate::control::ControlClient;
use crate::error::Error;
use crate::lock::{EngineLock, guest_lives, wait_for_guest};
use crate::paths::EnginePaths;
use crate::program::find_next_to;
use crate::status::{State, Status};
use crate::supervisor::{LISTENING, forget_state, read_state};

/// Longer than every stage's deadline together, of a machine that is emulated: the supervisor gives up first, and says
/// why.
const START_PATIENCE: Duration = Duration::from_secs(1200);
const STOP_PATIENCE: Duration = Duration::from_secs(400);
const LISTEN_PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
const LOG_LIMIT: u64 = 4 << 20;
const TRIES: u32 = 5;
/// For a process that is being killed to be gone.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(50);

/// Starts the engine unless it runs, and returns when it takes requests.
///
/// The supervisor outlives the caller.
///
/// # Errors
///
/// The engine failed to start ([`Error::Failed`]), this user may not start it, a program is missing, or its
/// supervisor does not answer.
pub async fn start(paths: &EnginePaths) -> Result<Status, Error> {
    match timeout(START_PATIENCE, find_or_spawn(paths)).await {
        Ok(result) => result,
        Err(_) => {
            Err(Error::NotAnswering { pid: status(paths).await.pid, why: "it is starting for minutes".to_owned() })
        }
    }
}

async fn find_or_spawn(paths: &EnginePaths) -> Result<Status, Error> {
    let mut last = None;
    for _ in 0..TRIES {
        match ControlClient::connect(paths).await {
            Ok(mut client) => {
                let woken = client.wake().await;
                let watched = match woken {
                    Ok(_) => client.watch().await,
                    Err(error) => Err(error),
                };
                let mut statuses = match watched {
                    Ok(statuses) => statuses,
                    // It was killed just now.
                    Err(Error::HungUp) => {
                        tokio::time::sleep(HUNG_UP_PAUSE).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let mut starting = false;
                while let Some(status) = statuses.recv().await {
                    match status.state {
                        _ if status.is_usable() => return Ok(status),
                        State::Failed => return Err(Error::Failed(Box::new(status.error.unwrap_or_default()))),
                        State::Stopping | State::Stopped if starting => return Err(Error::StoppedMeanwhile),
                        // On its way out before we came.
                        State::Stopping | State::Stopped => {}
                        _ => starting = true,
                    }
                }
                // It was on its way out, or was killed: the next round starts a new one.
            }
            Err(error) if is_absent(&error) => match spawn(paths).await {
                Ok(()) => {}
                // Somebody else starts it at this moment.
                Err(error @ Error::SupervisorEnded { .. }) => last = Some(error),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::NotAnswering { pid: None, why: "it ends again and again".to_owned() }))
}

/// Stops the engine, with its containers, and returns when nothing of it is left. It need not run.
///
/// # Errors
///
/// Its supervisor does not answer, or does not stop.
pub async fn stop(paths: &EnginePaths) -> Result<Status, Error> {
    let stopped = timeout(STOP_PATIENCE, async {
        match ControlClient::connect(paths).await {
            Ok(client) => match client.stop().await {
                // Killed before it was done: what it left is waited for below.
                Err(Error::HungUp) => Ok(None),
                stopped => stopped.map(Some),
            },
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let stopped = match stopped.await {
        Ok(result) => result?,
        Err(_) => return Err(Error::NotAnswering { pid: status(paths).await.pid, why: "it does not stop".to_owned() }),
    };
    if let Some(status) = stopped {
        return Ok(status);
    }
    // A supervisor that was killed leaves a guest that shuts down by itself, and its sockets.
    if guest_lives(paths) {
        let of = paths.clone();
        let waiting = tokio::task::spawn_blocking(move || wait_for_guest(&of));
        if timeout(STOP_PATIENCE, waiting).await.is_err() {
            return Err(Error::NotAnswering { pid: None, why: "what it left behind does not stop".to_owned() });
        }
    }
    if paths.data().exists()
        && let Ok(_lock) = EngineLock::take(paths)
    {
        paths.remove_runtime();
        // Stopping on purpose is the answer to a failure.
        forget_state(paths);
    }
    Ok(status(paths).await)
}

/// What the engine is doing. When nobody runs it: stopped, or failed if that is how its last start ended.
pub async fn status(paths: &EnginePaths) -> Status {
    let asked = timeout(ANSWER_PATIENCE, async {
        let mut client = ControlClient::connect(paths).await?;
        client.status().await
    });
    let asked = asked.await;
    if let Ok(Ok(status)) = asked {
        return status;
    }
    let forbidden = matches!(asked, Ok(Err(Error::NeedsRoot)));
    let kept = read_state(paths).unwrap_or_default();
    let state = match kept.state {
        _ if guest_lives(paths) => State::Stopping,
        State::Failed => State::Failed,
        _ => State::Stopped,
    };
    Status {
        state,
        pid: None,
        socket: paths.socket().to_path_buf(),
        data: paths.data().to_path_buf(),
        warnings: forbidden.then(|| Error::NeedsRoot.to_string()).into_iter().collect(),
        // They were about one that ran.
        notes: Vec::new(),
        ..kept
    }
}

/// Whether the error means that nobody listens, or nobody any more: one that is killed resets who was about to be let in.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::File { source, .. }
        if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset))
}

/// Starts a supervisor and returns when it can be asked.
async fn spawn(paths: &EnginePaths) -> Result<(), Error> {
    let backend = EngineSettings::load(paths)?.backend;
    backend.check_system()?;
    if backend == Backend::Native {
        rootless::check(paths)?;
    }
    paths.create_data()?;
    let log_path = paths.supervisor_log();
    if log_path.metadata().is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
        let _ = fs::rename(&log_path, log_path.with_extension("log.1"));
    }
    let mut options = OpenOptions::new();
    let log = options.create(true).append(true).open(&log_path).map_err(Error::file("open", &log_path))?;
    let begin = log.metadata().map_or(0, |metadata| metadata.len());
    let mut command = Command::new(program()?);
    command
        .args(["engine", "run", "--detached", "--data"])
        .arg(paths.data())
        .current_dir("/")
        // Ctrl-C at a terminal is meant for the caller alone.
        .process_group(0)
        // Its standard error is a file.
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log));
    if std::env::var_os("BERTH_LOG").is_none() {
        command.env("BERTH_LOG", "info");
    }
    let mut child = command.spawn().map_err(Error::system("starting the engine's supervisor"))?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout).take(64);
        let heard = timeout(LISTEN_PATIENCE, stdout.read_line(&mut said)).await;
        if heard.is_err() {
            return Err(Error::NotAnswering { pid: child.id(), why: "it does not open its control socket".to_owned() });
        }
    }
    if said == LISTENING {
        return Ok(());
    }
    let text = fs::read(&log_path).unwrap_or_default();
    let text = text.get(usize::try_from(begin).unwrap_or(0)..).unwrap_or_default();
    let log = String::from_utf8_lossy(text).lines().map(str::to_owned).collect();
    Err(Error::SupervisorEnded { log })
}

/// This program if it is `berth`, else the `berth` next to it: the desktop's program starts engines too.
fn program() -> Result<PathBuf, Error> {
    let this = std::env::current_exe().map_err(Error::system("finding this program"))?;
    if this.file_name() == Some(OsStr::new("berth")) { Ok(this) } else { find_next_to("berth") }
}
