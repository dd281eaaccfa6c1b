//! Requests, replies and events.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use berth_mux::{
    Config, ControlError, ControlReceiver, ControlSender, Inbound, Session,
    control::{Event, FaultCode, HelloReply, Reply, Request, ServiceState},
};
use tokio::io::AsyncWriteExt;

use common::{bounded, open_pair, pair};

const DEADLINE: Duration = Duration::from_secs(60);

fn split(session: Session) -> (ControlSender, ControlReceiver) {
    session.control.split()
}

async fn request(receiver: &mut ControlReceiver) -> (Request, berth_mux::Responder) {
    match bounded(receiver.next()).await.unwrap() {
        Inbound::Request { request, responder, .. } => (request, responder),
        Inbound::Event(event) => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn requests_get_their_own_replies_in_any_order() {
    let (host, guest) = pair(Config::default()).await;
    let ((asks, _host), (_guest, mut hears)) = (split(host), split(guest));
    let hello = Request::Hello { protocol: 1, host_version: "0.1.0".to_owned() };
    let answers = tokio::spawn(async move {
        let (first, to_first) = request(&mut hears).await;
        let (second, to_second) = request(&mut hears).await;
        to_second.reply(Reply::Trimmed { freed_bytes: 7 }).await.unwrap();
        to_first.reply(Reply::Hello(HelloReply { protocol: 1, ..HelloReply::default() })).await.unwrap();
        (first, second)
    });
    let (first, second) =
        bounded(async { tokio::join!(asks.request(hello.clone(), DEADLINE), asks.request(Request::Trim, DEADLINE)) })
            .await;
    assert!(matches!(first.unwrap(), Reply::Hello(HelloReply { protocol: 1, .. })));
    assert_eq!(second.unwrap(), Reply::Trimmed { freed_bytes: 7 });
    assert_eq!(answers.await.unwrap(), (hello, Request::Trim));
}

#[tokio::test]
async fn a_request_that_fails_or_is_dropped_or_finds_nobody_is_answered() {
    let (host, guest) = pair(Config::default()).await;
    let ((asks, _host), (_guest, mut hears)) = (split(host), split(guest));
    tokio::spawn(async move {
        let (_, responder) = request(&mut hears).await;
        responder.fail(FaultCode::Unavailable, "not now").await.unwrap();
        drop(request(&mut hears).await);
    });
    let mut codes = Vec::new();
    for _ in 0..3 {
        match bounded(asks.request(Request::Sync, DEADLINE)).await.unwrap_err() {
            ControlError::Fault(fault) => codes.push(fault.code),
            other => panic!("{other}"),
        }
    }
    assert_eq!(codes, [FaultCode::Unavailable, FaultCode::Failed, FaultCode::Unavailable]);
}

#[tokio::test(start_paused = true)]
async fn a_request_has_a_deadline_and_its_late_reply_harms_nobody() {
    let (host, guest) = pair(Config::default()).await;
    let ((asks, _host), (_guest, mut hears)) = (split(host), split(guest));
    let late = tokio::spawn(async move {
        let (_, responder) = request(&mut hears).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        responder.reply(Reply::Done).await.unwrap();
        let (_, responder) = request(&mut hears).await;
        responder.reply(Reply::Trimmed { freed_bytes: 1 }).await.unwrap();
    });
    let deadline = Duration::from_secs(5);
    let error = asks.request(Request::Sync, deadline).await.unwrap_err();
    assert_eq!(error, ControlError::TimedOut { method: "sync", deadline });
    assert_eq!(asks.request(Request::Trim, DEADLINE).await.unwrap(), Reply::Trimmed { freed_bytes: 1 });
    late.await.unwrap();
}

#[tokio::test]
async fn events_keep_their_order_and_none_is_lost() {
    let (host, guest) = pair(Config::default()).await;
    let ((_host, mut hears), (tells, _guest)) = (split(host), split(guest));
    let count = 5000_u32;
    let telling = tokio::spawn(async move {
        for pid in 0..count {
            let (service, state) = ("dockerd".to_owned(), ServiceState::Started);
            tells.event(Event::Service { service, state, pid: Some(pid), detail: None }).await.unwrap();
        }
        tells
    });
    for wanted in 0..count {
        match bounded(hears.next()).await.unwrap() {
            Inbound::Event(Event::Service { pid: Some(pid), .. }) => assert_eq!(pid, wanted),
            other => panic!("{other:?}"),
        }
    }
    telling.await.unwrap();
}

#[tokio::test]
async fn control_passes_a_flood() {
    let (host, mut guest) = pair(Config::default()).await;
    let (mut one, two) = open_pair(&host, &mut guest).await;
    let flood = tokio::spawn(async move { while one.write_all(&[0; 100_000]).await.is_ok() {} });
    let drain = tokio::spawn(async move {
        let mut two = two;
        tokio::io::copy(&mut two, &mut tokio::io::sink()).await
    });
    let ((asks, _host), (_guest, mut hears)) = (split(host), split(guest));
    tokio::spawn(async move {
        loop {
            let (_, responder) = request(&mut hears).await;
            responder.reply(Reply::Done).await.unwrap();
        }
    });
    for _ in 0..100 {
        assert_eq!(bounded(asks.request(Request::Status, DEADLINE)).await.unwrap(), Reply::Done);
    }
    assert!(!flood.is_finished() && !drain.is_finished());
    flood.abort();
}

#[tokio::test]
async fn a_message_may_be_a_megabyte_and_no_more() {
    let (host, guest) = pair(Config::default()).await;
    let ((asks, _host), (_guest, mut hears)) = (split(host), split(guest));
    let long = Event::Warning { message: "x".repeat(1024 * 1024 - 100) };
    bounded(asks.event(long.clone())).await.unwrap();
    match bounded(hears.next()).await.unwrap() {
        Inbound::Event(event) => assert!(event == long),
        other @ Inbound::Request { .. } => panic!("{other:?}"),
    }
    let longer = Event::Warning { message: "x".repeat(1024 * 1024) };
    assert!(matches!(asks.event(longer).await, Err(ControlError::TooLong { .. })));
}

#[tokio::test]
async fn who_waits_for_a_reply_gets_to_know_that_the_session_has_ended() {
    let (host, guest) = pair(Config::default()).await;
    let opener = guest.opener.clone();
    let ((asks, _host), (_guest, mut hears)) = (split(host), split(guest));
    let asking = tokio::spawn(async move { asks.request(Request::Sync, DEADLINE).await });
    let (_, responder) = request(&mut hears).await;
    opener.close();
    assert_eq!(bounded(asking).await.unwrap().unwrap_err(), ControlError::Closed);
    assert!(bounded(hears.next()).await.is_none());
    drop(responder);
}
