//! The engine's socket on Windows: a named pipe, for the user who starts the engine alone.
//!
//! It passes messages, as Docker's clients expect it: a message without bytes is the end of one direction, while the other
//! goes on. A pipe of bytes has no such thing.

mod owner;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{NamedPipeServer, PipeMode, ServerOptions};

use owner::OwnerOnly;

/// Of the engine in the user's own data folder.
pub const PATH: &str = r"\\.\pipe\berth-engine";
/// Of one message.
const BUFFER: u32 = 64 << 10;

/// The pipe, with an instance that waits for whoever connects next.
#[derive(Debug)]
pub struct Listener {
    path: String,
    security: OwnerOnly,
    next: NamedPipeServer,
}

impl Listener {
    /// Makes the pipe.
    ///
    /// # Errors
    ///
    /// There is a pipe of that name, whoever made it, or the system refuses.
    pub fn bind(path: &str) -> io::Result<Self> {
        let security = OwnerOnly::new()?;
        let next = instance(path, &security, true)?;
        Ok(Self { path: path.to_owned(), security, next })
    }

    /// The next who connects. Dropped meanwhile, it loses nobody.
    ///
    /// # Errors
    ///
    /// The system has no room for another; the next call tries again.
    pub async fn accept(&mut self) -> io::Result<Connection> {
        self.next.connect().await?;
        // Before this one is served: without a free instance, who comes next is told that the pipe is busy.
        let next = instance(&self.path, &self.security, false)?;
        Ok(Connection { pipe: std::mem::replace(&mut self.next, next), ended: false })
    }
}

fn instance(path: &str, security: &OwnerOnly, first: bool) -> io::Result<NamedPipeServer> {
    let mut options = ServerOptions::new();
    options
        .pipe_mode(PipeMode::Message)
        .reject_remote_clients(true)
        .first_pipe_instance(first)
        .in_buffer_size(BUFFER)
        .out_buffer_size(BUFFER);
    security.create(&options, path)
}

/// One who connected.
#[derive(Debug)]
pub struct Connection {
    pipe: NamedPipeServer,
    /// This side has said its last.
    ended: bool,
}

impl AsyncRead for Connection {
    /// A message without bytes is an end as everywhere: a read that gives nothing.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.pipe).poll_read(context, buffer)) {
            // Who is gone has said its last as well.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            // It would be taken for the end.
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.pipe).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            match ready!(Pin::new(&mut self.pipe).poll_write(context, &[])) {
                Ok(_) => self.ended = true,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.ended = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(&mut self.pipe).poll_flush(context)
    }
}
