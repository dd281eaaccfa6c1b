//! Sessions: all streams of one page through one poll.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{ContainerKey, StreamId, WireError, WorldPatch};

/// Asks for what the session's streams have to say. One at a time per page.
///
/// Frames stay on the server until they are acknowledged, so a lost answer costs time, not data.
#[derive(Clone, Debug, Default, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionPollReq {
    /// The last sequence number applied of each stream.
    pub acks: Vec<Ack>,
    /// How many bytes of frames the page wants at the most; the server may send less.
    pub max_bytes: u32,
    /// How long to wait in milliseconds when there is nothing to say.
    pub wait_milliseconds: u32,
}

/// Everything of this stream up to this number was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Ack {
    pub stream: StreamId,
    pub sequence: u64,
}

/// Answer to a poll.
#[derive(Clone, Debug, Default, Deserialize, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SessionPollRes {
    /// Frames in order; those of one stream count up by one from 1.
    pub frames: Vec<Frame>,
    /// Streams named in the acks that this session does not have (the lease ran out): open them again.
    pub unknown: Vec<StreamId>,
}

/// One piece of one stream.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// The stream.
    pub stream: StreamId,
    /// Counts up by one from 1; what was applied before is dropped by the page.
    pub sequence: u64,
    /// What it says.
    pub body: FrameBody,
}

/// What a frame says.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(tag = "kind", content = "data", rename_all = "camelCase")]
pub enum FrameBody {
    /// The world changed.
    World(WorldPatch),
    /// Lines of a log.
    Log(LogBatch),
    /// Lines of a log were left out, because they came faster than they could be shown.
    Gap(LogGap),
    /// The stream ended as it should.
    End,
    /// The stream ended in an error.
    Failed(WireError),
}

/// Opens the log of one container. Engine API: `ContainerLogs`.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LogsOpenReq {
    /// Which container, on which engine.
    pub container: ContainerKey,
    /// Lines of the past to begin with, at most 50,000.
    pub tail: u32,
    /// Go on with what is written from now on.
    pub follow: bool,
}

/// Lines of a log in the order the engine gave them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LogBatch {
    /// The lines.
    pub lines: Vec<LogLine>,
}

/// A line: `[milliseconds since the epoch, flags, text]`.
///
/// Time is 0 where the engine gave none. Flags are the bits of [`log_flags`]. The text has no line end
/// and is hostile: it may hold escape sequences and anything else.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, TS)]
pub struct LogLine(pub f64, pub u8, pub String);

/// Bits of a log line's flags.
pub mod log_flags {
    /// Written to standard error.
    pub const STDERR: u8 = 1;
    /// Longer than 64 KiB; the rest of it was left out.
    pub const CUT: u8 = 2;
    /// A note of Berth's own, such as that the container was started again.
    pub const NOTE: u8 = 4;
}

/// Lines that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LogGap {
    /// How many lines.
    pub lines: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Time of the first of them in milliseconds since the epoch, 0 where unknown.
    pub from: f64,
    /// Time of the last of them in milliseconds since the epoch, 0 where unknown.
    pub to: f64,
}

/// Opens the stream of the world.
#[derive(Clone, Debug, Default, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WorldOpenReq {
    /// The last revision the page has; absent for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub revision: Option<u64>,
}

/// Closes a stream of the caller's session.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StreamCloseReq {
    /// The stream.
    pub stream: StreamId,
}
