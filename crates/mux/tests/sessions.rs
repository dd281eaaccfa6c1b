//! How sessions begin, end and begin anew.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{io::ErrorKind, time::Duration};

use berth_mux::{Config, ConnectError, End, OpenError, Role, Session, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use common::{bounded, echo, open_pair, pair, serial::Cable, target};

const HELLO: usize = 32;

/// A guest that shakes hands by hand.
async fn greet_by_hand(pipe: &mut DuplexStream) {
    let mut hello = [0; HELLO];
    pipe.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello[..8], b"\xB3BerthMh");
    hello[7] = b'g';
    // No checksums, and a cookie.
    hello[10..12].fill(0);
    hello[28..].copy_from_slice(b"1234");
    pipe.write_all(&hello).await.unwrap();
    let mut confirmation = [0; HELLO];
    pipe.read_exact(&mut confirmation).await.unwrap();
    assert_eq!(&confirmation[8..], &hello[8..]);
}

async fn with_a_guest_by_hand() -> (Session, DuplexStream) {
    let (host, mut guest) = duplex(65_536);
    let host = tokio::spawn(connect(host, Role::Host, Config::default()));
    bounded(greet_by_hand(&mut guest)).await;
    (bounded(host).await.unwrap().unwrap(), guest)
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_the_session() {
    let (host, mut guest) = with_a_guest_by_hand().await;
    let begin = tokio::time::Instant::now();
    // It reads, and says nothing.
    let reader = tokio::spawn(async move {
        let mut bytes = Vec::new();
        let _ = guest.read_to_end(&mut bytes).await;
        bytes
    });
    let end = host.ended.wait().await;
    assert!(matches!(end, End::Silent(silence) if silence == Duration::from_secs(15)), "{end}");
    assert_eq!(begin.elapsed().as_secs(), 15);
    let bytes = reader.await.unwrap();
    assert_eq!(bytes.chunks(24).map(|frame| frame[0]).collect::<Vec<_>>(), [9, 9], "it was asked twice");
    assert_eq!(host.opener.open(&target(0)).await.unwrap_err(), OpenError::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_lasts() {
    let (host, mut guest) = pair(Config::default()).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(host.ended.get().is_none() && guest.ended.get().is_none());
    open_pair(&host, &mut guest).await;
}

#[tokio::test]
async fn garbage_ends_the_session_and_breaks_its_streams() {
    for garbage in [&b"\0"[..], b"\xB3Bertha", &[4, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 1, 7, 0, 0, 0, 0], &[0xFF; 4000]] {
        let (mut host, mut guest) = with_a_guest_by_hand().await;
        guest.write_all(garbage).await.unwrap();
        // A header is read when it is there.
        guest.write_all(&[0; 12]).await.unwrap();
        let end = bounded(host.ended.wait()).await;
        assert!(matches!(end, End::Protocol(_)), "{end}");
        assert!(bounded(host.incoming.next()).await.is_none());
        assert!(host.opener.ping().await.is_err());
        assert_eq!(guest.read_to_end(&mut Vec::new()).await.unwrap(), 0, "the pipe is closed");
    }
}

#[tokio::test]
async fn who_closes_says_so() {
    let (host, mut guest) = pair(Config::default()).await;
    let (_one, mut two) = open_pair(&host, &mut guest).await;
    host.opener.close();
    let (end, other_end) = bounded(async { tokio::join!(host.ended.wait(), guest.ended.wait()) }).await;
    assert!(matches!((&end, &other_end), (End::Closed, End::ClosedByPeer { .. })), "{end}; {other_end}");
    let error = bounded(two.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_session_lasts_as_long_as_its_last_holder() {
    let (host, mut guest) = pair(Config::default()).await;
    let (one, mut two) = open_pair(&host, &mut guest).await;
    let ended = host.ended.clone();
    drop(host);
    let mut one = one;
    one.write_all(b"still").await.unwrap();
    bounded(two.read_exact(&mut [0; 5])).await.unwrap();
    assert!(ended.get().is_none());
    drop(one);
    assert!(matches!(bounded(ended.wait()).await, End::Closed));
    assert!(matches!(bounded(guest.ended.wait()).await, End::ClosedByPeer { .. }));
}

#[tokio::test]
async fn a_pipe_that_ends_ends_the_session_or_the_greeting() {
    let (host, guest) = with_a_guest_by_hand().await;
    drop(guest);
    assert!(matches!(bounded(host.ended.wait()).await, End::Eof));
    let (host, guest) = duplex(1000);
    drop(guest);
    let error = bounded(connect(host, Role::Host, Config::default())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Eof | ConnectError::Transport(_)), "{error}");
}

#[tokio::test]
async fn what_was_complete_before_the_end_can_be_read_after_it() {
    let (host, mut guest) = pair(Config::default()).await;
    let (mut one, mut two) = open_pair(&host, &mut guest).await;
    one.write_all(b"complete").await.unwrap();
    one.shutdown().await.unwrap();
    host.opener.ping().await.unwrap();
    host.opener.ping().await.unwrap();
    host.opener.close();
    bounded(guest.ended.wait()).await;
    let mut bytes = Vec::new();
    two.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"complete");
}

/// What a guest's agent does: greets again whenever a session ends.
async fn serve(cable: Cable) {
    loop {
        let mut session = connect(cable.end(1), Role::Guest, Config::default()).await.unwrap();
        while let Some(offer) = session.incoming.next().await {
            tokio::spawn(echo(offer.accept()));
        }
        session.ended.wait().await;
    }
}

async fn echo_once(session: &Session, bytes: Vec<u8>) {
    let mut stream = session.opener.open(&target(0)).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert!(back == bytes);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_reconnects_a_hundred_times_in_traffic_finds_its_guest() {
    let cable = Cable::default();
    tokio::spawn(serve(cable.clone()));
    for round in 0..100_u8 {
        let session = bounded(connect(cable.end(0), Role::Host, Config::default())).await.unwrap();
        bounded(echo_once(&session, vec![round; 10_000])).await;
        // Traffic in both directions, cut wherever it is.
        let traffic = tokio::spawn({
            let opener = session.opener.clone();
            async move {
                let Ok(stream) = opener.open(&target(0)).await else { return ErrorKind::ConnectionReset };
                let (mut reader, mut writer) = tokio::io::split(stream);
                let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
                let chunk = vec![round; 30_000 + usize::from(round) * 100];
                while writer.write_all(&chunk).await.is_ok() {}
                reading.await.unwrap().unwrap_err().kind()
            }
        });
        for _ in 0..round % 16 {
            tokio::task::yield_now().await;
        }
        drop(session.incoming);
        session.opener.close();
        // It does not even get to say good-bye.
        cable.lose(0, usize::from(round) * 997 % 90_000);
        bounded(session.ended.wait()).await;
        cable.lose(0, usize::from(round) * 991 % 90_000);
        if round % 2 == 0 {
            cable.lose(1, usize::from(round) * 877 % 90_000);
        }
        assert_eq!(bounded(traffic).await.unwrap(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_comes_up_anew_ends_the_old_session_of_its_host() {
    let cable = Cable::default();
    let first = tokio::spawn(serve(cable.clone()));
    let session = bounded(connect(cable.end(0), Role::Host, Config::default())).await.unwrap();
    bounded(echo_once(&session, vec![1; 1000])).await;
    first.abort();
    let _ = first.await;
    // The agent died with a frame half written.
    cable.lose(1, 0);
    tokio::spawn(serve(cable.clone()));
    let end = bounded(session.ended.wait()).await;
    assert!(matches!(end, End::Replaced | End::Protocol(_) | End::ClosedByPeer { .. }), "{end}");
    let session = bounded(connect(cable.end(0), Role::Host, Config::default())).await.unwrap();
    bounded(echo_once(&session, vec![2; 1000])).await;
}
