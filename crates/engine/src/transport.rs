//! Connections to an engine.

mod explain;
mod material;
mod pipe;
mod problem;
mod ssh;
mod tcp;
mod tls;

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::timeout,
};

pub use self::material::{Pem, TlsMaterial, Verification};
use self::problem::Problem;
use crate::{Endpoint, Error, http::RequestBody};

pub(crate) type Sender = http1::SendRequest<RequestBody>;
type Connection = http1::Connection<TokioIo<Box<dyn Socket>>, RequestBody>;

const CONNECT_SECONDS: u64 = 5;

/// Longest head of an answer, in bytes.
const HEAD_CAP: usize = 64 * 1024;

/// A connection as bytes both ways.
///
/// Shutting down its writing half tells the other side that no more comes, where the transport can: unix sockets, TCP,
/// TLS and ssh can, named pipes cannot.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Socket for T {}

/// How connections are made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The `ssh` to start for [`Endpoint::Ssh`]: a name on `PATH`, or a path.
    pub ssh: PathBuf,
    /// How long connecting may take, TLS included. What `ssh` needs to log in counts against the first call instead.
    pub deadline: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { ssh: PathBuf::from("ssh"), deadline: Duration::from_secs(CONNECT_SECONDS) }
    }
}

/// Where to, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) options: &'a ConnectOptions,
}

impl<'a> From<&'a Endpoint> for Route<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        static USUAL: LazyLock<ConnectOptions> = LazyLock::new(ConnectOptions::default);
        Self { endpoint, options: &USUAL }
    }
}

async fn socket(Route { endpoint, options }: Route<'_>) -> io::Result<Box<dyn Socket>> {
    match endpoint {
        #[cfg(unix)]
        Endpoint::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Endpoint::Unix(_) => Err(Problem::NoUnixSockets.into_io()),
        Endpoint::NamedPipe(path) => pipe::connect(path, options.deadline).await,
        Endpoint::Tcp { host, port } => Ok(Box::new(tcp::connect(host, *port).await?)),
        Endpoint::Tls { host, port, tls } => {
            let stream = tcp::connect(host, *port).await?;
            Ok(Box::new(tls::connect(stream, host, Arc::clone(tls)).await?))
        }
        Endpoint::Ssh { user, host, port } => {
            Ok(Box::new(ssh::connect(&options.ssh, user.as_deref(), host, *port, options.deadline)?))
        }
    }
}

/// A bare connection to an engine, without HTTP: what a forwarder needs.
///
/// With [`Endpoint::Ssh`] it succeeds as soon as `ssh` runs; that the engine cannot be reached shows when reading.
///
/// # Errors
/// [`Error::Connect`] when nobody takes the connection or the two sides do not trust each other, [`Error::Timeout`]
/// after the deadline of `options`.
pub async fn dial(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Box<dyn Socket>, Error> {
    match timeout(options.deadline, socket(Route { endpoint, options })).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(source)) => Err(Error::Connect { endpoint: endpoint.clone(), source }),
        Err(_) => {
            Err(Error::Timeout { what: format!("connecting to {endpoint}"), seconds: options.deadline.as_secs() })
        }
    }
}

/// The error of an exchange that broke.
///
/// Some failures to connect show only then, with `ssh` and when an engine refuses a certificate; they become
/// [`Error::Connect`].
pub(crate) fn broken(endpoint: &Endpoint, what: String, source: hyper::Error) -> Error {
    let chain = std::iter::successors(Some(&source as &(dyn std::error::Error + 'static)), |error| error.source());
    let mut problems = chain.filter_map(|error| error.downcast_ref::<io::Error>()).filter_map(Problem::of);
    match problems.next() {
        Some(problem) => Error::Connect { endpoint: endpoint.clone(), source: problem.clone().into_io() },
        None => Error::Http { what, source },
    }
}

async fn handshake(Route { endpoint, options }: Route<'_>) -> Result<(Sender, Connection), Error> {
    let socket = dial(endpoint, options).await?;
    http1::Builder::new()
        .max_header_size(HEAD_CAP)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|source| broken(endpoint, format!("connecting to {endpoint}"), source))
}

/// Why a connection ended, for the caller whose request it no longer took.
pub(crate) type Ended = oneshot::Receiver<hyper::Error>;

/// A connection for exchanges one after another, driven by a task of its own until its sender is dropped.
pub(crate) async fn connect(route: impl Into<Route<'_>>) -> Result<(Sender, Ended), Error> {
    let (sender, connection) = handshake(route.into()).await?;
    Ok((sender, drive_apart(connection)))
}

/// A connection for a single exchange that may end in another protocol.
pub(crate) async fn connect_for_upgrade(route: impl Into<Route<'_>>) -> Result<(Sender, Ended), Error> {
    let (sender, connection) = handshake(route.into()).await?;
    Ok((sender, drive_apart(connection.with_upgrades())))
}

fn drive_apart(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Ended {
    let (end, ended) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the engine ended");
            // Only a caller whose request was not taken asks for it.
            let _ = end.send(error);
        }
    });
    ended
}

/// The error of a request that failed: that of the connection, if it ended before it took the request.
pub(crate) async fn cause(source: hyper::Error, ended: Ended) -> hyper::Error {
    if source.is_canceled() { ended.await.unwrap_or(source) } else { source }
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
    endpoint: Endpoint,
    what: String,
}

impl StreamBody {
    pub(crate) async fn open(
        route: impl Into<Route<'_>>,
        request: Request<RequestBody>,
        what: String,
    ) -> Result<(Response<()>, Self), Error> {
        let route = route.into();
        let (sender, connection) = handshake(route).await?;
        let endpoint = route.endpoint.clone();
        let mut stream = Self { body: None, connection: Some(Box::pin(connection)), sender, endpoint, what };
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
        let response = response.map_err(|source| broken(&stream.endpoint, stream.what.clone(), source))?;
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
                    return Poll::Ready(Some(Err(broken(&self.endpoint, self.what.clone(), source))));
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
