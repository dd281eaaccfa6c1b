//! The way to the host: a virtio port, or, where the kernel's command line names a vsock port, connections to that.

use std::fs::File;

use berth_mux::{Config, Role, Session};

use super::port::{self, Port};
use super::vsock::Listener;
use crate::command_line;
use crate::error::Error;

const VSOCK: &str = "berth.vsock";

pub(super) enum Way {
    /// One for all sessions, which follow each other.
    Port(File),
    /// A new connection for each.
    Vsock(Listener),
}

impl Way {
    pub(super) fn open() -> Result<Self, Error> {
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
        let connected = match self {
            Self::Port(device) => berth_mux::connect(Port::of(device)?, Role::Guest, Config::default()).await,
            Self::Vsock(listener) => berth_mux::connect(listener.accept().await?, Role::Guest, Config::default()).await,
        };
        connected.map_err(|error| Error::Machine(error.to_string()))
    }
}
