//! Published ports. The stand-in for docker-proxy asks here, the host is asked with its words, and the port lives as long
//! as the stand-in's connection. After a host was away, every port is asked for again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use berth_mux::control::Event;
use berth_mux::{Opener, Stream, Target};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::error::Error;

const LINE_LIMIT: u64 = 4096;
/// Less than the stand-in waits for.
const HOST_PATIENCE: Duration = Duration::from_secs(8);
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Host = watch::Receiver<Option<Opener>>;

pub(super) fn listen(socket: &Path, host: Host, tell: mpsc::Sender<Event>) -> Result<(), Error> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(Error::file("cannot listen on", socket))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .map_err(Error::file("cannot protect", socket))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => drop(tokio::spawn(publish(connection, host.clone(), tell.clone()))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    });
    Ok(())
}

async fn publish(connection: UnixStream, mut host: Host, tell: mpsc::Sender<Event>) {
    let (read, mut write) = connection.into_split();
    let mut local = BufReader::new(read);
    let Ok(Some(request)) = timeout(REQUEST_PATIENCE, line(&mut local)).await else { return };
    let first = timeout(HOST_PATIENCE, ask(&mut host, &request)).await;
    let Ok((mut stream, answer)) = first else {
        let _ = write.write_all(b"{\"v\":1,\"ok\":false,\"error\":\"Berth's supervisor does not answer\"}\n").await;
        return;
    };
    if write.write_all(&answer).await.is_err() || !is_yes(&answer) {
        return;
    }
    loop {
        tokio::select! {
            () = ended(&mut local) => return,
            () = ended(&mut stream) => {}
        }
        // The host went away, or gave the port up.
        drop(stream);
        let again = tokio::select! {
            () = ended(&mut local) => return,
            again = ask(&mut host, &request) => again,
        };
        if !is_yes(&again.1) {
            let message = format!("a port is no longer published: {}", String::from_utf8_lossy(&again.1).trim());
            let _ = tell.send(Event::Warning { message }).await;
            return ended(&mut local).await;
        }
        stream = again.0;
    }
}

/// Asks a host as soon as there is one, until one answers.
async fn ask(host: &mut Host, request: &[u8]) -> (BufReader<Stream>, Vec<u8>) {
    loop {
        let opener = host.wait_for(Option::is_some).await.ok().and_then(|opener| opener.clone());
        if let Some(opener) = opener
            && let Ok(mut stream) = opener.open(&Target::Ports).await
            && stream.write_all(request).await.is_ok()
        {
            let mut stream = BufReader::new(stream);
            if let Some(answer) = line(&mut stream).await {
                return (stream, answer);
            }
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn is_yes(answer: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(answer)
        .is_ok_and(|answer| answer.get("ok").and_then(serde_json::Value::as_bool) == Some(true))
}

/// A whole line with its end.
async fn line(from: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    from.take(LINE_LIMIT).read_until(b'\n', &mut line).await.ok()?;
    line.ends_with(b"\n").then_some(line)
}

async fn ended(from: &mut BufReader<impl AsyncRead + Unpin>) {
    let mut nothing = [0; 64];
    while matches!(from.read(&mut nothing).await, Ok(1..)) {}
}
