//! The floor: a socket and a read loop. What the engine itself costs.

use std::io::{Read as _, Write as _};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::{Outcome, Work};

fn request(path: &str, keep: bool) -> String {
    let connection = if keep { "keep-alive" } else { "close" };
    format!("GET /v1.51{path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n")
}

/// The body of an answer without its chunks.
pub(crate) fn body(socket: &str, path: &str) -> Outcome<Vec<u8>> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.write_all(request(path, false).as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("no head")? + 4;
    let mut rest = answer.get(head..).unwrap_or_default();
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|bytes| bytes == b"\r\n").ok_or("no chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(rest.get(..end).unwrap_or_default())?, 16)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size).ok_or("a short chunk")?);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
}

pub(crate) async fn work(work: Work, socket: &str, argument: &str) -> Outcome<u64> {
    let path = match work {
        Work::List | Work::Decode => "/containers/json?all=1".to_owned(),
        Work::Logs => format!("/containers/{argument}/logs?stdout=1&stderr=1"),
        Work::Archive => {
            let (container, path) = argument.split_once(':').ok_or("CONTAINER:PATH is needed")?;
            format!("/containers/{container}/archive?path={path}")
        }
        Work::Pings => return pings(socket).await,
        Work::Stats => return Ok(0),
    };
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(request(&path, false).as_bytes()).await?;
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(bytes),
            read => bytes += read as u64,
        }
    }
}

async fn pings(socket: &str) -> Outcome<u64> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = request("/_ping", true);
    let mut buffer = vec![0; 4096];
    for _ in 0..10_000 {
        stream.write_all(request.as_bytes()).await?;
        let mut read = 0;
        while !buffer.get(..read).unwrap_or_default().ends_with(b"OK") {
            match stream.read(buffer.get_mut(read..).unwrap_or_default()).await? {
                0 => return Err("the engine closed the connection".into()),
                more => read += more,
            }
        }
    }
    Ok(10_000)
}
