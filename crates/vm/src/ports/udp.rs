use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind as bind_socket, setsockopt, socket, sockopt,
};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::NetworkNamespace;

/// Clients of one published port at a time; datagrams of further ones are dropped, as UDP may.
const SESSIONS: usize = 1024;
/// Without an answer for this long, a client is forgotten.
const IDLE: Duration = Duration::from_secs(90);
const LARGEST: usize = 65536;

/// Binds exactly that address.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Datagram, flags, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind_socket(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    UdpSocket::from_std(std::net::UdpSocket::from(fd))
}

/// Carries datagrams to the container, and its answers back to whom they are for, until it is dropped.
pub(super) async fn forward(host: UdpSocket, container: SocketAddr, namespace: &Arc<NetworkNamespace>) {
    let host = Arc::new(host);
    let mut sessions: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let received = tokio::select! {
            Some(ended) = answers.join_next() => {
                if let Ok(client) = ended {
                    sessions.remove(&client);
                }
                continue;
            }
            received = host.recv_from(&mut buffer) => received,
        };
        let Ok((length, client)) = received else { continue };
        let session = match sessions.get(&client) {
            Some(session) => Arc::clone(session),
            None if sessions.len() >= SESSIONS => continue,
            None => {
                let Ok(session) = dial(container, namespace).await.map(Arc::new) else { continue };
                sessions.insert(client, Arc::clone(&session));
                answers.spawn(answer(Arc::clone(&host), client, Arc::clone(&session)));
                session
            }
        };
        let _ = session.send(buffer.get(..length).unwrap_or_default()).await;
    }
}

/// Carries the container's answers to one client, and returns it when there have been none for long.
async fn answer(host: Arc<UdpSocket>, client: SocketAddr, session: Arc<UdpSocket>) -> SocketAddr {
    let mut buffer = vec![0; LARGEST];
    loop {
        match timeout_at(Instant::now() + IDLE, session.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                let _ = host.send_to(buffer.get(..length).unwrap_or_default(), client).await;
            }
            // Nobody listens in the container at the moment.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) | Err(_) => return client,
        }
    }
}

async fn dial(container: SocketAddr, namespace: &NetworkNamespace) -> io::Result<UdpSocket> {
    let fd = namespace.socket(container, SockType::Datagram).await?;
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(fd))?;
    socket.connect(container).await?;
    Ok(socket)
}
