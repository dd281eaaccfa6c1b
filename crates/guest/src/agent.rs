//! The agent: the machine's side of the mux. What the host asks is answered here or passed on to PID 1, which alone
//! starts and stops services.
//!
//! It may die at any moment: PID 1 starts it again, the host connects again, and ports are asked for again.

mod control;
mod files;
mod picture;
mod port;
mod published;
mod quiet;
mod streams;
mod vsock;
mod way;

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_mux::control::Event;
use berth_mux::{Config, Inbound, Opener, Role, Session};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::error::Error;
use control::Answers;
use files::Waker;
use picture::Picture;
use way::Way;

/// The host is away, or has just gone; the port has no event that says when it is back.
const AWAY: Duration = Duration::from_millis(50);
const LINE_LIMIT: u64 = 64 << 10;

/// What the agent was started with: hidden options are for tests, which have no machine.
struct Place {
    docker: PathBuf,
    logs: PathBuf,
    ports: PathBuf,
    /// A socket on which the host is reached; without one, it is a machine's port.
    host: Option<PathBuf>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            docker: crate::config::DOCKER_SOCKET.into(),
            logs: "/var/log/berth".into(),
            ports: crate::config::PORTS_SOCKET.into(),
            host: None,
        }
    }
}

impl Place {
    fn has_machine(&self) -> bool {
        self.host.is_none()
    }
}

/// Runs until it is killed, or with `--stdio` until that one session ends.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let mut place = Place::default();
    let mut stdio = false;
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| Error::Usage(format!("{name} has no value")));
        match name.as_str() {
            "--stdio" => stdio = true,
            "--docker" => place.docker = value()?.into(),
            "--logs" => place.logs = value()?.into(),
            "--ports" => place.ports = value()?.into(),
            "--host" => place.host = Some(value()?.into()),
            _ => return Err(Error::Usage(format!("{name} is not understood"))),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting the agent's runtime"))?;
    runtime.block_on(async {
        let agent = Agent::new(place, !stdio)?;
        if stdio { agent.once().await } else { agent.always().await }
    })
}

struct Agent {
    place: Arc<Place>,
    picture: Arc<Mutex<Picture>>,
    waker: Arc<Mutex<Waker>>,
    /// The way to the host, while there is one.
    opener: watch::Sender<Option<Opener>>,
    /// What this process itself has to tell.
    tell: mpsc::Sender<Event>,
    told: mpsc::Receiver<Event>,
}

impl Agent {
    fn new(place: Place, adopts: bool) -> Result<Self, Error> {
        let (tell, told) = mpsc::channel(64);
        let opener = watch::Sender::new(None);
        // First: whoever connects below is none of them.
        if adopts {
            published::adopt(&opener.subscribe(), &tell);
        }
        published::listen(&place.ports, opener.subscribe(), tell.clone())?;
        let (picture, waker) = (Arc::default(), Arc::default());
        Ok(Self { place: Arc::new(place), picture, waker, opener, tell, told })
    }

    /// One session over standard input, which is a socket; PID 1 is not asked anything.
    async fn once(mut self) -> Result<ExitCode, Error> {
        let socket = own_socket()?;
        let session = berth_mux::connect(socket, Role::Guest, Config::default())
            .await
            .map_err(|error| Error::Machine(error.to_string()))?;
        let (_events, mut silent) = mpsc::channel(1);
        let (commands, _) = mpsc::channel(1);
        self.serve(session, &mut silent, &commands).await;
        Ok(ExitCode::SUCCESS)
    }

    async fn always(mut self) -> Result<ExitCode, Error> {
        let (read, write) = halves(own_socket()?);
        let (heard, mut events) = mpsc::channel(256);
        let (commands, wanted) = mpsc::channel(16);
        tokio::spawn(hear(read, heard));
        tokio::spawn(picture::command(write, wanted));
        let way = Way::find(self.place.host.clone())?;
        if self.place.has_machine() {
            tokio::spawn(quiet::give_back(self.tell.clone()));
        }
        loop {
            let connected = self.meanwhile(way.session(), &mut events).await;
            match connected {
                Ok(session) => self.serve(session, &mut events, &commands).await,
                // The host is away.
                Err(_) => self.meanwhile(tokio::time::sleep(AWAY), &mut events).await,
            }
        }
    }

    /// Waits for something while PID 1 goes on telling.
    async fn meanwhile<F: Future>(&mut self, waited: F, events: &mut mpsc::Receiver<Event>) -> F::Output {
        tokio::pin!(waited);
        loop {
            tokio::select! {
                done = &mut waited => return done,
                Some(event) = events.recv() => self.note(&event),
            }
        }
    }

    fn note(&self, event: &Event) {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner).take(event);
    }

    /// Serves one session to its end.
    async fn serve(&mut self, session: Session, events: &mut mpsc::Receiver<Event>, commands: &mpsc::Sender<String>) {
        let Session { opener, mut incoming, control, ended } = session;
        let (sender, mut receiver) = control.split();
        let known = self.picture.lock().unwrap_or_else(PoisonError::into_inner).events();
        for event in known {
            if sender.event(event).await.is_err() {
                return;
            }
        }
        self.opener.send_replace(Some(opener));
        let answers = Answers {
            picture: Arc::clone(&self.picture),
            commands: commands.clone(),
            waker: Arc::clone(&self.waker),
            has_machine: self.place.has_machine(),
        };
        loop {
            tokio::select! {
                _ = ended.wait() => break,
                Some(event) = events.recv() => {
                    self.note(&event);
                    if sender.event(event).await.is_err() {
                        break;
                    }
                }
                Some(event) = self.told.recv() => {
                    if sender.event(event).await.is_err() {
                        break;
                    }
                }
                inbound = receiver.next() => match inbound {
                    Some(Inbound::Request { request, responder, .. }) => {
                        tokio::spawn(answers.clone().answer(request, responder));
                    }
                    Some(Inbound::Event(_)) => {}
                    None => break,
                },
                offer = incoming.next() => match offer {
                    Some(offer) => drop(tokio::spawn(streams::serve(offer, Arc::clone(&self.place)))),
                    None => break,
                },
            }
        }
        self.opener.send_replace(None);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.place.ports);
    }
}

/// Standard input as the socket it is.
fn own_socket() -> Result<UnixStream, Error> {
    let what = "using standard input as a socket";
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map(StdUnixStream::from).map_err(Error::io(what))?;
    socket.set_nonblocking(true).map_err(Error::io(what))?;
    UnixStream::from_std(socket).map_err(Error::io(what))
}

/// PID 1's channel, which the next agent will have too. The halves that the socket splits into by itself would end it when
/// they are dropped, and PID 1 takes its end for the order to stop.
fn halves(socket: UnixStream) -> (ReadHalf<UnixStream>, WriteHalf<UnixStream>) {
    tokio::io::split(socket)
}

/// Reads what PID 1 tells, line by line.
async fn hear(read: impl AsyncRead + Unpin, heard: mpsc::Sender<Event>) {
    use tokio::io::AsyncReadExt as _;
    let mut input = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut input).take(LINE_LIMIT).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(event) = picture::event(&line)
            && heard.send(event).await.is_err()
        {
            return;
        }
    }
}

/// A byte stream that may be anything.
trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _};
    use std::os::unix::net::UnixStream as StdUnixStream;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;

    use super::{halves, hear, picture};

    #[test]
    fn an_agent_that_gives_up_leaves_its_channel_to_the_next() {
        let (mut of_pid_1, kept) = StdUnixStream::pair().unwrap();
        let agents = kept.try_clone().unwrap();
        agents.set_nonblocking(true).unwrap();
        of_pid_1.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut said = [0; 21];
        runtime.block_on(async {
            let (read, write) = halves(UnixStream::from_std(agents).unwrap());
            let (heard, _events) = mpsc::channel(1);
            let (_commands, wanted) = mpsc::channel(1);
            tokio::spawn(hear(read, heard));
            tokio::spawn(picture::command(write, wanted));
            let mut listening = UnixStream::from_std(of_pid_1.try_clone().unwrap()).unwrap();
            listening.read_exact(&mut said).await.unwrap();
        });
        assert_eq!(said, *b"{\"command\":\"status\"}\n");
        // With everything that was under way.
        drop(runtime);
        assert_eq!(of_pid_1.read(&mut said).unwrap_err().kind(), ErrorKind::WouldBlock, "it was ended");
    }
}
