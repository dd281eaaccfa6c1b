//! The questions the supervisor asks dockerd, in as much HTTP/1.0 as they take.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::status::Versions;

const ANSWER_LIMIT: u64 = 256 << 10;

/// Whether the engine takes requests: what `GET /_ping` says, and nothing else.
pub(crate) async fn ping(socket: &Path, patience: Duration) -> bool {
    get(socket, "/_ping", patience).await.is_some()
}

/// The versions the engine tells; unknown ones are left out.
pub(crate) async fn versions(socket: &Path, patience: Duration) -> Versions {
    let Some(body) = get(socket, "/version", patience).await else { return Versions::default() };
    parse_versions(&body)
}

/// Whether the engine does something of its own, without anybody connected: containers run, are paused or start over
/// and over, or it is a member of a swarm. One that cannot be asked may.
pub(crate) async fn is_busy(socket: &Path, patience: Duration) -> bool {
    // {"status":["running","paused","restarting"]}
    const CONTAINERS: &str =
        "/containers/json?limit=1&filters=%7B%22status%22%3A%5B%22running%22%2C%22paused%22%2C%22restarting%22%5D%7D";
    let Some(containers) = get(socket, CONTAINERS, patience).await else { return true };
    if !none_of(&containers) {
        return true;
    }
    let Some(info) = get(socket, "/info", patience).await else { return true };
    in_swarm(&info)
}

fn none_of(containers: &[u8]) -> bool {
    serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(containers).is_ok_and(|containers| containers.is_empty())
}

fn in_swarm(info: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Info {
        swarm: Option<Swarm>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Swarm {
        local_node_state: String,
    }
    let Ok(info) = serde_json::from_slice::<Info>(info) else { return true };
    info.swarm.is_some_and(|swarm| !matches!(swarm.local_node_state.as_str(), "" | "inactive"))
}

fn parse_versions(body: &[u8]) -> Versions {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        version: Option<String>,
        api_version: Option<String>,
        #[serde(default)]
        components: Vec<Component>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Component {
        name: String,
        version: String,
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return Versions::default() };
    let component = |name: &str| {
        answer
            .components
            .iter()
            .find(|component| component.name == name && !component.version.is_empty())
            .map(|component| component.version.clone())
    };
    Versions {
        containerd: component("containerd"),
        runc: component("runc"),
        engine: answer.version,
        api: answer.api_version,
        suite: None,
    }
}

/// The body of a successful answer.
async fn get(socket: &Path, path: &str, patience: Duration) -> Option<Vec<u8>> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: berth\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await.ok()?;
        body_of(&answer).map(<[u8]>::to_vec)
    };
    timeout(patience, exchange).await.ok().flatten()
}

fn body_of(answer: &[u8]) -> Option<&[u8]> {
    let status = answer.split(|&byte| byte == b'\r').next()?;
    if status.split(|&byte| byte == b' ').nth(1) != Some(b"200".as_slice()) {
        return None;
    }
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    answer.get(head + 4..)
}

#[cfg(test)]
mod tests {
    use super::{body_of, in_swarm, none_of, parse_versions};

    #[test]
    fn only_a_success_is_an_answer() {
        assert_eq!(body_of(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nOK"), Some(b"OK".as_slice()));
        assert_eq!(body_of(b"HTTP/1.1 500 No\r\n\r\nOK"), None);
        assert_eq!(body_of(b"HTTP/1.0 200 OK\r\nA: b"), None);
        assert_eq!(body_of(b""), None);
    }

    #[test]
    fn what_is_not_understood_counts_as_use() {
        assert!(none_of(b"[]") && none_of(b" [ ]\n"));
        assert!(!none_of(br#"[{"Id":"a"}]"#) && !none_of(b"") && !none_of(b"{}"));
        assert!(!in_swarm(br#"{"Swarm":{"LocalNodeState":"inactive"}}"#) && !in_swarm(b"{}"));
        assert!(in_swarm(br#"{"Swarm":{"LocalNodeState":"active"}}"#));
        assert!(in_swarm(br#"{"Swarm":{"LocalNodeState":"locked"}}"#) && in_swarm(b"nonsense"));
    }

    #[test]
    fn versions_come_from_the_components() {
        let body = br#"{"Version":"28.5.2","ApiVersion":"1.51","Components":[
            {"Name":"Engine","Version":"28.5.2"},{"Name":"containerd","Version":"2.1.9"},{"Name":"runc","Version":""}]}"#;
        let versions = parse_versions(body);
        assert_eq!(versions.engine.as_deref(), Some("28.5.2"));
        assert_eq!(versions.containerd.as_deref(), Some("2.1.9"));
        assert_eq!(versions.runc, None);
        assert_eq!(parse_versions(b"nonsense").engine, None);
    }
}
