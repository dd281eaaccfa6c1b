//! Berth in a browser: the same command layer over HTTP and a WebSocket, on loopback alone.
//!
//! Whoever calls needs the token of this run, and a `Host` and `Origin` that are this server's own, so that
//! neither a page on another site nor a name that was rebound to this address can reach the engine.

mod access;
mod files;
mod rpc;
mod socket;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use berth_app::App;

use access::Access;
pub use access::Token;

/// What every handler sees.
#[derive(Clone, Debug)]
struct Shared {
    app: Arc<App>,
    access: Arc<Access>,
}

/// A server that is about to answer.
#[derive(Debug)]
pub struct Server {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    token: Token,
    router: Router,
}

/// Why the server could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port could not be opened.
    #[error("Could not listen on 127.0.0.1:{port}: {source}. Choose another port with --port, or leave it out")]
    Listen {
        /// The port asked for.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The system gave no random numbers.
    #[error("The system gave no random numbers for the token: {0}")]
    Random(#[from] getrandom::Error),
    /// The server broke down.
    #[error("The server stopped: {0}")]
    Serve(std::io::Error),
}

impl Server {
    /// Listens on 127.0.0.1; port 0 takes a free one.
    ///
    /// # Errors
    /// When the port is taken or there is no randomness for a token.
    pub async fn bind(app: Arc<App>, port: u16) -> Result<Self, Error> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|source| Error::Listen { port, source })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { port, source })?;
        let token = Token::random()?;
        let access = Arc::new(Access::new(address.port(), token.clone(), Token::random()?, Token::random()?));
        let shared = Shared { app, access: access.clone() };
        let router = Router::new()
            .route("/rpc", post(rpc::call))
            .route("/ws", get(socket::open))
            .route("/session", post(access::begin))
            .fallback(get(files::serve))
            .layer(DefaultBodyLimit::max(berth_app::REQUEST_LIMIT))
            .layer(axum::middleware::from_fn_with_state(access, access::check))
            .layer(axum::middleware::from_fn(files::headers))
            .with_state(shared);
        Ok(Self { listener, address, token, router })
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a caller must show.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Answers until `stop` is done.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        let serve = axum::serve(self.listener, self.router);
        // Not a graceful shutdown: an open WebSocket would hold it up for ever.
        tokio::select! {
            served = serve => served.map_err(Error::Serve),
            () = stop => Ok(()),
        }
    }
}
