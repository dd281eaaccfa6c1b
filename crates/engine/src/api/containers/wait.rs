//! Waiting for containers.

use serde::Deserialize;

use crate::{
    ContainerRef, Docker, Error,
    api::model::nullable,
    http::{Call, Older},
    operation::Operation,
};

/// What to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WaitCondition {
    /// That it does not run; at once if it does not.
    #[default]
    NotRunning,
    /// That it ends, the next time it does.
    NextExit,
    /// That it is removed, after it ended.
    Removed,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerExit {
    /// Exit code of the main process.
    pub status_code: i64,
    /// Why waiting failed, in the engine's words.
    pub error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exit {
    status_code: i64,
    #[serde(default, deserialize_with = "nullable")]
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default, deserialize_with = "nullable")]
    message: String,
}

impl From<Exit> for ContainerExit {
    fn from(exit: Exit) -> Self {
        let error = exit.error.map(|error| error.message).filter(|message| !message.is_empty());
        Self { status_code: exit.status_code, error }
    }
}

impl Docker {
    /// Waits until a container does not run; at once if it does not. Has no deadline: drop it to give up.
    /// API: `ContainerWait`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn wait_container(&self, container: &ContainerRef) -> Result<ContainerExit, Error> {
        self.wait_container_until(container, WaitCondition::NotRunning).await
    }

    /// Waits for `condition`. Has no deadline: drop it to give up. API: `ContainerWait`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; [`Error::Unsupported`] if the engine is too old for the
    /// condition, which needs API 1.30; whatever a call may fail with.
    pub async fn wait_container_until(
        &self,
        container: &ContainerRef,
        condition: WaitCondition,
    ) -> Result<ContainerExit, Error> {
        let call = Call::new(Operation::ContainerWait, [container.as_str()]).deadline(None);
        let call = match condition {
            WaitCondition::NotRunning => call,
            WaitCondition::NextExit => call.query_since(30, Older::Refuse, "condition", "next-exit"),
            WaitCondition::Removed => call.query_since(30, Older::Refuse, "condition", "removed"),
        };
        self.json::<Exit>(call).await.map(ContainerExit::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn exit(value: Value) -> Option<ContainerExit> {
        serde_json::from_value::<Exit>(value).ok().map(ContainerExit::from)
    }

    #[test]
    fn reads_every_answer() {
        let ended = |status_code| Some(ContainerExit { status_code, error: None });
        assert_eq!(exit(json!({"StatusCode": 137})), ended(137));
        assert_eq!(exit(json!({"StatusCode": 0, "Error": null})), ended(0));
        assert_eq!(exit(json!({"StatusCode": -1, "Error": {"Message": ""}})), ended(-1), "Podman");
        let failed = exit(json!({"StatusCode": 1, "Error": {"Message": "no"}})).unwrap();
        assert_eq!(failed.error.as_deref(), Some("no"));
        assert_eq!(exit(json!({"Error": {}})), None);
    }
}
