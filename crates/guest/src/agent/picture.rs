//! How the machine is, as PID 1 told last, for a host that comes later.

use std::collections::BTreeMap;

use berth_mux::control::{Event, ServiceState, ServiceStatus, StatusReply};
use serde::Deserialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Warnings that are kept for a host that comes later.
const WARNINGS: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Picture {
    stage: String,
    services: BTreeMap<String, Known>,
    failure: Option<(String, String)>,
    warnings: Vec<String>,
}

#[derive(Clone, Debug)]
struct Known {
    state: ServiceState,
    pid: Option<u32>,
    detail: Option<String>,
    starts: u32,
}

impl Picture {
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Stage { name } => self.stage.clone_from(name),
            Event::Service { service, state, pid, detail } => {
                let starts = self.services.get(service).map_or(0, |known| known.starts);
                // A state that is told again is no other start.
                let again = self.services.get(service).is_some_and(|known| known.pid == *pid);
                let starts = starts.saturating_add(u32::from(*state == ServiceState::Started && !again));
                let known = Known { state: *state, pid: *pid, detail: detail.clone(), starts };
                self.services.insert(service.clone(), known);
            }
            Event::Failed { stage, cause } => self.failure = Some((stage.clone(), cause.clone())),
            Event::Warning { message } => {
                if !self.warnings.contains(message) && self.warnings.len() < WARNINGS {
                    self.warnings.push(message.clone());
                }
            }
            Event::CrashLoop { .. } | Event::Freed | Event::Stopped => {}
        }
    }

    /// What makes a host know it.
    pub(super) fn events(&self) -> Vec<Event> {
        let stage = (!self.stage.is_empty()).then(|| Event::Stage { name: self.stage.clone() });
        let services = self.services.iter().map(|(service, known)| {
            let Known { state, pid, detail, .. } = known.clone();
            Event::Service { service: service.clone(), state, pid, detail }
        });
        let failure =
            self.failure.iter().map(|(stage, cause)| Event::Failed { stage: stage.clone(), cause: cause.clone() });
        let warnings = self.warnings.iter().map(|message| Event::Warning { message: message.clone() });
        stage.into_iter().chain(services).chain(failure).chain(warnings).collect()
    }

    pub(super) fn status(&self) -> StatusReply {
        let services = self.services.iter().map(|(service, known)| ServiceStatus {
            service: service.clone(),
            state: known.state,
            pid: known.pid,
            restarts: known.starts.saturating_sub(1),
        });
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time since the start is small")]
        let uptime_milliseconds = (seconds * 1000.0) as u64;
        StatusReply {
            stage: self.stage.clone(),
            services: services.collect(),
            failure: self.failure.as_ref().map(|(stage, cause)| format!("{stage}: {cause}")),
            uptime_milliseconds,
        }
    }
}

/// One line of PID 1's, which tells the same as the host's events in another form.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Stage {
        name: String,
    },
    Service {
        service: String,
        state: ServiceState,
        #[serde(default)]
        pid: Option<u32>,
        #[serde(default)]
        detail: Option<String>,
    },
    CrashLoop {
        service: String,
        exits: u32,
        detail: String,
    },
    Warning {
        message: String,
    },
    Failed {
        stage: String,
        cause: String,
    },
    Stopped,
    #[serde(other)]
    Other,
}

pub(super) fn event(line: &[u8]) -> Option<Event> {
    Some(match serde_json::from_slice(line).ok()? {
        Line::Stage { name } => Event::Stage { name },
        Line::Service { service, state, pid, detail } => Event::Service { service, state, pid, detail },
        Line::CrashLoop { service, exits, detail } => Event::CrashLoop { service, exits, detail },
        Line::Warning { message } => Event::Warning { message },
        Line::Failed { stage, cause } => Event::Failed { stage, cause },
        Line::Stopped => Event::Stopped,
        Line::Other => return None,
    })
}

/// Passes commands on to PID 1, of which the first is to say how things are.
pub(super) async fn command(mut write: impl AsyncWrite + Unpin, mut wanted: mpsc::Receiver<String>) {
    let mut line = "{\"command\":\"status\"}\n".to_owned();
    loop {
        if write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
        match wanted.recv().await {
            Some(next) => line = next,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Picture, ServiceState, event};

    fn told(line: &str) -> Event {
        event(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_host_that_comes_later_knows_what_the_one_before_knew() {
        let mut picture = Picture::default();
        for line in [
            r#"{"v":1,"event":"stage","name":"disk"}"#,
            r#"{"v":1,"event":"stage","name":"services"}"#,
            r#"{"v":1,"event":"warning","message":"the disk is old"}"#,
            r#"{"v":1,"event":"service","service":"dockerd","state":"started","pid":7,"detail":null}"#,
            r#"{"v":1,"event":"service","service":"dockerd","state":"exited","pid":null,"detail":"exit code 1"}"#,
            r#"{"v":1,"event":"service","service":"dockerd","state":"started","pid":9,"detail":null}"#,
            r#"{"v":1,"event":"service","service":"dockerd","state":"ready","pid":9,"detail":null}"#,
        ] {
            picture.take(&told(line));
        }
        let ready =
            Event::Service { service: "dockerd".to_owned(), state: ServiceState::Ready, pid: Some(9), detail: None };
        let warning = Event::Warning { message: "the disk is old".to_owned() };
        assert_eq!(picture.events(), [Event::Stage { name: "services".to_owned() }, ready, warning]);
        assert_eq!(picture.status().services[0].restarts, 1);
        assert_eq!(event(br#"{"v":2,"event":"slept"}"#), None);
    }
}
