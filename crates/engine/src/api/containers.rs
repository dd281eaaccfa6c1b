//! Calls on containers.

mod create;
mod look;
mod wait;

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use create::{CreateContainer, CreatedContainer};
pub(crate) use look::fused;
pub use look::{Change, ChangeKind, ProcessList, PrunedContainers};
pub use wait::{ContainerExit, WaitCondition};

use crate::{
    ContainerInspect, ContainerRef, ContainerSummary, Docker, Error,
    api::options::options,
    http::{Call, ORDINARY, Older, SLOW},
    operation::Operation,
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

    /// How many values there are, of all keys together.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(crate) fn apply(&self, call: Call) -> Call {
        if self.0.is_empty() {
            return call;
        }
        let filters: Value = self.0.iter().map(|(key, values)| (key.clone(), Value::from(values.clone()))).collect();
        call.query("filters", filters.to_string())
    }
}

options! {
    /// Which containers to list.
    pub struct ListContainers {
        /// Also those that do not run.
        pub all: bool,
        /// The newest so many, of every state.
        pub limit: Option<u32>,
        /// Filters.
        pub filters: Filters,
        /// Measure what each of them takes on the disk, which can take the engine minutes.
        pub size: bool,
    }

    /// How to stop a container, or to restart it.
    pub struct StopContainer {
        /// Seconds after which it is killed; its own time to stop if none are given.
        pub timeout: Option<u32>,
        /// Never kill it, however long it takes to stop; `timeout` counts for nothing then.
        pub never_kill: bool,
        /// The signal instead of its own, such as `SIGINT`. Since API 1.42.
        pub signal: Option<String>,
    }

    /// How to remove a container.
    pub struct RemoveContainer {
        /// Kill it first if it runs.
        pub force: bool,
        /// Remove its anonymous volumes, too.
        pub volumes: bool,
    }
}

/// What a call found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The call changed it.
    Yes,
    /// It already was so.
    Already,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl TerminalSize {
    pub(crate) fn apply(self, call: Call) -> Call {
        call.query("h", self.rows.to_string()).query("w", self.columns.to_string())
    }
}

impl From<Option<u32>> for StopContainer {
    fn from(timeout: Option<u32>) -> Self {
        Self { timeout, ..Self::default() }
    }
}

impl Docker {
    /// Lists containers. API: `ContainerList`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::{Filters, ListContainers};
    ///
    /// # let container = running(&docker, "doc-list").await?;
    /// let filters = Filters::default().with("status", "running").with("name", "doc-list");
    /// let containers = docker.list_containers(&ListContainers::default().filters(filters)).await?;
    /// assert_eq!(containers.len(), 1);
    /// # docker.kill_container(&container, None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Whatever a call may fail with; more than 64 MiB of list is [`Error::TooLarge`].
    pub async fn list_containers(&self, options: &ListContainers) -> Result<Vec<ContainerSummary>, Error> {
        let mut call = Call::new(Operation::ContainerList, []).flag("all", options.all);
        if let Some(limit) = options.limit {
            call = call.query("limit", limit.to_string());
        }
        if options.size {
            call = call.flag("size", true).deadline(Some(SLOW));
        }
        self.list(options.filters.apply(call)).await
    }

    /// Everything of one container. API: `ContainerInspect`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::ContainerRef;
    ///
    /// let nobody: ContainerRef = "doc-nobody".parse()?;
    /// let error = docker.inspect_container(&nobody).await.unwrap_err();
    /// assert!(error.is_not_found() && !error.is_retryable());
    /// // What could walk the API is no name.
    /// assert!("../../version".parse::<ContainerRef>().is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn inspect_container(&self, container: &ContainerRef) -> Result<ContainerInspect, Error> {
        self.json(Call::new(Operation::ContainerInspect, [container.as_str()])).await
    }

    /// [`Docker::inspect_container`] with the sizes on the disk, which the engine measures for as long as 300 s.
    /// API: `ContainerInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn inspect_container_size(&self, container: &ContainerRef) -> Result<ContainerInspect, Error> {
        let call = Call::new(Operation::ContainerInspect, [container.as_str()]).flag("size", true);
        self.json(call.deadline(Some(SLOW))).await
    }

    /// Everything the engine says of one container, read as `T`: a [`serde_json::Value`] for its very words, or
    /// [`ContainerInspectResponse`](crate::schema::ContainerInspectResponse) for all that the API describes.
    /// API: `ContainerInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn inspect_container_as<T: DeserializeOwned>(&self, container: &ContainerRef) -> Result<T, Error> {
        self.json(Call::new(Operation::ContainerInspect, [container.as_str()])).await
    }

    /// Starts a container. API: `ContainerStart`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn start_container(&self, container: &ContainerRef) -> Result<Changed, Error> {
        self.change(Call::new(Operation::ContainerStart, [container.as_str()])).await
    }

    /// [`Docker::start_container`] with other keys that detach those who attach to it, such as `ctrl-x,x`.
    /// API: `ContainerStart`.
    ///
    /// # Errors
    /// An [`Error::Api`] if the engine knows no such keys; whatever [`Docker::start_container`] fails with.
    pub async fn start_container_with_keys(&self, container: &ContainerRef, keys: &str) -> Result<Changed, Error> {
        self.change(Call::new(Operation::ContainerStart, [container.as_str()]).text("detachKeys", keys)).await
    }

    /// Stops a container, killing it after so many seconds or after its own time to stop. The call may take
    /// 30 s longer than that. API: `ContainerStop`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Unsupported`] if a signal is given and the engine is too old
    /// for that; whatever a call may fail with.
    pub async fn stop_container(
        &self,
        container: &ContainerRef,
        options: impl Into<StopContainer>,
    ) -> Result<Changed, Error> {
        let call = self.stopping(container, Operation::ContainerStop, &options.into()).await?;
        self.change(call).await
    }

    /// Stops and starts a container, with times as [`Docker::stop_container`]. API: `ContainerRestart`.
    ///
    /// # Errors
    /// As [`Docker::stop_container`].
    pub async fn restart_container(
        &self,
        container: &ContainerRef,
        options: impl Into<StopContainer>,
    ) -> Result<(), Error> {
        let call = self.stopping(container, Operation::ContainerRestart, &options.into()).await?;
        self.call(call).await.map(drop)
    }

    /// Freezes a container. API: `ContainerPause`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if it does not run or is frozen; whatever a call may fail with.
    pub async fn pause_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.call(Call::new(Operation::ContainerPause, [container.as_str()])).await.map(drop)
    }

    /// Thaws a container. API: `ContainerUnpause`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if it is not frozen; whatever a call may fail with.
    pub async fn unpause_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.call(Call::new(Operation::ContainerUnpause, [container.as_str()])).await.map(drop)
    }

    /// Sends a signal, such as `SIGHUP`, to the main process; `SIGKILL` if none is named. API: `ContainerKill`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no signal's name or number; [`Error::is_conflict`] if the container does
    /// not run; whatever a call may fail with.
    pub async fn kill_container(&self, container: &ContainerRef, signal: Option<&str>) -> Result<(), Error> {
        let mut call = Call::new(Operation::ContainerKill, [container.as_str()]);
        if let Some(signal) = signal {
            call = call.query("signal", checked_signal(signal)?);
        }
        self.call(call).await.map(drop)
    }

    /// Removes a container. API: `ContainerDelete`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if it runs and `force` is not set, or is being removed; whatever a call may fail with.
    pub async fn remove_container(&self, container: &ContainerRef, options: &RemoveContainer) -> Result<(), Error> {
        let call = Call::new(Operation::ContainerDelete, [container.as_str()])
            .flag("force", options.force)
            .flag("v", options.volumes);
        self.call(call).await.map(drop)
    }

    /// Takes away the name `alias` that `container` has for another one by a link of the default bridge. Neither
    /// container is removed. API: `ContainerDelete` with `link`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such link; whatever a call may fail with.
    pub async fn remove_link(&self, container: &ContainerRef, alias: &ContainerRef) -> Result<(), Error> {
        let link = format!("{container}/{alias}");
        let call = Call::new(Operation::ContainerDelete, [link.as_str()]).query("link", "1");
        self.done(call).await
    }

    /// Sets the size of a container's terminal. API: `ContainerResize`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; an [`Error::Api`] if it does not run; whatever a call may
    /// fail with.
    pub async fn resize_container(&self, container: &ContainerRef, size: TerminalSize) -> Result<(), Error> {
        self.done(size.apply(Call::new(Operation::ContainerResize, [container.as_str()]))).await
    }

    /// Gives a container another name. API: `ContainerRename`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no name; [`Error::is_conflict`] if it is taken; whatever a call may fail
    /// with.
    pub async fn rename_container(&self, container: &ContainerRef, name: &str) -> Result<(), Error> {
        let name: ContainerRef = name.parse()?;
        self.done(Call::new(Operation::ContainerRename, [container.as_str()]).query("name", name.as_str())).await
    }

    async fn change(&self, call: Call) -> Result<Changed, Error> {
        let answer = self.call(call).await?;
        Ok(if answer.status == StatusCode::NOT_MODIFIED { Changed::Already } else { Changed::Yes })
    }

    async fn stopping(
        &self,
        container: &ContainerRef,
        operation: Operation,
        options: &StopContainer,
    ) -> Result<Call, Error> {
        let mut call = Call::new(operation, [container.as_str()]);
        if let Some(signal) = &options.signal {
            call = call.query_since(42, Older::Refuse, "signal", checked_signal(signal)?);
        }
        if options.never_kill {
            return Ok(call.query("t", "-1").deadline(None));
        }
        if let Some(timeout) = options.timeout {
            let deadline = ORDINARY + Duration::from_secs(timeout.into());
            return Ok(call.query("t", timeout.to_string()).deadline(Some(deadline)));
        }
        // The container's own time may be minutes, or without end; a fixed deadline would report a failure that is none.
        let own = self.inspect_container(container).await?.config.stop_timeout.unwrap_or(10);
        let deadline = u64::try_from(own).ok().map(|seconds| ORDINARY.saturating_add(Duration::from_secs(seconds)));
        Ok(call.deadline(deadline))
    }
}

fn checked_signal(signal: &str) -> Result<&str, Error> {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-');
    if signal.is_empty() || signal.len() > 32 || !signal.bytes().all(allowed) {
        return Err(Error::invalid(signal, "signal"));
    }
    Ok(signal)
}
