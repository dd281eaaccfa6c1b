//! Connections to an engine.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::{Endpoint, Error};

const CONNECT_SECONDS: u64 = 5;

/// Longest head of an answer, in bytes.
const HEAD_CAP: usize = 64 * 1024;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

pub(crate) type Sender = http1::SendRequest<Full<Bytes>>;
type Connection = http1::Connection<TokioIo<Box<dyn Socket>>, Full<Bytes>>;

async fn socket(endpoint: &Endpoint) -> io::Result<Box<dyn Socket>> {
    match endpoint {
        #[cfg(unix)]
        Endpoint::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Endpoint::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

async fn handshake(endpoint: &Endpoint) -> Result<(Sender, Connection), Error> {
    let socket = match timeout(Duration::from_secs(CONNECT_SECONDS), socket(endpoint)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(source)) => return Err(Error::Connect { endpoint: endpoint.clone(), source }),
        Err(_) => return Err(Error::Timeout { what: format!("connecting to {endpoint}"), seconds: CONNECT_SECONDS }),
    };
    http1::Builder::new()
        .max_header_size(HEAD_CAP)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|source| Error::Http { what: format!("connecting to {endpoint}"), source })
}

/// A connection for exchanges one after another, driven by a task of its own until its sender is dropped.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Sender, Error> {
    let (sender, connection) = handshake(endpoint).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the engine ended");
        }
    });
    Ok(sender)
}

/// A connection for a single streamed answer.
///
/// It is driven by whoever reads the answer, without a task between: a log of short chunks would pay one task switch a
/// chunk. Dropping it closes the connection, which is how the engine learns that nobody listens any more.
pub(crate) struct StreamBody {
    body: Option<Incoming>,
    connection: Option<Pin<Box<Connection>>>,
    /// Kept because a connection without a sender shuts down.
    sender: Sender,
    what: String,
}

impl StreamBody {
    pub(crate) async fn open(
        endpoint: &Endpoint,
        request: Request<Full<Bytes>>,
        what: String,
    ) -> Result<(Response<()>, Self), Error> {
        let (sender, connection) = handshake(endpoint).await?;
        let mut stream = Self { body: None, connection: Some(Box::pin(connection)), sender, what };
        let mut answer = Box::pin(stream.sender.send_request(request));
        let response = poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            drive(&mut stream.connection, cx);
            answer.as_mut().poll(cx)
        })
        .await;
        drop(answer);
        let response = response.map_err(|source| Error::Http { what: stream.what.clone(), source })?;
        let (parts, body) = response.into_parts();
        stream.body = Some(body);
        Ok((Response::from_parts(parts, ()), stream))
    }

    /// The next bytes; `None` at the proper end of the answer.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            let mut polled = Pin::new(&mut *body).poll_frame(cx);
            if polled.is_pending() {
                drive(&mut self.connection, cx);
                polled = Pin::new(body).poll_frame(cx);
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(source))) => {
                    self.body = None;
                    return Poll::Ready(Some(Err(Error::Http { what: self.what.clone(), source })));
                }
                Poll::Ready(None) => {
                    self.body = None;
                    return Poll::Ready(None);
                }
                Poll::Pending if self.connection.is_none() => {
                    self.body = None;
                    return Poll::Ready(Some(Err(Error::Closed { what: self.what.clone() })));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// [`Self::poll_data`] as a future.
    pub(crate) async fn data(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| self.poll_data(cx)).await
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

fn drive(connection: &mut Option<Pin<Box<Connection>>>, cx: &mut Context<'_>) {
    if let Some(running) = connection
        && let Poll::Ready(end) = running.as_mut().poll(cx)
    {
        // The reader of the answer gets the same error with more context.
        if let Err(error) = end {
            tracing::debug!(%error, "a stream from the engine ended");
        }
        *connection = None;
    }
}
