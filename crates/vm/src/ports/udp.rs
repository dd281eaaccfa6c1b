use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Reach;

/// Clients of one published port at a time; datagrams of further ones are dropped, as UDP may.
const SESSIONS: usize = 1024;
/// Without an answer for this long, a client is forgotten.
const IDLE: Duration = Duration::from_secs(90);
const LARGEST: usize = 65536;
/// Datagrams of one client that wait for the container.
const QUEUE: usize = 64;

/// Binds exactly that address.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Carries datagrams to the container, and its answers back to whom they are for, until it is dropped.
pub(super) async fn forward(host: UdpSocket, container: SocketAddr, reach: &Reach) {
    let host = Arc::new(host);
    let mut sessions: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut flows = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let received = tokio::select! {
            Some(ended) = flows.join_next() => {
                if let Ok(client) = ended {
                    sessions.remove(&client);
                }
                continue;
            }
            received = host.recv_from(&mut buffer) => received,
        };
        let Ok((length, client)) = received else { continue };
        let session = match sessions.get(&client) {
            Some(session) => session,
            None if sessions.len() >= SESSIONS => continue,
            None => {
                let (session, datagrams) = mpsc::channel(QUEUE);
                flows.spawn(carry(Arc::clone(&host), client, container, reach.clone(), datagrams));
                sessions.entry(client).or_insert(session)
            }
        };
        // A full queue loses datagrams, and never holds up another client's.
        let _ = session.try_send(buffer.get(..length).unwrap_or_default().to_vec());
    }
}

/// Carries the datagrams of one client, and returns it when there have been no answers for long.
async fn carry(
    host: Arc<UdpSocket>,
    client: SocketAddr,
    container: SocketAddr,
    reach: Reach,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) -> SocketAddr {
    let Ok(mut flow) = reach.udp(container).await else { return client };
    let mut buffer = vec![0; LARGEST];
    let mut deadline = Instant::now() + IDLE;
    loop {
        tokio::select! {
            Some(datagram) = datagrams.recv() => flow.send(&datagram).await,
            answer = timeout_at(deadline, flow.receive(&mut buffer)) => match answer {
                Ok(Some(length)) => {
                    deadline = Instant::now() + IDLE;
                    let _ = host.send_to(buffer.get(..length).unwrap_or_default(), client).await;
                }
                Ok(None) | Err(_) => return client,
            },
        }
    }
}
