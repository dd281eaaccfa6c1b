//! From what QEMU, the console and the process tell to the machine's events and its end.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Exit, ExitCause, Flags, MachineEvent};
use crate::backend::machine::{SharedTail, Told};
use crate::backend::qemu::command_line::AGENT_DEVICE;
use crate::backend::qemu::process::Ended;
use crate::backend::qemu::qmp::{Event, Qmp};

const EVENTS: usize = 256;
/// What console lines leave free for the rest, which is rare and matters.
const RESERVED: usize = 64;
/// A dying process closes its control connection before it is gone.
const DYING_PATIENCE: Duration = Duration::from_secs(3);
/// What was said before the end is still in the pipes, unless others hold them.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);

/// The events' sending side, which never waits for a supervisor that is busy.
#[derive(Clone, Debug)]
pub(super) struct Voice(mpsc::Sender<MachineEvent>);

impl Voice {
    pub(super) fn new() -> (Self, mpsc::Receiver<MachineEvent>) {
        let (sender, receiver) = mpsc::channel(EVENTS);
        (Self(sender), receiver)
    }

    pub(super) fn console(&self, told: Told) {
        match told {
            Told::FirstByte => self.say(MachineEvent::KernelAlive),
            Told::Line(line) if self.0.capacity() > RESERVED => self.say(MachineEvent::ConsoleLine(line)),
            Told::Line(_) => {}
        }
    }

    fn say(&self, event: MachineEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.0.try_send(event) {
            tracing::warn!(?event, "the machine's events are not taken, and this one is lost");
        }
    }
}

pub(super) struct Follower {
    pub(super) voice: Voice,
    pub(super) ended: watch::Receiver<Option<Ended>>,
    pub(super) console: SharedTail,
    pub(super) errors: SharedTail,
    /// The tasks that hear the two.
    pub(super) hearing: [JoinHandle<()>; 2],
    pub(super) killed: Flags,
    /// How much memory the guest has, when that changes.
    pub(super) memory_bytes: watch::Sender<u64>,
    /// QEMU's reason for ending, when it gave one.
    pub(super) shutdown: Option<String>,
}

impl Follower {
    /// Tells everything until the end, and the end last.
    pub(super) async fn follow(
        mut self,
        qmp: Qmp,
        mut happened: mpsc::Receiver<Event>,
        exited: watch::Sender<Option<Exit>>,
        patience: Duration,
    ) {
        let mut panic_told = false;
        while let Some(event) = happened.recv().await {
            panic_told |= event.name == "GUEST_PANICKED";
            self.translate(event, &qmp, patience).await;
        }
        let mut ended = self.ended.clone();
        if timeout(DYING_PATIENCE, ended.wait_for(Option::is_some)).await.is_err() {
            let why = qmp.ended().unwrap_or_default();
            tracing::error!(why, "QEMU runs and no longer answers");
            self.voice.say(MachineEvent::ControlLost { why });
            let _ = ended.wait_for(Option::is_some).await;
        }
        let voice = self.voice.clone();
        let exit = self.exit().await;
        match exit.cause {
            ExitCause::Panicked if !panic_told => voice.say(MachineEvent::GuestPanicked),
            ExitCause::Reset => voice.say(MachineEvent::Reset),
            _ => {}
        }
        tracing::info!(%exit, "the machine ended");
        exited.send_replace(Some(exit.clone()));
        // The last word waits for its place: it must not be lost.
        let _ = voice.0.send(MachineEvent::Exited(exit)).await;
    }

    async fn translate(&mut self, event: Event, qmp: &Qmp, patience: Duration) {
        let Event { name, data } = event;
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |key: &str| data.get(key).and_then(Value::as_bool).unwrap_or_default();
        match name.as_str() {
            "STOP" => {
                // The event does not say why.
                let status = qmp.execute("query-status", None, patience).await.unwrap_or_default();
                match status.get("status").and_then(Value::as_str) {
                    Some("internal-error") => self.voice.say(MachineEvent::InternalError),
                    // It was only a moment.
                    Some("running") => {}
                    reason => {
                        let reason = reason.unwrap_or("unknown").to_owned();
                        self.voice.say(MachineEvent::Paused { reason });
                    }
                }
            }
            "RESUME" => self.voice.say(MachineEvent::Resumed),
            "RESET" => self.voice.say(MachineEvent::Reset),
            "GUEST_PANICKED" => self.voice.say(MachineEvent::GuestPanicked),
            "BLOCK_IO_ERROR" => {
                let reason = format!("{} of {}: {}", text("operation"), text("node-name"), text("reason"));
                self.voice.say(MachineEvent::DiskError { reason, no_space: flag("nospace") });
            }
            "BALLOON_CHANGE" => {
                if let Some(bytes) = data.get("actual").and_then(Value::as_u64) {
                    self.memory_bytes.send_replace(bytes);
                }
            }
            "VSERPORT_CHANGE" if text("id") == AGENT_DEVICE => self.voice.say(MachineEvent::AgentPort(flag("open"))),
            "SHUTDOWN" => self.shutdown = Some(text("reason")),
            _ => {}
        }
    }

    /// How it ended; to be asked when the process is gone.
    pub(super) async fn exit(self) -> Exit {
        for hearing in self.hearing {
            let abort = hearing.abort_handle();
            if timeout(LAST_WORDS_PATIENCE, hearing).await.is_err() {
                abort.abort();
            }
        }
        let status = self.ended.borrow().and_then(|ended| ended.0);
        let cause = match self.shutdown.as_deref() {
            _ if self.killed.is_set() => ExitCause::Killed,
            _ if !status.is_some_and(|status| status.success()) => ExitCause::Failed,
            Some("host-qmp-quit") => ExitCause::Quit,
            Some("guest-panic") => ExitCause::Panicked,
            Some("guest-reset") if self.console.panicked() => ExitCause::Panicked,
            Some("guest-reset") => ExitCause::Reset,
            Some("guest-shutdown") => ExitCause::PoweredOff,
            _ => ExitCause::Failed,
        };
        Exit { cause, status, console_tail: self.console.lines(), errors: self.errors.lines() }
    }
}
