//! Berth's client.

use berth_engine::{Docker, Endpoint, ListContainers, LogOptions, Sampling};
use futures_util::{TryStreamExt as _, future::try_join_all};

use crate::{Outcome, Work};

pub(crate) struct Client(Docker);

impl Client {
    pub(crate) async fn connect(socket: &str) -> Outcome<Self> {
        Ok(Self(Docker::connect(Endpoint::Unix(socket.into())).await?))
    }

    pub(crate) async fn work(&self, work: Work, argument: &str, body: &[u8]) -> Outcome<u64> {
        match work {
            Work::List => Ok(self.0.list_containers(&ListContainers::default().all(true)).await?.len() as u64),
            Work::Decode => {
                Ok(berth_engine::fuzzing::read_container_list(body)?.len() as u64)
            }
            Work::Pings => {
                for _ in 0..10_000 {
                    self.0.ping().await?;
                }
                Ok(10_000)
            }
            Work::Logs => {
                let options = LogOptions { tty: Some(false), ..LogOptions::default() };
                let mut logs = self.0.container_logs(&argument.parse()?, &options);
                let mut lines = 0;
                while let Some(batch) = logs.try_next().await? {
                    lines += batch.len() as u64;
                }
                Ok(lines)
            }
            Work::Archive => {
                let (container, path) = argument.split_once(':').ok_or("CONTAINER:PATH is needed")?;
                let (_, mut archive) = self.0.download_archive(&container.parse()?, path).await?;
                let mut bytes = 0;
                while let Some(data) = archive.try_next().await? {
                    bytes += data.len() as u64;
                }
                Ok(bytes)
            }
            Work::Stats => {
                let running = self.0.list_containers(&ListContainers::default()).await?;
                let samples =
                    running.iter().map(|container| async { self.0.container_stats(&container.id.into(), Sampling::Once).await });
                Ok(try_join_all(samples).await?.len() as u64)
            }
        }
    }
}
