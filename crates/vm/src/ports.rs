//! Published ports. The stand-in for `docker-proxy` asks for a port over `ports.sock`; the host's side of it is
//! opened before dockerd hears that all is well, and lives as long as that connection.

#[cfg(target_os = "linux")]
mod namespace;
#[cfg(not(target_os = "linux"))]
#[path = "ports/namespace_elsewhere.rs"]
mod namespace;
#[cfg(target_os = "linux")]
mod owner;
#[cfg(not(target_os = "linux"))]
#[path = "ports/owner_elsewhere.rs"]
mod owner;
mod reach;
mod tcp;
mod udp;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::error::Error;
use crate::lines;
use crate::socket::Duplex;
pub(crate) use namespace::NetworkNamespace;
pub(crate) use reach::{Reach, as_io};

const REQUEST_LIMIT: u64 = 4096;
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
const PARTING: Duration = Duration::from_secs(5);
/// When dockerd is restarted, its old proxies may still be ending while the new ones ask for the same ports.
const OWN_PORT_TRIES: u32 = 10;
const OWN_PORT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    #[serde(other)]
    Other,
}

/// One port to publish, as dockerd asked for it. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Publication {
    proto: Protocol,
    host_ip: IpAddr,
    host_port: u16,
    container_ip: IpAddr,
    container_port: u16,
}

impl Publication {
    fn host(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip, self.host_port)
    }

    fn container(&self) -> SocketAddr {
        SocketAddr::new(self.container_ip, self.container_port)
    }
}

#[derive(Debug, Serialize)]
struct Answer {
    v: u32,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The socket ports are asked for on. It exists before the engine does.
pub(crate) fn bind(socket: &Path) -> Result<UnixListener, Error> {
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(Error::file("listen on", socket))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(Error::file("protect", socket))?;
    Ok(listener)
}

/// The published ports of one running engine; all are closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Ports {
    task: JoinHandle<()>,
}

impl Ports {
    pub(crate) fn serve(listener: Arc<UnixListener>, reach: Reach) -> Self {
        Self { task: tokio::spawn(accept(listener, reach)) }
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: Arc<UnixListener>, reach: Reach) {
    let mut publications = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = publications.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    publications.spawn(publish(connection, reach.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "requests for ports cannot be accepted");
                    tokio::time::sleep(OWN_PORT_PAUSE).await;
                }
            },
        }
    }
}

enum Listener {
    Tcp(tokio::net::TcpListener),
    Udp(tokio::net::UdpSocket),
    /// The host cannot have this address, and the publication is good without it.
    None,
}

/// Publishes the port that is asked for over `connection`, for as long as that is open.
pub(crate) async fn publish(connection: impl Duplex, reach: Reach) {
    let (input, mut output) = tokio::io::split(connection);
    let mut input = BufReader::new(input);
    let request = timeout(REQUEST_PATIENCE, lines::read::<Publication>(&mut input, REQUEST_LIMIT)).await;
    let publication = match request {
        Ok(Ok(Some(publication))) => publication,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(error)) => {
            let error = Some(format!("the request was not understood: {error}"));
            let _ = lines::write(&mut output, &Answer { v: 1, ok: false, error }).await;
            return part(&mut input, &mut output).await;
        }
    };
    let listener = open(&publication).await;
    let answer = Answer { v: 1, ok: listener.is_ok(), error: listener.as_ref().err().map(ToString::to_string) };
    tracing::info!(?publication, error = ?answer.error, "port");
    let told = lines::write(&mut output, &answer).await;
    let (Ok(listener), Ok(())) = (listener, told) else { return part(&mut input, &mut output).await };
    let container = publication.container();
    let forward = async {
        match listener {
            Listener::Tcp(listener) => tcp::forward(listener, container, &reach).await,
            Listener::Udp(socket) => udp::forward(socket, container, &reach).await,
            Listener::None => std::future::pending().await,
        }
    };
    let mut nothing = [0; 64];
    let ended = async { while matches!(input.read(&mut nothing).await, Ok(1..)) {} };
    tokio::select! {
        () = forward => {}
        () = ended => {}
    }
}

/// Lets the other side read the last words: a stream that is merely dropped may take them with it.
async fn part(input: &mut (impl AsyncRead + Unpin), output: &mut (impl AsyncWrite + Unpin)) {
    let mut nothing = [0; 64];
    let _ = output.shutdown().await;
    let _ = timeout(PARTING, async { while matches!(input.read(&mut nothing).await, Ok(1..)) {} }).await;
}

/// Why a port was not opened on the host; the engine passes the words on to whoever asked for the port.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("only TCP and UDP ports can be published on the host")]
    Protocol,
    #[error("port {port} is taken by {by}")]
    Taken { port: u16, by: String },
    #[error("this machine has no address {0}")]
    NoAddress(IpAddr),
    #[error(
        "port {port} may not be opened by this user, but only from {first} on; publish it there, or as root: \
         `sysctl -w net.ipv4.ip_unprivileged_port_start={port}`"
    )]
    Privileged { port: u16, first: u16 },
    #[error("port {0} may not be opened by this user")]
    Permission(u16),
    #[error("{host} cannot be opened: {source}")]
    Other { host: SocketAddr, source: io::Error },
}

async fn open(publication: &Publication) -> Result<Listener, Refusal> {
    let host = publication.host();
    let mut tries = 0;
    loop {
        let opened = match publication.proto {
            Protocol::Tcp => tcp::listen(host).map(Listener::Tcp),
            Protocol::Udp => udp::bind(host).map(Listener::Udp),
            Protocol::Other => return Err(Refusal::Protocol),
        };
        let error = match opened {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        if host.ip().is_unspecified() && host.is_ipv6() && lacks_address(&error) {
            return Ok(Listener::None);
        }
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(explain(host, error));
        }
        let udp = publication.proto == Protocol::Udp;
        let owner = tokio::task::spawn_blocking(move || owner::of(host, udp)).await.ok().flatten();
        let own = owner.as_ref().is_some_and(|owner| owner.pid == std::process::id());
        if !own || tries >= OWN_PORT_TRIES {
            let by = owner.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
            return Err(Refusal::Taken { port: host.port(), by });
        }
        tries += 1;
        tokio::time::sleep(OWN_PORT_PAUSE).await;
    }
}

fn lacks_address(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT)
    )
}

fn explain(host: SocketAddr, source: io::Error) -> Refusal {
    if lacks_address(&source) {
        return Refusal::NoAddress(host.ip());
    }
    if source.kind() == io::ErrorKind::PermissionDenied {
        return match owner::first_of_users() {
            Some(first) if host.port() < first => Refusal::Privileged { port: host.port(), first },
            _ => Refusal::Permission(host.port()),
        };
    }
    Refusal::Other { host, source }
}

#[cfg(test)]
mod tests {
    use super::{Listener, Protocol, Publication, open};

    fn publication(proto: &str, host: &str, port: u16) -> Publication {
        let text = format!(
            r#"{{"v":1,"proto":"{proto}","host_ip":"{host}","host_port":{port},"container_ip":"172.17.0.2","container_port":80,"x":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_request_may_say_more_than_is_known() {
        assert_eq!(publication("tcp", "::", 1).proto, Protocol::Tcp);
        assert_eq!(publication("sctp", "0.0.0.0", 1).proto, Protocol::Other);
    }

    #[tokio::test]
    async fn a_taken_port_names_who_has_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = open(&publication("tcp", "127.0.0.1", port)).await.err().unwrap().to_string();
        assert!(error.contains(&format!("port {port} is taken by")), "{error}");
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_and_other_protocols_are_refused() {
        let error = open(&publication("tcp", "203.0.113.7", 0)).await.err().unwrap().to_string();
        assert!(error.contains("no address 203.0.113.7"), "{error}");
        assert!(open(&publication("sctp", "127.0.0.1", 0)).await.is_err());
        assert!(matches!(open(&publication("udp", "127.0.0.1", 0)).await, Ok(Listener::Udp(_))));
    }
}
