//! What guests tell.

use serde::Deserialize;

use super::{Pace, Share};
use crate::status::FileEventsStatus;

/// What a guest tells. Fields and events this version does not know are ignored.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum GuestEvent {
    /// An earlier guest still shuts down.
    Waiting,
    /// Its namespaces exist.
    Isolated,
    /// A stage of a machine's start was reached.
    Stage {
        name: String,
    },
    /// A start goes on, in a stage that is not over.
    #[serde(skip)]
    Progress,
    /// What runs the machine's instructions, why it does, and what may be expected of it.
    #[serde(skip)]
    Accelerator {
        name: String,
        why: String,
        pace: Pace,
    },
    /// The guest runs and cannot be reached.
    #[serde(skip)]
    Lost {
        why: String,
    },
    /// Folders of this computer that it sees.
    #[serde(skip)]
    Shares(Vec<Share>),
    /// Whether changes in them wake who watches files.
    #[serde(skip)]
    FileEvents(FileEventsStatus),
    /// Something is wrong for as long as there is a text.
    #[serde(skip)]
    Condition {
        what: Condition,
        text: Option<String>,
    },
    Service {
        service: String,
        state: ServiceState,
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
        /// What to do, where that is known.
        #[serde(skip)]
        fix: Option<String>,
        /// The guest's last words, where there are any.
        #[serde(skip)]
        log: Vec<String>,
        /// It has nothing to do with what was started: this computer was not ready for it.
        #[serde(skip)]
        outside: bool,
    },
    #[serde(other)]
    Other,
}

/// What may be wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// Which system image it boots from.
    Image,
    /// The copy that is kept of it.
    ImageCopy,
    /// The data disk, or the host's disk it is on.
    Disk,
    /// The folders of this computer that it sees.
    Shares,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceState {
    Started,
    Ready,
    Exited,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::{GuestEvent, ServiceState};

    fn event(text: &str) -> GuestEvent {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_the_guest_says_is_understood_and_what_it_may_say_later_is_no_error() {
        assert_eq!(
            event(r#"{"v":1,"event":"service","service":"dockerd","state":"ready","pid":7,"detail":null}"#),
            GuestEvent::Service { service: "dockerd".to_owned(), state: ServiceState::Ready, detail: None }
        );
        assert_eq!(event(r#"{"v":1,"event":"isolated","mounts":9}"#), GuestEvent::Isolated);
        assert_eq!(event(r#"{"v":2,"event":"slept","for":1}"#), GuestEvent::Other);
    }
}
