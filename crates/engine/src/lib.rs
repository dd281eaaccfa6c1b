//! Docker Engine API client, and the live view of one engine.
//!
//! [`Docker`] speaks HTTP/1.1 to one [`Endpoint`]: a unix socket or plain TCP. [`watch()`] keeps a [`Store`] of that
//! engine's containers in step with it. Both know nothing of Berth's other crates.
//!
//! What comes from an engine is outside data: every length is capped, every decoder returns an [`Error`] instead of
//! panicking, and nothing from it reaches a request path unchecked.

#![warn(missing_docs)]

mod backoff;
mod cache;
mod connect;
mod containers;
mod endpoint;
mod error;
mod events;
mod frame;
mod http;
mod id;
mod json_stream;
mod lines;
mod logs;
pub mod model;
mod queue;
mod system;
mod timestamp;
mod version;
mod watch;

pub use self::http::Docker;
pub use cache::{Container, EngineInfo, Link, Port, Snapshot, SnapshotWriter, Store};
pub use containers::{Changed, ContainerExit, Filters, ListContainers, RemoveContainer};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::Error;
pub use events::{Event, EventKind};
pub use frame::{FrameDecoder, FrameError, FramePiece, StdStream};
pub use id::{ContainerId, ContainerRef};
pub use lines::{LINE_CAP, LogBatch, LogDecoder, LogLine};
pub use logs::LogOptions;
pub use model::{ContainerInspect, ContainerState, ContainerSummary, Health};
pub use system::{Info, VersionInfo};
pub use version::ApiVersion;
pub use watch::{WatchHandle, WatchOptions, watch};
