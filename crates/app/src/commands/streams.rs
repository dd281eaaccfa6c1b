use std::sync::Arc;

use berth_wire::{Done, LogsOpenReq, SessionPollReq, SessionPollRes, StreamCloseReq, StreamId, WorldOpenReq};
use tokio_util::task::AbortOnDropHandle;

use crate::app::Ctx;
use crate::error::AppError;
use crate::queue::DropOldestWithGap;
use crate::session::Source;
use crate::streams::logs;

/// Lines of the past a page may ask for.
const TAIL_LIMIT: u32 = 50_000;

pub(crate) async fn session_poll(cx: Ctx, request: SessionPollReq) -> Result<SessionPollRes, AppError> {
    let session = cx.app.sessions.session(&cx.client)?;
    Ok(session.poll(&cx.app.world, request).await)
}

pub(crate) async fn world_open(cx: Ctx, request: WorldOpenReq) -> Result<StreamId, AppError> {
    cx.app.sessions.open(&cx.client, |_| Source::World { revision: request.revision })
}

pub(crate) async fn logs_open(cx: Ctx, request: LogsOpenReq) -> Result<StreamId, AppError> {
    if request.tail > TAIL_LIMIT {
        return Err(AppError::Invalid { reason: format!("tail is at most {TAIL_LIMIT}") });
    }
    let engine = cx.app.engines.get(&request.container.engine)?;
    cx.app.sessions.open(&cx.client, |wake| {
        let queue = Arc::new(DropOldestWithGap::new());
        let task = tokio::spawn(logs::feed(engine, request, queue.clone(), wake));
        Source::Log { queue, _task: AbortOnDropHandle::new(task) }
    })
}

pub(crate) async fn stream_close(cx: Ctx, request: StreamCloseReq) -> Result<Done, AppError> {
    cx.app.sessions.close(&cx.client, request.stream);
    Ok(Done {})
}
