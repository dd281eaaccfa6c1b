//! Containers as rows and in detail. Engine API: `ContainerList`, `ContainerInspect`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{ContainerId, EngineId};

/// One container in the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRow {
    /// The engine it lives on.
    pub engine: EngineId,
    /// Its full id.
    pub id: ContainerId,
    /// Its name without the leading slash.
    pub name: String,
    /// The image as it was asked for, such as `postgres:17`.
    pub image: String,
    /// The command line.
    pub command: String,
    /// Where it stands.
    pub state: ContainerState,
    /// The engine's own wording, such as `Up 3 hours`; shown only until the exact times are known.
    pub status: String,
    /// What its health check says, where it has one.
    pub health: Option<Health>,
    /// How the main process ended, for a container that is not running or is being restarted.
    pub exit_code: Option<i32>,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// Why the engine could not start it, in the engine's words.
    pub error: Option<String>,
    /// Times the engine restarted it by its restart policy.
    pub restart_count: u32,
    /// Created, in milliseconds since the epoch.
    pub created: f64,
    /// Last started, in milliseconds since the epoch.
    pub started: Option<f64>,
    /// Last ended, in milliseconds since the epoch.
    pub finished: Option<f64>,
    /// Published and exposed ports.
    pub ports: Vec<PortRow>,
    /// Compose project, from its label.
    pub project: Option<String>,
    /// Compose service, from its label.
    pub service: Option<String>,
    /// Folder of the Compose project, from its label.
    pub project_folder: Option<String>,
    /// Names of the networks it is on.
    pub networks: Vec<String>,
    /// All labels, for the filter.
    pub labels: BTreeMap<String, String>,
}

/// Where a container stands, as the engine means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
    /// A state this Berth does not know.
    Unknown,
}

/// What a health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

/// One port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PortRow {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The port inside the container.
    pub container_port: u16,
    /// The port on the host, where it is published.
    pub host_port: Option<u16>,
    /// The host address it is published on, such as `127.0.0.1` or `::`.
    pub host_address: Option<String>,
}

/// Everything the Overview tab shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDetail {
    /// The row.
    pub row: ContainerRow,
    /// Digest of the image it runs.
    pub image_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub working_directory: String,
    /// User it runs as; empty means the image's.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Restart policy, such as `unless-stopped` or `on-failure:3`.
    pub restart_policy: String,
    /// It has a terminal.
    pub tty: bool,
    /// It runs with every privilege of the engine's machine.
    pub privileged: bool,
    /// Process id on the engine's machine, while it runs.
    pub process_id: Option<u32>,
    /// Environment. Values reach the page only because the user may reveal them; they are masked until then.
    pub environment: Vec<EnvVariable>,
    /// Mounts.
    pub mounts: Vec<MountDetail>,
    /// Networks.
    pub networks: Vec<NetworkDetail>,
    /// Limits.
    pub limits: LimitsDetail,
    /// The last health probes, newest last.
    pub health_log: Vec<HealthProbe>,
    /// Why it ended, in words, for a container that is not running.
    pub exit_explained: Option<String>,
    /// A `docker run` line that makes the same container, quoted for a POSIX shell: these pieces, with nothing between
    /// them. The values of its environment are masked like those above.
    pub run_command: Vec<CommandPiece>,
}

/// One environment variable. `Debug` leaves its value out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct EnvVariable {
    pub name: String,
    pub value: String,
}

impl fmt::Debug for EnvVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvVariable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A piece of a command line. `Debug` leaves out what is secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct CommandPiece {
    /// Its text, as a shell reads it.
    pub text: String,
    /// It is shown only to whoever asks for it.
    pub secret: bool,
}

impl fmt::Debug for CommandPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str("***") } else { self.text.fmt(f) }
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MountDetail {
    /// `bind`, `volume`, `tmpfs` and so on.
    pub kind: String,
    /// Volume name or path on the engine's machine.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// It may be written.
    pub writable: bool,
}

/// One network the container is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NetworkDetail {
    /// Its name.
    pub name: String,
    /// The container's address there, empty while it does not run.
    pub address: String,
    /// The gateway, empty while it does not run.
    pub gateway: String,
    /// Names the container answers to there.
    pub aliases: Vec<String>,
}

/// Limits; absent means none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LimitsDetail {
    /// Bytes of memory.
    pub memory_bytes: Option<f64>,
    /// Processors, such as 1.5.
    pub processors: Option<f64>,
    /// Processes.
    pub processes: Option<f64>,
}

/// One run of the health check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HealthProbe {
    /// When it began, in milliseconds since the epoch.
    pub started: Option<f64>,
    /// How it ended: 0 is healthy.
    pub exit_code: i32,
    /// What it printed, cut to 4 KiB.
    pub output: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_does_not_print() {
        let variable = EnvVariable { name: "PASSWORD".to_owned(), value: "marker".to_owned() };
        let piece = |secret| CommandPiece { text: "marker".to_owned(), secret };
        let printed = format!("{variable:?} {:?}", piece(true));
        assert_eq!(printed, r#"EnvVariable { name: "PASSWORD", .. } ***"#);
        assert_eq!(format!("{:?}", piece(false)), r#""marker""#);
    }
}
