//! The way to the host: a virtio port; where the kernel's command line names a vsock port, connections to that; or a socket
//! whose bytes somebody else carries, where there is no machine of the engine's own.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use berth_mux::{Config, Role, Session};
use tokio::net::UnixStream;

use super::port::{self, Port};
use super::vsock::Listener;
use crate::command_line;
use crate::error::Error;

const VSOCK: &str = "berth.vsock";
/// A host that is gone greets anew, or its connection ends: either is noticed at once. One that only has too much to do would
/// have everybody's connections broken for it.
const SILENCE: Duration = Duration::from_secs(60);

pub(super) enum Way {
    /// One for all sessions, which follow each other.
    Port(File),
    /// A new connection for each.
    Vsock(Listener),
    /// The same, where the host waits for it.
    Socket(PathBuf),
}

impl Way {
    pub(super) fn find(socket: Option<PathBuf>) -> Result<Self, Error> {
        if let Some(socket) = socket {
            return Ok(Self::Socket(socket));
        }
        match command_line::value(VSOCK) {
            Some(port) => {
                let port = port.parse().map_err(|_| Error::Machine(format!("{VSOCK}={port} is no port")))?;
                Listener::bind(port).map(Self::Vsock)
            }
            None => port::open().map(Self::Port),
        }
    }

    /// Waits for the host and shakes hands.
    pub(super) async fn session(&self) -> Result<Session, Error> {
        let config = Config { silence: SILENCE, ..Config::default() };
        let connected = match self {
            Self::Port(device) => berth_mux::connect(Port::of(device)?, Role::Guest, config).await,
            Self::Vsock(listener) => berth_mux::connect(listener.accept().await?, Role::Guest, config).await,
            Self::Socket(path) => {
                let socket = UnixStream::connect(path).await.map_err(Error::file("cannot connect to", path))?;
                berth_mux::connect(socket, Role::Guest, config).await
            }
        };
        connected.map_err(|error| Error::Machine(error.to_string()))
    }
}
