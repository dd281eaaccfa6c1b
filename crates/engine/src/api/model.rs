//! What the engine says about containers, as far as Berth uses it.
//!
//! Every field may be missing or null in an answer, for engines write null for empty lists and maps, and leave out
//! what they do not know; such a field has its default. Times are milliseconds since the epoch, `None` for "never".

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de::Visitor};

pub(crate) mod readers;

use readers::{bindings, keys, network_names, words};

use crate::{
    ContainerId, Environment,
    decode::timestamp::{millis, millis_of_seconds},
};

/// Declares structs of the API: public, with defaults, tolerant of null. Fields after `with` read by that function.
macro_rules! model {
    ($(
        $(#[$outer:meta])*
        pub struct $name:ident {
            $($(#[$inner:meta])* $field_vis:vis $field:ident: $type:ty,)*
        }
        $(with $function:literal {
            $($(#[$special_inner:meta])* $special_vis:vis $special:ident: $special_type:ty,)*
        })*
    )*) => {$(
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        pub struct $name {
            $($(#[$inner])* #[serde(deserialize_with = "nullable")] $field_vis $field: $type,)*
            $($($(#[$special_inner])* #[serde(deserialize_with = $function)] $special_vis $special: $special_type,)*)*
        }
    )*};
}
pub(crate) use model;

/// Null is the default.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Where a container stands, as the engine means it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerState {
    /// Made and never started.
    Created,
    /// Its main process runs.
    Running,
    /// It is frozen.
    Paused,
    /// It ended, and its restart policy starts it again.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its main process ended.
    Exited,
    /// Removing it failed half-way.
    Dead,
    /// A state this client does not know.
    #[default]
    Unknown,
}

impl ContainerState {
    /// Its main process is alive.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

impl<'de> Deserialize<'de> for ContainerState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = ContainerState;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the state of a container")
            }

            fn visit_str<E>(self, word: &str) -> Result<ContainerState, E> {
                Ok(match word {
                    "created" | "configured" | "initialized" => ContainerState::Created,
                    "running" => ContainerState::Running,
                    "paused" => ContainerState::Paused,
                    "restarting" => ContainerState::Restarting,
                    "removing" => ContainerState::Removing,
                    "exited" | "stopped" => ContainerState::Exited,
                    "dead" => ContainerState::Dead,
                    _ => ContainerState::Unknown,
                })
            }
        }
        deserializer.deserialize_str(Word)
    }
}

/// What a health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// It has not passed yet, and may still be in its start period.
    Starting,
    /// It passes.
    Healthy,
    /// It failed as often as it may.
    Unhealthy,
}

impl Health {
    /// The engine's word for it; `None` for `none`, empty and unknown words.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "starting" => Some(Self::Starting),
            "healthy" => Some(Self::Healthy),
            "unhealthy" => Some(Self::Unhealthy),
            _ => None,
        }
    }
}

/// One container of a list. API: `ContainerList`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// Full id.
    pub id: ContainerId,
    /// Names with their leading slashes; those with a second slash are links of other containers.
    #[serde(default, deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// The image as it was asked for, or its id once that name means another image.
    #[serde(default, deserialize_with = "nullable")]
    pub image: String,
    /// Id of the image.
    #[serde(default, rename = "ImageID", deserialize_with = "nullable")]
    pub image_id: String,
    /// The command line in one text.
    #[serde(default, deserialize_with = "nullable")]
    pub command: String,
    /// When it was created.
    #[serde(default, deserialize_with = "millis_of_seconds")]
    pub created: Option<f64>,
    /// Where it stands.
    #[serde(default, deserialize_with = "nullable")]
    pub state: ContainerState,
    /// The engine's wording of that, such as `Up 3 hours (healthy)`.
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
    /// Published and exposed ports.
    #[serde(default, deserialize_with = "nullable")]
    pub ports: Vec<SummaryPort>,
    /// Labels.
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Names of the networks it is on, in order.
    #[serde(default, rename = "NetworkSettings", deserialize_with = "network_names")]
    pub networks: Vec<String>,
    /// Bytes of the files it changed, if that was asked for.
    #[serde(default)]
    pub size_rw: Option<i64>,
    /// Bytes of all of its files, if that was asked for.
    #[serde(default)]
    pub size_root_fs: Option<i64>,
}

/// Everything of one container. API: `ContainerInspect`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// Full id.
    pub id: ContainerId,
    /// Name with its leading slash.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// When it was created.
    #[serde(default, deserialize_with = "millis")]
    pub created: Option<f64>,
    /// The program that runs.
    #[serde(default, deserialize_with = "nullable")]
    pub path: String,
    /// Its arguments.
    #[serde(default, deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// Where it stands.
    #[serde(default, deserialize_with = "nullable")]
    pub state: StateDetail,
    /// Id of the image it was made of.
    #[serde(default, deserialize_with = "nullable")]
    pub image: String,
    /// Times its restart policy started it again.
    #[serde(default, deserialize_with = "nullable")]
    pub restart_count: u32,
    /// Storage driver.
    #[serde(default, deserialize_with = "nullable")]
    pub driver: String,
    /// Operating system of the image, such as `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub platform: String,
    /// What is mounted.
    #[serde(default, deserialize_with = "nullable")]
    pub mounts: Vec<MountPoint>,
    /// What does not depend on the engine's machine.
    #[serde(default, deserialize_with = "nullable")]
    pub config: ContainerConfig,
    /// What does.
    #[serde(default, deserialize_with = "nullable")]
    pub host_config: HostConfig,
    /// Networks and ports as they are now.
    #[serde(default, deserialize_with = "nullable")]
    pub network_settings: NetworkSettings,
    /// Bytes of the files it changed, if that was asked for.
    #[serde(default)]
    pub size_rw: Option<i64>,
    /// Bytes of all of its files, if that was asked for.
    #[serde(default)]
    pub size_root_fs: Option<i64>,
}

impl ContainerInspect {
    /// The name without its leading slash.
    #[must_use]
    pub fn plain_name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }
}

model! {
    /// One port of a container in a list.
    pub struct SummaryPort {
        /// Address on the host, such as `0.0.0.0` or `::`; empty if not published.
        #[serde(rename = "IP")]
        pub ip: String,
        /// Port in the container.
        pub private_port: u16,
        /// Port on the host, if published.
        pub public_port: Option<u16>,
        /// `tcp`, `udp` or `sctp`.
        #[serde(rename = "Type")]
        pub protocol: String,
    }

    /// Where a container stands, in full.
    pub struct StateDetail {
        /// Where it stands.
        pub status: ContainerState,
        /// The kernel killed it for want of memory.
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        /// Process id on the engine's machine, 0 while it does not run.
        pub pid: u32,
        /// How the main process ended; 0 while it runs.
        pub exit_code: i64,
        /// Why it could not be started, in the engine's words.
        pub error: String,
        /// Its health check, if it has one.
        pub health: Option<HealthDetail>,
    }
    with "millis" {
        /// When it was last started.
        pub started_at: Option<f64>,
        /// When it last ended.
        pub finished_at: Option<f64>,
    }

    /// A health check and its latest runs.
    pub struct HealthDetail {
        /// `starting`, `healthy`, `unhealthy` or `none`; see [`Health::from_word`].
        pub status: String,
        /// Failures in a row.
        pub failing_streak: u32,
        /// The latest runs, newest last.
        pub log: Vec<HealthRun>,
    }

    /// One run of a health check.
    pub struct HealthRun {
        /// How it ended: 0 is healthy.
        pub exit_code: i64,
        /// What it printed, as the engine keeps it.
        pub output: String,
    }
    with "millis" {
        /// When it began.
        pub start: Option<f64>,
        /// When it ended.
        pub end: Option<f64>,
    }

    /// Something mounted into a container.
    pub struct MountPoint {
        /// `bind`, `volume`, `tmpfs` and so on.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Name of the volume; empty for other kinds.
        pub name: String,
        /// Path on the engine's machine.
        pub source: String,
        /// Path in the container.
        pub destination: String,
        /// Volume driver.
        pub driver: String,
        /// Options as given, such as `ro` or `z`.
        pub mode: String,
        /// It may be written.
        #[serde(rename = "RW")]
        pub writable: bool,
        /// Mount propagation, such as `rprivate`.
        pub propagation: String,
    }

    /// What was asked for when the container was created, without what depends on the engine's machine.
    pub struct ContainerConfig {
        /// Host name.
        pub hostname: String,
        /// Domain name.
        pub domainname: String,
        /// User it runs as; empty means root or the image's.
        pub user: String,
        /// It has a terminal.
        pub tty: bool,
        /// Its standard input is kept open.
        pub open_stdin: bool,
        /// Environment as `NAME=value`.
        pub env: Environment,
        /// The image as it was asked for.
        pub image: String,
        /// Working directory.
        pub working_dir: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Signal that stops it, if not `SIGTERM`.
        pub stop_signal: String,
        /// Seconds it may take to stop, if not the engine's default of 10; negative means without end.
        pub stop_timeout: Option<i64>,
        /// Its health check, where it does not have the image's.
        pub healthcheck: Option<HealthConfig>,
    }
    with "words" {
        /// Entry point; empty means none.
        pub entrypoint: Vec<String>,
        /// Command, or the arguments of the entry point.
        pub cmd: Vec<String>,
    }
    with "keys" {
        /// Exposed ports, such as `80/tcp`.
        pub exposed_ports: Vec<String>,
        /// Paths of anonymous volumes.
        pub volumes: Vec<String>,
    }

    /// How health is checked; times in nanoseconds, 0 for the default.
    pub struct HealthConfig {
        /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`; empty for the image's.
        pub test: Vec<String>,
        /// Time between runs.
        pub interval: i64,
        /// Time a run may take.
        pub timeout: i64,
        /// Failures in a row until it counts as unhealthy.
        pub retries: i64,
        /// Time at the start in which failures do not count.
        pub start_period: i64,
    }

    /// What was asked of the engine's machine.
    pub struct HostConfig {
        /// Mounts in the short form `source:destination[:options]`.
        pub binds: Vec<String>,
        /// Mounts in the long form.
        pub mounts: Vec<MountRequest>,
        /// Mounts of tmpfs: path to options.
        pub tmpfs: BTreeMap<String, String>,
        /// Containers whose volumes it uses.
        pub volumes_from: Vec<String>,
        /// Network it was created on, such as `bridge`, `host`, `container:…` or a name.
        pub network_mode: String,
        /// All exposed ports are published.
        pub publish_all_ports: bool,
        /// When the engine restarts it.
        pub restart_policy: RestartPolicy,
        /// It is removed when it ends.
        pub auto_remove: bool,
        /// It runs with every privilege of the engine's machine.
        pub privileged: bool,
        /// Its root is read-only.
        pub readonly_rootfs: bool,
        /// An init process is its first one.
        pub init: Option<bool>,
        /// Capabilities added.
        pub cap_add: Vec<String>,
        /// Capabilities dropped.
        pub cap_drop: Vec<String>,
        /// Security options.
        pub security_opt: Vec<String>,
        /// Groups added.
        pub group_add: Vec<String>,
        /// Name servers.
        pub dns: Vec<String>,
        /// Search domains.
        pub dns_search: Vec<String>,
        /// Lines for `/etc/hosts`, as `name:address`.
        pub extra_hosts: Vec<String>,
        /// Devices.
        pub devices: Vec<DeviceMapping>,
        /// Devices by driver, such as GPUs.
        pub device_requests: Vec<DeviceRequest>,
        /// Process namespace.
        pub pid_mode: String,
        /// IPC namespace.
        pub ipc_mode: String,
        /// Host name namespace.
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        /// User namespace.
        pub userns_mode: String,
        /// Runtime, such as `runc`.
        pub runtime: String,
        /// Limit of memory in bytes, 0 for none.
        pub memory: i64,
        /// Limit of memory and swap in bytes, 0 for the default, -1 for none.
        pub memory_swap: i64,
        /// Memory in bytes that is kept for it, 0 for none.
        pub memory_reservation: i64,
        /// Billionths of a processor, 0 for no limit.
        pub nano_cpus: i64,
        /// Microseconds of processor time per period, 0 for no limit.
        pub cpu_quota: i64,
        /// That period in microseconds, 0 for the default of 100 000.
        pub cpu_period: i64,
        /// Weight among containers, 0 for the default.
        pub cpu_shares: i64,
        /// Processors it may run on, such as `0-3`.
        pub cpuset_cpus: String,
        /// Limit of processes; 0, -1 and none mean none.
        pub pids_limit: Option<i64>,
        /// Size of `/dev/shm` in bytes.
        pub shm_size: i64,
        /// Limits of the shell's `ulimit`.
        pub ulimits: Vec<Ulimit>,
        /// Kernel parameters.
        pub sysctls: BTreeMap<String, String>,
        /// Where its log goes.
        pub log_config: LogConfig,
    }
    with "bindings" {
        /// Ports to publish, by container port such as `80/tcp`.
        pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    }

    /// A mount in the long form.
    pub struct MountRequest {
        /// `bind`, `volume`, `tmpfs` and so on.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Volume name or path on the engine's machine.
        pub source: String,
        /// Path in the container.
        pub target: String,
        /// It may only be read.
        pub read_only: bool,
    }

    /// When the engine restarts a container.
    pub struct RestartPolicy {
        /// `no`, `always`, `unless-stopped`, `on-failure` or empty, which means `no`.
        pub name: String,
        /// Most restarts under `on-failure`, 0 for no end.
        pub maximum_retry_count: i64,
    }

    /// A device of the engine's machine in a container.
    pub struct DeviceMapping {
        /// Path on the engine's machine.
        pub path_on_host: String,
        /// Path in the container.
        pub path_in_container: String,
        /// `r`, `w` and `m`.
        pub cgroup_permissions: String,
    }

    /// Devices asked for by driver.
    pub struct DeviceRequest {
        /// Driver, such as `nvidia`.
        pub driver: String,
        /// How many, -1 for all.
        pub count: i64,
        /// Which ones.
        #[serde(rename = "DeviceIDs")]
        pub device_ids: Vec<String>,
        /// Alternatives of capabilities, such as `[["gpu"]]`.
        pub capabilities: Vec<Vec<String>>,
    }

    /// One limit of `ulimit`.
    pub struct Ulimit {
        /// Name, such as `nofile`.
        pub name: String,
        /// Soft limit.
        pub soft: i64,
        /// Hard limit.
        pub hard: i64,
    }

    /// Where a log goes.
    pub struct LogConfig {
        /// Driver, such as `json-file`.
        #[serde(rename = "Type")]
        pub driver: String,
        /// Its options.
        pub config: BTreeMap<String, String>,
    }

    /// Where a port is published.
    pub struct PortBinding {
        /// Address on the host; empty means all.
        pub host_ip: String,
        /// Port on the host; empty means any free one.
        pub host_port: String,
    }

    /// Networks and ports as they are now.
    pub struct NetworkSettings {
        /// Networks by name.
        pub networks: BTreeMap<String, NetworkEndpoint>,
    }
    with "bindings" {
        /// Ports by container port such as `80/tcp`; no bindings if exposed and not published. Empty in lists.
        pub ports: BTreeMap<String, Vec<PortBinding>>,
    }

    /// A container's place on one network; addresses are empty while it does not run.
    pub struct NetworkEndpoint {
        /// Id of the network.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// Names the container answers to there.
        pub aliases: Vec<String>,
        /// Address.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// Gateway.
        pub gateway: String,
        /// IPv6 address.
        #[serde(rename = "GlobalIPv6Address")]
        pub ipv6_address: String,
        /// Hardware address.
        pub mac_address: String,
        /// Addresses that were asked for.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointAddresses>,
    }

    /// Addresses asked for on a network.
    pub struct EndpointAddresses {
        /// IPv4 address, or empty.
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        /// IPv6 address, or empty.
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
