//! One stream of bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{core::Broken, shared::StreamHandle};

/// A stream of bytes in both directions, each with an end of its own.
///
/// Shutting it down ends what this side sends, after all that was written; reading goes on until the peer's end. A stream
/// that is dropped after its shutdown still sends what was written, and tells the peer then that nobody reads. Dropped
/// before, it is reset: the peer reads `ConnectionReset`. Both also happen to a stream whose session ends, unless the
/// peer's end had come already: then what came is read to that end.
#[derive(Debug)]
pub struct Stream {
    handle: StreamHandle,
}

impl Stream {
    pub(crate) const fn new(handle: StreamHandle) -> Self {
        Self { handle }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let StreamHandle { shared, stream, .. } = &self.handle;
        shared.with(|core| core.poll_read(*stream, context.waker(), into)).map_err(|Broken| {
            io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset, or its session has ended")
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let StreamHandle { shared, stream, .. } = &self.handle;
        shared.with(|core| core.poll_write(*stream, context.waker(), bytes)).map_err(broken_pipe)
    }

    /// What was written is on its way already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let StreamHandle { shared, stream, .. } = &self.handle;
        Poll::Ready(shared.with(|core| core.shutdown(*stream)).map_err(broken_pipe))
    }
}

fn broken_pipe(_: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the stream was shut down or reset, or its session has ended")
}
