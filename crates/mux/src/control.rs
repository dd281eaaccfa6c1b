//! The control stream: requests with replies, and events, as JSON messages that go before all data.
//!
//! A message is a `u32` length, big-endian, and a JSON object: `{"id":1,"method":"trim"}` asks, `{"id":1,"result":…}` and
//! `{"id":1,"error":{"code":…,"message":…}}` answer, `{"event":"stage","params":…}` tells. Fields and events that are not
//! known are ignored, a method that is not known is answered with [`FaultCode::UnknownMethod`].

mod exchange;
mod message;

use std::{sync::Arc, time::Duration};

pub use message::{
    DiskMetrics, Event, Fault, FaultCode, HelloReply, MemoryMetrics, MetricsReply, Reply, Request, ServiceState,
    ServiceStatus, StatusReply,
};

use self::exchange::{Mailbox, Queued, codec};
use crate::{Closed, shared::Holders};

/// The longest message.
pub const MAX_CONTROL_MESSAGE: usize = 1024 * 1024;

/// What the fuzzer asks of a message: see [`crate::fuzzing::control_message`].
pub(crate) fn fuzz_message(input: &[u8]) {
    codec::fuzz(input);
}

/// The control stream of one session.
#[derive(Debug)]
pub struct Control {
    sender: ControlSender,
    receiver: ControlReceiver,
}

impl Control {
    pub(crate) fn start(holders: &Arc<Holders>) -> Self {
        let (mailbox, queue) = exchange::start(&holders.shared);
        Self {
            sender: ControlSender { mailbox: mailbox.clone(), _holders: Arc::clone(holders) },
            receiver: ControlReceiver { queue, mailbox, _holders: Arc::clone(holders) },
        }
    }

    /// Its two directions.
    #[must_use]
    pub fn split(self) -> (ControlSender, ControlReceiver) {
        (self.sender, self.receiver)
    }
}

/// Sends requests and events.
#[derive(Debug, Clone)]
pub struct ControlSender {
    mailbox: Mailbox,
    _holders: Arc<Holders>,
}

impl ControlSender {
    /// Asks the peer and waits for its reply, at most for `deadline`.
    ///
    /// # Errors
    /// The peer's fault, or that no reply came.
    pub async fn request(&self, request: Request, deadline: Duration) -> Result<Reply, ControlError> {
        let method = request.method();
        let answer = tokio::time::timeout(deadline, self.mailbox.ask(&request)).await;
        answer.map_err(|_| ControlError::TimedOut { method, deadline })?
    }

    /// Tells the peer something. Waits while too much is on its way already.
    ///
    /// # Errors
    /// If the message is too long or the session has ended.
    pub async fn event(&self, event: Event) -> Result<(), ControlError> {
        self.mailbox.send(codec::event(&event)?).await
    }
}

/// What the peer asks and tells, in its order.
///
/// It must be read: what is not read holds up the peer's control stream, replies included, once 1024 messages or 4 MiB
/// wait. Dropped, it ignores events and answers requests with [`FaultCode::Unavailable`].
#[derive(Debug)]
pub struct ControlReceiver {
    queue: tokio::sync::mpsc::Receiver<Queued>,
    mailbox: Mailbox,
    _holders: Arc<Holders>,
}

impl ControlReceiver {
    /// The next message, or `None` when the session has ended.
    pub async fn next(&mut self) -> Option<Inbound> {
        let Queued { content, .. } = self.queue.recv().await?;
        Some(match content {
            exchange::Content::Event(event) => Inbound::Event(event),
            exchange::Content::Request { id, request } => {
                let responder = Responder { id, mailbox: Some(self.mailbox.clone()) };
                Inbound::Request { id, request, responder }
            }
        })
    }
}

/// What the peer sent.
#[derive(Debug)]
pub enum Inbound {
    /// It asks something.
    Request {
        /// Its number of the request, for the log.
        id: u64,
        /// What it asks.
        request: Request,
        /// Where the answer goes.
        responder: Responder,
    },
    /// It tells something.
    Event(Event),
}

/// Answers one request. Dropped without an answer, it answers that the request failed.
#[derive(Debug)]
pub struct Responder {
    id: u64,
    /// Taken by the answer.
    mailbox: Option<Mailbox>,
}

impl Responder {
    /// Answers.
    ///
    /// # Errors
    /// If the session has ended. A reply that is too long is answered as a failure, and is an error as well.
    pub async fn reply(self, reply: Reply) -> Result<(), ControlError> {
        self.answer(Ok(reply)).await
    }

    /// Answers that it failed.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn fail(self, code: FaultCode, message: impl Into<String>) -> Result<(), ControlError> {
        self.answer(Err(Fault { code, message: message.into() })).await
    }

    async fn answer(mut self, answer: Result<Reply, Fault>) -> Result<(), ControlError> {
        // If it is too long, the drop says that it failed.
        let message = codec::answer(self.id, &answer)?;
        match self.mailbox.take() {
            Some(mailbox) => mailbox.send(message).await,
            None => Ok(()),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let Some(mailbox) = self.mailbox.take() else { return };
        let fault = Fault { code: FaultCode::Failed, message: "the request was dropped without an answer".to_owned() };
        if let Ok(message) = codec::answer(self.id, &Err(fault)) {
            mailbox.send_if_room(message);
        }
    }
}

/// A message got nowhere, or a request got no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The peer answered with a fault.
    #[error("{0}")]
    Fault(Fault),
    /// No reply came in time. The peer may have done it all the same.
    #[error("no reply to `{method}` came within {} ms", .deadline.as_millis())]
    TimedOut {
        /// What was asked.
        method: &'static str,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The message is too long.
    #[error("a control message takes {length} bytes, and may take {limit}")]
    TooLong {
        /// What it takes.
        length: usize,
        /// What it may take.
        limit: usize,
    },
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
}

impl From<Closed> for ControlError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}
