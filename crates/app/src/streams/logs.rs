//! The log of one container, as one stream that outlives restarts of the container and of the engine.

mod resume;

use std::sync::Arc;
use std::time::Duration;

use berth_engine::{Container, ContainerRef, Link, LogOptions, Snapshot};
use berth_wire::{Code, FrameBody, LogLine, LogsOpenReq, WireError, log_flags};
use futures_util::StreamExt as _;
use tokio::sync::Notify;

use crate::clock::now_milliseconds;
use crate::engines::Engine;
use crate::error::engine_error;
use crate::queue::DropOldestWithGap;
use resume::Resume;

type View = tokio::sync::watch::Receiver<Arc<Snapshot>>;

/// Pause after a broken stream.
const RETRY: Duration = Duration::from_millis(200);
/// It doubles up to this.
const RETRY_LIMIT: Duration = Duration::from_secs(5);

/// Reads until the container is gone or the page is, following it over restarts.
pub(crate) async fn feed(engine: Arc<Engine>, request: LogsOpenReq, queue: Arc<DropOldestWithGap>, wake: Arc<Notify>) {
    let end = read(&engine, &request, &queue, &wake).await;
    queue.finish(end);
    wake.notify_waiters();
}

async fn read(engine: &Engine, request: &LogsOpenReq, queue: &DropOldestWithGap, wake: &Notify) -> FrameBody {
    let id = request.container.id.as_str();
    let Ok(reference) = id.parse::<ContainerRef>() else {
        return FrameBody::Failed(WireError::new(Code::Invalid, "That is no container id"));
    };
    let mut view = engine.store.subscribe();
    let mut options =
        LogOptions { follow: request.follow, tail: Some(request.tail), timestamps: true, ..LogOptions::default() };
    let mut resume = Resume::new();
    let mut pause = RETRY;
    loop {
        options.since = resume.begin();
        if options.since.is_some() {
            // What comes later must not be cut off by the tail of the beginning.
            options.tail = None;
        }
        let seen = resume.seen();
        let run = match read_one_run(engine, &reference, &mut options, &mut resume, queue, wake).await {
            Ok(_) if !request.follow => return FrameBody::End,
            Ok(started) => Some(started),
            Err(error) if error.is_not_found() => return FrameBody::End,
            Err(error) if error.is_unreachable() || error.is_retryable() => None,
            Err(error) => return FrameBody::Failed(engine_error("The log could not be read", &error)),
        };
        let note = match run {
            Some(started) => {
                if !started_again(&mut view, id, started).await {
                    return FrameBody::End;
                }
                "the container was started again"
            }
            None => {
                if resume.seen() != seen {
                    pause = RETRY;
                }
                // The stream may break before the watch notices that the engine is gone, or the engine may live and
                // only refuse its logs.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LIMIT);
                let was_lost = !view.borrow().link.is_live();
                if !answers_again(&mut view, id).await {
                    return FrameBody::End;
                }
                if !was_lost {
                    continue;
                }
                "the engine answers again"
            }
        };
        queue.push([note_line(note)]);
        wake.notify_waiters();
    }
}

/// Reads until the engine ends the log; answers when the run that wrote it was started.
async fn read_one_run(
    engine: &Engine,
    reference: &ContainerRef,
    options: &mut LogOptions,
    resume: &mut Resume,
    queue: &DropOldestWithGap,
    wake: &Notify,
) -> Result<Option<f64>, berth_engine::Error> {
    let inspected = engine.docker.inspect_container(reference).await?;
    options.tty = Some(inspected.config.tty);
    let lines = engine.docker.container_logs(reference, options);
    let mut lines = std::pin::pin!(lines);
    while let Some(batch) = lines.next().await {
        let news = resume.sift(batch?);
        if news.may_repeat {
            queue.push([note_line(
                "more came before the break than is remembered: lines may appear twice from here on",
            )]);
        }
        queue.push(news.lines.into_iter().map(wire_line));
        wake.notify_waiters();
        queue.wait_for_reader().await;
    }
    Ok(inspected.state.started_at)
}

/// Waits for another run than the one started then; false when the container is gone.
async fn started_again(view: &mut View, id: &str, before: Option<f64>) -> bool {
    wait_for_container(view, id, |container| {
        container.state.is_alive() && container.started.is_some() && container.started != before
    })
    .await
}

/// Waits for the engine; false when the container is gone.
async fn answers_again(view: &mut View, id: &str) -> bool {
    wait_for_container(view, id, |_| true).await
}

async fn wait_for_container(view: &mut View, id: &str, wanted: impl Fn(&Container) -> bool) -> bool {
    let mut found = false;
    let waited = view
        .wait_for(|snapshot| {
            if !matches!(snapshot.link, Link::Live { .. }) {
                return false;
            }
            let container = snapshot.containers.iter().find(|(key, _)| key.as_str() == id);
            found = container.is_some();
            container.map_or(snapshot.listed, |(_, container)| wanted(container))
        })
        .await;
    waited.is_ok() && found
}

fn note_line(text: &str) -> LogLine {
    LogLine(now_milliseconds(), log_flags::NOTE, text.to_owned())
}

fn wire_line(line: berth_engine::LogLine) -> LogLine {
    let mut flags = 0;
    if line.stderr {
        flags |= log_flags::STDERR;
    }
    if line.cut {
        flags |= log_flags::CUT;
    }
    #[expect(clippy::cast_precision_loss, reason = "a millisecond with microseconds fits 53 bits until the year 2255")]
    let milliseconds = line.nanos.map_or(0.0, |nanos| (nanos / 1000) as f64 / 1000.0);
    LogLine(milliseconds, flags, line.text)
}
