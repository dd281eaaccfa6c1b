//! What a test asks of the proxy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ChunkEdit;

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions at once. A client that still has something unread to say gets an error instead of an end.
    Close,
    /// This direction alone.
    HalfClose,
}

/// What follows a made-up answer.
#[derive(Clone, Debug)]
pub enum Then {
    /// The connection is closed.
    Close,
    /// Nothing; it stays open.
    Hold,
    /// This, until the client goes away.
    Repeat(Bytes),
}

/// Changes bytes that pass, a piece at a time.
pub type Rewriter = Box<dyn FnMut(Vec<u8>) -> Vec<u8> + Send>;

/// What happens to one direction. Positions count from the beginning of a request and of its answer.
#[derive(Clone)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// Every piece comes later by so much.
    Delay(Duration),
    /// So many bytes at a time, with a pause after each.
    Drip(usize, Duration),
    /// One byte to a write, without a pause.
    Split,
    /// Pieces of at least so many bytes, or what there is when no more comes for a while.
    Merge(usize),
    /// Nothing after so many bytes.
    Cut(u64, End),
    /// Silence after so many bytes, until the plan changes.
    Freeze(u64),
    /// The byte at this position is another one.
    Garble(u64),
    /// One chunk of a chunked answer is written wrongly.
    Chunk(usize, ChunkEdit),
    /// A closure, made for each request, changes what passes.
    Rewrite(Arc<dyn Fn() -> Rewriter + Send + Sync>),
    /// The engine is not asked; this is the answer.
    Answer(Bytes, Then),
}

impl Fault {
    /// Closes the connection after so many bytes.
    #[must_use]
    pub fn cut(after: u64) -> Self {
        Self::Cut(after, End::Close)
    }

    /// The engine takes what it is sent and never answers.
    #[must_use]
    pub fn freeze() -> Self {
        Self::Freeze(0)
    }

    /// Changes what passes, a piece at a time. `make` is called for each request.
    pub fn rewrite<F: FnMut(Vec<u8>) -> Vec<u8> + Send + 'static>(
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self::Rewrite(Arc::new(move || Box::new(make())))
    }

    /// A whole answer in place of the engine's.
    #[must_use]
    pub fn answer(text: impl Into<Bytes>) -> Self {
        Self::Answer(text.into(), Then::Close)
    }

    /// What a broken gateway answers.
    #[must_use]
    pub fn gateway_error() -> Self {
        let page = "<html><head><title>503 Service Unavailable</title></head><body><h1>503</h1></body></html>";
        let length = page.len();
        Self::answer(format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{page}"
        ))
    }

    /// A head of an answer that does not end.
    #[must_use]
    pub fn endless_head() -> Self {
        let line = format!("X-Padding: {}\r\n", "a".repeat(1000));
        Self::Answer(Bytes::from_static(b"HTTP/1.1 200 OK\r\n"), Then::Repeat(line.into()))
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass => f.write_str("Pass"),
            Self::Delay(time) => write!(f, "Delay({time:?})"),
            Self::Drip(bytes, pause) => write!(f, "Drip({bytes}, {pause:?})"),
            Self::Split => f.write_str("Split"),
            Self::Merge(bytes) => write!(f, "Merge({bytes})"),
            Self::Cut(after, end) => write!(f, "Cut({after}, {end:?})"),
            Self::Freeze(after) => write!(f, "Freeze({after})"),
            Self::Garble(at) => write!(f, "Garble({at})"),
            Self::Chunk(number, edit) => write!(f, "Chunk({number}, {edit:?})"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
            Self::Answer(..) => f.write_str("Answer"),
        }
    }
}

/// What happens to both directions.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From the client.
    pub request: Fault,
    /// To the client.
    pub response: Fault,
    pub(super) only: Option<String>,
    pub(super) times: Option<usize>,
}

impl Plan {
    /// Nothing.
    #[must_use]
    pub fn pass() -> Self {
        Self::response(Fault::Pass)
    }

    /// Only answers suffer.
    #[must_use]
    pub fn response(response: Fault) -> Self {
        Self { request: Fault::Pass, response, only: None, times: None }
    }

    /// Only requests suffer.
    #[must_use]
    pub fn request(request: Fault) -> Self {
        Self { request, response: Fault::Pass, only: None, times: None }
    }

    /// Only exchanges whose request line contains this; all others pass.
    #[must_use]
    pub fn only(mut self, part: impl Into<String>) -> Self {
        self.only = Some(part.into());
        self
    }

    /// Only the next so many exchanges; all later ones pass.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }
}
