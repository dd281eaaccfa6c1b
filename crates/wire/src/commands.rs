//! The one list of commands, and the requests that have no better home.

use std::fmt;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{ContainerKey, EngineId, OperationId, RequestId};

/// The only list of commands there is.
///
/// Passes `name(Request) -> Response, kind;` for every command to the macro it is given, so that the
/// router, the TypeScript map and [`Command`] cannot drift apart: a command without a body does not
/// compile.
///
/// Kinds: `read` changes nothing; `mutate` carries a request id and runs once however often it
/// arrives; `stream` opens, feeds or closes a stream of the caller's session.
#[macro_export]
macro_rules! with_commands {
    ($callback:ident) => {
        $callback! {
            about(AboutReq) -> About, read;
            container_inspect(ContainerInspectReq) -> ContainerDetail, read;
            container_kill(ContainerKillReq) -> OperationStarted, mutate;
            container_pause(ContainerReq) -> OperationStarted, mutate;
            container_remove(ContainerRemoveReq) -> OperationStarted, mutate;
            container_restart(ContainerStopReq) -> OperationStarted, mutate;
            container_start(ContainerReq) -> OperationStarted, mutate;
            container_stop(ContainerStopReq) -> OperationStarted, mutate;
            container_unpause(ContainerReq) -> OperationStarted, mutate;
            engine_give_back(EngineReq) -> OperationStarted, mutate;
            engine_inspect(EngineReq) -> EngineDetail, read;
            engine_start(EngineReq) -> OperationStarted, mutate;
            engine_stop(EngineReq) -> OperationStarted, mutate;
            logs_open(LogsOpenReq) -> StreamId, stream;
            operation_dismiss(OperationDismissReq) -> Done, mutate;
            session_poll(SessionPollReq) -> SessionPollRes, stream;
            settings_read(SettingsReadReq) -> Settings, read;
            settings_write(SettingsWriteReq) -> Settings, mutate;
            stream_close(StreamCloseReq) -> Done, stream;
            world_open(WorldOpenReq) -> StreamId, stream;
        }
    };
}

macro_rules! define_commands {
    ($($name:ident($request:ident) -> $response:ident, $kind:ident;)*) => {
        /// A command by name, as it stands in an [`RpcRequest`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(non_camel_case_types, reason = "one spelling in Rust, on the wire and in TypeScript")]
        #[allow(missing_docs)]
        pub enum Command { $($name),* }

        impl Command {
            /// Every command, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The command of that name, if there is one.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// What the router owes a call of this command.
            #[must_use]
            pub const fn kind(self) -> CommandKind {
                match self { $(Self::$name => CommandKind::$kind),* }
            }
        }
    };
}
with_commands!(define_commands);

/// What the router owes a call: see [`with_commands!`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "spelled as in the command list")]
pub enum CommandKind {
    /// Changes nothing; may be repeated freely.
    read,
    /// Changes something; runs once per request id.
    mutate,
    /// Belongs to the caller's session.
    stream,
}

/// One call, as both transports carry it. `Debug` leaves out what it asks: that may be a password.
#[derive(Clone, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RpcRequest {
    /// Name of a command in the list.
    pub cmd: String,
    /// The command's request.
    #[ts(type = "unknown")]
    pub payload: serde_json::Value,
    /// The window or page that calls; its streams live and die with it.
    pub client: crate::ClientId,
    /// Needed by `mutate` commands: the same id never runs twice.
    #[serde(default, rename = "requestId", skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub request_id: Option<RequestId>,
}

impl fmt::Debug for RpcRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcRequest")
            .field("cmd", &self.cmd)
            .field("client", &self.client)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

/// Asks what this Berth is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AboutReq {}

/// What this Berth is and what its host can do.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Berth's version.
    pub version: String,
    /// Digest of the command list; a page built for another one reloads itself.
    pub wire: String,
    /// What shows the page.
    pub host: Host,
}

/// What shows the page.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, TS, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Host {
    /// The desktop window.
    Desktop,
    /// A browser, through `berth serve`.
    Browser,
}

/// Nothing more to say than that it happened.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, TS)]
pub struct Done {}

/// Names one engine.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EngineReq {
    /// Which engine.
    pub engine: EngineId,
}

/// Names one container.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerReq {
    /// Which container, on which engine.
    pub container: ContainerKey,
}

/// Asks for everything about one container. Engine API: `ContainerInspect`.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerInspectReq {
    /// Which container, on which engine.
    pub container: ContainerKey,
}

/// Stops or restarts one container. Engine API: `ContainerStop`, `ContainerRestart`.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerStopReq {
    /// Which container, on which engine.
    pub container: ContainerKey,
    /// Seconds to wait before it is killed; the container's own setting when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub timeout_seconds: Option<u32>,
}

/// Sends a signal to one container. Engine API: `ContainerKill`.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerKillReq {
    /// Which container, on which engine.
    pub container: ContainerKey,
    /// Signal name such as `SIGTERM`; `SIGKILL` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub signal: Option<String>,
}

/// Removes one container. Engine API: `ContainerDelete`.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerRemoveReq {
    /// Which container, on which engine.
    pub container: ContainerKey,
    /// Kill it first if it runs.
    #[serde(default)]
    pub force: bool,
    /// Remove its anonymous volumes as well.
    #[serde(default)]
    pub volumes: bool,
}

/// Takes a finished operation off the list.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OperationDismissReq {
    /// Which operation.
    pub operation: OperationId,
}

/// Asks for the user's settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SettingsReadReq {}
