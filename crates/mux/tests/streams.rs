//! Streams and datagrams between two sides that have met.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use berth_mux::{Config, OpenError, RefusalCode, Stream, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use common::{bounded, echo, echo_all, open_pair, pair, read_to_end, target};

const MEGABYTES: usize = 100;

/// A hundred times the same megabyte, so that nobody holds them all.
fn megabyte() -> Vec<u8> {
    (0..1024 * 1024_usize).map(|place| u8::try_from((place * 7 + (place >> 8)) % 251).unwrap()).collect()
}

async fn send_all(mut writer: impl AsyncWriteExt + Unpin) {
    let megabyte = megabyte();
    for _ in 0..MEGABYTES {
        writer.write_all(&megabyte).await.unwrap();
    }
    writer.shutdown().await.unwrap();
}

async fn receive_all(mut reader: impl AsyncReadExt + Unpin) {
    let megabyte = megabyte();
    let mut place = vec![0; megabyte.len()];
    for _ in 0..MEGABYTES {
        reader.read_exact(&mut place).await.unwrap();
        assert!(place == megabyte, "a byte is wrong");
    }
    assert_eq!(reader.read(&mut place).await.unwrap(), 0, "there is more");
}

#[tokio::test]
async fn a_hundred_megabytes_in_both_directions_end_by_half_close() {
    let (host, mut guest) = pair(Config { checksums: false, ..Config::default() }).await;
    let (one, two) = open_pair(&host, &mut guest).await;
    let ((one_reads, one_writes), (two_reads, two_writes)) = (tokio::io::split(one), tokio::io::split(two));
    let all = [tokio::spawn(send_all(one_writes)), tokio::spawn(send_all(two_writes))];
    bounded(async {
        tokio::join!(receive_all(one_reads), receive_all(two_reads));
        for task in all {
            task.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn four_thousand_streams_at_once() {
    let (host, mut guest) = pair(Config::default()).await;
    tokio::spawn(async move { echo_all(&mut guest).await });
    let mut tasks = tokio::task::JoinSet::new();
    let gate = Arc::new(tokio::sync::Barrier::new(4000));
    for index in 0..4000_usize {
        let (opener, gate) = (host.opener.clone(), Arc::clone(&gate));
        tasks.spawn(async move {
            let mut stream = opener.open(&target(index)).await.unwrap();
            // All of them are open before the first one ends.
            gate.wait().await;
            let bytes = index.to_string().repeat(50);
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = String::new();
            stream.read_to_string(&mut back).await.unwrap();
            assert_eq!(back, bytes);
        });
    }
    bounded(tasks.join_all()).await;
}

#[tokio::test]
async fn what_is_more_than_the_streams_there_may_be_is_refused() {
    let (host, mut guest) = pair(Config { max_streams: 3, backlog: 3, ..Config::default() }).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(open_pair(&host, &mut guest).await);
    }
    assert_eq!(host.opener.open(&target(0)).await.unwrap_err(), OpenError::Full { limit: 3 });
    kept.pop();
    open_pair(&host, &mut guest).await;
}

#[tokio::test]
async fn the_peer_refuses_what_it_cannot_take() {
    let (host, guest) = tokio::io::duplex(65_536);
    let wide = berth_mux::connect(host, berth_mux::Role::Host, Config::default());
    let narrow = Config { max_streams: 1, ..Config::default() };
    let narrow = berth_mux::connect(guest, berth_mux::Role::Guest, narrow);
    let (host, guest) = bounded(async { tokio::join!(wide, narrow) }).await;
    let (host, mut guest) = (host.unwrap(), guest.unwrap());
    let _kept = open_pair(&host, &mut guest).await;
    let error = bounded(host.opener.open(&target(0))).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { code: RefusalCode::Full, .. }), "{error}");
}

#[tokio::test]
async fn refusals_say_why() {
    let (host, mut guest) = pair(Config::default()).await;
    let answers = tokio::spawn(async move {
        let offer = guest.incoming.next().await.unwrap();
        assert_eq!(offer.target(), &Target::unix("/run/docker.sock"));
        offer.refuse(RefusalCode::NotFound, "there is no such socket");
        drop(guest.incoming.next().await.unwrap());
        drop(guest.incoming.next().await.unwrap().accept_datagram());
        drop(guest.incoming.next().await.unwrap().accept());
        drop(guest.incoming);
        guest.ended.wait().await
    });
    let refused = |error: OpenError| match error {
        OpenError::Refused { code, message } => (code, message),
        other => panic!("{other}"),
    };
    bounded(async {
        let (code, message) = refused(host.opener.open(&Target::unix("/run/docker.sock")).await.unwrap_err());
        assert_eq!((code, message.as_str()), (RefusalCode::NotFound, "there is no such socket"));
        assert_eq!(refused(host.opener.open(&target(0)).await.unwrap_err()).0, RefusalCode::Refused);
        assert_eq!(refused(host.opener.open(&target(0)).await.unwrap_err()).0, RefusalCode::Unsupported);
        assert_eq!(refused(host.opener.open_datagram(&target(0)).await.unwrap_err()).0, RefusalCode::Unsupported);
        assert_eq!(refused(host.opener.open(&target(0)).await.unwrap_err()).0, RefusalCode::NotAllowed);
    })
    .await;
    let long = Target::unix("x".repeat(5000));
    assert!(matches!(host.opener.open(&long).await, Err(OpenError::TooLong { limit: 4096, .. })));
    drop(host);
    bounded(answers).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody_else() {
    let (host, mut guest) = pair(Config::default()).await;
    let (mut stuck, mut unread) = open_pair(&host, &mut guest).await;
    let (other, at_guest) = open_pair(&host, &mut guest).await;
    let flood = tokio::spawn(async move {
        stuck.write_all(&[1; 3 * 1024 * 1024]).await.unwrap();
        stuck.shutdown().await.unwrap();
        stuck
    });
    tokio::spawn(echo(at_guest));
    let (mut reads, mut writes) = tokio::io::split(other);
    let bytes = vec![2; 5 * 1024 * 1024];
    let expected = bytes.clone();
    let task = tokio::spawn(async move {
        writes.write_all(&bytes).await.unwrap();
        writes.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    bounded(reads.read_to_end(&mut back)).await.unwrap();
    assert!(back == expected);
    assert!(!flood.is_finished(), "more was taken than there was credit for");
    task.await.unwrap();
    assert_eq!(read_to_end(&mut unread).await.unwrap().len(), 3 * 1024 * 1024, "what waited comes in the end");
    bounded(flood).await.unwrap();
}

#[tokio::test]
async fn half_close_works_in_either_order() {
    let (host, mut guest) = pair(Config::default()).await;
    for opener_first in [true, false] {
        let (one, two) = open_pair(&host, &mut guest).await;
        let (mut first, mut second) = if opener_first { (one, two) } else { (two, one) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut second).await.unwrap(), b"question");
        assert_eq!(first.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut first).await.unwrap(), b"answer");
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset() {
    let (host, mut guest) = pair(Config::default()).await;
    let (mut one, two) = open_pair(&host, &mut guest).await;
    one.write_all(b"half of").await.unwrap();
    drop(one);
    let (mut reader, mut writer) = tokio::io::split(two);
    let error = bounded(reader.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// `docker exec` whose process ends while the input still comes.
#[tokio::test]
async fn an_answer_that_comes_before_the_question_ended_is_read_to_its_end() {
    let (host, mut guest) = pair(Config::default()).await;
    let (mut client, mut server) = open_pair(&host, &mut guest).await;
    let answer = vec![7; 200_000];
    server.write_all(&answer).await.unwrap();
    server.shutdown().await.unwrap();
    drop(server);
    // It writes before it reads, more than it has credit for.
    let chunk = [0; 65_536];
    let end = bounded(async {
        loop {
            if let Err(error) = client.write_all(&chunk).await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(end.kind(), ErrorKind::BrokenPipe);
    assert_eq!(read_to_end(&mut client).await.unwrap(), answer);
}

#[tokio::test]
async fn an_opening_that_nobody_waits_for_is_taken_back() {
    let (host, mut guest) = pair(Config::default()).await;
    let wish = target(1);
    tokio::select! {
        biased;
        _ = host.opener.open(&wish) => panic!("nobody accepted it"),
        offer = guest.incoming.next() => {
            // The opener is dropped by now; what is accepted is broken.
            let mut stream = offer.unwrap().accept();
            host.opener.ping().await.unwrap();
            let error = bounded(stream.read(&mut [0; 1])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }
    open_pair(&host, &mut guest).await;
}

async fn flood(mut stream: Stream) {
    let chunk = vec![0; 256 * 1024];
    while stream.write_all(&chunk).await.is_ok() {}
}

async fn drain(mut stream: Stream, count: Arc<AtomicUsize>) {
    let mut place = vec![0; 256 * 1024];
    while let Ok(some @ 1..) = stream.read(&mut place).await {
        count.fetch_add(some, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_ping_passes_a_flood_of_three_hundred_streams() {
    let (host, mut guest) = pair(Config::default()).await;
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..300 {
        let (one, two) = open_pair(&host, &mut guest).await;
        tokio::spawn(flood(one));
        tokio::spawn(drain(two, Arc::clone(&count)));
    }
    while count.load(Ordering::Relaxed) < 20 * 1024 * 1024 {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        let before = count.load(Ordering::Relaxed);
        bounded(host.opener.ping()).await.unwrap();
        let passed = count.load(Ordering::Relaxed) - before;
        assert!(passed < 4 * 1024 * 1024, "{passed} bytes went before a ping");
        let (mut one, two) = open_pair(&host, &mut guest).await;
        tokio::spawn(echo(two));
        let before = count.load(Ordering::Relaxed);
        one.write_all(b"small").await.unwrap();
        bounded(one.read_exact(&mut [0; 5])).await.unwrap();
        let passed = count.load(Ordering::Relaxed) - before;
        assert!(passed < 40 * 1024 * 1024, "{passed} bytes went before a small answer");
    }
}

#[tokio::test]
async fn datagrams_keep_their_bounds_and_end_with_their_opener() {
    let (host, mut guest) = pair(Config::default()).await;
    let wish = Target::udp("172.17.0.2:53".parse().unwrap());
    let (opened, accepted) = bounded(async {
        tokio::join!(host.opener.open_datagram(&wish), async {
            let offer = guest.incoming.next().await.unwrap();
            assert!(offer.is_datagram());
            offer.accept_datagram()
        })
    })
    .await;
    let (opened, mut accepted) = (opened.unwrap(), accepted);
    for length in [0, 1, 1500, 65_507] {
        opened.send(&vec![3; length]).await.unwrap();
        assert_eq!(bounded(accepted.recv()).await.unwrap().len(), length);
    }
    opened.send(&vec![3; 70_000]).await.unwrap();
    opened.send(b"after").await.unwrap();
    assert_eq!(bounded(accepted.recv()).await.unwrap(), "after", "one that is too long is lost");
    drop(opened);
    assert_eq!(bounded(accepted.recv()).await, None);
    assert!(accepted.send(b"x").await.is_err());
}

#[tokio::test]
async fn datagrams_that_nobody_reads_hold_up_nobody() {
    let (host, mut guest) = pair(Config::default()).await;
    let wish = target(0);
    let (flooding, mut unread) = bounded(async {
        tokio::join!(host.opener.open_datagram(&wish), async { guest.incoming.next().await.unwrap().accept_datagram() })
    })
    .await;
    let flooding = flooding.unwrap();
    for _ in 0..20_000 {
        flooding.send(&[1; 1400]).await.unwrap();
    }
    let (mut one, two) = open_pair(&host, &mut guest).await;
    tokio::spawn(echo(two));
    one.write_all(b"small").await.unwrap();
    bounded(one.read_exact(&mut [0; 5])).await.unwrap();
    drop(flooding);
    let mut count = 0;
    while bounded(unread.recv()).await.is_some() {
        count += 1;
    }
    assert!((1..=256).contains(&count), "{count} of them waited");
}
