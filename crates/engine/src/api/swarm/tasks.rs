//! Tasks: what the nodes of a swarm run for its services.

use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};

use super::logs::{self, ServiceLogOptions};
use crate::{Docker, Error, Filters, LogBatch, http::Call, operation::Operation, reference::ObjectId, schema};

impl Docker {
    /// Lists tasks, those that ended with them. Filters are `desired-state`, `id`, `label`, `name`, `node` and
    /// `service`. API: `TaskList`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn list_tasks(&self, filters: &Filters) -> Result<Vec<schema::Task>, Error> {
        self.json(filters.apply(Call::new(Operation::TaskList, []))).await
    }

    /// Everything of one task. API: `TaskInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine manages no swarm;
    /// whatever a call may fail with.
    pub async fn inspect_task(&self, task: &ObjectId) -> Result<schema::Task, Error> {
        self.json(Call::new(Operation::TaskInspect, [task.as_str()])).await
    }

    /// The log of a task, in batches of lines that became known together. Dropping the stream closes its connection.
    /// API: `TaskLogs`.
    ///
    /// # Errors
    /// The stream yields one error and then ends: as [`Docker::service_logs`], and [`Error::Unsupported`] before
    /// API 1.29.
    #[must_use]
    pub fn task_logs(
        &self,
        task: &ObjectId,
        options: &ServiceLogOptions,
    ) -> BoxStream<'static, Result<LogBatch, Error>> {
        let (docker, task, options) = (self.clone(), task.clone(), options.clone());
        let open = async move {
            let terminal = has_terminal(docker.inspect_task(&task).await?.spec.as_ref());
            logs::open(&docker, Call::new(Operation::TaskLogs, [task.as_str()]), terminal, &options).await
        };
        stream::once(open).try_flatten().boxed()
    }
}

/// Whether what a task runs has a terminal.
pub(super) fn has_terminal(spec: Option<&schema::TaskSpec>) -> bool {
    spec.and_then(|spec| spec.container_spec.as_ref()?.tty).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_null_and_missing() {
        let text = r#"[{"ID":"a","Spec":{"ContainerSpec":{"TTY":true,"Env":null,"Mounts":null},"Placement":{}},
            "Status":{"State":"running","Err":null,"ContainerStatus":null},"DesiredState":"running"},{}]"#;
        let tasks: Vec<schema::Task> = serde_json::from_str(text).unwrap();
        assert!(has_terminal(tasks.first().unwrap().spec.as_ref()));
        assert!(!has_terminal(tasks.last().unwrap().spec.as_ref()));
        assert!(!has_terminal(Some(&schema::TaskSpec::default())));
    }
}
