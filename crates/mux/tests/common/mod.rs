//! What the tests of sessions share.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; a test fails by panicking")]

pub(crate) mod serial;

use std::{future::Future, time::Duration};

use berth_mux::{Config, Role, Session, Stream, Target, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// A bound against hanging, which decides nothing.
pub(crate) async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(100), future).await.expect("it takes for ever")
}

/// Two sides that have met.
pub(crate) async fn pair(config: Config) -> (Session, Session) {
    let (host, guest) = duplex(128 * 1024);
    pair_over(host, guest, config).await
}

pub(crate) async fn pair_over(host: DuplexStream, guest: DuplexStream, config: Config) -> (Session, Session) {
    let guest = connect(guest, Role::Guest, config.clone());
    let (host, guest) = bounded(async { tokio::join!(connect(host, Role::Host, config), guest) }).await;
    (host.unwrap(), guest.unwrap())
}

pub(crate) fn target(number: usize) -> Target {
    Target::log(number.to_string())
}

pub(crate) fn number(target: &Target) -> usize {
    let Target::Log { service } = target else { panic!("{target:?} is of no test") };
    service.parse().unwrap()
}

/// Accepts whatever comes and sends it back, each stream to its end.
pub(crate) async fn echo_all(session: &mut Session) {
    while let Some(offer) = session.incoming.next().await {
        tokio::spawn(echo(offer.accept()));
    }
}

pub(crate) async fn echo(stream: Stream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

/// A stream and its other end.
pub(crate) async fn open_pair(host: &Session, guest: &mut Session) -> (Stream, Stream) {
    bounded(async {
        let target = target(0);
        let (opened, offer) =
            tokio::join!(host.opener.open(&target), async { guest.incoming.next().await.unwrap().accept() });
        (opened.unwrap(), offer)
    })
    .await
}

pub(crate) async fn read_to_end(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bounded(stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}
