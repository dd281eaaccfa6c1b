//! Logs of services and of their tasks.

use std::collections::BTreeMap;

use crate::{Docker, Error, LogLine, api::logs::LogStream, decode::timestamp, http::Call};

/// Which part of a log to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLogOptions {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Only the last so many lines of what is there.
    pub tail: Option<u32>,
    /// Only lines of this moment or later, in nanoseconds since the epoch by the node's clock.
    pub since: Option<i64>,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Tell when each line was written.
    pub timestamps: bool,
    /// Tell before each line whose it is; [`take_details`] takes that off again.
    pub details: bool,
}

impl Default for ServiceLogOptions {
    fn default() -> Self {
        Self { follow: false, tail: None, since: None, stdout: true, stderr: true, timestamps: false, details: false }
    }
}

pub(super) async fn open(
    docker: &Docker,
    call: Call,
    terminal: bool,
    options: &ServiceLogOptions,
) -> Result<LogStream, Error> {
    let mut call = call
        .flag("follow", options.follow)
        .flag("stdout", options.stdout)
        .flag("stderr", options.stderr)
        .flag("timestamps", options.timestamps)
        .flag("details", options.details);
    if let Some(tail) = options.tail {
        call = call.query("tail", tail.to_string());
    }
    if let Some(since) = options.since {
        call = call.query("since", timestamp::as_parameter(since));
    }
    let (_, body) = docker.open(call).await?;
    Ok(LogStream::new(body, terminal, options.timestamps))
}

/// Takes off a line what [`ServiceLogOptions::details`] put before it: pairs such as `com.docker.swarm.task.id` and an
/// id, and what the log driver adds. A line without them is left as it is. A line of more than 16 KiB has them once more
/// in its midst for every 16 KiB, and those stay.
#[must_use]
pub fn take_details(line: &mut LogLine) -> BTreeMap<String, String> {
    let Some((before, text)) = line.text.split_once(' ') else {
        return BTreeMap::new();
    };
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decoded(name), decoded(value)));
    let Some(details) = before.split(',').map(pair).collect::<Option<BTreeMap<_, _>>>() else {
        return BTreeMap::new();
    };
    line.text = text.to_owned();
    details
}

/// The engine writes details as queries are written.
fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { nanos: None, stderr: false, cut: false, text: text.to_owned() }
    }

    #[test]
    fn details_are_taken_off() {
        let mut told = line("com.docker.swarm.node.id=n1,com.docker.swarm.task.id=t1,a%2Cb=c+d%3D hello, a=b world");
        let details = take_details(&mut told);
        assert_eq!(details["com.docker.swarm.task.id"], "t1");
        assert_eq!(details["a,b"], "c d=");
        assert_eq!(told.text, "hello, a=b world");
    }

    #[test]
    fn a_line_without_details_is_left_alone() {
        for text in ["", " ", "hello", "hello world", "a=b,c d", ",", "a%=%ff,"] {
            let mut plain = line(text);
            assert!(take_details(&mut plain).is_empty(), "{text}");
            assert_eq!(plain.text, text);
        }
        let mut odd = line("a%=%ff x");
        assert_eq!(take_details(&mut odd)["a%"], "\u{fffd}");
    }
}
