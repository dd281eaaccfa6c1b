//! What dockerd tells of the folders that its running containers have mounted, in as much HTTP/1.0 as that takes.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use berth_mux::{OpenError, Opener, Stream, Target};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::backend::machine::DOCKER;
use crate::lines;

const PATIENCE: Duration = Duration::from_secs(30);
/// Of thousands of containers.
const LIST_LIMIT: u64 = 32 << 20;
const EVENT_LIMIT: u64 = 1 << 20;
const HEAD_LIMIT: u64 = 16 << 10;
/// `{"type":["container"],"event":["start","die"]}`
const EVENTS: &str =
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%2C%22die%22%5D%7D";
/// Those that run. What they have mounted does not change while they do.
const LIST: &str = "/containers/json";

/// Why dockerd did not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("dockerd cannot be reached: {0}")]
    Open(#[from] OpenError),
    #[error("dockerd's answer broke off: {0}")]
    Io(#[from] io::Error),
    #[error("dockerd answered \"{0}\"")]
    Refused(String),
    #[error("dockerd's list of containers cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("dockerd's list of containers is longer than {LIST_LIMIT} bytes")]
    TooLong,
    #[error("dockerd did not answer within {PATIENCE:?}")]
    Late,
}

/// Tells of each change of what runs, and first of all that it can; ends with dockerd or the session.
pub(super) async fn follow(opener: &Opener, changed: &Notify) -> Result<(), AskError> {
    let mut events = timeout(PATIENCE, ask(opener, EVENTS)).await.map_err(|_| AskError::Late)??;
    loop {
        changed.notify_one();
        match lines::read::<IgnoredAny>(&mut events, EVENT_LIMIT).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            // That something happened is all that counts.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The folders and files of the machine that running containers have mounted.
pub(super) async fn mounted(opener: &Opener) -> Result<BTreeSet<PathBuf>, AskError> {
    let list = async {
        let mut list = Vec::new();
        ask(opener, LIST).await?.take(LIST_LIMIT).read_to_end(&mut list).await?;
        if u64::try_from(list.len()) == Ok(LIST_LIMIT) { Err(AskError::TooLong) } else { Ok(list) }
    };
    let list = timeout(PATIENCE, list).await.map_err(|_| AskError::Late)??;
    sources(&list)
}

fn sources(list: &[u8]) -> Result<BTreeSet<PathBuf>, AskError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Container {
        mounts: Option<Vec<Mount>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Mount {
        r#type: String,
        source: PathBuf,
    }
    let containers: Vec<Container> = serde_json::from_slice(list)?;
    let mounts = containers.into_iter().flat_map(|container| container.mounts.unwrap_or_default());
    Ok(mounts.filter(|mount| mount.r#type == "bind").map(|mount| mount.source).collect())
}

/// The body of a successful answer.
async fn ask(opener: &Opener, path: &str) -> Result<BufReader<Stream>, AskError> {
    let mut stream = opener.open(&Target::unix(DOCKER)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: berth\r\n\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut input = BufReader::new(stream);
    let mut head = (&mut input).take(HEAD_LIMIT);
    let mut status = Vec::new();
    head.read_until(b'\n', &mut status).await?;
    if status.split(|&byte| byte == b' ').nth(1) != Some(b"200".as_slice()) {
        return Err(AskError::Refused(String::from_utf8_lossy(&status).trim().to_owned()));
    }
    loop {
        let mut line = Vec::new();
        if head.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if line == b"\r\n" || line == b"\n" {
            return Ok(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::sources;

    #[test]
    fn folders_of_the_machine_are_told_from_volumes() {
        let list = br#"[{"Id":"a","Mounts":[{"Type":"bind","Source":"/home/me/x","Destination":"/x","RW":true},
            {"Type":"volume","Name":"v","Source":"/var/lib/docker/volumes/v/_data"},{"Type":"tmpfs"}]},
            {"Id":"b","Mounts":[{"Type":"bind","Source":"/home/me/x"},{"Type":"bind","Source":"/srv"}]},
            {"Id":"c"},{"Mounts":null}]"#;
        let found: Vec<PathBuf> = sources(list).unwrap().into_iter().collect();
        assert_eq!(found, [PathBuf::from("/home/me/x"), PathBuf::from("/srv")]);
        assert!(sources(b"[]").unwrap().is_empty());
        assert!(sources(b"{}").is_err() && sources(b"[1").is_err());
    }
}
