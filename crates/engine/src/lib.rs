//! Docker Engine API client, and the live view of one engine.
//!
//! [`Docker`] speaks HTTP/1.1 to one [`Endpoint`]: a unix socket, a named pipe, TCP with and without TLS, or ssh. [`watch()`] keeps a [`Store`] of that
//! engine's containers in step with it. Both know nothing of Berth's other crates.
//!
//! What comes from an engine is outside data: every length is capped, every decoder returns an [`Error`] instead of
//! panicking, and nothing from it reaches a request path unchecked.
//!
//! The examples run against a real engine where one is given, by `cargo xtask test engine`.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
//! # fn main() -> Ended { on_engine(example) }
//! use futures_util::StreamExt as _;
//! use serde_json::json;
//!
//! # async fn example(docker: berth_engine::Docker) -> Ended {
//! use berth_engine::{LogOptions, RemoveContainer};
//!
//! let body = json!({ "Image": "busybox:test", "Cmd": ["echo", "hello"] });
//! let container = docker.create_container("doc-hello", &body).await?.into();
//! docker.start_container(&container).await?;
//! assert_eq!(docker.wait_container(&container).await?.status_code, 0);
//!
//! let mut log = docker.container_logs(&container, &LogOptions::default());
//! while let Some(lines) = log.next().await {
//!     for line in lines? {
//!         assert_eq!(line.text, "hello");
//!     }
//! }
//! docker.remove_container(&container, &RemoveContainer::default()).await?;
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod api;
pub mod archive;
pub mod context;
mod decode;
mod endpoint;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod id;
mod live;
mod operation;
pub mod reference;
pub mod registry;
mod transport;
mod version;

pub use self::http::Docker;
pub use self::http::{Hijacked, RequestBody};
pub use api::attach::{AttachContainer, Attached, OutputPiece, ProcessInput, ProcessOutput};
pub use api::containers::{
    Change, ChangeKind, Changed, ContainerExit, CreateContainer, CreatedContainer, Filters, ListContainers,
    ProcessList, PrunedContainers, RemoveContainer, StopContainer, TerminalSize, WaitCondition,
};
pub use api::environment::Environment;
pub use api::events::{Event, EventKind, EventOptions};
pub use api::exec::{ExecId, ExecOptions, ExecProcess, ExecSession, ExecState};
pub use api::files::{FileKind, PathStat, UploadArchive};
pub use api::logs::LogOptions;
pub use api::model;
pub use api::stats::{BlockIo, ContainerStats, CpuStats, MemoryStats, NetworkStats, PidsStats, Sampling, Throttling};
/// What takes room on the engine's disk.
pub use api::system::usage;
pub use api::system::{Info, Ping, VersionInfo, auth::LoginAccepted};
pub use api::{build, distribution, images, progress, session};
pub use api::{networks, plugins, swarm, volumes};
/// The API's own schemas, for bodies of requests and for answers that are rarely read.
pub use bollard_stubs::models as schema;
pub use decode::frame::{FrameDecoder, FrameError, FramePiece, StdStream};
pub use decode::lines::{LINE_CAP, LogBatch, LogDecoder, LogLine};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::Error;
pub use id::{ContainerId, ContainerRef};
pub use live::cache::{Container, EngineInfo, Link, Port, Snapshot, SnapshotWriter, Store};
pub use live::watch::{WatchHandle, WatchOptions, watch};
pub use model::{ContainerInspect, ContainerState, ContainerSummary, Health};
pub use transport::{ConnectOptions, Pem, Socket, TlsMaterial, Verification, dial};
pub use version::ApiVersion;
