//! How a container's port is reached from the host.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_mux::{Datagrams, OpenError, Opener, RefusalCode, Target};
use nix::sys::socket::SockType;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use super::NetworkNamespace;
use crate::socket::Duplex;

const DIAL_PATIENCE: Duration = Duration::from_secs(10);

/// The way to the containers' networks.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// They are in a namespace of this kernel.
    Namespace(Arc<NetworkNamespace>),
    /// They are in a machine, which its agent reaches, as long as there is a session with it.
    Machine(watch::Receiver<Option<Opener>>),
}

impl Reach {
    pub(super) async fn tcp(&self, to: SocketAddr) -> io::Result<Box<dyn Duplex>> {
        let dialled = async {
            match self {
                Self::Namespace(namespace) => {
                    let fd = namespace.socket(to, SockType::Stream).await?;
                    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(fd));
                    let stream = socket.connect(to).await?;
                    let _ = stream.set_nodelay(true);
                    Ok(Box::new(stream) as Box<dyn Duplex>)
                }
                Self::Machine(opener) => {
                    let stream = now(opener)?.open(&Target::tcp(to)).await.map_err(as_io)?;
                    Ok(Box::new(stream) as Box<dyn Duplex>)
                }
            }
        };
        timeout(DIAL_PATIENCE, dialled).await?
    }

    pub(super) async fn udp(&self, to: SocketAddr) -> io::Result<Flow> {
        match self {
            Self::Namespace(namespace) => {
                let fd = namespace.socket(to, SockType::Datagram).await?;
                let socket = UdpSocket::from_std(std::net::UdpSocket::from(fd))?;
                socket.connect(to).await?;
                Ok(Flow::Socket(socket))
            }
            Self::Machine(opener) => {
                now(opener)?.open_datagram(&Target::udp(to)).await.map(Flow::Machine).map_err(as_io)
            }
        }
    }
}

/// Datagrams between one client and one container.
#[derive(Debug)]
pub(super) enum Flow {
    Socket(UdpSocket),
    Machine(Datagrams),
}

impl Flow {
    /// What cannot be sent is lost, as datagrams are.
    pub(super) async fn send(&self, datagram: &[u8]) {
        match self {
            Self::Socket(socket) => drop(socket.send(datagram).await),
            Self::Machine(datagrams) => drop(datagrams.send(datagram).await),
        }
    }

    /// The next one; none when there will be no more.
    pub(super) async fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Socket(socket) => loop {
                match socket.recv(buffer).await {
                    Ok(length) => return Some(length),
                    // Nobody listens in the container at the moment.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => return None,
                }
            },
            Self::Machine(datagrams) => {
                let datagram = datagrams.recv().await?;
                let length = datagram.len().min(buffer.len());
                buffer.get_mut(..length)?.copy_from_slice(datagram.get(..length)?);
                Some(length)
            }
        }
    }
}

fn now(opener: &watch::Receiver<Option<Opener>>) -> io::Result<Opener> {
    opener.borrow().clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

pub(crate) fn as_io(error: OpenError) -> io::Error {
    let kind = match &error {
        OpenError::Refused { code: RefusalCode::Refused, .. } => io::ErrorKind::ConnectionRefused,
        OpenError::Refused { code: RefusalCode::TimedOut, .. } => io::ErrorKind::TimedOut,
        OpenError::Refused { code: RefusalCode::NotFound, .. } => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
