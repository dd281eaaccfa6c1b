use std::io;
use std::pin::Pin;
use std::sync::Mutex;

use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::{Ground, exactly, rest, within};
use crate::socket::{Connection, EngineDial, Gate, OpenFiles};

const MEGABYTE: usize = 1 << 20;

/// Bytes that tell where in the stream they belong.
fn chunk(stream: u64, index: usize) -> Vec<u8> {
    let mut state = (stream << 32 | index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(MEGABYTE);
    while bytes.len() < MEGABYTE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

async fn send(mut to: impl AsyncWrite + Unpin, stream: u64, megabytes: usize) -> io::Result<()> {
    for index in 0..megabytes {
        to.write_all(&chunk(stream, index)).await?;
    }
    to.shutdown().await
}

async fn check(mut from: impl AsyncRead + Unpin, stream: u64, megabytes: usize) {
    let mut got = vec![0; MEGABYTE];
    for index in 0..megabytes {
        from.read_exact(&mut got).await.unwrap();
        assert!(got == chunk(stream, index), "megabyte {index} of stream {stream} is not what was sent");
    }
    assert_eq!(from.read(&mut got).await.unwrap(), 0, "more than was sent");
}

fn refuses_input(stream: &UnixStream) {
    shutdown(stream.as_raw_fd(), Shutdown::Read).unwrap();
}

#[tokio::test]
async fn the_client_may_end_first() {
    let ground = Ground::open().await;
    let (mut client, mut engine) = ground.pair().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut engine).await, b"request");
    let sending = tokio::spawn(send(engine, 1, 3));
    within(check(client, 1, 3)).await;
    sending.await.unwrap().unwrap();
    ground.connections(0).await;
}

#[tokio::test]
async fn the_engine_may_end_first() {
    let ground = Ground::open().await;
    let (mut client, mut engine) = ground.pair().await;
    engine.write_all(b"greeting").await.unwrap();
    engine.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"greeting");
    let sending = tokio::spawn(send(client, 2, 3));
    within(check(&mut engine, 2, 3)).await;
    sending.await.unwrap().unwrap();
    drop(engine);
    ground.connections(0).await;
}

#[tokio::test]
async fn the_end_may_be_the_first_thing_said() {
    let ground = Ground::open().await;
    let (mut client, mut engine) = ground.pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut engine).await, b"");
    engine.write_all(b"it goes on").await.unwrap();
    assert_eq!(exactly(&mut client, 10).await, b"it goes on");
    drop(engine);
    assert_eq!(rest(&mut client).await, b"");
    ground.connections(0).await;
}

#[tokio::test]
async fn a_hundred_megabytes_go_both_ways_at_once() {
    let ground = Ground::open().await;
    let (client, engine) = ground.pair().await;
    let (client_reads, client_writes) = client.into_split();
    let (engine_reads, engine_writes) = engine.into_split();
    let up = tokio::spawn(send(client_writes, 1, 100));
    let down = tokio::spawn(send(engine_writes, 2, 100));
    let received = tokio::spawn(check(engine_reads, 1, 100));
    within(check(client_reads, 2, 100)).await;
    within(received).await.unwrap();
    up.await.unwrap().unwrap();
    down.await.unwrap().unwrap();
    ground.connections(0).await;
}

#[tokio::test]
async fn an_engine_that_answers_early_is_heard_while_the_client_still_writes() {
    let ground = Ground::open().await;
    let (client, mut engine) = ground.pair().await;
    let (mut reads, writes) = client.into_split();
    let sending = tokio::spawn(send(writes, 1, 64));
    exactly(&mut engine, 1000).await;
    engine.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    drop(engine);
    let mut answer = Vec::new();
    // It closed with bytes unread, which may be a reset behind the answer, as it is without us.
    match within(reads.read_to_end(&mut answer)).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    assert_eq!(answer, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let error = within(sending).await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error}");
    ground.connections(0).await;
}

#[tokio::test]
async fn who_reads_no_more_makes_the_other_sides_writes_fail_and_is_still_heard() {
    let ground = Ground::open().await;
    for swapped in [false, true] {
        let (client, engine) = ground.pair().await;
        let (mut deaf, other) = if swapped { (client, engine) } else { (engine, client) };
        refuses_input(&deaf);
        let (mut reads, writes) = other.into_split();
        let error = within(send(writes, 1, 64)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        deaf.write_all(b"still here").await.unwrap();
        deaf.shutdown().await.unwrap();
        let mut heard = Vec::new();
        within(reads.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"still here");
    }
    ground.connections(0).await;
}

#[tokio::test]
async fn a_side_that_leaves_takes_the_other_connection_with_it() {
    let ground = Ground::open().await;
    for swapped in [false, true] {
        let (client, engine) = ground.pair().await;
        let (mut leaving, mut staying) = if swapped { (engine, client) } else { (client, engine) };
        leaving.write_all(b"last words").await.unwrap();
        drop(leaving);
        // Without anything written to it: an idle connection is not kept for a side that is gone.
        assert_eq!(rest(&mut staying).await, b"last words");
        ground.connections(0).await;
        assert_eq!(staying.write_all(b"hello?").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn pieces_arrive_as_they_are_sent_and_requests_in_their_order() {
    let ground = Ground::open().await;
    let (mut client, mut engine) = ground.pair().await;
    // A request in three writes: each piece arrives before the next is sent.
    for piece in ["GET /_pi", "ng HTTP/1.1\r\nHo", "st: x\r\n\r\n"] {
        client.write_all(piece.as_bytes()).await.unwrap();
        assert_eq!(exactly(&mut engine, piece.len()).await, piece.as_bytes());
    }
    let requests: String = (0..1000).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.write_all(requests.as_bytes()).await.unwrap();
    assert_eq!(exactly(&mut engine, requests.len()).await, requests.as_bytes());
    engine.write_all(b"101 UPGRADED\r\n\r\n\x01\0\0\0\0\0\0\x01x").await.unwrap();
    assert_eq!(exactly(&mut client, 25).await, b"101 UPGRADED\r\n\r\n\x01\0\0\0\0\0\0\x01x");
}

#[tokio::test]
async fn a_receiver_that_does_not_read_holds_its_sender_back() {
    let ground = Ground::open().await;
    let (mut client, engine) = ground.pair().await;
    let block = vec![7; 64 << 10];
    let mut sent = 0;
    // Full when nothing more is taken for a while; more than the limit is an error whenever it is reached.
    while within(async { tokio::time::timeout(std::time::Duration::from_millis(300), engine.writable()).await })
        .await
        .is_ok()
    {
        match engine.try_write(&block) {
            Ok(written) => sent += written,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        assert!(sent < 8 * MEGABYTE, "{sent} bytes are kept for a client that does not read");
    }
    drop(engine);
    let mut got = Vec::new();
    within(client.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), sent);
}

#[tokio::test]
async fn two_thousand_connections_are_open_at_once() {
    OpenFiles::raise();
    let ground = Arc::new(Ground::open().await);
    let echoing = Arc::clone(&ground);
    let echo = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut reads, mut writes) = echoing.accept().await.into_split();
            connections.spawn(async move { tokio::io::copy(&mut reads, &mut writes).await });
        }
    });
    let mut clients = Vec::new();
    for number in 0..2000_u32 {
        let mut client = ground.client().await;
        client.write_all(&number.to_le_bytes()).await.unwrap();
        clients.push(client);
    }
    for (number, client) in (0_u32..2000).zip(&mut clients) {
        assert_eq!(exactly(client, 4).await, number.to_le_bytes());
    }
    ground.connections(2000).await;
    for (number, client) in (0_u32..2000).zip(&mut clients).rev() {
        client.write_all(&(!number).to_le_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(client).await, (!number).to_le_bytes());
    }
    drop(clients);
    ground.connections(0).await;
    echo.abort();
}

/// An engine that is reached over a stream that is no socket.
struct Tunnel(Mutex<Option<DuplexStream>>);

impl EngineDial for Tunnel {
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send + '_>> {
        let stream = self.0.lock().unwrap().take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused));
        Box::pin(std::future::ready(stream.map(|stream| Connection::Other(Box::new(stream)))))
    }
}

async fn tunnel(ground: &Ground) -> (UnixStream, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 << 10);
    ground.gate.send_replace(Gate::Open(Arc::new(Tunnel(Mutex::new(Some(near))))));
    (ground.client().await, far)
}

#[tokio::test]
async fn an_engine_behind_another_stream_is_forwarded_alike() {
    let ground = Ground::open().await;
    let (client, engine) = tunnel(&ground).await;
    let (client_reads, client_writes) = client.into_split();
    let (engine_reads, engine_writes) = tokio::io::split(engine);
    let up = tokio::spawn(send(client_writes, 1, 10));
    within(check(engine_reads, 1, 10)).await;
    up.await.unwrap().unwrap();
    // One direction has ended; the other goes on.
    let down = tokio::spawn(send(engine_writes, 2, 10));
    within(check(client_reads, 2, 10)).await;
    down.await.unwrap().unwrap();
    ground.connections(0).await;
}

#[tokio::test]
async fn what_a_client_said_before_it_left_goes_through_another_stream() {
    let ground = Ground::open().await;
    let (mut client, mut engine) = tunnel(&ground).await;
    client.write_all(b"stop it").await.unwrap();
    drop(client);
    let mut heard = Vec::new();
    within(engine.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"stop it");
    // Its first word to the client that left ends the connection.
    within(async { while engine.write_all(b"done").await.is_ok() {} }).await;
    ground.connections(0).await;
}
