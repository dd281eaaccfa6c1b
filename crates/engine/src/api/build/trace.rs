//! BuildKit's reports in their two forms: the protobuf in the engine's answer and the JSON lines of buildx.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use serde::Deserialize;

use super::graph::{BuildUpdate, BuildWarning, OutputUpdate, StatusUpdate, VertexUpdate};
use crate::{api::model::nullable, decode::timestamp::millis};

/// Reports on steps, on parts of them, on output and warnings that are taken from one message.
const ENTRIES: usize = 8192;

/// The number of standard error.
const STDERR: i64 = 2;

// The parts of `moby.buildkit.v1.StatusResponse` that are shown; whatever else is in it is skipped.

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, repeated, tag = "1")]
    vertexes: Vec<Vertex>,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<VertexStatus>,
    #[prost(message, repeated, tag = "3")]
    logs: Vec<VertexLog>,
    #[prost(message, repeated, tag = "4")]
    warnings: Vec<VertexWarning>,
}

#[derive(Clone, PartialEq, Message)]
struct Vertex {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(string, repeated, tag = "2")]
    inputs: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bool, tag = "4")]
    cached: bool,
    #[prost(message, optional, tag = "5")]
    started: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    completed: Option<Timestamp>,
    #[prost(string, tag = "7")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct VertexStatus {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    vertex: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(int64, tag = "4")]
    current: i64,
    #[prost(int64, tag = "5")]
    total: i64,
    #[prost(message, optional, tag = "7")]
    started: Option<Timestamp>,
    #[prost(message, optional, tag = "8")]
    completed: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct VertexLog {
    #[prost(string, tag = "1")]
    vertex: String,
    #[prost(message, optional, tag = "2")]
    timestamp: Option<Timestamp>,
    #[prost(int64, tag = "3")]
    stream: i64,
    #[prost(bytes = "vec", tag = "4")]
    message: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct VertexWarning {
    #[prost(string, tag = "1")]
    vertex: String,
    #[prost(bytes = "vec", tag = "3")]
    short: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    detail: Vec<Vec<u8>>,
    #[prost(string, tag = "5")]
    url: String,
    #[prost(message, optional, tag = "6")]
    source: Option<SourceInfo>,
    #[prost(message, repeated, tag = "7")]
    ranges: Vec<Range>,
}

#[derive(Clone, PartialEq, Message)]
struct SourceInfo {
    #[prost(string, tag = "1")]
    file: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Range {
    #[prost(message, optional, tag = "1")]
    start: Option<Position>,
    #[prost(message, optional, tag = "2")]
    end: Option<Position>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Position {
    #[prost(int32, tag = "1")]
    line: i32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[expect(clippy::cast_precision_loss, reason = "seconds of any real date are far below 2^53")]
fn at(time: Option<Timestamp>) -> Option<f64> {
    time.filter(|time| time.seconds > 0).map(|time| time.seconds as f64 * 1e3 + f64::from(time.nanos) / 1e6)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn lines(start: i32, end: i32) -> Option<(u32, u32)> {
    let (start, end) = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
    (start > 0).then_some((start, end.max(start)))
}

/// Reads the `aux` of a `moby.buildkit.trace` message: protobuf in base64. `None` if it is none.
pub(crate) fn read_aux(aux: &str) -> Option<BuildUpdate> {
    read_protobuf(&STANDARD.decode(aux).ok()?)
}

fn read_protobuf(bytes: &[u8]) -> Option<BuildUpdate> {
    let response = StatusResponse::decode(bytes).ok()?;
    let vertices = response.vertexes.into_iter().take(ENTRIES).map(|vertex| VertexUpdate {
        started: at(vertex.started),
        completed: at(vertex.completed),
        digest: vertex.digest,
        inputs: vertex.inputs,
        name: vertex.name,
        cached: vertex.cached,
        error: vertex.error,
    });
    let statuses = response.statuses.into_iter().take(ENTRIES).map(|status| StatusUpdate {
        current: count(status.current),
        total: count(status.total),
        started: at(status.started),
        completed: at(status.completed),
        id: status.id,
        vertex: status.vertex,
        name: status.name,
    });
    let output = response.logs.into_iter().take(ENTRIES).map(|log| OutputUpdate {
        stderr: log.stream == STDERR,
        at: at(log.timestamp),
        vertex: log.vertex,
        bytes: log.message,
    });
    let warnings = response.warnings.into_iter().take(ENTRIES).map(|warning| {
        let range = warning.ranges.first().copied().unwrap_or_default();
        let line = |position: Option<Position>| position.unwrap_or_default().line;
        BuildWarning {
            short: text(&warning.short),
            detail: warning.detail.iter().map(|line| text(line)).collect(),
            file: warning.source.unwrap_or_default().file,
            lines: lines(line(range.start), line(range.end)),
            vertex: warning.vertex,
            url: warning.url,
        }
    });
    Some(BuildUpdate {
        vertices: vertices.collect(),
        statuses: statuses.collect(),
        output: output.collect(),
        warnings: warnings.collect(),
    })
}

// What buildx writes with `--progress=rawjson`: the Go struct `SolveStatus`, its byte slices in base64.

#[derive(Default, Deserialize)]
#[serde(default)]
struct SolveStatus {
    #[serde(deserialize_with = "nullable")]
    vertexes: Vec<RawVertex>,
    #[serde(deserialize_with = "nullable")]
    statuses: Vec<RawStatus>,
    #[serde(deserialize_with = "nullable")]
    logs: Vec<RawLog>,
    #[serde(deserialize_with = "nullable")]
    warnings: Vec<RawWarning>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawVertex {
    digest: String,
    #[serde(deserialize_with = "nullable")]
    inputs: Vec<String>,
    name: String,
    cached: bool,
    #[serde(deserialize_with = "millis")]
    started: Option<f64>,
    #[serde(deserialize_with = "millis")]
    completed: Option<f64>,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStatus {
    id: String,
    vertex: String,
    name: String,
    current: i64,
    total: i64,
    #[serde(deserialize_with = "millis")]
    started: Option<f64>,
    #[serde(deserialize_with = "millis")]
    completed: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawLog {
    vertex: String,
    stream: i64,
    #[serde(deserialize_with = "nullable")]
    data: String,
    #[serde(deserialize_with = "millis")]
    timestamp: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawWarning {
    vertex: String,
    #[serde(deserialize_with = "nullable")]
    short: String,
    #[serde(deserialize_with = "nullable")]
    detail: Vec<String>,
    url: String,
    #[serde(rename = "sourceInfo", deserialize_with = "nullable")]
    source: RawSource,
    #[serde(deserialize_with = "nullable")]
    range: Vec<RawRange>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSource {
    filename: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRange {
    #[serde(deserialize_with = "nullable")]
    start: RawPosition,
    #[serde(deserialize_with = "nullable")]
    end: RawPosition,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPosition {
    line: i32,
}

/// Reads a line that buildx wrote; `None` if it is no report.
pub(crate) fn read_line(line: &[u8]) -> Option<BuildUpdate> {
    let status: SolveStatus = serde_json::from_slice(line).ok()?;
    let plain = |data: &str| STANDARD.decode(data).unwrap_or_default();
    let vertices = status.vertexes.into_iter().take(ENTRIES).map(|vertex| VertexUpdate {
        digest: vertex.digest,
        inputs: vertex.inputs,
        name: vertex.name,
        cached: vertex.cached,
        started: vertex.started,
        completed: vertex.completed,
        error: vertex.error,
    });
    let statuses = status.statuses.into_iter().take(ENTRIES).map(|status| StatusUpdate {
        current: count(status.current),
        total: count(status.total),
        id: status.id,
        vertex: status.vertex,
        name: status.name,
        started: status.started,
        completed: status.completed,
    });
    let output = status.logs.into_iter().take(ENTRIES).map(|log| OutputUpdate {
        stderr: log.stream == STDERR,
        bytes: plain(&log.data),
        vertex: log.vertex,
        at: log.timestamp,
    });
    let warnings = status.warnings.into_iter().take(ENTRIES).map(|warning| BuildWarning {
        short: text(&plain(&warning.short)),
        detail: warning.detail.iter().map(|line| text(&plain(line))).collect(),
        file: warning.source.filename,
        lines: warning.range.first().and_then(|range| lines(range.start.line, range.end.line)),
        vertex: warning.vertex,
        url: warning.url,
    });
    Some(BuildUpdate {
        vertices: vertices.collect(),
        statuses: statuses.collect(),
        output: output.collect(),
        warnings: warnings.collect(),
    })
}

#[cfg(test)]
#[path = "trace_tests.rs"]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
