//! Datagrams to and from one target.

use std::future::poll_fn;

use bytes::Bytes;

use crate::{Closed, shared::StreamHandle};

/// An exchange of datagrams with one target. They keep their bounds and their order, and get lost when a queue is full:
/// 256 wait on each side at most, and 16 MiB over all that this side has not read. Dropped, it ends for the peer.
#[derive(Debug)]
pub struct Datagrams {
    handle: StreamHandle,
}

impl Datagrams {
    pub(crate) const fn new(handle: StreamHandle) -> Self {
        Self { handle }
    }

    /// Sends one of up to 64 KiB. It never waits for the peer; one that is longer or finds the queue full is lost.
    ///
    /// # Errors
    /// If the exchange or the session has ended.
    pub async fn send(&self, datagram: &[u8]) -> Result<(), Closed> {
        // A flood gives other tasks their turn, the session's own among them.
        tokio::task::consume_budget().await;
        self.handle.shared.with(|core| core.send_datagram(self.handle.stream, datagram))
    }

    /// The next one, or `None` when the peer or the session has ended it.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let StreamHandle { shared, stream, .. } = &self.handle;
        poll_fn(|context| shared.with(|core| core.poll_datagram(*stream, context.waker()))).await
    }
}
