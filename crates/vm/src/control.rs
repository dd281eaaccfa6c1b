//! The supervisor's control socket: one JSON request a line, one or more answers.

mod upkeep;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::BufReader;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backend::Upkeep;
use crate::error::Error;
use crate::lines;
use crate::paths::EnginePaths;
use crate::socket::Activity;
use crate::status::{Metrics, State, Status};

const VERSION: u32 = 1;
const REQUEST_LIMIT: u64 = 4096;
const ANSWER_LIMIT: u64 = 2 << 20;
const CONNECTIONS: usize = 64;
/// For telling the last status to those who wait for it.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verb {
    Status,
    Watch,
    Stop,
    Wake,
    Trim,
    Reclaim,
    Metrics,
    Grow,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    v: u32,
    request: Verb,
    /// How large the data disk is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_gib: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    freed_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What a supervisor's answers are made from.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) stop: watch::Sender<bool>,
    /// What can be had done in the engine's machine, while there is one.
    pub(crate) upkeep: watch::Receiver<Option<Upkeep>>,
    pub(crate) activity: watch::Receiver<Activity>,
    /// Wakes an engine that sleeps.
    pub(crate) wake: Arc<Notify>,
}

/// The supervisor's side.
#[derive(Debug)]
pub(crate) struct ControlServer {
    task: tokio::task::JoinHandle<()>,
    finish: watch::Sender<bool>,
}

impl ControlServer {
    /// Listens, for this user alone.
    pub(crate) fn start(socket: &Path, subject: Subject) -> Result<Self, Error> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).map_err(Error::file("listen on", socket))?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
            .map_err(Error::file("protect", socket))?;
        let (finish, finishing) = watch::channel(false);
        let task = tokio::spawn(serve(listener, subject, finishing));
        Ok(Self { task, finish })
    }

    /// Ends when everyone who waits has heard the last status, or soon after.
    pub(crate) async fn finish(self) {
        self.finish.send_replace(true);
        let _ = self.task.await;
    }
}

async fn serve(listener: UnixListener, subject: Subject, mut finishing: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = finishing.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                        let subject = subject.clone();
                        connections.spawn(async move {
                            if let Err(error) = converse(connection, subject).await {
                                tracing::debug!(%error, "a control connection ended");
                            }
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "control connections cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

async fn converse(connection: UnixStream, mut subject: Subject) -> io::Result<()> {
    let (input, mut output) = connection.into_split();
    let mut input = BufReader::new(input);
    loop {
        let request = match lines::read::<Request>(&mut input, REQUEST_LIMIT).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                refuse(&mut output, format!("the request was not understood: {error}")).await?;
                return Err(error);
            }
        };
        match request.request {
            Verb::Wake => {
                // One that is on its way to sleep hears it when it is there.
                if subject.status.borrow().state == State::Asleep {
                    subject.wake.notify_one();
                }
                let now = subject.status.borrow_and_update().clone();
                tell(&mut output, now).await?;
            }
            Verb::Status => {
                let now = subject.status.borrow_and_update().clone();
                tell(&mut output, now).await?;
            }
            Verb::Stop => {
                subject.stop.send_replace(true);
                return follow(&mut input, &mut output, &mut subject.status).await;
            }
            Verb::Watch => return follow(&mut input, &mut output, &mut subject.status).await,
            Verb::Trim | Verb::Reclaim | Verb::Metrics | Verb::Grow => {
                let answer = upkeep::answer(&subject, &request).await;
                lines::write(&mut output, &answer).await?;
            }
            Verb::Unknown => refuse(&mut output, "this version does not know that request".to_owned()).await?,
        }
    }
}

/// Tells every change until the last, or until the other side is gone.
async fn follow(
    input: &mut BufReader<OwnedReadHalf>,
    output: &mut OwnedWriteHalf,
    status: &mut watch::Receiver<Status>,
) -> io::Result<()> {
    loop {
        let now = status.borrow_and_update().clone();
        let last = matches!(now.state, State::Stopped | State::Failed);
        tell(output, now).await?;
        if last {
            return Ok(());
        }
        tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            // Nothing is expected any more but the end.
            _ = lines::read::<serde::de::IgnoredAny>(input, REQUEST_LIMIT) => return Ok(()),
        }
    }
}

async fn tell(output: &mut OwnedWriteHalf, status: Status) -> io::Result<()> {
    lines::write(output, &Answer { v: VERSION, status: Some(status), ..Answer::default() }).await
}

async fn refuse(output: &mut OwnedWriteHalf, why: String) -> io::Result<()> {
    lines::write(output, &Answer { v: VERSION, error: Some(why), ..Answer::default() }).await
}

/// A connection to the supervisor of an engine.
#[derive(Debug)]
pub struct ControlClient {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
}

impl ControlClient {
    /// Connects to the supervisor.
    ///
    /// # Errors
    ///
    /// Nobody runs the engine, or its socket may not be used.
    pub async fn connect(paths: &EnginePaths) -> Result<Self, Error> {
        let socket = paths.control_socket();
        let connection = UnixStream::connect(&socket).await.map_err(|error| {
            let forbidden = error.kind() == io::ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root();
            if forbidden { Error::NeedsRoot } else { Error::file("connect to", &socket)(error) }
        })?;
        let (input, output) = connection.into_split();
        Ok(Self { input: BufReader::new(input), output })
    }

    /// What the engine is doing now.
    ///
    /// # Errors
    ///
    /// The supervisor ended, or answered something else.
    pub async fn status(&mut self) -> Result<Status, Error> {
        self.ask(Verb::Status).await?;
        next(&mut self.input).await?.ok_or(Error::HungUp)
    }

    /// Wakes an engine that sleeps; says what it was doing.
    ///
    /// # Errors
    ///
    /// The supervisor ended, or answered something else.
    pub async fn wake(&mut self) -> Result<Status, Error> {
        self.ask(Verb::Wake).await?;
        next(&mut self.input).await?.ok_or(Error::HungUp)
    }

    /// Asks it to stop the engine and returns when it has: the last status.
    ///
    /// # Errors
    ///
    /// The supervisor ended before it was done.
    pub async fn stop(mut self) -> Result<Status, Error> {
        self.ask(Verb::Stop).await?;
        let mut last = None;
        while let Some(status) = next(&mut self.input).await? {
            last = Some(status);
        }
        last.filter(|status| matches!(status.state, State::Stopped | State::Failed)).ok_or(Error::HungUp)
    }

    /// Every status from now on, latest last; ends with the supervisor.
    ///
    /// # Errors
    ///
    /// The supervisor ended.
    pub async fn watch(mut self) -> Result<mpsc::Receiver<Status>, Error> {
        self.ask(Verb::Watch).await?;
        let (sender, statuses) = mpsc::channel(8);
        let Self { mut input, output } = self;
        tokio::spawn(async move {
            // Held: to the supervisor its end is the end of the watch.
            let _output = output;
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    status = next(&mut input) => match status {
                        Ok(Some(status)) => {
                            if sender.send(status).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => return,
                        Err(error) => {
                            tracing::debug!(%error, "the supervisor is no longer heard");
                            return;
                        }
                    },
                }
            }
        });
        Ok(statuses)
    }

    async fn request(&mut self, request: Request) -> Result<(), Error> {
        lines::write(&mut self.output, &request).await.map_err(|error| conversation(&error))
    }

    async fn ask(&mut self, request: Verb) -> Result<(), Error> {
        self.request(Request { v: VERSION, request, disk_gib: None }).await
    }
}

/// A connection to a supervisor that is killed may still be made, and breaks at the first word.
fn conversation(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Error::HungUp,
        _ => Error::Protocol(error.to_string()),
    }
}

async fn next(input: &mut BufReader<OwnedReadHalf>) -> Result<Option<Status>, Error> {
    match lines::read::<Answer>(input, ANSWER_LIMIT).await {
        Ok(None) => Ok(None),
        Ok(Some(Answer { status: Some(status), .. })) => Ok(Some(status)),
        Ok(Some(Answer { error, .. })) => {
            Err(Error::Protocol(error.unwrap_or_else(|| "it sent an empty answer".to_owned())))
        }
        // A supervisor that is killed ends its connections in the middle.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(conversation(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio::sync::watch;

    use super::{ControlClient, ControlServer, Subject};
    use crate::error::Error;
    use crate::paths::EnginePaths;
    use crate::socket::Activity;
    use crate::status::{State, Status};

    struct Fixture {
        paths: EnginePaths,
        server: ControlServer,
        status: watch::Sender<Status>,
        stopped: watch::Receiver<bool>,
    }

    fn fixture(folder: &tempfile::TempDir) -> Fixture {
        let paths = EnginePaths::with_runtime(&folder.path().join("data"), Some(folder.path().to_path_buf())).unwrap();
        std::fs::create_dir_all(paths.runtime()).unwrap();
        let (status, seen) = watch::channel(Status { state: State::Ready, ..Status::default() });
        let (stop, stopped) = watch::channel(false);
        let (upkeep, activity) = (watch::channel(None).1, watch::channel(Activity::none()).1);
        let subject = Subject { status: seen, stop, upkeep, activity, wake: Arc::default() };
        let server = ControlServer::start(&paths.control_socket(), subject).unwrap();
        Fixture { paths, server, status, stopped }
    }

    #[tokio::test]
    async fn it_is_asked_watched_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut fixture = fixture(&folder);
        let mut client = ControlClient::connect(&fixture.paths).await.unwrap();
        assert_eq!(client.status().await.unwrap().state, State::Ready);
        let mut statuses = client.watch().await.unwrap();
        assert_eq!(statuses.recv().await.unwrap().state, State::Ready);
        fixture.status.send_modify(|status| status.state = State::Degraded);
        assert_eq!(statuses.recv().await.unwrap().state, State::Degraded);

        let client = ControlClient::connect(&fixture.paths).await.unwrap();
        let stopping = tokio::spawn(client.stop());
        fixture.stopped.wait_for(|&stop| stop).await.unwrap();
        fixture.status.send_modify(|status| status.state = State::Stopped);
        fixture.server.finish().await;
        assert_eq!(stopping.await.unwrap().unwrap().state, State::Stopped);
        assert_eq!(statuses.recv().await.unwrap().state, State::Stopped);
        assert!(statuses.recv().await.is_none());
        fixture.paths.remove_runtime();
    }

    #[tokio::test]
    async fn an_engine_without_a_machine_says_that_there_is_nothing_to_give_back() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = fixture(&folder);
        let mut client = ControlClient::connect(&fixture.paths).await.unwrap();
        for error in [
            client.trim().await.unwrap_err(),
            client.reclaim().await.unwrap_err(),
            client.metrics().await.unwrap_err(),
            client.grow(64).await.unwrap_err(),
        ] {
            assert!(matches!(&error, Error::NotDone(why) if why.contains("no machine")), "{error}");
        }
        assert_eq!(client.status().await.unwrap().state, State::Ready, "the connection is as good as before");
        fixture.paths.remove_runtime();
    }

    #[tokio::test]
    async fn a_request_without_end_is_refused_and_others_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = fixture(&folder);
        let mut hostile = UnixStream::connect(fixture.paths.control_socket()).await.unwrap();
        let _ = hostile.write_all(&[b'x'; 5000]).await;
        let mut answer = String::new();
        let _ = hostile.read_to_string(&mut answer).await;
        assert!(answer.contains("not understood"), "{answer}");

        let mut later = UnixStream::connect(fixture.paths.control_socket()).await.unwrap();
        later.write_all(b"{\"v\":2,\"request\":\"dance\",\"new\":1}\n").await.unwrap();
        later.shutdown().await.unwrap();
        let mut answer = String::new();
        later.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("does not know"), "{answer}");

        let mut client = ControlClient::connect(&fixture.paths).await.unwrap();
        assert_eq!(client.status().await.unwrap().state, State::Ready);
        fixture.paths.remove_runtime();
    }
}
