//! The messages on the control stream. Each is a JSON object; fields that are not known are ignored.

use serde::{Deserialize, Serialize};

/// What one side asks of the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params")]
pub enum Request {
    /// The first request of the host.
    #[serde(rename = "hello")]
    Hello {
        /// Version of these messages that the host speaks.
        protocol: u32,
        /// Version of the host's program.
        host_version: String,
    },
    /// How the services are.
    #[serde(rename = "status")]
    Status,
    /// Sets the guest's clock.
    #[serde(rename = "time.set")]
    TimeSet {
        /// Seconds since 1970.
        seconds: u64,
        /// And nanoseconds.
        nanoseconds: u32,
    },
    /// Stops everything in order and turns the machine off.
    #[serde(rename = "shutdown")]
    Shutdown {
        /// What containers get to stop by themselves.
        grace_seconds: u32,
    },
    /// Writes all file systems out.
    #[serde(rename = "sync")]
    Sync,
    /// Gives unused blocks of the data disk back.
    #[serde(rename = "trim")]
    Trim,
    /// Gives unused memory back.
    #[serde(rename = "reclaim")]
    Reclaim,
    /// The data disk has grown: the file system is to follow.
    #[serde(rename = "grow")]
    Grow,
    /// What is used of memory and disk.
    #[serde(rename = "metrics")]
    Metrics,
    /// Files of shared folders have changed on the host: whoever watches them in the guest is to hear of it.
    #[serde(rename = "files.changed")]
    FilesChanged {
        /// Absolute paths, the same on both sides; of a file that is gone as well.
        paths: Vec<String>,
    },
}

impl Request {
    /// Names of all methods.
    pub const METHODS: [&'static str; 10] =
        ["hello", "status", "time.set", "shutdown", "sync", "trim", "reclaim", "grow", "metrics", "files.changed"];

    /// The name of its method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Status => "status",
            Self::TimeSet { .. } => "time.set",
            Self::Shutdown { .. } => "shutdown",
            Self::Sync => "sync",
            Self::Trim => "trim",
            Self::Reclaim => "reclaim",
            Self::Grow => "grow",
            Self::Metrics => "metrics",
            Self::FilesChanged { .. } => "files.changed",
        }
    }
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello(HelloReply),
    /// To [`Request::Status`].
    Status(StatusReply),
    /// It is done, and there is nothing to say about it.
    Done,
    /// To [`Request::Trim`].
    Trimmed {
        /// Bytes given back.
        freed_bytes: u64,
    },
    /// To [`Request::Metrics`].
    Metrics(MetricsReply),
}

/// Who the guest is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HelloReply {
    /// Version of these messages that the guest speaks.
    pub protocol: u32,
    /// Version of the agent.
    pub agent_version: String,
    /// Name and version of the guest's system.
    pub os: String,
    /// Version of its kernel.
    pub kernel: String,
    /// Version of the engine, where it is known already.
    pub engine: Option<String>,
    /// Which boot of the machine this is: it differs after every start.
    pub boot_id: String,
}

/// How the guest is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusReply {
    /// The stage of the boot that was reached last.
    pub stage: String,
    /// Its services.
    pub services: Vec<ServiceStatus>,
    /// What failed for good, if anything did.
    pub failure: Option<String>,
    /// Milliseconds since the guest's kernel started, by the guest's clock.
    pub uptime_milliseconds: u64,
}

/// One service of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name, such as `dockerd`.
    pub service: String,
    /// What it does.
    pub state: ServiceState,
    /// Its process, while it runs.
    #[serde(default)]
    pub pid: Option<u32>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
}

/// What is used of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsReply {
    /// Its memory.
    pub memory: MemoryMetrics,
    /// Its data disk.
    pub disk: DiskMetrics,
}

/// Memory of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryMetrics {
    /// All that there is.
    pub total_bytes: u64,
    /// What programs could get.
    pub available_bytes: u64,
    /// What holds files that could be read again.
    pub cached_bytes: u64,
}

/// The data disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskMetrics {
    /// Size of its file system.
    pub total_bytes: u64,
    /// What is free of it.
    pub free_bytes: u64,
}

/// What one side tells the other unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "params", rename_all = "snake_case")]
pub enum Event {
    /// A service of the guest changed.
    Service {
        /// Its name.
        service: String,
        /// What it does now.
        state: ServiceState,
        /// Its process, while it runs.
        #[serde(default)]
        pid: Option<u32>,
        /// How it ended, for example.
        #[serde(default)]
        detail: Option<String>,
    },
    /// A service dies again and again.
    CrashLoop {
        /// Its name.
        service: String,
        /// How often.
        exits: u32,
        /// How it ended the last time.
        detail: String,
    },
    /// Something is wrong that does not stop the guest.
    Warning {
        /// What.
        message: String,
    },
    /// The guest cannot go on.
    Failed {
        /// In which stage.
        stage: String,
        /// Why.
        cause: String,
    },
    /// A stage of the boot was reached.
    Stage {
        /// Its name.
        name: String,
    },
    /// Memory that was in use is free, and nothing goes on: the host may have it.
    Freed,
    /// Everything has stopped; the machine is about to turn off.
    Stopped,
}

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Its process runs.
    Started,
    /// It answers.
    Ready,
    /// Its process has ended.
    Exited,
    /// A state of a later version.
    #[serde(other)]
    Unknown,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What kind of failure, for programs.
    pub code: FaultCode,
    /// What happened, for people.
    pub message: String,
}

/// What kind of failure a [`Fault`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The method is not known: the peer is older, or it is not for this side.
    UnknownMethod,
    /// The parameters cannot be read.
    BadParameters,
    /// It cannot be done now.
    Unavailable,
    /// It failed.
    Failed,
    /// A code of a later version.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}
