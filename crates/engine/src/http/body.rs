//! What a request carries.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use hyper::body::{Body, Frame, SizeHint};
use sync_wrapper::SyncWrapper;

/// Body of a request: nothing, bytes, or a stream of them.
///
/// An error of the stream breaks the request off, so that the engine never takes half of something for the whole.
pub struct RequestBody(Kind);

enum Kind {
    Bytes(Bytes),
    /// Wrapped because a request is looked at across `await`, which needs `Sync`, and nobody looks at its stream.
    Stream(SyncWrapper<BoxStream<'static, io::Result<Bytes>>>),
    /// A stream that was sent already.
    Spent,
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self(Kind::Bytes(Bytes::new()))
    }

    /// A body that is sent as it comes, in chunks.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Kind::Stream(SyncWrapper::new(stream.boxed())))
    }

    /// The body for one sending; `None` for a stream that was taken before.
    pub(crate) fn take(&mut self) -> Option<Self> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(Self(Kind::Bytes(bytes.clone()))),
            Kind::Stream(_) => Some(Self(std::mem::replace(&mut self.0, Kind::Spent))),
            Kind::Spent => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(self) -> Option<Bytes> {
        match self.0 {
            Kind::Bytes(bytes) => Some(bytes),
            Kind::Stream(_) | Kind::Spent => None,
        }
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Bytes(bytes))
    }
}

impl From<Vec<u8>> for RequestBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }
}

impl From<String> for RequestBody {
    fn from(text: String) -> Self {
        Self(Kind::Bytes(text.into()))
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies hold environments and secrets.
        f.write_str(match self.0 {
            Kind::Bytes(_) => "RequestBody(bytes)",
            Kind::Stream(_) => "RequestBody(stream)",
            Kind::Spent => "RequestBody(spent)",
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        match &mut body.0 {
            Kind::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Stream(stream) => stream.get_mut().poll_next_unpin(cx).map_ok(Frame::data),
            Kind::Spent => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_empty(),
            Kind::Stream(_) => false,
            Kind::Spent => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(_) => SizeHint::default(),
            Kind::Spent => SizeHint::with_exact(0),
        }
    }
}
