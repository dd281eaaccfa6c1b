//! Streams that the host opens, and what they may lead to: the engine, a container's port, a service's log.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_mux::{Datagrams, Offer, RefusalCode, Stream, Target};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::time::timeout;

use super::{Bytes, Place};

/// The one socket that is reached by its name.
const DOCKER: &str = "/run/docker.sock";
const LOGS: [&str; 2] = ["containerd", "dockerd"];
const DIAL_PATIENCE: Duration = Duration::from_secs(10);
/// The largest datagram there is.
const DATAGRAM: usize = 65_535;

pub(super) async fn serve(offer: Offer, place: Arc<Place>) {
    match offer.target().clone() {
        Target::Unix { path } if path == DOCKER => match UnixStream::connect(&place.docker).await {
            Ok(engine) => carry(offer.accept(), engine).await,
            Err(error) => offer.refuse(RefusalCode::Refused, &format!("the engine does not answer: {error}")),
        },
        Target::Tcp { address } if is_containers(address) => {
            match timeout(DIAL_PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(container)) => {
                    let _ = container.set_nodelay(true);
                    carry(offer.accept(), container).await;
                }
                Ok(Err(error)) => offer.refuse(RefusalCode::Refused, &error.to_string()),
                Err(_) => offer.refuse(RefusalCode::TimedOut, "the container does not answer"),
            }
        }
        Target::Udp { address } if offer.is_datagram() && is_containers(address) => match dial(address).await {
            Ok(socket) => exchange(offer.accept_datagram(), socket).await,
            Err(error) => offer.refuse(RefusalCode::Refused, &error.to_string()),
        },
        Target::Log { service } if LOGS.contains(&service.as_str()) => {
            let _ = log(offer.accept(), &place.logs, &service).await;
        }
        _ => offer.refuse(RefusalCode::NotAllowed, "nothing of that kind is reached from outside"),
    }
}

/// Both directions, each to its own end. Where one breaks, both do: a dropped stream is a reset to the host.
async fn carry(mut stream: Stream, mut local: impl Bytes) {
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut local).await;
}

async fn dial(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if address.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Until the host ends it, which knows when a client has been silent for long.
async fn exchange(mut datagrams: Datagrams, socket: UdpSocket) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            outward = datagrams.recv() => match outward {
                // What cannot be sent is lost, as datagrams are.
                Some(datagram) => drop(socket.send(&datagram).await),
                None => return,
            },
            inward = socket.recv(&mut buffer) => {
                if let Ok(read) = inward
                    && datagrams.send(buffer.get(..read).unwrap_or_default()).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

async fn log(mut stream: Stream, folder: &Path, service: &str) -> io::Result<()> {
    for name in [format!("{service}.log.1"), format!("{service}.log")] {
        if let Ok(mut file) = tokio::fs::File::open(folder.join(name)).await {
            tokio::io::copy(&mut file, &mut stream).await?;
        }
    }
    stream.shutdown().await
}

/// Whether an address is on one of the containers' networks: not this machine's own, and not its way out.
fn is_containers(address: SocketAddr) -> bool {
    let wanted = address.ip();
    let mut found = false;
    for interface in getifaddrs().into_iter().flatten() {
        let outward = Path::new("/sys/class/net").join(&interface.interface_name).join("device").exists();
        let of = |storage: Option<nix::sys::socket::SockaddrStorage>| {
            let storage = storage?;
            let four = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            four.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        };
        let (Some(own), Some(mask)) = (of(interface.address), of(interface.netmask)) else { continue };
        if own == wanted {
            return false;
        }
        let inside = !outward && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        found |= inside && same_network(own, wanted, mask);
    }
    found
}

fn same_network(one: IpAddr, other: IpAddr, mask: IpAddr) -> bool {
    match (one, other, mask) {
        (IpAddr::V4(one), IpAddr::V4(other), IpAddr::V4(mask)) => {
            u32::from(one) & u32::from(mask) == u32::from(other) & u32::from(mask)
        }
        (IpAddr::V6(one), IpAddr::V6(other), IpAddr::V6(mask)) => {
            u128::from(one) & u128::from(mask) == u128::from(other) & u128::from(mask)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_containers, same_network};

    #[test]
    fn neither_this_machine_nor_the_world_is_a_container() {
        for address in ["127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "192.0.2.1:80", "[2001:db8::1]:80"] {
            assert!(!is_containers(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_network_is_what_its_mask_says() {
        let ip = |text: &str| text.parse().unwrap();
        assert!(same_network(ip("172.17.0.1"), ip("172.17.255.2"), ip("255.255.0.0")));
        assert!(!same_network(ip("172.17.0.1"), ip("172.18.0.2"), ip("255.255.0.0")));
        assert!(!same_network(ip("172.17.0.1"), ip("::ffff:172.17.0.2"), ip("255.255.0.0")));
    }
}
