//! Docker Engine API client, and the live view of one engine.
//!
//! [`Docker`] speaks HTTP/1.1 to one [`Endpoint`]: a unix socket or plain TCP. [`watch()`] keeps a [`Store`] of that
//! engine's containers in step with it. Both know nothing of Berth's other crates.
//!
//! What comes from an engine is outside data: every length is capped, every decoder returns an [`Error`] instead of
//! panicking, and nothing from it reaches a request path unchecked.

#![warn(missing_docs)]

mod api;
mod decode;
mod endpoint;
mod error;
mod http;
mod id;
mod live;
mod transport;
mod version;

pub use self::http::Docker;
pub use api::containers::{Changed, ContainerExit, Filters, ListContainers, RemoveContainer};
pub use api::events::{Event, EventKind};
pub use api::logs::LogOptions;
pub use api::model;
pub use api::system::{Info, VersionInfo};
pub use decode::frame::{FrameDecoder, FrameError, FramePiece, StdStream};
pub use decode::lines::{LINE_CAP, LogBatch, LogDecoder, LogLine};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::Error;
pub use id::{ContainerId, ContainerRef};
pub use live::cache::{Container, EngineInfo, Link, Port, Snapshot, SnapshotWriter, Store};
pub use live::watch::{WatchHandle, WatchOptions, watch};
pub use model::{ContainerInspect, ContainerState, ContainerSummary, Health};
pub use version::ApiVersion;
