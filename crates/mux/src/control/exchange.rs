//! The two tasks behind the control stream: one writes messages, one reads them and sorts replies from the rest.

pub(super) mod codec;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};

use self::codec::{Decoded, Unreadable};
use super::{ControlError, Event, Fault, FaultCode, MAX_CONTROL_MESSAGE, Reply, Request};
use crate::{
    ProtocolError, Stream,
    core::CONTROL,
    shared::{Shared, StreamHandle},
};

/// Messages that wait to be written.
const OUTGOING: usize = 64;

/// Messages that wait to be handled, and their bytes.
const INCOMING: usize = 1024;
const INCOMING_BYTES: usize = 4 * 1024 * 1024;

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Result<Reply, Fault>>>>;

/// A message for the caller.
#[derive(Debug)]
pub(super) enum Content {
    Request { id: u64, request: Request },
    Event(Event),
}

#[derive(Debug)]
pub(super) struct Queued {
    pub(super) content: Content,
    /// Its share of what may wait.
    _permit: OwnedSemaphorePermit,
}

/// Where messages to the peer go.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    outgoing: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    next_id: Arc<AtomicU64>,
}

impl Mailbox {
    pub(super) async fn send(&self, message: Vec<u8>) -> Result<(), ControlError> {
        self.outgoing.send(message).await.map_err(|_| ControlError::Closed)
    }

    pub(super) fn send_if_room(&self, message: Vec<u8>) {
        if self.outgoing.try_send(message).is_err() {
            tracing::debug!("an answer on the control stream found no room, or the session has ended");
        }
    }

    pub(super) async fn ask(&self, request: &Request) -> Result<Reply, ControlError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let message = codec::request(id, request)?;
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let _forget = Forget { waiting: &self.waiting, id };
        self.send(message).await?;
        receiver.await.map_err(|_| ControlError::Closed)?.map_err(ControlError::Fault)
    }
}

/// Forgets a request that nobody waits for.
struct Forget<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.id);
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Reply, Fault>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts both tasks. They end with the session.
pub(super) fn start(shared: &Arc<Shared>) -> (Mailbox, mpsc::Receiver<Queued>) {
    let half = || Stream::new(StreamHandle { shared: Arc::clone(shared), stream: CONTROL, _holders: None });
    let (outgoing, to_write) = mpsc::channel(OUTGOING);
    let (queue, receiver) = mpsc::channel(INCOMING);
    let mailbox = Mailbox { outgoing, waiting: Arc::default(), next_id: Arc::default() };
    tokio::spawn(write(half(), to_write));
    let reader = Reader {
        stream: half(),
        outgoing: mailbox.outgoing.clone(),
        waiting: Arc::clone(&mailbox.waiting),
        queue,
        room: Arc::new(Semaphore::new(INCOMING_BYTES)),
    };
    tokio::spawn(read(reader, Arc::clone(shared)));
    (mailbox, receiver)
}

async fn write(mut stream: Stream, mut messages: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if stream.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn read(mut reader: Reader, shared: Arc<Shared>) {
    let broken = reader.run().await;
    // Whoever waits for a reply gets to know.
    lock(&reader.waiting).clear();
    if let Some(error) = broken {
        shared.with(|core| core.finish(error.into()));
    }
}

struct Reader {
    stream: Stream,
    outgoing: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

impl Reader {
    /// Reads until the session ends, or until the peer breaks the rules of this stream.
    async fn run(&mut self) -> Option<ProtocolError> {
        loop {
            let length = self.stream.read_u32().await.ok()?;
            let wanted = usize::try_from(length).unwrap_or(usize::MAX);
            if wanted > MAX_CONTROL_MESSAGE {
                return Some(ProtocolError::Control { length });
            }
            // It grows with what comes, not with what is announced.
            let mut message = Vec::new();
            (&mut self.stream).take(u64::from(length)).read_to_end(&mut message).await.ok()?;
            if message.len() < wanted {
                return None;
            }
            match codec::decode(&message) {
                Ok(decoded) => self.handle(decoded, length).await?,
                Err(Unreadable) => return Some(ProtocolError::Control { length }),
            }
        }
    }

    async fn handle(&self, decoded: Decoded, length: u32) -> Option<()> {
        match decoded {
            Decoded::Request { id, request: Ok(request) } => {
                self.pass_on(Content::Request { id, request }, length).await
            }
            Decoded::Request { id, request: Err(fault) } => self.answer(id, fault).await,
            Decoded::Answer { id, answer } => {
                if let Some(sender) = lock(&self.waiting).remove(&id) {
                    let _ = sender.send(answer);
                }
                Some(())
            }
            Decoded::Event(event) => self.pass_on(Content::Event(event), length).await,
            Decoded::Unknown => Some(()),
        }
    }

    async fn pass_on(&self, content: Content, length: u32) -> Option<()> {
        let permit = Arc::clone(&self.room).acquire_many_owned(length.max(1)).await.ok()?;
        let refused = self.queue.send(Queued { content, _permit: permit }).await.err();
        if let Some(mpsc::error::SendError(Queued { content: Content::Request { id, .. }, .. })) = refused {
            let message = "nobody handles requests on this side".to_owned();
            return self.answer(id, Fault { code: FaultCode::Unavailable, message }).await;
        }
        Some(())
    }

    async fn answer(&self, id: u64, fault: Fault) -> Option<()> {
        self.outgoing.send(codec::answer(id, &Err(fault)).ok()?).await.ok()
    }
}
