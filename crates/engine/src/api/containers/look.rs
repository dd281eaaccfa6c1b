//! Looking into containers: processes, changed files, the whole file system; and clearing away those that ended.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use serde::{Deserialize, Deserializer};

use crate::{
    ContainerRef, Docker, Error, Filters,
    api::model::{model, nullable},
    http::{Call, SLOW},
    operation::Operation,
};

model! {
    /// The processes of a container as `ps` prints them. API: `ContainerTop`.
    pub struct ProcessList {
        /// Titles of the columns, such as `PID` and `CMD`.
        pub titles: Vec<String>,
        /// A row for each process; one of outside data, which may have fewer columns than there are titles.
        pub processes: Vec<Vec<String>>,
    }

    /// What was cleared away. API: `ContainerPrune`.
    pub struct PrunedContainers {
        /// Ids of the containers.
        #[serde(rename = "ContainersDeleted")]
        pub containers: Vec<String>,
        /// Bytes that became free.
        #[serde(rename = "SpaceReclaimed")]
        pub freed_bytes: u64,
    }
}

/// What happened to a file of a container's image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was changed, or something in it.
    Modified,
    /// It is new.
    Added,
    /// It was deleted.
    Deleted,
    /// A kind this client does not know.
    #[default]
    Unknown,
}

impl<'de> Deserialize<'de> for ChangeKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match i64::deserialize(deserializer)? {
            0 => Self::Modified,
            1 => Self::Added,
            2 => Self::Deleted,
            _ => Self::Unknown,
        })
    }
}

model! {
    /// A file that differs from the container's image. API: `ContainerChanges`.
    pub struct Change {
        /// Path in the container. The engine writes it in JSON, where bytes that are no text are lost.
        pub path: String,
        /// What happened to it.
        pub kind: ChangeKind,
    }
}

impl Docker {
    /// The processes of a container. `arguments` are those of the `ps` of the engine's machine, such as `-eo pid,comm`;
    /// without them it is `-ef`. API: `ContainerTop`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; [`Error::is_conflict`] or another [`Error::Api`] if it
    /// does not run, or `ps` refuses its arguments; whatever a call may fail with.
    pub async fn container_processes(
        &self,
        container: &ContainerRef,
        arguments: Option<&str>,
    ) -> Result<ProcessList, Error> {
        let call = Call::new(Operation::ContainerTop, [container.as_str()]);
        self.json(call.text("ps_args", arguments.unwrap_or_default())).await
    }

    /// Files that differ from the container's image. API: `ContainerChanges`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; whatever a call may fail with.
    pub async fn container_changes(&self, container: &ContainerRef) -> Result<Vec<Change>, Error> {
        let call = Call::new(Operation::ContainerChanges, [container.as_str()]).deadline(Some(SLOW));
        Ok(self.json::<Option<Vec<Change>>>(call).await?.unwrap_or_default())
    }

    /// The container's file system as an uncompressed tar archive, without what is mounted. Has no deadline: drop the
    /// stream to give up. API: `ContainerExport`.
    ///
    /// # Errors
    /// The stream yields one error and then ends: [`Error::is_not_found`] if there is no such container, and whatever a
    /// call may fail with.
    pub fn export_container(&self, container: &ContainerRef) -> BoxStream<'static, Result<Bytes, Error>> {
        let stream = self.bytes(Call::new(Operation::ContainerExport, [container.as_str()]).deadline(None));
        fused(stream).boxed()
    }

    /// Removes containers that do not run; those that `filters` (`until`, `label`, `label!`) find, or all. May take
    /// 300 s. API: `ContainerPrune`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if the engine is at it already; whatever a call may fail with.
    pub async fn prune_containers(&self, filters: &Filters) -> Result<PrunedContainers, Error> {
        self.json(filters.apply(Call::new(Operation::ContainerPrune, [])).deadline(Some(SLOW))).await
    }
}

/// `stream` up to its first error.
pub(crate) fn fused<T: Send>(
    stream: impl Stream<Item = Result<T, Error>> + Send,
) -> impl Stream<Item = Result<T, Error>> + Send {
    stream.scan(false, |failed, item| {
        let item = (!*failed).then_some(item);
        *failed |= matches!(item, Some(Err(_)));
        std::future::ready(item)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn odd_answers_are_read() {
        let list: ProcessList = serde_json::from_value(json!({"Titles": null, "Processes": null})).unwrap();
        assert_eq!(list, ProcessList::default());
        let pruned: PrunedContainers =
            serde_json::from_value(json!({"ContainersDeleted": null, "SpaceReclaimed": null})).unwrap();
        assert_eq!(pruned, PrunedContainers::default());
        let changes: Vec<Change> =
            serde_json::from_value(json!([{"Path": "/a", "Kind": 1}, {"Path": null, "Kind": 9}, {}])).unwrap();
        let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
        assert_eq!(kinds, [ChangeKind::Added, ChangeKind::Unknown, ChangeKind::Unknown]);
    }

    #[tokio::test]
    async fn nothing_comes_after_an_error() {
        let items = [Ok(1), Err(Error::Stream("x".into())), Ok(2)];
        let items: Vec<_> = fused(futures_util::stream::iter(items)).collect().await;
        assert!(matches!(items.as_slice(), [Ok(1), Err(_)]));
    }
}
