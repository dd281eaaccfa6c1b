//! Sessions: every page has one, holding its streams; one poll at a time carries what they have to say.
//!
//! Frames stay until the page acknowledges them, so an answer that gets lost on its way is sent again with
//! the same numbers. A page that does not poll for [`LEASE`] is gone: its streams close and what feeds them
//! is dropped, which ends the requests upstream.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_wire::{Ack, ClientId, Frame, FrameBody, SessionPollReq, SessionPollRes, StreamId};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::number_of_this_process;
use crate::error::AppError;
use crate::queue::DropOldestWithGap;
use crate::world::World;

/// A page that has not polled for this long is gone.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Pages at once.
const SESSIONS: usize = 64;
/// Streams of one page at once.
const STREAMS: usize = 64;
/// The longest a poll may wait.
const WAIT_LIMIT: Duration = Duration::from_secs(20);
const _: () = assert!(LEASE.as_secs() > WAIT_LIMIT.as_secs(), "a page that waits must not lose its lease");
/// When there are too many, a page that has been silent for this long gives way.
const SILENT: Duration = Duration::from_secs(5);
/// The most one poll may ask for.
const BYTES_LIMIT: usize = 1024 * 1024;
/// What one stream gets before it is the next one's turn.
const TURN: usize = 64 * 1024;

/// All pages that are there.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: Mutex<HashMap<ClientId, Arc<Session>>>,
    next_stream: AtomicU64,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Session {
    inner: Mutex<Inner>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    streams: BTreeMap<StreamId, Slot>,
    /// Counts polls; an older one that still waits gives way.
    polls: u64,
    last_poll: Instant,
}

#[derive(Debug)]
struct Slot {
    source: Source,
    sequence: u64,
    unacknowledged: VecDeque<Frame>,
    ended: bool,
}

/// What feeds a stream.
#[derive(Debug)]
pub(crate) enum Source {
    /// The latest state of the world, whatever the page's pace.
    World {
        /// The revision the page has.
        revision: Option<u64>,
    },
    /// A log, fed by a task that ends with the stream.
    Log {
        /// Between the task and the page.
        queue: Arc<DropOldestWithGap>,
        /// Fills the queue.
        _task: AbortOnDropHandle<()>,
    },
}

impl Sessions {
    pub(crate) fn new() -> Self {
        // Ids of an earlier process must not be taken for ours by a page that outlived it.
        Self { sessions: Mutex::default(), next_stream: AtomicU64::new(number_of_this_process()) }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<ClientId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of that page, begun if need be.
    pub(crate) fn session(&self, client: &ClientId) -> Result<Arc<Session>, AppError> {
        let mut sessions = self.sessions();
        if let Some(session) = sessions.get(client) {
            return Ok(session.clone());
        }
        if sessions.len() >= SESSIONS {
            let polled = |session: &Session| session.inner().last_poll;
            let quietest = sessions.iter().min_by_key(|(_, session)| polled(session));
            let quietest = quietest.filter(|(_, session)| polled(session).elapsed() > SILENT);
            if let Some(client) = quietest.map(|(client, _)| client.clone()) {
                sessions.remove(&client);
            }
        }
        if sessions.len() >= SESSIONS {
            return Err(AppError::TooMany { what: "pages" });
        }
        let session = Arc::new(Session {
            inner: Mutex::new(Inner { streams: BTreeMap::new(), polls: 0, last_poll: Instant::now() }),
            wake: Arc::new(Notify::new()),
        });
        sessions.insert(client.clone(), session.clone());
        Ok(session)
    }

    /// Ends the sessions of pages that are gone.
    pub(crate) fn sweep(&self) {
        self.sessions().retain(|_, session| session.inner().last_poll.elapsed() < LEASE);
    }

    /// Opens a stream of that page.
    pub(crate) fn open(
        &self,
        client: &ClientId,
        source: impl FnOnce(Arc<Notify>) -> Source,
    ) -> Result<StreamId, AppError> {
        let session = self.session(client)?;
        let mut inner = session.inner();
        if inner.streams.len() >= STREAMS {
            return Err(AppError::TooMany { what: "streams of this page" });
        }
        let id = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let source = source(session.wake.clone());
        inner.streams.insert(id, Slot { source, sequence: 0, unacknowledged: VecDeque::new(), ended: false });
        drop(inner);
        session.wake.notify_waiters();
        Ok(id)
    }

    /// Closes a stream of that page; one that is gone already is no error.
    pub(crate) fn close(&self, client: &ClientId, stream: StreamId) {
        let session = self.sessions().get(client).cloned();
        if let Some(session) = session {
            let closed = session.inner().streams.remove(&stream);
            drop(closed);
        }
    }
}

impl Session {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers with what the streams have to say, waiting for it if need be.
    pub(crate) async fn poll(&self, world: &World, request: SessionPollReq) -> SessionPollRes {
        let wait = Duration::from_millis(request.wait_milliseconds.into()).min(WAIT_LIMIT);
        let budget = usize::try_from(request.max_bytes).unwrap_or(BYTES_LIMIT).clamp(1024, BYTES_LIMIT);
        let deadline = tokio::time::Instant::now() + wait;
        let (turn, unknown) = self.begin_poll(&request.acks);
        let mut revision = world.subscribe();
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            revision.borrow_and_update();
            let Some(frames) = self.collect(turn, world, budget) else {
                return SessionPollRes::default();
            };
            if !frames.is_empty() || !unknown.is_empty() {
                return SessionPollRes { frames, unknown };
            }
            tokio::select! {
                () = &mut woken => {}
                changed = revision.changed() => if changed.is_err() { return SessionPollRes::default() },
                () = tokio::time::sleep_until(deadline) => return SessionPollRes::default(),
            }
        }
    }

    fn begin_poll(&self, acks: &[Ack]) -> (u64, Vec<StreamId>) {
        let mut unknown = Vec::new();
        let mut inner = self.inner();
        inner.polls += 1;
        inner.last_poll = Instant::now();
        for ack in acks {
            let Some(slot) = inner.streams.get_mut(&ack.stream) else {
                unknown.push(ack.stream);
                continue;
            };
            while slot.unacknowledged.front().is_some_and(|frame| frame.sequence <= ack.sequence) {
                slot.unacknowledged.pop_front();
            }
            if slot.ended && slot.unacknowledged.is_empty() {
                inner.streams.remove(&ack.stream);
            }
        }
        let turn = inner.polls;
        drop(inner);
        // An older poll that still waits answers at once, with nothing.
        self.wake.notify_waiters();
        (turn, unknown)
    }

    /// `None` when a newer poll has taken over.
    fn collect(&self, turn: u64, world: &World, budget: usize) -> Option<Vec<Frame>> {
        let mut inner = self.inner();
        if inner.polls != turn {
            return None;
        }
        inner.last_poll = Instant::now();
        let mut frames = Vec::new();
        for slot in inner.streams.values() {
            frames.extend(slot.unacknowledged.iter().cloned());
        }
        if !frames.is_empty() {
            return Some(frames);
        }
        let mut left = budget;
        let mut progress = true;
        while progress && left > 0 {
            progress = false;
            for (id, slot) in &mut inner.streams {
                if let Some(frame) = slot.next(*id, world, left.min(TURN)) {
                    left = left.saturating_sub(weight(&frame.body));
                    frames.push(frame);
                    progress = true;
                }
            }
        }
        Some(frames)
    }
}

impl Slot {
    fn next(&mut self, stream: StreamId, world: &World, budget: usize) -> Option<Frame> {
        if self.ended {
            return None;
        }
        let body = match &mut self.source {
            Source::World { revision } => {
                let patch = world.patch_since(*revision)?;
                *revision = Some(patch.revision);
                FrameBody::World(patch)
            }
            Source::Log { queue, .. } => {
                let (body, last) = queue.take(budget)?;
                self.ended = last;
                body
            }
        };
        self.sequence += 1;
        let frame = Frame { stream, sequence: self.sequence, body };
        self.unacknowledged.push_back(frame.clone());
        Some(frame)
    }
}

fn weight(body: &FrameBody) -> usize {
    match body {
        FrameBody::Log(batch) => batch.lines.iter().map(|line| line.2.len() + 24).sum(),
        FrameBody::World(patch) => 1024 + patch.containers.len() * 1024,
        _ => 128,
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
