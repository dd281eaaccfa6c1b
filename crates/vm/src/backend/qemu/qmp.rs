//! QMP: JSON, one object a line. Commands carry numbers by which their answers are found; events come in between.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::lines;

/// QEMU's longest answers to what is asked here are a few hundred bytes.
const LINE_LIMIT: u64 = 256 << 10;
const COMMANDS: usize = 16;
const EVENTS: usize = 256;
/// Others are not even queued: a guest can cause some as fast as it likes.
const KNOWN_EVENTS: [&str; 7] =
    ["STOP", "RESUME", "RESET", "SHUTDOWN", "BLOCK_IO_ERROR", "GUEST_PANICKED", "VSERPORT_CHANGE"];

/// Why QEMU could not be asked, or what it answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QmpError {
    #[error("it does not greet as QMP does, but says {0:?}")]
    Greeting(String),
    #[error("QEMU's control connection ended: {0}")]
    Closed(String),
    #[error("QEMU did not answer `{command}` within {seconds} s")]
    Deadline { command: &'static str, seconds: u64 },
    #[error("QEMU refused `{command}`: {why}")]
    Refused { command: &'static str, why: String },
}

/// Something that happened in QEMU.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: Value,
}

/// One connection, over which any number of commands can be under way.
#[derive(Clone, Debug)]
pub(super) struct Qmp {
    lines: mpsc::Sender<Value>,
    next: Arc<AtomicU64>,
    waiting: Waiting,
}

#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<Replies>>);

#[derive(Debug, Default)]
struct Replies {
    /// Why there will be no more.
    ended: Option<String>,
    by_id: HashMap<u64, oneshot::Sender<Result<Value, Refusal>>>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Refusal>,
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

impl Qmp {
    /// Waits for the greeting and leaves the mode in which nothing but that is possible. Bounded by the caller.
    ///
    /// Events come until the connection ends; more than can be queued are dropped, oldest kept.
    ///
    /// # Errors
    ///
    /// The connection ended, or whoever is there does not speak QMP.
    pub(super) async fn connect<T>(stream: T, patience: Duration) -> Result<(Self, mpsc::Receiver<Event>), QmpError>
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (input, output) = tokio::io::split(stream);
        let mut input = BufReader::new(input);
        match lines::read::<Value>(&mut input, LINE_LIMIT).await {
            Ok(Some(greeting)) if greeting.get("QMP").is_some() => {}
            Ok(Some(other)) => return Err(QmpError::Greeting(other.to_string().chars().take(200).collect())),
            Ok(None) => return Err(QmpError::Closed("QEMU closed it".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(QmpError::Greeting(error.to_string()));
            }
            Err(error) => return Err(QmpError::Closed(error.to_string())),
        }
        let (lines, commands) = mpsc::channel(COMMANDS);
        let (events, happened) = mpsc::channel(EVENTS);
        let waiting = Waiting::default();
        tokio::spawn(write(output, commands));
        tokio::spawn(read(input, waiting.clone(), events));
        let qmp = Self { lines, next: Arc::default(), waiting };
        qmp.execute("qmp_capabilities", None, patience).await?;
        Ok((qmp, happened))
    }

    /// Has a command done.
    ///
    /// # Errors
    ///
    /// It was refused, not answered in time, or the connection ended.
    pub(super) async fn execute(
        &self,
        command: &'static str,
        arguments: Option<Value>,
        patience: Duration,
    ) -> Result<Value, QmpError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut line = json!({ "execute": command, "id": id });
        if let (Some(arguments), Some(line)) = (arguments, line.as_object_mut()) {
            line.insert("arguments".to_owned(), arguments);
        }
        let (reply, mut replied) = oneshot::channel();
        let _registered = self.waiting.register(id, reply)?;
        let asked = async {
            // When the writer is gone, the reader says why.
            let _ = self.lines.send(line).await;
            (&mut replied).await
        };
        match timeout(patience, asked).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(refusal))) => Err(QmpError::Refused { command, why: refusal.desc }),
            Ok(Err(_)) => Err(QmpError::Closed(self.ended().unwrap_or_default())),
            Err(_) => Err(QmpError::Deadline { command, seconds: patience.as_secs() }),
        }
    }
}

impl Qmp {
    /// Why the connection ended, once it has.
    pub(super) fn ended(&self) -> Option<String> {
        self.waiting.lock().ended.clone()
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Replies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, id: u64, reply: oneshot::Sender<Result<Value, Refusal>>) -> Result<Registered<'_>, QmpError> {
        let mut replies = self.lock();
        if let Some(why) = &replies.ended {
            return Err(QmpError::Closed(why.clone()));
        }
        replies.by_id.insert(id, reply);
        Ok(Registered { waiting: self, id })
    }

    fn answer(&self, message: Message) {
        let Some(reply) = message.id.and_then(|id| self.lock().by_id.remove(&id)) else {
            // Nobody waits any more.
            return;
        };
        let answer = match message.error {
            Some(refusal) => Err(refusal),
            None => Ok(message.returned.unwrap_or_default()),
        };
        let _ = reply.send(answer);
    }
}

/// Forgets a command when it is no longer waited for.
struct Registered<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.waiting.lock().by_id.remove(&self.id);
    }
}

async fn write(mut output: impl AsyncWrite + Unpin, mut commands: mpsc::Receiver<Value>) {
    while let Some(command) = commands.recv().await {
        if let Err(error) = lines::write(&mut output, &command).await {
            tracing::debug!(%error, "QMP cannot be written");
            break;
        }
    }
    let _ = output.shutdown().await;
}

async fn read(mut input: impl AsyncBufRead + Unpin, waiting: Waiting, events: mpsc::Sender<Event>) {
    let why = loop {
        match lines::read::<Message>(&mut input, LINE_LIMIT).await {
            Ok(Some(Message { event: Some(name), data, .. })) => {
                tracing::debug!(name, %data, "QEMU");
                if KNOWN_EVENTS.contains(&name.as_str())
                    && let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(Event { name, data })
                {
                    tracing::warn!(?event, "QEMU's events are not taken fast enough, and this one is lost");
                }
            }
            Ok(Some(message)) if message.greeting.is_none() => waiting.answer(message),
            Ok(Some(_)) => break "it greeted twice".to_owned(),
            Ok(None) => break "QEMU closed it".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    let mut replies = waiting.lock();
    replies.ended = Some(why);
    replies.by_id.clear();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
    use tokio::sync::mpsc;

    use super::{Event, LINE_LIMIT, Qmp, QmpError};

    const LONG: Duration = Duration::from_secs(20);
    const GREETING: &str = "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\n";

    async fn greeted_with(bytes: Vec<u8>) -> QmpError {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let talking = tokio::spawn(async move {
            let _ = theirs.write_all(&bytes).await;
        });
        let error = Qmp::connect(ours, LONG).await.unwrap_err();
        talking.await.unwrap();
        error
    }

    /// QEMU's side of an open connection.
    struct Server(BufReader<DuplexStream>);

    impl Server {
        async fn heard(&mut self) -> Value {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            serde_json::from_str(&line).unwrap()
        }

        async fn say(&mut self, what: &str) {
            self.0.write_all(what.as_bytes()).await.unwrap();
        }
    }

    async fn open() -> (Qmp, mpsc::Receiver<Event>, Server) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut server = Server(BufReader::new(theirs));
        server.say(GREETING).await;
        let connecting = tokio::spawn(Qmp::connect(ours, LONG));
        assert_eq!(server.heard().await, json!({ "execute": "qmp_capabilities", "id": 0 }));
        server.say("{\"return\":{},\"id\":0}\n").await;
        let (qmp, events) = connecting.await.unwrap().unwrap();
        (qmp, events, server)
    }

    #[tokio::test]
    async fn only_qmp_is_taken_for_qmp() {
        assert!(
            matches!(greeted_with(b"{\"hello\":1}\n".to_vec()).await, QmpError::Greeting(said) if said.contains("hello"))
        );
        assert!(matches!(greeted_with(b"SSH-2.0\n".to_vec()).await, QmpError::Greeting(_)));
        let endless = vec![b'['; usize::try_from(LINE_LIMIT).unwrap() + 1];
        assert!(matches!(greeted_with(endless).await, QmpError::Greeting(_)));
        assert!(matches!(greeted_with(Vec::new()).await, QmpError::Closed(_)));
        assert!(matches!(greeted_with(b"{\"QMP\"".to_vec()).await, QmpError::Closed(_)));
    }

    #[tokio::test]
    async fn answers_find_their_commands_in_any_order_and_events_come_between() {
        let (qmp, mut events, mut server) = open().await;
        let first = tokio::spawn({
            let qmp = qmp.clone();
            async move { qmp.execute("query-status", None, LONG).await }
        });
        assert_eq!(server.heard().await["id"], 1);
        let second = tokio::spawn(async move { qmp.execute("balloon", Some(json!({ "value": 7 })), LONG).await });
        assert_eq!(server.heard().await, json!({ "execute": "balloon", "id": 2, "arguments": { "value": 7 } }));
        server
            .say("{\"event\":\"BALLOON_CHANGE\",\"data\":{}}\n{\"event\":\"STOP\"}\n{\"return\":{},\"id\":99}\n")
            .await;
        server
            .say("{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"},\"id\":2}\n{\"return\":{\"a\":1},\"id\":1}\n")
            .await;
        let refused = QmpError::Refused { command: "balloon", why: "no".to_owned() };
        assert_eq!(second.await.unwrap(), Err(refused));
        assert_eq!(first.await.unwrap(), Ok(json!({ "a": 1 })));
        assert_eq!(events.recv().await.unwrap().name, "STOP");
    }

    #[tokio::test]
    async fn a_late_answer_is_nobodys() {
        let (qmp, _events, mut server) = open().await;
        let late = qmp.execute("stop", None, Duration::from_millis(1)).await;
        assert_eq!(late, Err(QmpError::Deadline { command: "stop", seconds: 0 }));
        server.heard().await;
        server.say("{\"return\":{},\"id\":1}\n").await;
        let asking = tokio::spawn(async move { qmp.execute("cont", None, LONG).await });
        assert_eq!(server.heard().await["id"], 2);
        server.say("{\"return\":{\"b\":2},\"id\":2}\n").await;
        assert_eq!(asking.await.unwrap(), Ok(json!({ "b": 2 })));
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_told_to_everyone() {
        for last in ["", "nonsense\n", GREETING, "[1]\n"] {
            let (qmp, mut events, mut server) = open().await;
            let asking = tokio::spawn({
                let qmp = qmp.clone();
                async move { qmp.execute("query-status", None, LONG).await }
            });
            server.heard().await;
            server.say(last).await;
            if last.is_empty() {
                drop(server);
            }
            assert!(matches!(asking.await.unwrap(), Err(QmpError::Closed(_))), "{last:?}");
            assert!(events.recv().await.is_none());
            assert!(matches!(qmp.execute("stop", None, LONG).await, Err(QmpError::Closed(_))));
        }
    }

    #[tokio::test]
    async fn a_flood_of_events_is_bounded_and_hides_no_answer() {
        let (qmp, mut events, mut server) = open().await;
        for _ in 0..2000 {
            server.say("{\"event\":\"RESET\"}\n").await;
        }
        let asking = tokio::spawn(async move { qmp.execute("query-status", None, LONG).await });
        server.heard().await;
        server.say("{\"return\":{},\"id\":1}\n").await;
        asking.await.unwrap().unwrap();
        drop(server);
        let mut count = 0;
        while events.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, super::EVENTS);
    }
}
