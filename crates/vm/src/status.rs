//! What the supervisor tells about the engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Features, Share};
use crate::clock::now_ms;

/// Stages that are shown of a start: a guest may tell of more.
const STAGES: usize = 16;

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
    /// It was not used for long, and is stopped until somebody does: whoever connects wakes it.
    Asleep,
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
            Self::Asleep => "asleep",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }

    /// Whether the state machine may go from here to there.
    pub(crate) fn may_become(self, next: Self) -> bool {
        use State::{Asleep, Booting, Connecting, Degraded, Failed, Preparing, Ready, Stopped, Stopping};
        match (self, next) {
            (Stopped, Preparing)
            | (Preparing | Asleep, Booting)
            // Another system image is tried.
            | (Booting | Connecting, Preparing)
            | (Booting, Connecting)
            | (Connecting, Ready | Degraded)
            | (Ready, Degraded | Asleep)
            | (Degraded, Ready | Asleep)
            | (Stopping, Stopped) => true,
            (Stopped | Failed | Stopping, _)
            | (_, Stopped | Preparing | Booting | Connecting | Ready | Degraded | Asleep) => false,
            (_, Stopping | Failed) => true,
        }
    }
}

/// One stage of a start and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage: `preparing`, `booting`, `connecting`, and between them those of a machine.
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
    /// What cannot be as it usually is here, and why, for as long as it runs; it is nothing that is wrong.
    pub notes: Vec<String>,
    /// What it is made of.
    pub versions: Versions,
    /// What runs it, once that is known.
    pub backend: Option<Backend>,
    /// What that is like.
    pub features: Features,
    /// What runs the instructions of its machine, where it has one.
    pub accelerator: Option<AcceleratorStatus>,
    /// The system image of its machine, where it has one.
    pub image: Option<ImageStatus>,
    /// Folders of this computer that its machine sees, while it runs.
    pub shares: Vec<Share>,
    /// Whether what changes in them wakes watchers of files, where there are any.
    pub file_events: Option<FileEventsStatus>,
}

/// Whether changes of shared folders here wake those in containers who watch files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileEventsStatus {
    /// They do.
    pub on: bool,
    /// Folders that are watched for it: those that running containers have mounted, with all that are in them.
    pub folders: u32,
    /// Why it is not all of them, or off without having been asked to.
    pub note: Option<String>,
}

/// The system image a machine boots from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageStatus {
    /// The SHA-256 of its manifest.
    pub id: String,
    /// The release of its kernel.
    pub kernel: String,
    /// It is tried, and another one takes its place if it does not work.
    pub trial: bool,
    /// A copy of it is kept, for the case that an update does not work.
    pub kept: bool,
    /// The installed image, if it was rolled back.
    pub refused: Option<RefusedImage>,
}

/// A system image that did not work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedImage {
    /// The SHA-256 of its manifest.
    pub id: String,
    /// How often it was started.
    pub tries: u32,
    /// How the last start went wrong.
    pub why: String,
}

/// What the engine and its machine use at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// The machine's memory, as its kernel sees it.
    pub memory_total_bytes: u64,
    /// What programs in it could get.
    pub memory_available_bytes: u64,
    /// What in it holds files that could be read again.
    pub memory_cached_bytes: u64,
    /// What the machine takes of the host's memory.
    pub memory_host_bytes: u64,
    /// The size of the data disk's file system.
    pub disk_total_bytes: u64,
    /// What of it is free.
    pub disk_free_bytes: u64,
    /// What the data disk takes of the host's.
    pub disk_host_bytes: u64,
    /// Connections to the engine that are open, but for the supervisor's own.
    pub connections: usize,
    /// Milliseconds since a client last connected, sent something, or left.
    pub idle_ms: f64,
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
        self.end_stage(now);
        if next == State::Preparing || self.state == State::Asleep && next == State::Booting {
            self.stages.clear();
            self.error = None;
        }
        if next == State::Asleep {
            self.warnings.clear();
        }
        if matches!(next, State::Asleep | State::Stopped | State::Failed) {
            self.shares.clear();
            self.file_events = None;
        }
        if matches!(next, State::Preparing | State::Booting | State::Connecting) {
            self.stages.push(StageTime { name: next.name().to_owned(), milliseconds: None });
        }
        self.state = next;
        self.since_ms = now;
        true
    }

    /// Enters a stage of the present state of a start. Says whether it did: what is told again is no other stage, and
    /// there are only so many.
    pub(crate) fn enter_stage(&mut self, name: &str) -> bool {
        let starting = matches!(self.state, State::Preparing | State::Booting | State::Connecting);
        let known = self.stages.iter().any(|stage| stage.name == name);
        if !starting || known || self.stages.len() >= STAGES {
            return false;
        }
        self.end_stage(now_ms());
        self.stages.push(StageTime { name: name.to_owned(), milliseconds: None });
        true
    }

    /// Times the stage that lasts. It began when those of the same state before it ended.
    fn end_stage(&mut self, now: f64) {
        let own = self.stages.iter().position(|stage| stage.name == self.state.name()).unwrap_or_default();
        let before: f64 = self.stages.iter().skip(own).filter_map(|stage| stage.milliseconds).sum();
        if let Some(stage) = self.stages.last_mut()
            && stage.milliseconds.is_none()
        {
            stage.milliseconds = Some((now - self.since_ms - before).max(0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{State, Status};

    const ALL: [State; 9] = [
        State::Stopped,
        State::Preparing,
        State::Booting,
        State::Connecting,
        State::Ready,
        State::Degraded,
        State::Asleep,
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
    fn a_machines_stages_share_the_time_of_their_state() {
        let mut status = Status::default();
        status.enter(State::Preparing);
        status.enter(State::Booting);
        status.since_ms -= 1000.0;
        assert!(status.enter_stage("kernel"));
        status.since_ms -= 500.0;
        assert!(status.enter_stage("services") && !status.enter_stage("services"));
        status.since_ms -= 250.0;
        assert!(status.enter(State::Connecting) && status.enter(State::Ready) && !status.enter_stage("late"));
        let names: Vec<_> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["preparing", "booting", "kernel", "services", "connecting"]);
        let times: Vec<_> = status.stages.iter().map(|stage| stage.milliseconds.unwrap()).collect();
        for (index, least) in [(1, 1000.0), (2, 500.0), (3, 250.0)] {
            assert!(times[index] >= least && times[index] < least + 200.0, "{times:?}");
        }
        let mut endless = Status { state: State::Booting, ..Status::default() };
        assert_eq!((0..1000).filter(|stage| endless.enter_stage(&stage.to_string())).count(), super::STAGES);
    }

    #[test]
    fn no_stage_is_skipped_and_what_has_ended_stays_ended() {
        assert!(!State::Stopped.may_become(State::Ready));
        assert!(!State::Preparing.may_become(State::Connecting));
        assert!(ALL.iter().all(|&next| !State::Failed.may_become(next)));
        assert!(ALL.iter().filter(|&&next| State::Stopping.may_become(next)).eq([&State::Stopped]));
    }

    #[test]
    fn who_wakes_starts_anew_and_only_who_runs_falls_asleep() {
        let mut status = Status { state: State::Ready, warnings: vec!["old".to_owned()], ..Status::default() };
        status.file_events = Some(super::FileEventsStatus::default());
        status.enter_stage("late");
        assert!(status.enter(State::Asleep) && status.warnings.is_empty() && !status.is_usable());
        assert_eq!(status.file_events, None, "nothing is shared with a machine that does not run");
        assert!(!status.enter(State::Ready) && status.enter(State::Booting));
        assert_eq!(status.stages.len(), 1);
        assert!(ALL.iter().filter(|state| state.may_become(State::Asleep)).eq([&State::Ready, &State::Degraded]));
    }

    #[test]
    fn every_living_state_can_stop_and_fail() {
        let starting = [State::Preparing, State::Booting, State::Connecting];
        for state in starting.into_iter().chain([State::Ready, State::Degraded, State::Asleep]) {
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
