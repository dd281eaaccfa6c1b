//! What PID 1 tells the supervisor: one JSON object a line on stdout. The reader ignores fields it does
//! not know, so fields may be added; a changed meaning raises the version.

use std::io::Write as _;

use serde::Serialize;

const VERSION: u32 = 1;

/// What happened in the guest.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A stage of a machine's start was reached.
    Stage {
        name: &'a str,
    },
    /// An earlier guest still holds the data folder.
    Waiting,
    /// Namespaces and mounts are made: the network may be attached.
    Isolated,
    Service {
        service: &'a str,
        state: ServiceState,
        pid: Option<i32>,
        detail: Option<String>,
    },
    /// A service does not stay up. It is still being restarted, slowly.
    CrashLoop {
        service: &'a str,
        exits: u32,
        detail: String,
    },
    Warning {
        message: String,
    },
    Failed {
        stage: &'a str,
        cause: String,
    },
    Stopping,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceState {
    Started,
    Ready,
    Exited,
}

#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// Tells the supervisor. That it is gone is noticed on stdin, so a failed write is no news here.
pub(crate) fn emit(event: &Event<'_>) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(&line(event)).and_then(|()| stdout.flush());
}

/// What is told, with the end of its line.
pub(crate) fn line(event: &Event<'_>) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Line { v: VERSION, event }).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::{Event, Line, ServiceState, VERSION};

    #[test]
    fn a_line_carries_its_version_and_its_name() {
        let event = Event::Service { service: "dockerd", state: ServiceState::Ready, pid: Some(7), detail: None };
        let text = serde_json::to_string(&Line { v: VERSION, event: &event }).unwrap();
        assert_eq!(text, r#"{"v":1,"event":"service","service":"dockerd","state":"ready","pid":7,"detail":null}"#);
    }
}
