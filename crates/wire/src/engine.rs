//! Engines as rows.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{EngineId, WireError};

/// One engine, as the sidebar and the status bar show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EngineRow {
    /// Its id.
    pub id: EngineId,
    /// What people call it.
    pub name: String,
    /// Where it comes from.
    pub kind: EngineKind,
    /// Address, such as `unix:///run/user/1000/berth/docker.sock`.
    pub endpoint: String,
    /// Where it stands.
    pub state: EngineState,
    /// Milliseconds since the epoch at which it took that state.
    pub since: f64,
    /// The last error, while it matters.
    pub error: Option<WireError>,
    /// Stages of the start that runs or ran last, with what each took.
    pub stages: Vec<EngineStage>,
    /// Engine version, such as `28.5.2`, once known.
    pub version: Option<String>,
    /// API version spoken with it, such as `1.51`, once negotiated.
    pub api_version: Option<String>,
    /// `linux/amd64` and the like, once known.
    pub platform: Option<String>,
    /// Processors the engine may use, once known.
    pub processors: Option<u32>,
    /// Memory the engine may use in bytes, once known.
    pub memory_bytes: Option<f64>,
    /// What works only in part, one sentence each.
    pub warnings: Vec<String>,
    /// True once a full list of containers has been seen.
    pub listed: bool,
}

/// One stage of starting the bundled engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EngineStage {
    /// Its name, such as `booting`.
    pub name: String,
    /// What it took in milliseconds; absent while it runs.
    pub milliseconds: Option<f64>,
}

/// Where an engine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum EngineKind {
    /// Berth brought it and may start and stop it.
    Bundled,
    /// It was there before; Berth only talks to it.
    Adopted,
}

/// Where an engine stands. `Ready` is the only state in which rows are live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum EngineState {
    /// Not running, and nobody wants it to.
    Stopped,
    /// On its way up.
    Starting,
    /// Answering; rows are live.
    Ready,
    /// It answered before and does not now; rows are what was last seen.
    Lost,
    /// Stopped because nobody used it; the next call wakes it. Rows are what was last seen.
    Asleep,
    /// On its way down.
    Stopping,
    /// It could not be started or reached; the error says why.
    Failed,
}

/// What of an engine is not in its row: how it is run, and what that takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EngineDetail {
    /// What runs it, such as `native` or `qemu`; none for an engine that was there before.
    pub backend: Option<String>,
    /// What runs the instructions of its machine, and why; none without a machine.
    pub accelerator: Option<AcceleratorDetail>,
    /// Where its data is.
    pub data_folder: Option<String>,
    /// The process that looks after it.
    pub process: Option<u32>,
    /// What it is made of.
    pub components: Vec<ComponentDetail>,
    /// What its machine uses; none without one, or while it does not run.
    pub machine: Option<MachineUse>,
}

/// What runs a machine's instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorDetail {
    /// Its name, such as `KVM`.
    pub name: String,
    /// Why it was chosen, as a whole sentence.
    pub why: String,
}

/// One program an engine is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ComponentDetail {
    /// Its name, such as `containerd`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What a machine uses, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineUse {
    /// Its memory.
    pub memory_total_bytes: f64,
    /// What programs in it could still get.
    pub memory_available_bytes: f64,
    /// What of this computer's memory it takes.
    pub memory_host_bytes: f64,
    /// The size of its data disk.
    pub disk_total_bytes: f64,
    /// What of it is free.
    pub disk_free_bytes: f64,
    /// What the disk takes of this computer's.
    pub disk_host_bytes: f64,
}
