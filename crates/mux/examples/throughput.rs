//! How fast a session is: `cargo run --release -p berth-mux --example throughput [MEGABYTES]`.
//!
//! Bytes in one direction through one stream and through eight, in both directions, and round trips of one byte and of a
//! ping, over a pair of unix sockets and in memory; the same through the bare pipe for comparison.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it prints, and has nobody to tell an error to")]

use std::time::{Duration, Instant};

use berth_mux::{Config, Role, Session, Stream, Target, connect};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const CHUNK: usize = 64 * 1024;

#[tokio::main]
async fn main() {
    let megabytes = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    #[cfg(unix)]
    {
        let pair = || tokio::net::UnixStream::pair().unwrap();
        let (one, two) = pair();
        bare("unix sockets", one, two, megabytes).await;
        for checksums in [false, true] {
            let (one, two) = pair();
            measure("unix sockets", one, two, megabytes, checksums).await;
        }
    }
    let (one, two) = tokio::io::duplex(256 * 1024);
    bare("memory", one, two, megabytes).await;
    let (one, two) = tokio::io::duplex(256 * 1024);
    measure("memory", one, two, megabytes, false).await;
}

async fn bare<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    name: &str,
    mut one: T,
    mut two: T,
    megabytes: usize,
) {
    let begin = Instant::now();
    let sending = tokio::spawn(async move {
        send(&mut one, megabytes).await;
        one
    });
    receive(&mut two).await;
    rate(&format!("{name}, bare, one way"), megabytes, begin);
    drop(sending.await.unwrap());
}

async fn measure<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    name: &str,
    one: T,
    two: T,
    megabytes: usize,
    checksums: bool,
) {
    let config = Config { checksums, ..Config::default() };
    let (host, guest) = tokio::join!(connect(one, Role::Host, config.clone()), connect(two, Role::Guest, config));
    let (host, mut guest) = (host.unwrap(), guest.unwrap());
    let name = if checksums { format!("{name} with checksums") } else { name.to_owned() };
    for streams in [1, 8] {
        let pairs = open(&host, &mut guest, streams).await;
        let begin = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (mut from, mut to) in pairs {
            tasks.spawn(async move { send(&mut from, megabytes / streams).await });
            tasks.spawn(async move { receive(&mut to).await });
        }
        tasks.join_all().await;
        rate(&format!("{name}, {streams} streams, one way"), megabytes, begin);
    }
    let pairs = open(&host, &mut guest, 1).await;
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for stream in pairs.into_iter().flat_map(<[Stream; 2]>::from) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        tasks.spawn(async move { send(&mut writer, megabytes / 2).await });
        tasks.spawn(async move { receive(&mut reader).await });
    }
    tasks.join_all().await;
    rate(&format!("{name}, both ways together"), megabytes / 2 * 2, begin);
    round_trips(&name, &host, &mut guest).await;
}

async fn round_trips(name: &str, host: &Session, guest: &mut Session) {
    let mut took = Vec::new();
    for _ in 0..5000 {
        took.push(host.opener.ping().await.unwrap());
    }
    quantiles(&format!("{name}, ping"), took);
    for (mut from, mut to) in open(host, guest, 1).await {
        let echo = tokio::spawn(async move {
            let mut place = [0];
            while to.read_exact(&mut place).await.is_ok() {
                to.write_all(&place).await.unwrap();
            }
        });
        let mut took = Vec::new();
        for _ in 0..5000 {
            let begin = Instant::now();
            from.write_all(&[1]).await.unwrap();
            from.read_exact(&mut [0]).await.unwrap();
            took.push(begin.elapsed());
        }
        quantiles(&format!("{name}, one byte and back"), took);
        drop(from);
        echo.await.unwrap();
    }
}

async fn open(host: &Session, guest: &mut Session, count: usize) -> Vec<(Stream, Stream)> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        let target = Target::log("throughput");
        let (opened, accepted) =
            tokio::join!(host.opener.open(&target), async { guest.incoming.next().await.unwrap().accept() });
        pairs.push((opened.unwrap(), accepted));
    }
    pairs
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), megabytes: usize) {
    let chunk = vec![5; CHUNK];
    for _ in 0..megabytes * 1_000_000 / CHUNK {
        writer.write_all(&chunk).await.unwrap();
    }
    writer.shutdown().await.unwrap();
}

async fn receive(reader: &mut (impl AsyncRead + Unpin)) {
    let mut place = vec![0; CHUNK];
    while reader.read(&mut place).await.unwrap() > 0 {}
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(what: &str, megabytes: usize, begin: Instant) {
    println!("{what}: {:.0} MB/s", megabytes as f64 / begin.elapsed().as_secs_f64());
}

fn quantiles(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0, Duration::as_micros);
    println!("{what}: p50 {} us, p95 {} us, p99 {} us", at(50), at(95), at(99));
}
