//! bollard, used as its documentation shows.

use bollard::{
    Docker,
    query_parameters::{DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder, StatsOptionsBuilder},
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all};

use crate::{Outcome, Work};

pub(crate) struct Client(Docker);

impl Client {
    pub(crate) fn connect(socket: &str) -> Outcome<Self> {
        Ok(Self(Docker::connect_with_unix(socket, 120, bollard::API_DEFAULT_VERSION)?))
    }

    pub(crate) async fn work(&self, work: Work, argument: &str, body: &[u8]) -> Outcome<u64> {
        let all = || Some(ListContainersOptionsBuilder::default().all(true).build());
        match work {
            Work::List => Ok(self.0.list_containers(all()).await?.len() as u64),
            Work::Decode => {
                let list: Vec<bollard::models::ContainerSummary> = serde_json::from_slice(body)?;
                Ok(list.len() as u64)
            }
            Work::Pings => {
                for _ in 0..10_000 {
                    self.0.ping().await?;
                }
                Ok(10_000)
            }
            Work::Logs => {
                let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
                let mut logs = self.0.logs(argument, Some(options));
                let mut lines = 0;
                while let Some(line) = logs.try_next().await? {
                    std::hint::black_box(&line);
                    lines += 1;
                }
                Ok(lines)
            }
            Work::Archive => {
                let (container, path) = argument.split_once(':').ok_or("CONTAINER:PATH is needed")?;
                let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
                let mut archive = self.0.download_from_container(container, Some(options));
                let mut bytes = 0;
                while let Some(data) = archive.try_next().await? {
                    bytes += data.len() as u64;
                }
                Ok(bytes)
            }
            Work::Stats => {
                let running = self.0.list_containers(Some(ListContainersOptionsBuilder::default().build())).await?;
                let samples = running.iter().filter_map(|container| container.id.as_deref()).map(|id| async move {
                    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
                    self.0.stats(id, Some(options)).next().await.transpose()
                });
                Ok(try_join_all(samples).await?.len() as u64)
            }
        }
    }
}
