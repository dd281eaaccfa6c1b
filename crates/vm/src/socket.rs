//! The engine's socket: what clients connect to, wherever the engine behind it is and however often it restarts.
//!
//! Bytes are carried and never read: what is said over a connection, and when each side stops saying it, is between the
//! client and the engine. Only while there is no engine does this socket speak itself: it holds connections for a while,
//! and then refuses them in HTTP.

mod activity;
mod file;
mod forward;
mod gate;
mod open_files;
mod refusal;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::error::Error;
pub(crate) use activity::Activity;
pub(crate) use gate::{Dialling, EngineDial, Gate, UnixEngine};
pub(crate) use open_files::OpenFiles;
pub(crate) use serve::Serving;

/// How the socket treats connections that there is no engine for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a connection waits for the engine.
    pub(crate) hold: Duration,
    /// How many may wait at a time.
    pub(crate) held: usize,
    /// How long a request's head is waited for, when it is to be refused.
    pub(crate) head: Duration,
    /// How long a client that was refused may go on sending before it is cut.
    pub(crate) linger: Duration,
    /// The process whose connections are no use of the engine: this one, which asks after its health.
    pub(crate) uncounted: Option<i32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(30),
            held: 4096,
            head: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            uncounted: i32::try_from(std::process::id()).ok(),
        }
    }
}

/// The socket, bound and not yet served: connections queue in the kernel.
pub(crate) struct EngineSocket {
    // First, so that the file goes while the listener still keeps its inode from being given to another file.
    file: file::SocketFile,
    listener: UnixListener,
}

impl EngineSocket {
    /// Listens at that path, for its owner alone. A socket that nobody listens on any more is replaced at once.
    ///
    /// # Errors
    ///
    /// Somebody listens there, or something else than a socket is there.
    pub(crate) async fn bind(path: &Path) -> Result<Self, Error> {
        let (file, listener) = file::bind(path).await?;
        Ok(Self { file, listener })
    }

    /// Carries connections to wherever `gate` says the engine is, until [`Serving::close`], or until that is dropped.
    ///
    /// # Errors
    ///
    /// The system has no thread or descriptor left.
    pub(crate) fn serve(self, gate: watch::Receiver<Gate>, settings: Settings) -> Result<Serving, Error> {
        serve::start(self, gate, settings)
    }
}

/// A byte stream in both directions whose `shutdown` ends one of them. Dropped before both ended, the other side sees
/// a reset.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// One end of what is forwarded.
pub(crate) enum Connection {
    Unix(UnixStream),
    /// To a virtual machine.
    Other(Box<dyn Duplex>),
}

impl Connection {
    /// Whether the other side closed it for good, not only one direction. Always false where that cannot be known.
    fn is_closed_by_peer(&self) -> bool {
        matches!(self, Self::Unix(stream) if is_closed_by_peer(stream))
    }

    /// Makes the other side's writes fail, as they would if it wrote to whoever no longer reads. False where that cannot
    /// be done.
    fn refuse_input(&self) -> bool {
        use nix::sys::socket::{Shutdown, shutdown};
        use std::os::fd::AsRawFd as _;
        let Self::Unix(stream) = self else { return false };
        // It fails only when the other side is gone, and has nothing to write.
        let _ = shutdown(stream.as_raw_fd(), Shutdown::Read);
        true
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Other(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

fn is_closed_by_peer(stream: &UnixStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let found = poll(&mut polled, PollTimeout::ZERO);
    found.is_ok() && polled.iter().any(|fd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
}
