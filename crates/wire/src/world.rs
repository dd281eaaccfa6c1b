//! The world: what all windows see alike.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{ContainerKey, ContainerRow, EngineId, EngineRow, OperationId, OperationRow};

/// A step from one revision of the world to a later one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct WorldPatch {
    /// The revision this patch leads to.
    pub revision: u64,
    /// Forget everything first: this is the whole world.
    pub reset: bool,
    /// Engines that are new or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<EngineRow>>")]
    pub engines: Vec<EngineRow>,
    /// Engines that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<EngineId>>")]
    pub engines_removed: Vec<EngineId>,
    /// Containers that are new or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<ContainerRow>>")]
    pub containers: Vec<ContainerRow>,
    /// Containers that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<ContainerKey>>")]
    pub containers_removed: Vec<ContainerKey>,
    /// Operations that are new or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<OperationRow>>")]
    pub operations: Vec<OperationRow>,
    /// Operations that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<OperationId>>")]
    pub operations_removed: Vec<OperationId>,
}
