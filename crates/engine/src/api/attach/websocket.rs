//! Attaching over a WebSocket.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use http::{HeaderName, HeaderValue, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{AttachContainer, Attached};
use crate::{
    ContainerRef, Docker, Error,
    http::{Call, Hijacked, Older},
    operation::Operation,
};

/// Largest message, in bytes.
const MESSAGE_CAP: usize = 16 * 1024 * 1024;

/// Messages as bytes.
struct Messages {
    socket: WebSocketStream<Hijacked>,
    /// What of the last message was not read yet.
    rest: Bytes,
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

/// Engines hang up without the closing handshake when the process ends.
fn is_end(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
    )
}

impl AsyncRead for Messages {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let messages = self.get_mut();
        while messages.rest.is_empty() {
            messages.rest = match ready!(Pin::new(&mut messages.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Text(text))) => text.into(),
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => continue,
                Some(Err(error)) if is_end(&error) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            };
        }
        let length = messages.rest.len().min(buffer.remaining());
        buffer.put_slice(messages.rest.get(..length).unwrap_or_default());
        messages.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Messages {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.get_mut().socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(broken)?;
        socket.start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(broken)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(cx).map_err(broken)
    }
}

impl Docker {
    /// [`Docker::attach_container`] over a WebSocket. Its output is not multiplexed: all of it counts as standard
    /// output, and shutting down the input ends the output, too. Before API 1.42 an engine attaches to all streams
    /// whatever was asked for. API: `ContainerAttachWebsocket`.
    ///
    /// # Errors
    /// As [`Docker::attach_container`]; [`Error::is_not_found`] also of an engine that has no such call, as Podman.
    pub async fn attach_container_websocket(
        &self,
        container: &ContainerRef,
        options: &AttachContainer,
    ) -> Result<Attached, Error> {
        let flag = |set| if set { "1" } else { "0" };
        let key = generate_key();
        let call = Call::new(Operation::ContainerAttachWebsocket, [container.as_str()])
            .flag("logs", options.logs)
            .flag("stream", options.stream)
            .text("detachKeys", options.detach_keys.as_deref().unwrap_or_default())
            .query_since(42, Older::LeaveOut, "stdin", flag(options.stdin))
            .query_since(42, Older::LeaveOut, "stdout", flag(options.stdout))
            .query_since(42, Older::LeaveOut, "stderr", flag(options.stderr))
            .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
            .header(header::SEC_WEBSOCKET_KEY, value(&key)?)
            // Engines of Go refuse a handshake without one; what it says they do not look at.
            .header(header::ORIGIN, HeaderValue::from_static("http://localhost"));
        let what = call.what();
        let hijacked = self.hijack(call, "websocket").await?;
        let accepted = hijacked.headers().get(HeaderName::from_static("sec-websocket-accept"));
        if accepted.map(HeaderValue::as_bytes) != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(Error::Stream(format!("The engine did not agree on a WebSocket: {what}")));
        }
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_CAP)).max_frame_size(Some(MESSAGE_CAP));
        let socket = WebSocketStream::from_raw_socket(hijacked, Role::Client, Some(config)).await;
        Ok(Attached::new(Messages { socket, rest: Bytes::new() }, true, what))
    }
}

fn value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| Error::invalid(text, "header"))
}
