use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{Ground, closed, exactly, patient, rest, starting, within};
use crate::socket::{Gate, Settings, UnixEngine};

const REQUEST: &[u8] = b"GET /v1.51/containers/json HTTP/1.1\r\nHost: docker\r\n\r\n";

/// Holds so shortly that no test waits.
fn impatient() -> Settings {
    let brief = Duration::from_millis(50);
    Settings { hold: brief, head: Duration::from_millis(500), ..patient() }
}

/// Reads an answer that must be a whole refusal, orderly ended; gives what it says.
async fn refusal(client: &mut UnixStream) -> String {
    let text = String::from_utf8(rest(client).await).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    for line in ["Retry-After: ", "Connection: close", "Content-Type: application/json"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    serde_json::from_str::<Value>(body).unwrap()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_is_held_until_the_engine_is_there_and_arrives_whole() {
    let ground = Ground::new(starting(), patient()).await;
    let mut client = ground.client().await;
    client.write_all(&REQUEST[..20]).await.unwrap();
    ground.connections(1).await;
    ground.gate.send_replace(Gate::Starting { stage: "connecting".to_owned() });
    client.write_all(&REQUEST[20..]).await.unwrap();
    client.shutdown().await.unwrap();
    ground.open_gate();
    let mut engine = ground.accept().await;
    assert_eq!(rest(&mut engine).await, REQUEST);
    engine.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    drop(engine);
    assert_eq!(rest(&mut client).await, b"HTTP/1.1 200 OK\r\n\r\n");
}

#[tokio::test]
async fn a_request_that_waited_long_enough_is_refused_in_http() {
    let ground = Ground::new(starting(), impatient()).await;
    let mut client = ground.client().await;
    client.write_all(REQUEST).await.unwrap();
    let message = refusal(&mut client).await;
    assert!(message.contains("booting") && message.contains("berth engine status"), "{message}");
    ground.connections(0).await;
    // Another that comes later goes through as if nothing had been.
    ground.open_gate();
    let (mut client, mut engine) = ground.pair().await;
    client.write_all(REQUEST).await.unwrap();
    assert_eq!(exactly(&mut engine, REQUEST.len()).await, REQUEST);
}

#[tokio::test]
async fn a_refused_client_that_still_sends_reads_the_refusal() {
    let ground = Ground::new(closed(), patient()).await;
    let (mut reads, mut writes) = ground.client().await.into_split();
    let sending = tokio::spawn(async move {
        writes.write_all(b"POST /images/load HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        for _ in 0..64 {
            writes.write_all(&[1; 64 << 10]).await?;
        }
        writes.shutdown().await
    });
    let mut answer = String::new();
    within(reads.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("the engine was stopped; start it"), "{answer}");
    within(sending).await.unwrap().unwrap();
    ground.connections(0).await;
}

#[tokio::test]
async fn a_head_that_comes_in_pieces_is_waited_for() {
    let ground = Ground::new(closed(), patient()).await;
    let mut client = ground.client().await;
    for byte in REQUEST {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(refusal(&mut client).await, "the engine was stopped; start it");
    let mut client = ground.client().await;
    client.write_all(b"HEAD /_ping HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with(b"HTTP/1.1 503 ") && answer.ends_with(b"\r\n\r\n"), "a HEAD has no body");
}

#[tokio::test]
async fn who_is_held_is_refused_at_once_when_the_engine_will_not_come() {
    let ground = Ground::new(starting(), patient()).await;
    let mut client = ground.client().await;
    client.write_all(REQUEST).await.unwrap();
    ground.connections(1).await;
    ground.gate.send_replace(closed());
    assert_eq!(refusal(&mut client).await, "the engine was stopped; start it");
}

#[tokio::test]
async fn who_does_not_speak_http_or_not_at_all_is_closed_without_a_word() {
    let ground = Ground::new(starting(), impatient()).await;
    for said in [&b"\x16\x03\x01\x02\x00"[..], b"SSH-2.0-OpenSSH\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""] {
        let mut client = ground.client().await;
        client.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // Closed with bytes unread is a reset; what counts is that nothing is said.
        let _ = within(client.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"");
    }
    ground.connections(0).await;
}

#[tokio::test]
async fn the_number_of_those_who_wait_is_bounded_and_who_leaves_makes_room() {
    let ground = Ground::new(starting(), Settings { held: 1, ..patient() }).await;
    let first = ground.client().await;
    ground.connections(1).await;
    let mut second = ground.client().await;
    second.write_all(REQUEST).await.unwrap();
    assert!(refusal(&mut second).await.contains("too many"));
    drop(second);
    // With a request in the queue: it is the end that is seen, not the bytes.
    let mut first = first;
    first.write_all(REQUEST).await.unwrap();
    drop(first);
    ground.connections(0).await;
    let mut third = ground.client().await;
    third.write_all(REQUEST).await.unwrap();
    ground.connections(1).await;
    ground.open_gate();
    let mut engine = ground.accept().await;
    assert_eq!(exactly(&mut engine, REQUEST.len()).await, REQUEST);
}

#[tokio::test]
async fn a_client_that_only_ended_its_half_is_still_held() {
    let ground = Ground::new(starting(), patient()).await;
    let mut client = ground.client().await;
    client.write_all(REQUEST).await.unwrap();
    client.shutdown().await.unwrap();
    ground.connections(1).await;
    ground.gate.send_replace(starting());
    ground.open_gate();
    assert_eq!(rest(&mut ground.accept().await).await, REQUEST);
}

#[tokio::test]
async fn an_engine_that_comes_and_goes_is_waited_for() {
    let ground = Ground::new(starting(), patient()).await;
    let later = ground.folder.path().join("later.sock");
    let mut client = ground.client().await;
    client.write_all(REQUEST).await.unwrap();
    ground.connections(1).await;
    for _ in 0..20 {
        // Open, they say, and nobody listens.
        ground.gate.send_replace(Gate::Open(Arc::new(UnixEngine(later.clone()))));
        tokio::task::yield_now().await;
        ground.gate.send_replace(starting());
        tokio::task::yield_now().await;
    }
    ground.gate.send_replace(Gate::Open(Arc::new(UnixEngine(later.clone()))));
    // The gate says nothing more: that somebody listens again is found out.
    let engine = UnixListener::bind(&later).unwrap();
    let (mut engine, _) = within(engine.accept()).await.unwrap();
    assert_eq!(exactly(&mut engine, REQUEST.len()).await, REQUEST);
}

#[tokio::test]
async fn a_connection_outlives_every_change_of_the_gate() {
    let ground = Ground::open().await;
    let (mut client, mut engine) = ground.pair().await;
    ground.gate.send_replace(starting());
    client.write_all(b"one").await.unwrap();
    assert_eq!(exactly(&mut engine, 3).await, b"one");
    ground.gate.send_replace(closed());
    engine.write_all(b"two").await.unwrap();
    assert_eq!(exactly(&mut client, 3).await, b"two");
}

#[tokio::test]
async fn closing_takes_the_socket_away_and_lets_last_words_be_read() {
    let ground = Ground::new(starting(), patient()).await;
    let mut client = ground.client().await;
    client.write_all(REQUEST).await.unwrap();
    ground.connections(1).await;
    ground.gate.send_replace(closed());
    let path = ground.path();
    within(ground.serving.close()).await;
    assert!(!path.exists());
    assert_eq!(refusal(&mut client).await, "the engine was stopped; start it");
}
