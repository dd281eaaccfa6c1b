//! Calls on containers.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    ContainerId, ContainerInspect, ContainerRef, ContainerSummary, Docker, Error,
    decode::json_stream::JsonStream,
    http::{Call, ORDINARY},
};

/// Filters of a list or of events: any of the values of every key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Adds one value of one key, such as `label` and `com.docker.compose.project=web`.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.entry(key.into()).or_default().push(value.into());
        self
    }

    pub(crate) fn apply(&self, call: Call) -> Call {
        if self.0.is_empty() {
            return call;
        }
        let filters: Value = self.0.iter().map(|(key, values)| (key.clone(), Value::from(values.clone()))).collect();
        call.query("filters", filters.to_string())
    }
}

/// Which containers to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListContainers {
    /// Also those that do not run.
    pub all: bool,
    /// The newest so many, of every state.
    pub limit: Option<u32>,
    /// Filters.
    pub filters: Filters,
}

/// How to remove a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveContainer {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes, too.
    pub volumes: bool,
}

/// What a call found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The call changed it.
    Yes,
    /// It already was so.
    Already,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerExit {
    /// Exit code of the main process.
    pub status_code: i64,
    /// Why waiting failed, in the engine's words.
    pub error: Option<String>,
}

impl Docker {
    /// Lists containers. API: `ContainerList`.
    ///
    /// # Errors
    /// Whatever a call may fail with; more than 64 MiB of list is [`Error::TooLarge`].
    pub async fn list_containers(&self, options: &ListContainers) -> Result<Vec<ContainerSummary>, Error> {
        let mut call = Call::get("/containers/json").flag("all", options.all);
        if let Some(limit) = options.limit {
            call = call.query("limit", limit.to_string());
        }
        self.json(options.filters.apply(call)).await
    }

    /// Everything of one container. API: `ContainerInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn inspect_container(&self, container: &ContainerRef) -> Result<ContainerInspect, Error> {
        self.json(Call::get(format!("/containers/{container}/json"))).await
    }

    /// Starts a container. API: `ContainerStart`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn start_container(&self, container: &ContainerRef) -> Result<Changed, Error> {
        self.change(Call::post(format!("/containers/{container}/start"))).await
    }

    /// Stops a container, killing it after `timeout` seconds or after its own time to stop. The call may take
    /// 30 s longer than that. API: `ContainerStop`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn stop_container(&self, container: &ContainerRef, timeout: Option<u32>) -> Result<Changed, Error> {
        let call = self.stopping(container, "stop", timeout).await?;
        self.change(call).await
    }

    /// Stops and starts a container, with times as [`Docker::stop_container`]. API: `ContainerRestart`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn restart_container(&self, container: &ContainerRef, timeout: Option<u32>) -> Result<(), Error> {
        let call = self.stopping(container, "restart", timeout).await?;
        self.call(call).await.map(drop)
    }

    /// Freezes a container. API: `ContainerPause`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if it does not run or is frozen; whatever a call may fail with.
    pub async fn pause_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.call(Call::post(format!("/containers/{container}/pause"))).await.map(drop)
    }

    /// Thaws a container. API: `ContainerUnpause`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if it is not frozen; whatever a call may fail with.
    pub async fn unpause_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.call(Call::post(format!("/containers/{container}/unpause"))).await.map(drop)
    }

    /// Sends a signal, such as `SIGHUP`, to the main process; `SIGKILL` if none is named. API: `ContainerKill`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no signal's name or number; [`Error::is_conflict`] if the container does
    /// not run; whatever a call may fail with.
    pub async fn kill_container(&self, container: &ContainerRef, signal: Option<&str>) -> Result<(), Error> {
        let mut call = Call::post(format!("/containers/{container}/kill"));
        if let Some(signal) = signal {
            let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-');
            if signal.is_empty() || signal.len() > 32 || !signal.bytes().all(allowed) {
                return Err(Error::invalid(signal, "signal"));
            }
            call = call.query("signal", signal);
        }
        self.call(call).await.map(drop)
    }

    /// Removes a container. API: `ContainerDelete`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if it runs and `force` is not set, or is being removed; whatever a call may fail with.
    pub async fn remove_container(&self, container: &ContainerRef, options: &RemoveContainer) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, format!("/containers/{container}"))
            .flag("force", options.force)
            .flag("v", options.volumes);
        self.call(call).await.map(drop)
    }

    /// Creates a container of a body as the API describes it. API: `ContainerCreate`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no name; [`Error::is_not_found`] if there is no such image;
    /// [`Error::is_conflict`] if the name is taken; whatever a call may fail with.
    pub async fn create_container(&self, name: &str, body: &Value) -> Result<ContainerId, Error> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: ContainerId,
        }
        let name: ContainerRef = name.parse()?;
        let call =
            Call::post("/containers/create").query("name", name.as_str()).body("application/json", body.to_string());
        Ok(self.json::<Created>(call).await?.id)
    }

    /// Makes an image named `reference` of the files in an uncompressed tar archive. API: `ImageCreate`.
    ///
    /// # Errors
    /// [`Error::Stream`] if the engine fails on the way; whatever a call may fail with.
    pub async fn import_image(&self, reference: &str, tar: impl Into<Bytes>) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Progress {
            error: Option<String>,
        }
        // A colon before the last slash belongs to a registry's port.
        let (repository, tag) = match reference.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (reference, "latest"),
        };
        let call = Call::post("/images/create")
            .query("fromSrc", "-")
            .query("repo", repository)
            .query("tag", tag)
            .body("application/x-tar", tar)
            .deadline(None);
        let (_, mut body) = self.open(call).await?;
        let mut values = JsonStream::default();
        while let Some(data) = body.data().await {
            values.push(&data?);
            while let Some(progress) = values.next::<Progress>(body.what())? {
                if let Some(error) = progress.error {
                    return Err(Error::Stream(error));
                }
            }
        }
        values.finish(body.what())
    }

    /// Waits until a container does not run; at once if it does not. Has no deadline: drop it to give up.
    /// API: `ContainerWait`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn wait_container(&self, container: &ContainerRef) -> Result<ContainerExit, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Exit {
            status_code: i64,
            #[serde(default)]
            error: Option<Failure>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Failure {
            message: String,
        }
        let call = Call::post(format!("/containers/{container}/wait")).deadline(None);
        let exit: Exit = self.json(call).await?;
        let error = exit.error.map(|error| error.message).filter(|message| !message.is_empty());
        Ok(ContainerExit { status_code: exit.status_code, error })
    }

    async fn change(&self, call: Call) -> Result<Changed, Error> {
        let answer = self.call(call).await?;
        Ok(if answer.status == StatusCode::NOT_MODIFIED { Changed::Already } else { Changed::Yes })
    }

    async fn stopping(&self, container: &ContainerRef, verb: &str, timeout: Option<u32>) -> Result<Call, Error> {
        let call = Call::post(format!("/containers/{container}/{verb}"));
        if let Some(timeout) = timeout {
            let deadline = ORDINARY + Duration::from_secs(timeout.into());
            return Ok(call.query("t", timeout.to_string()).deadline(Some(deadline)));
        }
        // The container's own time may be minutes, or without end; a fixed deadline would report a failure that is none.
        let own = self.inspect_container(container).await?.config.stop_timeout.unwrap_or(10);
        let deadline = u64::try_from(own).ok().map(|seconds| ORDINARY.saturating_add(Duration::from_secs(seconds)));
        Ok(call.deadline(deadline))
    }
}
