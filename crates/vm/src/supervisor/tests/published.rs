//! Ports that a machine's guest asks for.

use std::net::SocketAddr;

use berth_mux::{OpenError, RefusalCode, Stream, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{Ground, Plan, bounded};
use crate::status::State;

/// A port of this machine that nobody has at the moment.
fn free_port(udp: bool) -> u16 {
    if udp {
        return std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    }
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks as the guest's stand-in for docker-proxy does, and gives the answer.
async fn ask(ground: &Ground, proto: &str, host_port: u16, container: SocketAddr) -> (Stream, serde_json::Value) {
    let mut stream = bounded(async { ground.agent.opener().await.open(&Target::Ports).await }).await.unwrap();
    let request = serde_json::json!({
        "v": 1, "proto": proto, "host_ip": "127.0.0.1", "host_port": host_port,
        "container_ip": container.ip(), "container_port": container.port(),
    });
    stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        answer.push(bounded(stream.read_u8()).await.unwrap());
    }
    (stream, serde_json::from_slice(&answer).unwrap())
}

async fn greet(port: u16) -> std::io::Result<Vec<u8>> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(b"hello").await?;
    client.shutdown().await?;
    let mut answer = Vec::new();
    bounded(client.read_to_end(&mut answer)).await?;
    Ok(answer)
}

/// A container that sends everything back, and ends when its client has.
async fn container() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut reader, &mut writer).await });
        }
    });
    address
}

async fn closed(port: u16) {
    let gone = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    bounded(gone).await;
}

#[tokio::test]
async fn a_port_lives_as_long_as_it_is_asked_for_and_none_outlives_its_session() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    let container = container().await;
    let port = free_port(false);
    let (stream, answer) = ask(&ground, "tcp", port, container).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(greet(port).await.unwrap(), b"hello");
    drop(stream);
    closed(port).await;

    // Each new session asks for the same port, at once.
    for _ in 0..5 {
        let (_held, answer) = ask(&ground, "tcp", port, container).await;
        assert_eq!(answer["ok"], true, "{answer}");
        assert_eq!(greet(port).await.unwrap(), b"hello");
        ground.agent.opener().await.close();
        ground.state(State::Degraded).await;
        ground.state(State::Ready).await;
    }
    closed(port).await;
    let (_held, answer) = ask(&ground, "tcp", port, container).await;
    assert_eq!(answer["ok"], true, "{answer}");
    ground.stop().await;
    closed(port).await;
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_why() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let container = container().await;
    let (_stream, answer) = ask(&ground, "tcp", port, container).await;
    assert!(answer["ok"] == false && answer["error"].as_str().unwrap().contains("taken"), "{answer}");

    // Nobody listens there: the client is reset, not answered politely.
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port(false)));
    let port = free_port(false);
    let (_stream, answer) = ask(&ground, "tcp", port, nobody).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(greet(port).await.is_err());

    let opener = ground.agent.opener().await;
    for target in [Target::Dns, Target::unix("/etc/passwd"), Target::tcp(container), Target::log("x")] {
        let refused = bounded(opener.open(&target)).await.unwrap_err();
        assert!(matches!(refused, OpenError::Refused { code: RefusalCode::NotAllowed, .. }), "{target:?}: {refused}");
    }
    assert!(bounded(opener.open_datagram(&Target::Ports)).await.is_err());
    ground.stop().await;
}

#[tokio::test]
async fn datagrams_find_their_way_and_back() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    let container = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = container.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            let (length, from) = container.recv_from(&mut buffer).await.unwrap();
            container.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let port = free_port(true);
    let (_stream, answer) = ask(&ground, "udp", port, address).await;
    assert_eq!(answer["ok"], true, "{answer}");
    for text in ["one", "another"] {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(("127.0.0.1", port)).await.unwrap();
        client.send(text.as_bytes()).await.unwrap();
        let mut buffer = [0; 2000];
        let length = bounded(client.recv(&mut buffer)).await.unwrap();
        assert_eq!(&buffer[..length], text.as_bytes());
    }
    ground.stop().await;
}
