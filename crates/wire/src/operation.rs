//! Operations: what was asked for, how it goes, how it ended. Every window sees the same ones.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{ContainerId, EngineId, OperationId, WireError};

/// Answer of a command that started an operation; its fate is in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct OperationStarted {
    /// The operation.
    pub operation: OperationId,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct OperationRow {
    /// Its id.
    pub id: OperationId,
    /// The engine it concerns.
    pub engine: EngineId,
    /// The container it concerns, where it is one.
    pub container: Option<ContainerId>,
    /// Name of what it concerns, as it was when the operation began.
    pub target: String,
    /// What is being done.
    pub kind: OperationKind,
    /// How it goes.
    pub phase: OperationPhase,
    /// Begun, in milliseconds since the epoch.
    pub started: f64,
    /// Ended, in milliseconds since the epoch.
    pub finished: Option<f64>,
    /// Why it failed.
    pub error: Option<WireError>,
    /// The equivalent command line, quoted for a POSIX shell.
    pub command: String,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum OperationKind {
    ContainerStart,
    ContainerStop,
    ContainerRestart,
    ContainerPause,
    ContainerUnpause,
    ContainerKill,
    ContainerRemove,
    EngineStart,
    EngineStop,
    EngineGiveBack,
}

/// How an operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum OperationPhase {
    Running,
    Succeeded,
    Failed,
}
