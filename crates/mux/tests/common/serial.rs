//! A pipe that outlives its users: what is dropped here can be opened again, the other side sees no end, and bytes that were
//! on their way stay there. So does a serial port of a virtual machine.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const CAPACITY: usize = 100_000;

#[derive(Default)]
struct Lane {
    bytes: BytesMut,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }
}

/// The cable.
#[derive(Default, Clone)]
pub(crate) struct Cable {
    lanes: [Arc<Mutex<Lane>>; 2],
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap()
}

impl Cable {
    /// An end of it, 0 or 1. Opened again, the older one must be gone.
    pub(crate) fn end(&self, side: usize) -> End {
        let [one, two] = self.lanes.clone();
        if side == 0 { End { sends: one, receives: two } } else { End { sends: two, receives: one } }
    }

    /// Loses what is on its way from a side, but for some bytes.
    pub(crate) fn lose(&self, side: usize, keep: usize) {
        let [one, two] = &self.lanes;
        let mut lane = lock(if side == 0 { one } else { two });
        lane.bytes.truncate(keep);
        lane.wake();
    }
}

pub(crate) struct End {
    sends: Arc<Mutex<Lane>>,
    receives: Arc<Mutex<Lane>>,
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut lane = lock(&self.receives);
        if lane.bytes.is_empty() {
            lane.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = lane.bytes.len().min(into.remaining());
        into.put_slice(&lane.bytes.split_to(count));
        lane.wake();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut lane = lock(&self.sends);
        let count = bytes.len().min(CAPACITY - lane.bytes.len());
        if count == 0 {
            lane.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        lane.bytes.extend_from_slice(&bytes[..count]);
        lane.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
