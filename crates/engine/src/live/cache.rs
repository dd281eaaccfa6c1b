//! What is known of one engine's containers: one writer, many readers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    ApiVersion, ContainerId, ContainerInspect, ContainerState, ContainerSummary, Error, Health, Info,
    model::{NetworkSettings, PortBinding},
};

/// What an engine told of itself when the link came up; has only defaults if it did not answer that in time.
pub type EngineInfo = Info;

/// A container as it was last seen. Times are milliseconds since the epoch by the engine's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Full id.
    pub id: ContainerId,
    /// Name without its leading slash.
    pub name: String,
    /// All names without their leading slashes, those of links, such as `other/alias`, too.
    pub names: Vec<String>,
    /// The image as it was asked for.
    pub image: String,
    /// Id of the image.
    pub image_id: String,
    /// The command line.
    pub command: String,
    /// When it was created.
    pub created: Option<f64>,
    /// When it was last started.
    pub started: Option<f64>,
    /// When it last ended.
    pub finished: Option<f64>,
    /// Where it stands.
    pub state: ContainerState,
    /// The engine's wording of that from the list, such as `Up 3 hours`; empty once the exact times are known.
    pub status: String,
    /// What its health check says, if it has one.
    pub health: Option<Health>,
    /// How its main process ended, while it does not run or is about to be started again.
    pub exit_code: Option<i32>,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// Why it could not be started, in the engine's words.
    pub error: Option<String>,
    /// Times its restart policy started it again.
    pub restart_count: u32,
    /// Published and exposed ports, in order.
    pub ports: Vec<Port>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Names of the networks it is on, in order.
    pub networks: Vec<String>,
    /// It has a terminal; not known before it was inspected.
    pub tty: Option<bool>,
}

/// One port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address on the host, such as `127.0.0.1` or `::`, if published.
    pub host_address: Option<String>,
    /// Port on the host, if published.
    pub host_port: Option<u16>,
}

impl Container {
    /// The row of a container in a list: what only an inspect tells is missing or taken from the status text.
    #[must_use]
    pub fn from_summary(summary: ContainerSummary) -> Self {
        let names: Vec<String> =
            summary.names.iter().map(|name| name.strip_prefix('/').unwrap_or(name).to_owned()).collect();
        let mut ports: Vec<Port> = summary
            .ports
            .into_iter()
            .map(|port| Port {
                container_port: port.private_port,
                protocol: port.protocol,
                host_address: port.public_port.map(|_| port.ip).filter(|ip| !ip.is_empty()),
                host_port: port.public_port,
            })
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Self {
            id: summary.id,
            name: names.iter().find(|name| !name.contains('/')).or(names.first()).cloned().unwrap_or_default(),
            names,
            image: summary.image,
            image_id: summary.image_id,
            command: summary.command,
            created: summary.created,
            started: None,
            finished: None,
            state: summary.state,
            health: health_of_status(&summary.status),
            exit_code: exit_code_of_status(&summary.status),
            status: summary.status,
            out_of_memory: false,
            error: None,
            restart_count: 0,
            ports,
            labels: summary.labels,
            networks: summary.networks,
            tty: None,
        }
    }

    /// The row of an inspected container.
    #[must_use]
    pub fn from_inspect(inspect: ContainerInspect) -> Self {
        let name = inspect.plain_name().to_owned();
        let state = inspect.state;
        let never_ran = state.started_at.is_none() && state.exit_code == 0;
        let has_process = matches!(state.status, ContainerState::Running | ContainerState::Paused);
        let exit_code = (!has_process && !never_ran).then(|| saturated(state.exit_code));
        let health = state.health.and_then(|health| Health::from_word(&health.status));
        Self {
            id: inspect.id,
            names: vec![name.clone()],
            name,
            image: inspect.config.image,
            image_id: inspect.image,
            command: command_line(&inspect.path, &inspect.args),
            created: inspect.created,
            started: state.started_at,
            finished: state.finished_at,
            state: state.status,
            status: String::new(),
            health: if state.status.is_alive() { health } else { None },
            exit_code,
            out_of_memory: state.oom_killed,
            error: Some(state.error).filter(|error| !error.is_empty()),
            restart_count: inspect.restart_count,
            ports: ports_of(&inspect.network_settings),
            labels: inspect.config.labels,
            networks: inspect.network_settings.networks.into_keys().collect(),
            tty: Some(inspect.config.tty),
        }
    }

    /// Takes over from an older row what this one cannot know yet.
    pub(crate) fn fill_from(&mut self, older: &Self) {
        if self.tty.is_some() {
            // Links are in lists alone.
            let links = older.names.iter().filter(|name| name.contains('/')).cloned();
            self.names.extend(links);
        } else if self.state == older.state && self.exit_code == older.exit_code {
            self.started = older.started;
            self.finished = older.finished;
            self.out_of_memory = older.out_of_memory;
            self.error.clone_from(&older.error);
            self.restart_count = older.restart_count;
            self.tty = older.tty;
            self.created = older.created.or(self.created);
        }
    }

    /// Whether a fresh list tells something else than this row.
    pub(crate) fn differs_from(&self, listed: &Self) -> bool {
        self.state != listed.state
            || self.name != listed.name
            || self.networks != listed.networks
            || (self.state.is_alive() && self.health != listed.health)
    }
}

/// Ports as the list words them, which has no address for one that is not published.
fn ports_of(settings: &NetworkSettings) -> Vec<Port> {
    let mut ports = Vec::new();
    for (key, bindings) in &settings.ports {
        let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        let Ok(container_port) = number.parse() else { continue };
        let port = |binding: Option<&PortBinding>| {
            let host_port = binding.and_then(|b| b.host_port.parse().ok());
            let host_address = binding.filter(|b| host_port.is_some() && !b.host_ip.is_empty());
            Port {
                container_port,
                protocol: protocol.to_owned(),
                host_address: host_address.map(|b| b.host_ip.clone()),
                host_port,
            }
        };
        if bindings.is_empty() {
            ports.push(port(None));
        }
        ports.extend(bindings.iter().map(|binding| port(Some(binding))));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The command line as the engine words it in lists, so that a row does not change when it is inspected.
fn command_line(path: &str, args: &[String]) -> String {
    let mut line = path.to_owned();
    for arg in args {
        line.push(' ');
        if arg.contains(' ') {
            line.extend(["'", arg, "'"]);
        } else {
            line.push_str(arg);
        }
    }
    line
}

/// The code in `Exited (137) 3 hours ago` and `Restarting (1) 2 seconds ago`.
fn exit_code_of_status(status: &str) -> Option<i32> {
    let rest = status.strip_prefix("Exited (").or_else(|| status.strip_prefix("Restarting ("))?;
    let (code, _) = rest.split_once(')')?;
    code.parse().ok()
}

/// The health in `Up 3 hours (healthy)` and `Up 2 seconds (health: starting)`.
fn health_of_status(status: &str) -> Option<Health> {
    let (_, word) = status.strip_suffix(')')?.rsplit_once('(')?;
    Health::from_word(word.strip_prefix("health: ").unwrap_or(word))
}

/// Windows has codes beyond 31 bits; nothing is lost in showing the largest one there is.
fn saturated(code: i64) -> i32 {
    i32::try_from(code).unwrap_or(if code < 0 { i32::MIN } else { i32::MAX })
}

/// How the connection to the engine stands.
#[derive(Clone, Debug)]
pub enum Link {
    /// It has not been reached yet, and no attempt has failed.
    Connecting,
    /// It answers and tells what happens: rows are live.
    Live {
        /// Since when, in milliseconds since the epoch.
        since_ms: f64,
        /// The version of the API spoken.
        api: ApiVersion,
        /// What the engine told of itself.
        info: Arc<EngineInfo>,
    },
    /// It does not answer: rows are what was last seen.
    Lost {
        /// Since when, in milliseconds since the epoch.
        since_ms: f64,
        /// Why, by the latest attempt.
        error: Arc<Error>,
        /// Attempts that have failed since.
        attempts: u32,
    },
}

impl Link {
    /// Rows are live.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

/// All that is known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Rises with every snapshot of one store.
    pub revision: u64,
    /// The containers.
    pub containers: Arc<HashMap<ContainerId, Arc<Container>>>,
    /// A full list has been seen.
    pub listed: bool,
    /// How the connection stands.
    pub link: Link,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { revision: 0, containers: Arc::default(), listed: false, link: Link::Connecting }
    }
}

/// The reading half. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    receiver: watch::Receiver<Arc<Snapshot>>,
}

impl Store {
    /// A store and the writer that feeds it, beginning with `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> (SnapshotWriter, Self) {
        let (sender, receiver) = watch::channel(Arc::new(snapshot));
        (SnapshotWriter { sender }, Self { receiver })
    }

    /// The latest snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.receiver.borrow().clone()
    }

    /// Follows the snapshots. A slow reader misses those between, and never the latest.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.receiver.clone()
    }
}

/// The writing half.
#[derive(Debug)]
pub struct SnapshotWriter {
    sender: watch::Sender<Arc<Snapshot>>,
}

impl SnapshotWriter {
    /// Publishes a snapshot; its revision becomes the next one.
    pub fn publish(&mut self, mut snapshot: Snapshot) {
        snapshot.revision = self.sender.borrow().revision + 1;
        self.sender.send_replace(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(state: &str, status: &str) -> Container {
        let value = json!({
            "Id": "ab".repeat(32), "Names": ["/other/alias", "/web"], "State": state, "Status": status, "Created": 1_709_210_096,
            "Command": "nginx -g 'daemon off;'", "Image": "nginx",
            "Ports": [
                { "PrivatePort": 443, "Type": "tcp" },
                { "IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" },
                { "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" },
            ],
            "NetworkSettings": { "Networks": { "front": {} } },
        });
        Container::from_summary(serde_json::from_value(value).unwrap())
    }

    fn inspected(state: &serde_json::Value) -> Container {
        let value = json!({
            "Id": "ab".repeat(32), "Name": "/web", "State": state, "Path": "nginx", "Args": ["-g", "daemon off;"],
            "Created": "2024-02-29T12:34:56Z", "Config": { "Image": "nginx", "Tty": true },
            "NetworkSettings": {
                "Ports": { "80/tcp": [
                    { "HostIp": "::", "HostPort": "8080" }, { "HostIp": "0.0.0.0", "HostPort": "8080" }
                ], "443/tcp": null },
                "Networks": { "front": {} },
            },
        });
        Container::from_inspect(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn the_status_text_tells_what_it_can() {
        let row = |state, status| {
            let row = summary(state, status);
            (row.exit_code, row.health)
        };
        assert_eq!(row("exited", "Exited (137) 3 hours ago"), (Some(137), None));
        assert_eq!(row("exited", "Exited (x"), (None, None));
        assert_eq!(row("restarting", "Restarting (1) 2 seconds ago"), (Some(1), None));
        assert_eq!(row("running", "Up 3 hours (healthy)"), (None, Some(Health::Healthy)));
        assert_eq!(row("running", "Up 1 second (health: starting)"), (None, Some(Health::Starting)));
        assert_eq!(row("paused", "Up 1 second (Paused)"), (None, None));
    }

    #[test]
    fn list_and_inspect_agree() {
        let listed = summary("running", "Up 3 hours");
        let mut row = inspected(&json!({ "Status": "running", "StartedAt": "2024-02-29T12:34:57Z" }));
        assert!(!row.differs_from(&listed));
        assert_eq!((&row.name, &row.command, &row.ports), (&listed.name, &listed.command, &listed.ports));
        assert_eq!((row.created, &row.networks), (listed.created, &listed.networks));
        row.fill_from(&listed);
        assert_eq!(row.names, ["web", "other/alias"], "an inspect does not tell of links");
        assert_eq!((row.exit_code, row.tty), (None, Some(true)));
    }

    #[test]
    fn a_container_that_never_ran_has_no_exit_code() {
        let code = |state| inspected(&state).exit_code;
        assert_eq!(code(json!({ "Status": "created", "ExitCode": 0 })), None);
        assert_eq!(code(json!({ "Status": "created", "ExitCode": 127, "Error": "no such file" })), Some(127));
        assert_eq!(code(json!({ "Status": "exited", "ExitCode": 0, "StartedAt": "2024-02-29T12:34:57Z" })), Some(0));
        assert_eq!(code(json!({ "Status": "exited", "ExitCode": 3_221_225_786_i64 })), Some(i32::MAX));
    }

    #[test]
    fn a_list_keeps_what_was_known_of_an_unchanged_container() {
        let older = inspected(&json!({ "Status": "running", "StartedAt": "2024-02-29T12:34:57Z" }));
        let mut same = summary("running", "Up 3 hours");
        same.fill_from(&older);
        assert_eq!((same.started, same.tty), (older.started, Some(true)));
        let mut ended = summary("exited", "Exited (1) 3 hours ago");
        ended.fill_from(&older);
        assert_eq!((ended.started, ended.exit_code), (None, Some(1)), "old times do not describe the new state");
    }

    #[test]
    fn revisions_rise() {
        let (mut writer, store) = Store::new(Snapshot::default());
        for expected in 1..4 {
            writer.publish(Snapshot { revision: 77, ..Snapshot::default() });
            assert_eq!(store.current().revision, expected);
        }
    }
}
