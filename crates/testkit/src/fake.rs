//! A fake engine on a unix socket, for what a real one cannot be made to show: thousands of containers at
//! once, a log of exactly so many lines a second, an engine that freezes, garbles or refuses.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

type Body = BoxBody<Bytes, Infallible>;

/// How the fake engine behaves; may be changed while it runs.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Lines a second that every followed log gives; 0 for a log that is silent.
    pub log_rate: u32,
    /// Every call but `/_ping` is answered by this status and this text, as a broken proxy would.
    pub refuse: Option<(u16, &'static str)>,
}

/// One container of the fake engine.
#[derive(Clone, Debug)]
pub struct FakeContainer {
    /// Name without the slash.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// Compose project, if any.
    pub project: Option<String>,
}

#[derive(Debug)]
struct State {
    containers: BTreeMap<String, FakeContainer>,
    /// Containers made so far.
    made: u64,
    /// Calls that changed a container.
    changes: u64,
    behaviour: Behaviour,
}

/// A fake engine; dropping it closes its socket.
#[derive(Debug)]
pub struct FakeEngine {
    shared: Arc<Shared>,
    socket: PathBuf,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    events: broadcast::Sender<Bytes>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeEngine {
    /// Listens on `socket`. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn listen(socket: &Path) -> std::io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                containers: BTreeMap::new(),
                made: 0,
                changes: 0,
                behaviour: Behaviour { log_rate: 0, refuse: None },
            }),
            events: broadcast::Sender::new(4096),
        });
        let server = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { shared, socket: socket.to_owned(), server })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.state().behaviour);
    }

    /// Adds a container and tells of it; gives its id.
    pub fn add(&self, container: FakeContainer) -> String {
        let mut state = self.shared.state();
        let number = state.made;
        state.made += 1;
        let id = format!("{:016x}{number:048x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63);
        let name = container.name.clone();
        state.containers.insert(id.clone(), container);
        drop(state);
        emit(&self.shared, "create", &id, &name);
        id
    }

    /// Removes a container and, unless `silently`, tells of it.
    pub fn remove(&self, id: &str, silently: bool) {
        let removed = self.shared.state().containers.remove(id);
        if let Some(container) = removed.filter(|_| !silently) {
            emit(&self.shared, "destroy", id, &container.name);
        }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.server.abort();
        // It is gone already when the folder is.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn emit(shared: &Shared, action: &str, id: &str, name: &str) {
    let nanos = nanos();
    let event = json!({
        "Type": "container", "Action": action, "status": action, "id": id, "scope": "local",
        "time": nanos / 1_000_000_000, "timeNano": nanos,
        "Actor": { "ID": id, "Attributes": { "name": name, "image": "fake:latest" } },
    });
    // Nobody listening is no fault.
    let _ = shared.events.send(Bytes::from(format!("{event}\n")));
}

fn nanos() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            // A client that goes away is no fault of the engine.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    // The body must be read before the connection is used again.
    let _ = request.into_body().collect().await;
    let path = path.strip_prefix("/v1.51").unwrap_or(&path);
    if path != "/_ping"
        && let Some((status, text)) = shared.state().behaviour.refuse
    {
        return respond(StatusCode::from_u16(status).unwrap_or_default(), "text/html", text);
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (&method, parts.as_slice()) {
        (_, ["_ping"]) => respond(StatusCode::OK, "text/plain", "OK"),
        (&Method::GET, ["version"]) => value(&json!({
            "Version": "28.5.2", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64",
        })),
        (&Method::GET, ["info"]) => value(&json!({
            "ServerVersion": "28.5.2", "NCPU": 2, "MemTotal": 8_000_000_000_u64, "Name": "fake",
            "OSType": "linux", "Architecture": "x86_64",
        })),
        (&Method::GET, ["events"]) => events(shared),
        // Not of the Engine API: lets a bench count what arrived.
        (&Method::GET, ["fake", "changes"]) => value(&json!(shared.state().changes)),
        (&Method::GET, ["containers", "json"]) => {
            let state = shared.state();
            value(&Value::Array(state.containers.iter().map(|(id, container)| summary(id, container)).collect()))
        }
        (&Method::GET, ["containers", id, "json"]) => found(shared, id, |container| value(&inspect(id, container))),
        (&Method::GET, ["containers", id, "logs"]) => {
            let rate = shared.state().behaviour.log_rate;
            let follow = query.contains("follow=1") || query.contains("follow=true");
            found(shared, id, |_| logs(rate, follow))
        }
        (&Method::POST, ["containers", id, verb]) => change(shared, id, verb),
        (&Method::DELETE, ["containers", id]) => {
            let removed = shared.state().containers.remove(*id);
            match removed {
                Some(container) => {
                    emit(shared, "destroy", id, &container.name);
                    respond(StatusCode::NO_CONTENT, "text/plain", "")
                }
                None => missing(id),
            }
        }
        _ => message(StatusCode::NOT_FOUND, "page not found"),
    }
}

fn change(shared: &Shared, id: &str, verb: &str) -> Response<Body> {
    let actions: &[&str] = match verb {
        "start" => &["start"],
        "stop" | "kill" => &["kill", "die"],
        "restart" => &["kill", "die", "start"],
        _ => return message(StatusCode::NOT_FOUND, "page not found"),
    };
    let mut state = shared.state();
    state.changes += 1;
    let Some(container) = state.containers.get_mut(id) else { return missing(id) };
    container.running = actions.last() == Some(&"start");
    let name = container.name.clone();
    drop(state);
    for action in actions {
        emit(shared, action, id, &name);
    }
    respond(StatusCode::NO_CONTENT, "text/plain", "")
}

fn summary(id: &str, container: &FakeContainer) -> Value {
    let labels = container
        .project
        .as_ref()
        .map(|project| json!({ "com.docker.compose.project": project, "com.docker.compose.service": container.name }));
    json!({
        "Id": id, "Names": [format!("/{}", container.name)], "Image": "fake:latest",
        "ImageID": format!("sha256:{id}"), "Command": "serve", "Created": 1_700_000_000, "Ports": [],
        "Labels": labels.unwrap_or_else(|| json!({})),
        "State": if container.running { "running" } else { "exited" },
        "Status": if container.running { "Up 3 hours" } else { "Exited (0) 2 hours ago" },
        "HostConfig": { "NetworkMode": "default" }, "NetworkSettings": { "Networks": {} }, "Mounts": null,
    })
}

fn inspect(id: &str, container: &FakeContainer) -> Value {
    json!({
        "Id": id, "Name": format!("/{}", container.name), "Created": "2023-11-14T22:13:20Z",
        "Path": "serve", "Args": [], "Image": format!("sha256:{id}"), "RestartCount": 0,
        "State": {
            "Status": if container.running { "running" } else { "exited" }, "Running": container.running,
            "StartedAt": "2026-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", "ExitCode": 0,
        },
        "Config": { "Image": "fake:latest", "Tty": false, "Labels": {}, "Env": [], "Cmd": ["serve"] },
        "HostConfig": {}, "NetworkSettings": { "Networks": {}, "Ports": {} }, "Mounts": [],
    })
}

fn events(shared: &Shared) -> Response<Body> {
    let receiver = shared.events.subscribe();
    streaming(
        "application/json",
        stream::unfold(
            receiver,
            |mut receiver| async move { receiver.recv().await.ok().map(|event| (event, receiver)) },
        ),
    )
}

/// Lines of 100 bytes, ten times a second or oftener, as many as the rate says.
fn logs(rate: u32, follow: bool) -> Response<Body> {
    if rate == 0 {
        let first = stream::iter([frames(0, 3)]);
        return if follow {
            streaming(MULTIPLEXED, first.chain(stream::pending()))
        } else {
            streaming(MULTIPLEXED, first)
        };
    }
    let step = Duration::from_millis(10);
    let each = (rate / 100).max(1);
    let interval = tokio::time::interval(step);
    streaming(
        MULTIPLEXED,
        stream::unfold((interval, 0_u64), move |(mut interval, number)| async move {
            interval.tick().await;
            Some((frames(number, each), (interval, number + u64::from(each))))
        }),
    )
}

const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

fn frames(first: u64, count: u32) -> Bytes {
    let seconds = nanos() / 1_000_000_000;
    let of_day = seconds % 86_400;
    let clock = format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut out = Vec::with_capacity(count as usize * 144);
    for number in first..first + u64::from(count) {
        let line = format!(
            "2026-01-01T{clock}.{:09}Z \u{1b}[32minfo\u{1b}[0m line {number:>10} GET /api/products?page=2 200 in 31 ms\n",
            number % 1_000_000_000
        );
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&u32::try_from(line.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(line.as_bytes());
    }
    out.into()
}

fn found(shared: &Shared, id: &str, answer: impl FnOnce(&FakeContainer) -> Response<Body>) -> Response<Body> {
    match shared.state().containers.get(id) {
        Some(container) => answer(container),
        None => missing(id),
    }
}

fn missing(id: &str) -> Response<Body> {
    message(StatusCode::NOT_FOUND, &format!("No such container: {id}"))
}

fn message(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, "application/json", &json!({ "message": text }).to_string())
}

fn value(value: &Value) -> Response<Body> {
    respond(StatusCode::OK, "application/json", &value.to_string())
}

fn respond(status: StatusCode, kind: &str, text: &str) -> Response<Body> {
    finish(status, kind, Full::new(Bytes::from(text.to_owned())).boxed())
}

fn streaming(kind: &str, pieces: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Response<Body> {
    let body = StreamBody::new(pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece))));
    finish(StatusCode::OK, kind, BodyExt::boxed(body))
}

fn finish(status: StatusCode, kind: &str, body: Body) -> Response<Body> {
    let response =
        Response::builder().status(status).header("Api-Version", "1.51").header("Content-Type", kind).body(body);
    response.unwrap_or_default()
}
