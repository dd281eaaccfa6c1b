use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Reach;

const BACKLOG: i32 = 1024;
/// Connections of one published port at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 8192;

/// Listens on exactly that address: an IPv6 one leaves the IPv4 port of the same number to others.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Carries every connection to the container until it is dropped.
pub(super) async fn forward(listener: TcpListener, container: SocketAddr, reach: &Reach) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => break accepted,
            }
        };
        match accepted {
            Ok((client, _)) => {
                let reach = reach.clone();
                connections.spawn(async move {
                    carry(client, container, &reach).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connections to a published port cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, container: SocketAddr, reach: &Reach) {
    let Ok(mut server) = reach.tcp(container).await else {
        // Nobody listens in the container: the client sees a reset, not a polite end.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = client.set_nodelay(true);
    // It shuts down one direction when the other side has, and ends when both have.
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
        tracing::debug!(%error, "a connection to a published port broke");
    }
}
