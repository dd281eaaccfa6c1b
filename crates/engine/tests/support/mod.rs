//! An engine made of a function from requests to replies, on a unix socket of its own.

#![allow(dead_code, reason = "every test program uses a part of it")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use berth_engine::{Docker, Endpoint};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Notify, broadcast},
    task::{JoinHandle, JoinSet},
};

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
    /// Method and target without the version, such as `GET /containers/json?all=1`.
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) enum Reply {
    /// These bytes, and the connection stays open.
    Keep(Vec<u8>),
    /// These bytes, and the connection closes.
    Close(Vec<u8>),
    /// These bytes, then chunks as they are sent.
    Chunks(Vec<u8>, broadcast::Receiver<Vec<u8>>),
    /// These bytes, then nothing until the client closes, which is told.
    Hold(Vec<u8>, Arc<Notify>),
}

pub(crate) struct Server {
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) fn start(path: &Path, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let handler = Arc::new(handler);
        let task = tokio::spawn(async move {
            // Ends with the server, and every connection with it.
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, connection, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        Self { requests, task }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.line.clone()).collect()
    }

    pub(crate) fn connections(&self) -> Vec<usize> {
        self.requests.lock().unwrap().iter().map(|request| request.connection).collect()
    }
}

async fn serve(
    mut stream: UnixStream,
    connection: usize,
    handler: Arc<impl Fn(&Request) -> Reply + Send + Sync + 'static>,
    log: Arc<Mutex<Vec<Request>>>,
) {
    while let Some(request) = read(&mut stream, connection).await {
        log.lock().unwrap().push(request.clone());
        match handler(&request) {
            Reply::Keep(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Close(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Chunks(head, mut chunks) => {
                let _ = stream.write_all(&head).await;
                while let Ok(chunk) = chunks.recv().await {
                    if stream.write_all(&chunked(&chunk)).await.is_err() {
                        return;
                    }
                }
                return;
            }
            Reply::Hold(bytes, closed) => {
                let _ = stream.write_all(&bytes).await;
                while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
                closed.notify_one();
                return;
            }
        }
    }
}

async fn read(stream: &mut UnixStream, connection: usize) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .to_lowercase()
        .split_once("content-length: ")
        .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = head.split(' ');
    let (method, mut target) = (words.next().unwrap(), words.next().unwrap());
    if let Some((_, rest)) = target.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        target = &target[target.len() - rest.len() - 1..];
    }
    Some(Request { connection, line: format!("{method} {target}"), body })
}

pub(crate) fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// An answer with a length.
pub(crate) fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The head of an answer in chunks.
pub(crate) fn stream_head(headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n").into_bytes()
}

pub(crate) fn json(value: &serde_json::Value) -> Reply {
    Reply::Keep(answer(200, "Content-Type: application/json\r\n", value.to_string()))
}

pub(crate) fn ping(version: &str) -> Reply {
    Reply::Keep(answer(200, &format!("Api-Version: {version}\r\n"), "OK"))
}

pub(crate) fn no_such_container() -> Reply {
    Reply::Keep(answer(404, "", r#"{"message":"No such container"}"#))
}

/// A folder and the path of a socket in it.
pub(crate) fn socket() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    (folder, path)
}

pub(crate) fn docker(path: &Path) -> Docker {
    Docker::new(Endpoint::Unix(path.to_owned()))
}

/// Fails instead of hanging; no test is decided by it.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it should not hang")
}
