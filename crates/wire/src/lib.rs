//! Everything that crosses between the command layer and a user interface.
//!
//! One list of commands ([`with_commands!`]), the requests and rows it speaks of, one error
//! ([`WireError`]) and the frames of a session's streams. `cargo xtask gen` turns all of it into
//! TypeScript under `ui/src/wire/`. This crate does no IO and knows no other crate of Berth.

mod commands;
mod container;
mod engine;
mod error;
mod ids;
mod operation;
mod session;
mod settings;
mod typescript;
mod world;

pub use commands::{Command, CommandKind, RpcRequest};
pub use container::{
    CommandPiece, ContainerDetail, ContainerRow, ContainerState, EnvVariable, Health, HealthProbe, LimitsDetail,
    MountDetail, NetworkDetail, PortRow,
};
pub use engine::{
    AcceleratorDetail, ComponentDetail, EngineDetail, EngineKind, EngineRow, EngineStage, EngineState, MachineUse,
};
pub use error::{Code, WireError};
pub use ids::{ClientId, ContainerId, ContainerKey, EngineId, InvalidId, OperationId, RequestId, StreamId};
pub use operation::{OperationKind, OperationPhase, OperationRow, OperationStarted};
pub use session::{
    Ack, Frame, FrameBody, LogBatch, LogGap, LogLine, LogsOpenReq, SessionPollReq, SessionPollRes, StreamCloseReq,
    WorldOpenReq, log_flags,
};
pub use settings::{Settings, SettingsWriteReq, Theme};
pub use typescript::{TypeScriptError, export_typescript, wire_digest};
pub use world::WorldPatch;

pub use commands::{
    About, AboutReq, ContainerInspectReq, ContainerKillReq, ContainerRemoveReq, ContainerReq, ContainerStopReq, Done,
    EngineReq, Host, OperationDismissReq, SettingsReadReq,
};
