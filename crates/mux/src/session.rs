//! What a caller holds of a session.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    Closed, Control, Datagrams, End, OpenError, RefusalCode, Stream, Target,
    core::{Core, Form},
    shared::{Holders, StreamHandle},
};

/// A running session.
#[derive(Debug)]
pub struct Session {
    /// Opens streams.
    pub opener: Opener,
    /// Streams that the peer opens.
    pub incoming: Incoming,
    /// The control stream.
    pub control: Control,
    /// Why it ended, once it has.
    pub ended: Ended,
}

/// Opens streams.
#[derive(Debug, Clone)]
pub struct Opener {
    holders: Arc<Holders>,
}

impl Opener {
    pub(crate) const fn new(holders: Arc<Holders>) -> Self {
        Self { holders }
    }

    /// Opens a stream to `target` and waits until the peer accepts it. Dropped before, it takes the wish back.
    ///
    /// # Errors
    /// If the peer refuses, there are too many streams, or the session has ended.
    pub async fn open(&self, target: &Target) -> Result<Stream, OpenError> {
        Ok(Stream::new(self.open_as(target, Form::Bytes).await?))
    }

    /// Opens an exchange of datagrams with `target`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_datagram(&self, target: &Target) -> Result<Datagrams, OpenError> {
        Ok(Datagrams::new(self.open_as(target, Form::Datagrams).await?))
    }

    async fn open_as(&self, target: &Target, form: Form) -> Result<StreamHandle, OpenError> {
        let shared = &self.holders.shared;
        let stream = shared.with(|core| core.open(target.encode(), form))?;
        let handle = StreamHandle::new(&self.holders, stream);
        poll_fn(|context| shared.with(|core| core.poll_open(stream, context.waker()))).await?;
        Ok(handle)
    }

    /// How long the peer takes to answer, with the time in which the question waited to be sent.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn ping(&self) -> Result<Duration, Closed> {
        let shared = &self.holders.shared;
        let now = shared.now();
        let number = shared.with(|core| core.start_ping(now))?;
        let _forgets = Forget { holders: &self.holders, number };
        poll_fn(|context| shared.with(|core| core.poll_ping(number, context.waker()))).await
    }

    /// Says good-bye and ends the session. Streams that are open get reset, with all that was not sent yet.
    pub fn close(&self) {
        self.holders.shared.with(Core::close);
    }
}

/// Forgets a ping that nobody waits for.
struct Forget<'a> {
    holders: &'a Holders,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.holders.shared.with(|core| core.forget_ping(self.number));
    }
}

/// Streams that the peer opens. Dropped, it refuses them all.
#[derive(Debug)]
pub struct Incoming {
    holders: Arc<Holders>,
}

impl Incoming {
    pub(crate) const fn new(holders: Arc<Holders>) -> Self {
        Self { holders }
    }

    /// The next one, or `None` when the session has ended.
    pub async fn next(&mut self) -> Option<Offer> {
        let shared = &self.holders.shared;
        let offered = poll_fn(|context| shared.with(|core| core.poll_offer(context.waker()))).await?;
        let handle = StreamHandle::new(&self.holders, offered.stream);
        Some(Offer { handle, target: Target::decode(&offered.target), form: offered.form })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.holders.shared.with(Core::stop_listening);
    }
}

/// A stream that the peer wants. Dropped without an answer, it is refused.
#[derive(Debug)]
pub struct Offer {
    handle: StreamHandle,
    target: Target,
    form: Form,
}

impl Offer {
    /// Where it is to lead.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it is for datagrams.
    #[must_use]
    pub fn is_datagram(&self) -> bool {
        self.form == Form::Datagrams
    }

    /// Accepts it. If it is for datagrams, the peer gets a refusal and the stream is broken from the start.
    #[must_use]
    pub fn accept(self) -> Stream {
        Stream::new(self.accept_as(Form::Bytes))
    }

    /// Accepts it for datagrams. If it is for bytes, the peer gets a refusal and the exchange has ended from the start.
    #[must_use]
    pub fn accept_datagram(self) -> Datagrams {
        Datagrams::new(self.accept_as(Form::Datagrams))
    }

    fn accept_as(self, form: Form) -> StreamHandle {
        self.handle.shared.with(|core| core.accept(self.handle.stream, form));
        self.handle
    }

    /// Refuses it. A long message is cut at 1 KiB.
    #[allow(clippy::needless_pass_by_value, reason = "an offer is answered once")]
    pub fn refuse(self, code: RefusalCode, message: &str) {
        self.handle.shared.with(|core| core.refuse(self.handle.stream, code, message));
    }
}

/// The end of a session.
#[derive(Debug, Clone)]
pub struct Ended {
    receiver: watch::Receiver<Option<End>>,
}

impl Ended {
    pub(crate) const fn new(receiver: watch::Receiver<Option<End>>) -> Self {
        Self { receiver }
    }

    /// Waits for the end. The transport is closed by then.
    pub async fn wait(&self) -> End {
        let mut receiver = self.receiver.clone();
        let end = receiver.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or(End::Closed)
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn get(&self) -> Option<End> {
        self.receiver.borrow().clone()
    }
}
