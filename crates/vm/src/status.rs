//! What the supervisor tells about the engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::clock::now_ms;

/// Where the engine is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody runs it.
    #[default]
    Stopped,
    /// The data folder is being taken and the appliance looked up.
    Preparing,
    /// Namespaces, mounts, network and containerd are coming up.
    Booting,
    /// dockerd is starting.
    Connecting,
    /// `GET /_ping` is answered on the public socket.
    Ready,
    /// It runs, but not as it should: see the warnings.
    Degraded,
    /// Containers and the engine are being stopped.
    Stopping,
    /// It could not be started, or does not stay up.
    Failed,
}

impl State {
    /// The state's name, as in its JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Preparing => "preparing",
            Self::Booting => "booting",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }

    /// Whether the state machine may go from here to there.
    pub(crate) fn may_become(self, next: Self) -> bool {
        use State::{Booting, Connecting, Degraded, Failed, Preparing, Ready, Stopped, Stopping};
        match (self, next) {
            (Stopped, Preparing)
            | (Preparing, Booting)
            | (Booting, Connecting)
            | (Connecting, Ready | Degraded)
            | (Ready, Degraded)
            | (Degraded, Ready)
            | (Stopping, Stopped) => true,
            (Stopped | Failed | Stopping, _) | (_, Stopped | Preparing | Booting | Connecting | Ready | Degraded) => {
                false
            }
            (_, Stopping | Failed) => true,
        }
    }
}

/// One stage of a start and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage: `preparing`, `booting`, `connecting`.
    pub name: String,
    /// How long it took; none while it lasts.
    pub milliseconds: Option<f64>,
}

/// Why the engine does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// The stage in which it failed.
    pub stage: String,
    /// What happened.
    pub cause: String,
    /// What to do about it.
    pub fix: String,
    /// The end of the engine's logs.
    pub log: Vec<String>,
}

/// The versions of what the engine is made of, as the engine itself tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Versions {
    /// dockerd.
    pub engine: Option<String>,
    /// The API's newest version.
    pub api: Option<String>,
    /// containerd.
    pub containerd: Option<String>,
    /// runc.
    pub runc: Option<String>,
    /// The Debian suite of the appliance.
    pub suite: Option<String>,
}

/// Everything there is to know about one bundled engine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// When it entered that state, in milliseconds since 1970.
    pub since_ms: f64,
    /// The stages of its last start.
    pub stages: Vec<StageTime>,
    /// The supervisor's process.
    pub pid: Option<u32>,
    /// Where the Docker API is.
    pub socket: PathBuf,
    /// Where its data is.
    pub data: PathBuf,
    /// Why it does not run; kept after a failure until the next start.
    pub error: Option<Failure>,
    /// What does not work as it should, and why.
    pub warnings: Vec<String>,
    /// What it is made of.
    pub versions: Versions,
    /// What runs it, once that is known.
    pub backend: Option<Backend>,
    /// What runs the instructions of its machine, where it has one.
    pub accelerator: Option<AcceleratorStatus>,
}

/// What runs a machine's instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcceleratorStatus {
    /// Its name, such as `KVM`.
    pub name: String,
    /// Why it was chosen, as a whole sentence.
    pub why: String,
}

impl Status {
    /// Whether the engine takes requests, perhaps with warnings.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, State::Ready | State::Degraded)
    }

    /// Enters a state, if the machine allows it, and closes and opens the stages of a start. Says whether it did.
    pub(crate) fn enter(&mut self, next: State) -> bool {
        if !self.state.may_become(next) {
            return false;
        }
        let now = now_ms();
        if let Some(stage) = self.stages.last_mut()
            && stage.milliseconds.is_none()
        {
            stage.milliseconds = Some((now - self.since_ms).max(0.0));
        }
        if next == State::Preparing {
            self.stages.clear();
            self.error = None;
        }
        if matches!(next, State::Preparing | State::Booting | State::Connecting) {
            self.stages.push(StageTime { name: next.name().to_owned(), milliseconds: None });
        }
        self.state = next;
        self.since_ms = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{State, Status};

    const ALL: [State; 8] = [
        State::Stopped,
        State::Preparing,
        State::Booting,
        State::Connecting,
        State::Ready,
        State::Degraded,
        State::Stopping,
        State::Failed,
    ];

    #[test]
    fn a_start_goes_through_every_stage_and_times_it() {
        let mut status = Status::default();
        for state in [State::Preparing, State::Booting, State::Connecting, State::Ready] {
            assert!(status.enter(state), "{state:?}");
        }
        let names: Vec<_> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["preparing", "booting", "connecting"]);
        assert!(status.stages.iter().all(|stage| stage.milliseconds.is_some()));
        assert!(status.enter(State::Degraded) && status.enter(State::Ready) && status.enter(State::Stopping));
        assert_eq!(status.stages.len(), 3);
    }

    #[test]
    fn no_stage_is_skipped_and_what_has_ended_stays_ended() {
        assert!(!State::Stopped.may_become(State::Ready));
        assert!(!State::Preparing.may_become(State::Connecting));
        assert!(ALL.iter().all(|&next| !State::Failed.may_become(next)));
        assert!(ALL.iter().filter(|&&next| State::Stopping.may_become(next)).eq([&State::Stopped]));
    }

    #[test]
    fn every_living_state_can_stop_and_fail() {
        for state in [State::Preparing, State::Booting, State::Connecting, State::Ready, State::Degraded] {
            assert!(state.may_become(State::Stopping) && state.may_become(State::Failed), "{state:?}");
        }
    }

    #[test]
    fn states_are_lowercase_and_unknown_fields_are_ignored() {
        for state in ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.name()));
        }
        let status: Status = serde_json::from_str(r#"{"state":"ready","later":1}"#).unwrap();
        assert!(status.is_usable());
    }
}
