//! A machine's guest without a machine: an agent behind the fake QEMU's port that does what a test wants.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use berth_mux::control::{
    Event, FaultCode, HelloReply, MemoryMetrics, MetricsReply, Reply, Request, ServiceState, ServiceStatus, StatusReply,
};
use berth_mux::{Config, Inbound, Offer, Opener, RefusalCode, Role, Session, Stream, Target};
use berth_testkit::fake_qemu::{Event as QemuEvent, Remote};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixListener};
use tokio::sync::{mpsc, watch};

/// What a guest does; by default all that a good one does.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) protocol: u32,
    /// It does not answer `hello`.
    pub(super) mute: bool,
    /// Instead of greeting it says this, and then nothing.
    pub(super) garbage: Option<Vec<u8>>,
    /// It says yes to `shutdown` and goes on.
    pub(super) hangs: bool,
    /// What it tells instead of dockerd's being ready.
    pub(super) fails: Option<(String, String)>,
    pub(super) never_ready: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { protocol: 1, mute: false, garbage: None, hangs: false, fails: None, never_ready: false }
    }
}

/// The agent: it serves every connection anew.
pub(super) struct Agent {
    pub(super) habits: watch::Sender<Habits>,
    /// The way to the host, while there is one.
    pub(super) opener: watch::Receiver<Option<Opener>>,
    pub(super) sessions: Arc<AtomicU32>,
    /// What the host asked.
    pub(super) asked: mpsc::Receiver<Request>,
    /// Things to tell the host.
    pub(super) tell: mpsc::Sender<Event>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Served {
    habits: watch::Receiver<Habits>,
    opener: watch::Sender<Option<Opener>>,
    asked: mpsc::Sender<Request>,
    power_off: Arc<dyn Fn() + Send + Sync>,
}

impl Agent {
    pub(super) fn serve(socket: &Path, power_off: Arc<dyn Fn() + Send + Sync>, habits: Habits) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let habits = watch::Sender::new(habits);
        let (opener, seen) = watch::channel(None);
        let (heard, asked) = mpsc::channel(1000);
        let (tell, mut told) = mpsc::channel::<Event>(100);
        let sessions = Arc::new(AtomicU32::new(0));
        let served = Served { habits: habits.subscribe(), opener, asked: heard, power_off };
        let count = Arc::clone(&sessions);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let habits = served.habits.borrow().clone();
                if let Some(garbage) = &habits.garbage {
                    let _ = stream.write_all(garbage).await;
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                    continue;
                }
                let Ok(session) = berth_mux::connect(stream, Role::Guest, Config::default()).await else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                served.hold(session, habits, &mut told).await;
                served.opener.send_replace(None);
            }
        });
        Self { habits, opener: seen, sessions, asked, tell, task }
    }

    /// Waits until the host has asked something like this.
    pub(super) async fn asked(&mut self, wanted: impl Fn(&Request) -> bool) -> Request {
        loop {
            let request = super::bounded(self.asked.recv()).await.unwrap();
            if wanted(&request) {
                return request;
            }
        }
    }

    pub(super) async fn opener(&self) -> Opener {
        let mut opener = self.opener.clone();
        super::bounded(opener.wait_for(Option::is_some)).await.unwrap().clone().unwrap()
    }
}

impl Served {
    async fn hold(&self, session: Session, habits: Habits, told: &mut mpsc::Receiver<Event>) {
        let Session { opener, mut incoming, control, ended } = session;
        let (sender, mut receiver) = control.split();
        for event in picture(&habits) {
            let _ = sender.event(event).await;
        }
        self.opener.send_replace(Some(opener));
        loop {
            tokio::select! {
                _ = ended.wait() => return,
                Some(event) = told.recv() => drop(sender.event(event).await),
                inbound = receiver.next() => match inbound {
                    Some(Inbound::Request { request, responder, .. }) => {
                        let _ = self.asked.send(request.clone()).await;
                        match answer(&request, &habits) {
                            Some(reply) => drop(responder.reply(reply).await),
                            None if habits.mute => std::mem::forget(responder),
                            None => drop(responder.fail(FaultCode::Failed, "not in this test").await),
                        }
                        if matches!(request, Request::Shutdown { .. }) && !habits.hangs {
                            (self.power_off)();
                        }
                    }
                    Some(Inbound::Event(_)) => {}
                    None => return,
                },
                Some(offer) = incoming.next() => drop(tokio::spawn(take(offer))),
            }
        }
    }
}

fn picture(habits: &Habits) -> Vec<Event> {
    let dockerd = |state| Event::Service { service: "dockerd".to_owned(), state, pid: Some(9), detail: None };
    let mut events = vec![Event::Stage { name: "services".to_owned() }];
    match &habits.fails {
        Some((stage, cause)) => events.push(Event::Failed { stage: stage.clone(), cause: cause.clone() }),
        None if habits.never_ready => events.push(dockerd(ServiceState::Started)),
        // As an agent that comes late tells it.
        None => events.push(dockerd(ServiceState::Ready)),
    }
    events
}

fn answer(request: &Request, habits: &Habits) -> Option<Reply> {
    if habits.mute {
        return None;
    }
    Some(match request {
        Request::Hello { .. } => Reply::Hello(HelloReply { protocol: habits.protocol, ..HelloReply::default() }),
        Request::Status => {
            Reply::Status(StatusReply { services: Vec::<ServiceStatus>::new(), ..StatusReply::default() })
        }
        Request::Trim => Reply::Trimmed { freed_bytes: 7 },
        Request::Metrics => {
            let memory = MemoryMetrics { total_bytes: 1 << 30, ..MemoryMetrics::default() };
            Reply::Metrics(MetricsReply { memory, ..MetricsReply::default() })
        }
        _ => Reply::Done,
    })
}

async fn take(offer: Offer) {
    match offer.target().clone() {
        Target::Unix { path } if path == "/run/docker.sock" => speak_http(offer.accept()).await,
        Target::Tcp { address } => match TcpStream::connect(address).await {
            Ok(mut container) => drop(tokio::io::copy_bidirectional(&mut offer.accept(), &mut container).await),
            Err(error) => offer.refuse(RefusalCode::Refused, &error.to_string()),
        },
        Target::Udp { address } => {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(address).await.unwrap();
            let mut datagrams = offer.accept_datagram();
            let mut buffer = [0; 2000];
            loop {
                tokio::select! {
                    Some(datagram) = datagrams.recv() => drop(socket.send(&datagram).await),
                    Ok(length) = socket.recv(&mut buffer) => drop(datagrams.send(&buffer[..length]).await),
                    else => return,
                }
            }
        }
        other => offer.refuse(RefusalCode::NotAllowed, &format!("{other:?}")),
    }
}

async fn speak_http(mut stream: Stream) {
    let mut asked = Vec::new();
    let mut buffer = [0; 1000];
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => asked.extend(&buffer[..length]),
            _ => return,
        }
    }
    let body = match asked.split(|&byte| byte == b'?' || byte == b' ').nth(1) {
        Some(b"/version") => r#"{"Version":"1.2.3"}"#,
        Some(b"/containers/json") => "[]",
        Some(b"/info") => "{}",
        _ => "OK",
    };
    let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Makes something happen in the fake QEMU.
pub(super) fn say(remote: &Path, what: &Remote) {
    let mut socket = std::os::unix::net::UnixStream::connect(remote).unwrap();
    writeln!(socket, "{}", serde_json::to_string(what).unwrap()).unwrap();
}

pub(super) fn happens(event: &str, data: serde_json::Value, status: &str) -> Remote {
    Remote::Event(QemuEvent { event: event.to_owned(), data, status: Some(status.to_owned()) })
}
