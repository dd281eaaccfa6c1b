//! Logs of a container.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use http::{HeaderMap, header};

use crate::{
    ApiVersion, ContainerRef, Docker, Error, LogBatch, LogDecoder,
    decode::timestamp,
    http::{Call, Older},
    operation::Operation,
    transport::StreamBody,
};

/// Which part of a log to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Only the last so many lines of what is there.
    pub tail: Option<u32>,
    /// Only lines of this moment or later, in nanoseconds since the epoch by the engine's clock.
    pub since: Option<i64>,
    /// Only lines of before this moment, in nanoseconds since the epoch by the engine's clock.
    pub until: Option<i64>,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Tell when each line was written.
    pub timestamps: bool,
    /// Whether the container has a terminal, if that is known; saves asking the engine.
    pub tty: Option<bool>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            follow: false,
            tail: None,
            since: None,
            until: None,
            stdout: true,
            stderr: true,
            timestamps: false,
            tty: None,
        }
    }
}

/// Bytes taken before lines are handed on, even if more have come.
const BATCH_BYTES: usize = 256 * 1024;

/// From here on an engine tells raw and multiplexed output apart in its `Content-Type`; before, it calls both raw.
const TELLS_CONTENT_TYPE: ApiVersion = ApiVersion { major: 1, minor: 42 };

/// Lines of an open log.
pub(crate) struct LogStream {
    body: StreamBody,
    decoder: LogDecoder,
    /// What to say after the lines before it were handed on.
    end: Option<Result<(), Error>>,
}

impl LogStream {
    /// The lines of `body`, of a terminal (`tty`) or multiplexed, with or without timestamps.
    pub(crate) fn new(body: StreamBody, tty: bool, timestamps: bool) -> Self {
        Self { body, decoder: LogDecoder::new(tty, timestamps), end: None }
    }
}

impl Stream for LogStream {
    type Item = Result<LogBatch, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        let mut lines = LogBatch::new();
        let mut taken = 0;
        while stream.end.is_none() && taken < BATCH_BYTES {
            match stream.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    taken += data.len();
                    if let Err(error) = stream.decoder.push(&data, &mut lines) {
                        stream.end = Some(Err(error));
                    }
                }
                Poll::Ready(Some(Err(error))) => stream.end = Some(Err(error)),
                Poll::Ready(None) => stream.end = Some(stream.decoder.finish(&mut lines)),
                Poll::Pending if lines.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if !lines.is_empty() {
            return Poll::Ready(Some(Ok(lines)));
        }
        match &mut stream.end {
            Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
            None => {
                // One endless line: let others run before reading on.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Docker {
    /// The log of a container, in batches of lines that became known together. Ends at the end of the log, or with
    /// `follow` when the container ends; dropping the stream closes its connection. API: `ContainerLogs`.
    ///
    /// # Errors
    /// The stream yields one error and then ends: [`Error::is_not_found`] if there is no such container,
    /// [`Error::Stream`] if the engine cannot read on, [`Error::Frame`] if its output is damaged, and whatever a call
    /// may fail with.
    #[must_use]
    pub fn container_logs(
        &self,
        container: &ContainerRef,
        options: &LogOptions,
    ) -> BoxStream<'static, Result<LogBatch, Error>> {
        let docker = self.clone();
        let container = container.clone();
        let options = options.clone();
        stream::once(async move { docker.open_logs(container, &options).await }).try_flatten().boxed()
    }

    async fn open_logs(&self, mut container: ContainerRef, options: &LogOptions) -> Result<LogStream, Error> {
        let mut tty = options.tty;
        let tells = self.negotiate().await? >= TELLS_CONTENT_TYPE;
        if tty.is_none() && !tells {
            // By the id from here on: a container made anew under the same name may differ in this.
            let inspect = self.inspect_container(&container).await?;
            container = inspect.id.into();
            tty = Some(inspect.config.tty);
        }
        let mut call = Call::new(Operation::ContainerLogs, [container.as_str()])
            .flag("follow", options.follow)
            .flag("stdout", options.stdout)
            .flag("stderr", options.stderr)
            .flag("timestamps", options.timestamps);
        if let Some(tail) = options.tail {
            call = call.query("tail", tail.to_string());
        }
        if let Some(since) = options.since {
            call = call.query("since", timestamp::as_parameter(since));
        }
        if let Some(until) = options.until {
            call = call.query_since(35, Older::Refuse, "until", timestamp::as_parameter(until));
        }
        let (headers, body) = self.open(call).await?;
        let tty = match tty.or_else(|| tty_of(&headers)) {
            Some(tty) => tty,
            None => self.inspect_container(&container).await?.config.tty,
        };
        Ok(LogStream::new(body, tty, options.timestamps))
    }
}

pub(crate) fn tty_of(headers: &HeaderMap) -> Option<bool> {
    match headers.get(header::CONTENT_TYPE)?.as_bytes() {
        b"application/vnd.docker.raw-stream" => Some(true),
        b"application/vnd.docker.multiplexed-stream" => Some(false),
        _ => None,
    }
}
