//! Measures what lies between a client and an engine: the same requests over several sockets, in turns.
//!
//! `berth-socket-bench kept|fresh|download COUNT PATH NAME=SOCKET…` prints one JSON object: for each name the times in
//! microseconds. Blocking calls on one thread, so that the client's own share is as small and as even as it can be.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How many requests one socket gets before it is the next one's turn.
const BLOCK: usize = 50;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [work, count, path, sockets @ ..] = arguments.as_slice() else {
        return Err("usage: berth-socket-bench kept|fresh|download COUNT PATH NAME=SOCKET…".into());
    };
    let count: usize = count.parse()?;
    let mut sides = Vec::new();
    for socket in sockets {
        let (name, socket) = socket.split_once('=').ok_or("NAME=SOCKET is needed")?;
        sides.push(Side { name, socket, times: Vec::with_capacity(count), bytes: 0 });
    }
    match work.as_str() {
        "kept" => kept(&mut sides, count, path)?,
        "fresh" => fresh(&mut sides, count, path)?,
        "download" => download(&mut sides, count, path)?,
        other => return Err(format!("there is no work `{other}`").into()),
    }
    let told: BTreeMap<_, _> = sides.iter().map(|side| (side.name, side)).collect();
    let each: Vec<String> = told
        .iter()
        .map(|(name, side)| format!("\"{name}\":{{\"bytes\":{},\"times\":{:?}}}", side.bytes, side.times))
        .collect();
    println!("{{{}}}", each.join(","));
    Ok(())
}

struct Side<'a> {
    name: &'a str,
    socket: &'a str,
    times: Vec<f64>,
    bytes: u64,
}

fn request(path: &str, keep: bool) -> Vec<u8> {
    let connection = if keep { "keep-alive" } else { "close" };
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n").into_bytes()
}

/// One exchange whose answer ends with `OK`.
fn ping(stream: &mut UnixStream, request: &[u8]) -> Outcome<()> {
    let mut buffer = [0; 4096];
    let mut read = 0;
    stream.write_all(request)?;
    while !buffer.get(..read).is_some_and(|answer| answer.ends_with(b"OK")) {
        match stream.read(buffer.get_mut(read..).unwrap_or_default())? {
            0 => return Err("the connection was closed".into()),
            more => read += more,
        }
    }
    Ok(())
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// Requests on connections that stay open.
fn kept(sides: &mut [Side<'_>], count: usize, path: &str) -> Outcome<()> {
    let request = request(path, true);
    let mut streams = Vec::new();
    for side in sides.iter() {
        let mut stream = UnixStream::connect(side.socket)?;
        for _ in 0..BLOCK {
            ping(&mut stream, &request)?;
        }
        streams.push(stream);
    }
    while sides.iter().any(|side| side.times.len() < count) {
        for (side, stream) in sides.iter_mut().zip(&mut streams) {
            for _ in 0..BLOCK {
                let began = Instant::now();
                ping(stream, &request)?;
                side.times.push(microseconds(began));
            }
        }
    }
    Ok(())
}

/// A connection for each request.
fn fresh(sides: &mut [Side<'_>], count: usize, path: &str) -> Outcome<()> {
    let request = request(path, false);
    while sides.iter().any(|side| side.times.len() < count) {
        for side in sides.iter_mut() {
            for _ in 0..BLOCK {
                let began = Instant::now();
                ping(&mut UnixStream::connect(side.socket)?, &request)?;
                side.times.push(microseconds(began));
            }
        }
    }
    Ok(())
}

/// One large answer at a time.
fn download(sides: &mut [Side<'_>], count: usize, path: &str) -> Outcome<()> {
    let request = request(path, false);
    let mut buffer = vec![0; 256 << 10];
    for _ in 0..count {
        for side in sides.iter_mut() {
            let began = Instant::now();
            let mut stream = UnixStream::connect(side.socket)?;
            stream.write_all(&request)?;
            side.bytes = 0;
            loop {
                match stream.read(&mut buffer)? {
                    0 => break,
                    read => side.bytes += u64::try_from(read)?,
                }
            }
            side.times.push(microseconds(began));
        }
    }
    Ok(())
}
