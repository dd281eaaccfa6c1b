//! Published ports. The stand-in for docker-proxy asks here, the host is asked with its words, and the port lives as long
//! as the stand-in's connection. After a host was away, every port is asked for again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use berth_mux::control::Event;
use berth_mux::{Opener, Stream, Target};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::error::Error;
use crate::proxy;

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
    let Ok((stream, answer)) = first else {
        let _ = write.write_all(b"{\"v\":1,\"ok\":false,\"error\":\"Berth's supervisor does not answer\"}\n").await;
        return;
    };
    if write.write_all(&answer).await.is_err() || !is_yes(&answer) {
        return;
    }
    hold(ended(&mut local), Some(stream), &request, &mut host, &tell).await;
}

/// Takes the ports of an agent before this one over: the real docker-proxies still run, and nobody holds their ports.
pub(super) fn adopt(host: &Host, tell: &mpsc::Sender<Event>) {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let mut words = words.trim_end_matches('\0').split('\0').map(str::to_owned);
        if !words.next().is_some_and(|program| proxy::is_real_proxy(&program)) {
            continue;
        }
        let arguments: Vec<String> = words.collect();
        if let (Ok(request), Ok(end)) = (proxy::request(&arguments), end_of(process)) {
            let (mut host, tell) = (host.clone(), tell.clone());
            tokio::spawn(async move { hold(end, None, &request, &mut host, &tell).await });
        }
    }
}

/// The end of a process that is none of this one's children.
fn end_of(process: Pid) -> std::io::Result<impl Future<Output = ()> + Send> {
    let process = pidfd_open(process, PidfdFlags::NONBLOCK)?;
    #[expect(
        deprecated,
        reason = "the descriptor is this value's own and never replaced; what replaces the call is unsafe"
    )]
    let process = AsyncFd::with_interest(process, Interest::READABLE)?;
    Ok(async move { drop(process.readable().await) })
}

/// Keeps a port published until `gone`, whichever hosts come and go.
async fn hold(
    gone: impl Future<Output = ()>,
    mut stream: Option<BufReader<Stream>>,
    request: &[u8],
    host: &mut Host,
    tell: &mpsc::Sender<Event>,
) {
    tokio::pin!(gone);
    loop {
        if let Some(mut open) = stream.take() {
            tokio::select! {
                () = &mut gone => return,
                // The host went away, or gave the port up.
                () = ended(&mut open) => {}
            }
        }
        let (again, answer) = tokio::select! {
            () = &mut gone => return,
            again = ask(host, request) => again,
        };
        if !is_yes(&answer) {
            let message = format!("a port is no longer published: {}", String::from_utf8_lossy(&answer).trim());
            let _ = tell.send(Event::Warning { message }).await;
            return gone.await;
        }
        stream = Some(again);
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
