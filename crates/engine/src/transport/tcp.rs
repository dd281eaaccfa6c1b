//! TCP: every address of a host, and a connection that notices when the other side is gone.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::sleep,
};

use super::problem::Problem;

/// How long one address is tried alone before the next one is tried beside it; what RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// Addresses tried, however many a name server gives.
const ADDRESSES: usize = 16;

/// A connection to whichever address of the host answers first.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = match lookup_host((host, port)).await {
        Ok(addresses) => alternate(addresses),
        Err(error) => {
            // Its text is the resolver's own and says nothing to most people.
            tracing::debug!(host, %error, "a name has no address");
            Vec::new()
        }
    };
    if addresses.is_empty() {
        return Err(Problem::NoAddress { host: host.to_owned() }.into_io());
    }
    let stream = first(addresses).await?;
    stream.set_nodelay(true)?;
    // An engine whose machine vanished would otherwise be waited for until the system gives up, hours later.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// In the resolver's order, but with the two families in turn, so that one that leads nowhere costs one head start.
fn alternate(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<SocketAddr> = addresses.take(4 * ADDRESSES).collect();
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    while mixed.len() < ADDRESSES {
        let before = mixed.len();
        mixed.extend(one.next());
        mixed.extend(other.next());
        if mixed.len() == before {
            break;
        }
    }
    mixed
}

async fn first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => trying.push(TcpStream::connect(address)),
            None if trying.is_empty() => return Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into())),
            None => {}
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(tried) = trying.next() => match tried {
                Ok(stream) => return Ok(stream),
                // The first address is the one meant most; its failure tells most.
                Err(error) => { failure.get_or_insert(error); }
            },
            () = sleep(HEAD_START), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]);
        assert_eq!(alternate(given.into_iter()), parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]));
        assert!(alternate(std::iter::empty()).is_empty());
    }

    #[tokio::test]
    async fn an_address_that_refuses_or_hangs_does_not_stop_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Bound and never listened on.
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let refused = silent.local_addr().unwrap().as_socket().unwrap();
        // Its queue of connections is full, so that the next one gets no answer at all.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let hangs = full.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(HEAD_START, TcpStream::connect(hangs)).await {
            queue.push(stream);
        }
        // The system itself would try the first for more than two minutes.
        let stream = tokio::time::timeout(Duration::from_secs(60), first(vec![hangs, refused, good])).await;
        assert_eq!(stream.expect("head starts, not timeouts").unwrap().peer_addr().unwrap(), good);
        assert!(first(vec![refused]).await.is_err());
    }

    #[tokio::test]
    async fn a_vanished_engine_is_noticed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect("localhost", listener.local_addr().unwrap().port()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(
            (socket.tcp_keepalive_time().unwrap().as_secs(), socket.tcp_keepalive_retries().unwrap()),
            (30, 3),
            "three probes from half a minute on"
        );
    }
}
