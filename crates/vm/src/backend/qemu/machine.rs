//! A running machine: its process, its control connection, its console and its agent's port.

mod events;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::MachineSpec;
use super::command_line::{DATA_NODE, agent_socket, arguments, check};
use super::error::QemuError;
use super::process::{self, Held, Process};
use super::qmp::{Qmp, QmpError};
use crate::backend::machine::{DataDisk, LogFile, SharedTail};
use events::{Follower, Voice};

const CONSOLE_LINES: usize = 200;
const ERROR_LINES: usize = 50;
const CHANNEL_PAUSE: Duration = Duration::from_millis(10);

/// How long QEMU may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To be there and answer.
    pub(super) greeting: Duration,
    /// To do a command.
    pub(super) command: Duration,
    /// To flush its disks and end.
    pub(super) quit: Duration,
    /// To be gone when it was killed.
    pub(super) reap: Duration,
}

const PATIENCE: Patience = Patience {
    greeting: Duration::from_secs(20),
    command: Duration::from_secs(10),
    quit: Duration::from_secs(15),
    reap: Duration::from_secs(10),
};

/// What a machine tells. The channel ends after [`MachineEvent::Exited`].
#[derive(Clone, Debug)]
pub(crate) enum MachineEvent {
    /// A line of the console, without what a terminal would obey. Lines are left out when they are not taken fast
    /// enough; the console's file has them all.
    ConsoleLine(String),
    /// The console's first byte.
    KernelAlive,
    /// The guest opened or closed its agent's port: from `true` on, somebody reads what is sent.
    AgentPort(bool),
    /// It no longer runs, for QEMU's reason: `paused` (asked to), `io-error`, …
    Paused { reason: String },
    /// It runs again.
    Resumed,
    /// A disk could not be read or written. Without space on the host the machine is also paused, and goes on where
    /// it was by [`Machine::resume`].
    DiskError { reason: String, no_space: bool },
    /// The guest's kernel gave up.
    GuestPanicked,
    /// The accelerator gave up; the machine will never run again.
    InternalError,
    /// The guest reset the machine, which ends it.
    Reset,
    /// QEMU runs and no longer answers; all that is left is [`Machine::kill`].
    ControlLost { why: String },
    /// It is over.
    Exited(Exit),
}

/// Why a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitCause {
    /// The guest powered off.
    PoweredOff,
    /// The guest reset the machine.
    Reset,
    /// The guest's kernel gave up.
    Panicked,
    /// By [`Machine::quit`].
    Quit,
    /// By [`Machine::kill`].
    Killed,
    /// By itself, or by somebody else's signal.
    Failed,
}

/// How a machine ended.
#[derive(Clone, Debug)]
pub(crate) struct Exit {
    pub(crate) cause: ExitCause,
    /// None when somebody else reaped the process.
    pub(crate) status: Option<ExitStatus>,
    /// The last lines of the console.
    pub(crate) console_tail: Vec<String>,
    /// The last lines of QEMU's own errors.
    pub(crate) errors: Vec<String>,
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            ExitCause::PoweredOff => return formatter.write_str("the guest powered off"),
            ExitCause::Reset => return formatter.write_str("the guest reset the machine"),
            ExitCause::Panicked => {
                let panic = self.console_tail.iter().find(|line| line.contains("Kernel panic"));
                return write!(
                    formatter,
                    "the guest's kernel gave up: {}",
                    panic.map_or("it did not say why", String::as_str)
                );
            }
            ExitCause::Quit => return formatter.write_str("it was asked to"),
            ExitCause::Killed => formatter.write_str("it was killed")?,
            ExitCause::Failed => match self.status {
                Some(status) => write!(formatter, "it ended with {status}")?,
                None => formatter.write_str("it ended, and nobody knows how")?,
            },
        }
        match self.errors.iter().rfind(|line| !line.trim().is_empty()) {
            Some(line) => write!(formatter, ", saying: {line}"),
            None => Ok(()),
        }
    }
}

/// What is known of how it ends, before it does.
#[derive(Clone, Debug, Default)]
struct Flags(Arc<AtomicBool>);

/// A running machine; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Machine {
    process: Process,
    qmp: Qmp,
    agent: PathBuf,
    data_bytes: Mutex<u64>,
    pub(super) memory: Memory,
    killed: Flags,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    patience: Patience,
}

/// The guest's memory as QEMU has it.
#[derive(Debug)]
pub(super) struct Memory {
    /// All of it, in bytes.
    pub(super) whole: u64,
    /// What the balloon leaves the guest of it, about once a second while that changes.
    pub(super) told: watch::Receiver<u64>,
    /// Held by who has the balloon.
    pub(super) balloon: Mutex<()>,
}

/// A process whose outputs are heard, and that is not under control yet.
struct Spawned {
    process: Process,
    control: StdUnixStream,
    console: SharedTail,
    errors: SharedTail,
    hearing: [JoinHandle<()>; 2],
}

impl Machine {
    /// Starts a machine and returns when it runs and is under control. Its events are bounded and should be taken.
    ///
    /// # Errors
    ///
    /// Something of the spec cannot be used, the data disk is not ours to use, or QEMU does not run: then with its
    /// own words. Nothing is left of it.
    pub(crate) async fn launch(spec: &MachineSpec) -> Result<(Self, mpsc::Receiver<MachineEvent>), QemuError> {
        Self::launch_with(spec, PATIENCE).await
    }

    pub(super) async fn launch_with(
        spec: &MachineSpec,
        patience: Patience,
    ) -> Result<(Self, mpsc::Receiver<MachineEvent>), QemuError> {
        check(spec)?;
        check_runtime(&spec.runtime)?;
        let disk = DataDisk::open(&spec.data_disk, spec.data_disk_bytes).await?;
        let agent = agent_socket(&spec.runtime);
        // Whoever made it is gone: the disk, of which we are now the only user, was theirs.
        process::remove(&agent);
        let data_bytes = Mutex::new(disk.bytes);
        let held = Held { sockets: vec![agent.clone()], disk: Some(disk) };
        let (voice, events) = Voice::new();
        let Spawned { process, control, console, errors, hearing } = spawn(spec, held, &voice).await?;

        let mut ended = process.ended();
        let (exited, exit) = watch::channel(None);
        let killed = Flags::default();
        let whole = u64::from(spec.memory_mib) << 20;
        let (memory_bytes, told) = watch::channel(whole);
        let memory = Memory { whole, told, balloon: Mutex::default() };
        let follower = Follower {
            memory_bytes,
            voice,
            ended: process.ended(),
            console,
            errors,
            hearing,
            killed: killed.clone(),
            shutdown: None,
        };
        let taking_control = timeout(patience.greeting, take_control(control, patience.command));
        let controlled = tokio::select! {
            controlled = taking_control => controlled,
            // It may have said why before it ended.
            _ = ended.wait_for(Option::is_some) => Ok(Err(QmpError::Closed("QEMU ended".to_owned()))),
        };
        let (qmp, happened) = match controlled {
            Ok(Ok(controlled)) => controlled,
            failed => {
                let ended_by_itself = matches!(failed, Ok(Err(QmpError::Closed(_))))
                    && timeout(patience.reap, ended.wait_for(Option::is_some)).await.is_ok();
                if ended_by_itself {
                    return Err(QemuError::Ended(Box::new(follower.exit().await)));
                }
                process.kill();
                if timeout(patience.reap, ended.wait_for(Option::is_some)).await.is_err() {
                    return Err(QemuError::NotReaped { pid: process.pid() });
                }
                return Err(match failed {
                    Ok(Err(error)) => QemuError::Greeting(error),
                    _ => QemuError::Silent { seconds: patience.greeting.as_secs_f32() },
                });
            }
        };
        tokio::spawn(follower.follow(qmp.clone(), happened, exited, patience.command));
        let machine = Self { process, qmp, agent, data_bytes, memory, killed, exit, patience };
        if let Err(error) = machine.resume().await {
            // It may end by its first instruction, and says more of it than an unanswered command.
            let failed = matches!(error, QemuError::Qmp(QmpError::Closed(_)))
                && timeout(patience.reap, machine.wait()).await.is_ok();
            return Err(if failed { QemuError::Ended(Box::new(machine.wait().await)) } else { error });
        }
        Ok((machine, events))
    }

    /// The QEMU process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A connection to the guest's agent. QEMU serves one at a time: the next is served when the last is closed. What
    /// is sent before the guest has opened its port may be lost, and what the other side sent long ago may come first.
    ///
    /// # Errors
    ///
    /// The machine is gone, or the connections before this one are all still open.
    pub(crate) async fn channel(&self) -> Result<UnixStream, QemuError> {
        let connecting = async {
            loop {
                match UnixStream::connect(&self.agent).await {
                    // QEMU has not come to the one before, and a unix socket does not tell when there is room.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(CHANNEL_PAUSE).await,
                    connected => return connected,
                }
            }
        };
        let connected = timeout(self.patience.command, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| QemuError::Channel { path: self.agent.clone(), source })
    }

    /// Stops the guest's processors; its memory stays.
    ///
    /// # Errors
    ///
    /// QEMU does not answer or is gone.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the supervisor asks for it when an idle machine gives back what it has")
    )]
    pub(crate) async fn pause(&self) -> Result<(), QemuError> {
        self.command("stop", None).await.map(drop)
    }

    /// Lets the guest go on.
    ///
    /// # Errors
    ///
    /// QEMU does not answer, is gone, or cannot go on after an internal error.
    pub(crate) async fn resume(&self) -> Result<(), QemuError> {
        self.command("cont", None).await.map(drop)
    }

    /// What the machine does, in QEMU's words: `running`, `paused`, `io-error`, `internal-error`, …
    ///
    /// # Errors
    ///
    /// QEMU does not answer or is gone.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the supervisor asks for it when an idle machine gives back what it has")
    )]
    pub(crate) async fn run_state(&self) -> Result<String, QemuError> {
        let status = self.command("query-status", None).await?;
        Ok(status.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned())
    }

    /// Asks the guest to make do with so much memory.
    ///
    /// # Errors
    ///
    /// QEMU does not answer or is gone.
    pub(super) async fn balloon(&self, bytes: u64) -> Result<(), QemuError> {
        self.command("balloon", Some(json!({ "value": bytes }))).await.map(drop)
    }

    /// Makes the data disk larger; the guest's file system grows only when the guest is asked to.
    ///
    /// # Errors
    ///
    /// It would become smaller, the host has no space, or QEMU does not answer.
    pub(crate) async fn disk_resize(&self, bytes: u64) -> Result<(), QemuError> {
        // Held over the command: of two at once QEMU may do the smaller last, which would cut the disk.
        let mut present = self.data_bytes.lock().await;
        if bytes < *present {
            return Err(QemuError::WouldShrink { bytes: *present, asked: bytes });
        }
        // A command without an answer may have been done.
        let before = std::mem::replace(&mut *present, bytes);
        let done = self.command("block_resize", Some(json!({ "node-name": DATA_NODE, "size": bytes }))).await;
        if matches!(done, Err(QemuError::Qmp(QmpError::Refused { .. }))) {
            *present = before;
        }
        done.map(drop)
    }

    /// Ends QEMU, which writes back what its disks still hold; kills it when that takes too long. The guest is not
    /// asked: it should have shut down before.
    ///
    /// # Errors
    ///
    /// Even killed it does not end.
    pub(crate) async fn quit(&self) -> Result<Exit, QemuError> {
        let asked = self.qmp.execute("quit", None, self.patience.quit);
        let mut exit = self.exit.clone();
        let over = async {
            if !matches!(asked.await, Ok(_) | Err(QmpError::Closed(_))) {
                return None;
            }
            exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone())
        };
        match timeout(self.patience.quit, over).await {
            Ok(Some(exit)) => Ok(exit),
            _ => self.kill().await,
        }
    }

    /// Kills QEMU, as a power cut would. May be repeated.
    ///
    /// # Errors
    ///
    /// The kernel does not let it go: its files are on a disk that does not answer.
    pub(crate) async fn kill(&self) -> Result<Exit, QemuError> {
        if self.exit.borrow().is_none() {
            self.killed.set();
            self.process.kill();
        }
        match timeout(self.patience.reap, self.wait()).await {
            Ok(exit) => Ok(exit),
            Err(_) => Err(QemuError::NotReaped { pid: self.pid() }),
        }
    }

    /// Waits until it is over.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let over = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        // Whoever was to tell ends only together with the runtime.
        over.unwrap_or(Exit { cause: ExitCause::Failed, status: None, console_tail: Vec::new(), errors: Vec::new() })
    }

    async fn command(&self, command: &'static str, arguments: Option<Value>) -> Result<Value, QemuError> {
        Ok(self.qmp.execute(command, arguments, self.patience.command).await?)
    }
}

impl Flags {
    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Who may open the agent's socket is root in the guest.
fn check_runtime(runtime: &Path) -> Result<(), QemuError> {
    let metadata = runtime.metadata().map_err(QemuError::file("look at", runtime))?;
    if !metadata.is_dir() || metadata.permissions().mode() & 0o077 != 0 {
        return Err(QemuError::BadPath { path: runtime.to_path_buf(), why: "it is no folder of its owner alone" });
    }
    Ok(())
}

async fn spawn(spec: &MachineSpec, held: Held, voice: &Voice) -> Result<Spawned, QemuError> {
    let program = &spec.program.path;
    let spawn_error = |source| QemuError::Spawn { path: program.clone(), source };
    let log = LogFile::create(&spec.console).await.map_err(QemuError::file("write", &spec.console))?;
    let (control, their_control) = StdUnixStream::pair().map_err(spawn_error)?;
    let (output, their_output) = StdUnixStream::pair().map_err(spawn_error)?;
    let output = output.set_nonblocking(true).and_then(|()| UnixStream::from_std(output)).map_err(spawn_error)?;
    let mut command = Command::new(program);
    command
        .args(arguments(spec))
        .stdin(OwnedFd::from(their_control))
        .stdout(OwnedFd::from(their_output))
        .stderr(Stdio::piped());
    let (process, stderr) = Process::spawn(command, held).await.map_err(spawn_error)?;
    let (console, errors) = (SharedTail::new(CONSOLE_LINES), SharedTail::new(ERROR_LINES));
    let hearing = [
        tokio::spawn({
            let (console, voice) = (console.clone(), voice.clone());
            async move { console.follow(output, Some(log), |told| voice.console(told)).await }
        }),
        tokio::spawn(hear_errors(stderr, errors.clone())),
    ];
    Ok(Spawned { process, control, console, errors, hearing })
}

async fn hear_errors(stderr: Option<ChildStderr>, errors: SharedTail) {
    let Some(stderr) = stderr else { return };
    match tokio::process::ChildStderr::from_std(stderr) {
        Ok(stderr) => errors.follow(stderr, None, |told| tracing::info!(?told, "QEMU")).await,
        Err(error) => tracing::warn!(%error, "QEMU's errors cannot be heard"),
    }
}

async fn take_control(
    control: StdUnixStream,
    patience: Duration,
) -> Result<(Qmp, mpsc::Receiver<super::qmp::Event>), QmpError> {
    let stream = control.set_nonblocking(true).and_then(|()| UnixStream::from_std(control));
    let stream = stream.map_err(|error| QmpError::Closed(error.to_string()))?;
    Qmp::connect(stream, patience).await
}
