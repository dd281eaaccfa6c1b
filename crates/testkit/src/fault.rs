//! A proxy in front of an engine's socket that does to its bytes what networks, disks and bugs do.
//!
//! ```no_run
//! # use berth_testkit::fault::{End, Fault, FaultProxy, Plan};
//! # async fn example(engine: &std::path::Path) -> std::io::Result<()> {
//! let proxy = FaultProxy::start(engine).await?;
//! // A client of `proxy.socket()` finds the engine there, until:
//! proxy.set(Plan::response(Fault::cut(1000)).only("/logs"));
//! # Ok(())
//! # }
//! ```

mod chunks;
mod plan;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use chunks::ChunkEdit;
use chunks::ChunkEditor;
pub use plan::{End, Fault, Plan, Rewriter, Then};

#[derive(Debug)]
struct Shared {
    target: Mutex<PathBuf>,
    plan: watch::Sender<Arc<Plan>>,
    cut: watch::Sender<u64>,
    /// Exchanges that suffered since the plan was set.
    struck: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    accepted: AtomicUsize,
    sent: AtomicU64,
    received: AtomicU64,
    requests: Mutex<Vec<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The proxy; dropping it closes its socket and its connections.
#[derive(Debug)]
pub struct FaultProxy {
    folder: TempDir,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens in front of the engine at `target`. Needs a tokio runtime.
    ///
    /// # Errors
    /// When no socket can be made.
    #[expect(clippy::unused_async, reason = "says that it needs a runtime")]
    pub async fn start(target: &Path) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-fault-").tempdir()?;
        let listener = UnixListener::bind(folder.path().join("docker.sock"))?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            plan: watch::Sender::new(Arc::new(Plan::pass())),
            cut: watch::Sender::new(0),
            struck: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            requests: Mutex::default(),
        });
        let server = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { folder, shared, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Changes what happens, from the next piece of every connection on.
    pub fn set(&self, plan: Plan) {
        self.shared.struck.store(0, Ordering::SeqCst);
        self.shared.plan.send_replace(Arc::new(plan));
    }

    /// Closes every connection there is.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|epoch| *epoch += 1);
    }

    /// New connections go to another engine.
    pub fn swap(&self, target: &Path) {
        target.clone_into(&mut locked(&self.shared.target));
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The most that were open at a time.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }

    /// Connections so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Exchanges that suffered since the plan was set.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// Bytes that reached the engine, and bytes that reached clients.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.shared.sent.load(Ordering::SeqCst), self.shared.received.load(Ordering::SeqCst))
    }

    /// Request lines so far, such as `GET /v1.51/info HTTP/1.1`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.requests).clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_open.fetch_max(open, Ordering::SeqCst);
        let counted = Counted(shared.clone());
        let mut cut = shared.cut.subscribe();
        let shared = shared.clone();
        connections.spawn(async move {
            let _counted = counted;
            tokio::select! {
                () = carry(client, &shared) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the exchange on a connection suffers. It is settled when its request begins, but for what `set` changes.
#[derive(Clone, Debug)]
struct Exchange {
    number: u64,
    line: String,
}

async fn carry(client: UnixStream, shared: &Shared) {
    let target = locked(&shared.target).clone();
    let Ok(engine) = UnixStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_engine, to_engine) = engine.into_split();
    let to_client = tokio::sync::Mutex::new(to_client);
    let exchange = watch::Sender::new(Exchange { number: 0, line: String::new() });
    let answers = exchange.subscribe();
    let requests = requests(from_client, to_engine, &to_client, exchange, shared);
    let responses = responses(from_engine, &to_client, answers, shared);
    let (mut requests, mut responses) = (std::pin::pin!(requests), std::pin::pin!(responses));
    // A direction that ends properly leaves the other one to end by itself.
    tokio::select! {
        over = &mut requests => if over.is_continue() {
            tokio::select! {
                _ = responses => {}
                () = hung_up(&to_client) => {}
            }
        },
        over = &mut responses => if over.is_continue() { let _ = requests.await; },
    }
}

/// A client that closed only its own direction still waits for an answer; one that is gone must not count as open while an
/// engine is silent.
async fn hung_up(to_client: &tokio::sync::Mutex<OwnedWriteHalf>) {
    loop {
        let ready = to_client.lock().await.ready(tokio::io::Interest::WRITABLE).await;
        if ready.map_or(true, tokio::io::Ready::is_write_closed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

type Flow = std::ops::ControlFlow<()>;

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    to_client: &tokio::sync::Mutex<OwnedWriteHalf>,
    exchange: watch::Sender<Exchange>,
    shared: &Shared,
) -> Flow {
    let mut direction = Direction::new(true, exchange.subscribe(), shared);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => {
                let _ = to.shutdown().await;
                return Flow::Continue(());
            }
            Ok(count) => count,
            Err(_) => return Flow::Break(()),
        };
        let piece = buffer.get(..count).unwrap_or_default().to_vec();
        if let Some(line) = request_line(&piece) {
            locked(&shared.requests).push(line.clone());
            let plan = shared.plan.borrow().clone();
            exchange.send_modify(|exchange| {
                exchange.number += 1;
                exchange.line = line;
            });
            direction.begin();
            if let Fault::Answer(head, then) = direction.fault(&plan) {
                return answer(&mut *to_client.lock().await, head, then).await;
            }
        }
        if direction.pass(piece, &mut to).await.is_break() {
            return Flow::Break(());
        }
    }
}

async fn responses(
    mut from: OwnedReadHalf,
    to: &tokio::sync::Mutex<OwnedWriteHalf>,
    exchange: watch::Receiver<Exchange>,
    shared: &Shared,
) -> Flow {
    let mut direction = Direction::new(false, exchange, shared);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer);
        let read = if direction.kept.is_empty() {
            read.await
        } else if let Ok(read) = tokio::time::timeout(Duration::from_millis(50), read).await {
            read
        } else {
            if direction.flush(&mut *to.lock().await).await.is_break() {
                return Flow::Break(());
            }
            continue;
        };
        let count = match read {
            Ok(0) => {
                let mut to = to.lock().await;
                let _ = direction.flush(&mut to).await;
                let _ = to.shutdown().await;
                return Flow::Continue(());
            }
            Ok(count) => count,
            Err(_) => return Flow::Break(()),
        };
        let piece = buffer.get(..count).unwrap_or_default().to_vec();
        let mut to = to.lock().await;
        if direction.pass(piece, &mut to).await.is_break() {
            return Flow::Break(());
        }
    }
}

async fn answer(to: &mut OwnedWriteHalf, head: Bytes, then: Then) -> Flow {
    if to.write_all(&head).await.is_err() {
        return Flow::Break(());
    }
    match then {
        Then::Close => {}
        Then::Hold => std::future::pending().await,
        Then::Repeat(piece) => while to.write_all(&piece).await.is_ok() {},
    }
    Flow::Break(())
}

fn request_line(piece: &[u8]) -> Option<String> {
    let end = piece.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(piece.get(..end)?).ok()?;
    let is_head = line.ends_with(" HTTP/1.1")
        && ["GET ", "POST ", "PUT ", "DELETE ", "HEAD "].iter().any(|method| line.starts_with(method));
    is_head.then(|| line.to_owned())
}

/// One direction of one connection.
struct Direction<'a> {
    of_request: bool,
    exchange: watch::Receiver<Exchange>,
    plan: watch::Receiver<Arc<Plan>>,
    shared: &'a Shared,
    number: u64,
    /// Whether this exchange suffers, as settled at its beginning.
    struck: bool,
    passed: u64,
    kept: Vec<u8>,
    rewriter: Option<Rewriter>,
    editor: Option<ChunkEditor>,
}

impl<'a> Direction<'a> {
    fn new(of_request: bool, exchange: watch::Receiver<Exchange>, shared: &'a Shared) -> Self {
        Self {
            of_request,
            exchange,
            plan: shared.plan.subscribe(),
            shared,
            number: 0,
            struck: false,
            passed: 0,
            kept: Vec::new(),
            rewriter: None,
            editor: None,
        }
    }

    /// A new request or a new plan: everything counts from here.
    fn begin(&mut self) {
        let plan = self.plan.borrow_and_update().clone();
        let exchange = self.exchange.borrow_and_update().clone();
        self.number = exchange.number;
        self.passed = 0;
        self.rewriter = None;
        self.editor = None;
        let meant = plan.only.as_ref().is_none_or(|part| exchange.line.contains(part.as_str()));
        let own = if self.of_request { &plan.request } else { &plan.response };
        let harmless = matches!(own, Fault::Pass);
        // A made-up answer is struck by the request's side, which is where the engine is not asked.
        let counts = !harmless || (self.of_request && matches!(plan.response, Fault::Answer(..)));
        self.struck = meant
            && counts
            && match plan.times {
                Some(times) => self.shared.struck.fetch_add(1, Ordering::SeqCst) < times,
                None => {
                    self.shared.struck.fetch_add(1, Ordering::SeqCst);
                    true
                }
            };
    }

    fn fault(&self, plan: &Plan) -> Fault {
        match (self.struck, self.of_request, &plan.response) {
            (false, ..) => Fault::Pass,
            (true, true, Fault::Answer(..)) => plan.response.clone(),
            (true, true, _) => plan.request.clone(),
            (true, false, response) => response.clone(),
        }
    }

    async fn pass(&mut self, mut piece: Vec<u8>, to: &mut OwnedWriteHalf) -> Flow {
        if self.plan.has_changed().unwrap_or(false) || self.exchange.borrow().number != self.number {
            self.begin();
        }
        let plan = self.plan.borrow().clone();
        match self.fault(&plan) {
            Fault::Pass | Fault::Answer(..) => self.write(&piece, to).await,
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                self.write(&piece, to).await
            }
            Fault::Drip(bytes, pause) => {
                for part in piece.chunks(bytes.max(1)) {
                    if self.write(part, to).await.is_break() {
                        return Flow::Break(());
                    }
                    tokio::time::sleep(pause).await;
                }
                Flow::Continue(())
            }
            Fault::Split => {
                for byte in &piece {
                    if self.write(std::slice::from_ref(byte), to).await.is_break() {
                        return Flow::Break(());
                    }
                    tokio::task::yield_now().await;
                }
                Flow::Continue(())
            }
            Fault::Merge(bytes) => {
                self.kept.append(&mut piece);
                if self.kept.len() < bytes { Flow::Continue(()) } else { self.flush(to).await }
            }
            Fault::Cut(after, end) => {
                let left = usize::try_from(after.saturating_sub(self.passed)).unwrap_or(usize::MAX);
                let reached = piece.len() >= left;
                piece.truncate(left);
                if self.write(&piece, to).await.is_break() || (reached && end == End::Close) {
                    return Flow::Break(());
                }
                if reached {
                    let _ = to.shutdown().await;
                    std::future::pending::<()>().await;
                }
                Flow::Continue(())
            }
            Fault::Freeze(after) => {
                let left = usize::try_from(after.saturating_sub(self.passed)).unwrap_or(usize::MAX);
                let rest = piece.split_off(left.min(piece.len()));
                if self.write(&piece, to).await.is_break() {
                    return Flow::Break(());
                }
                if rest.is_empty() {
                    return Flow::Continue(());
                }
                let _ = self.plan.changed().await;
                self.begin();
                self.write(&rest, to).await
            }
            Fault::Garble(at) => {
                let index = at.checked_sub(self.passed).and_then(|index| usize::try_from(index).ok());
                if let Some(byte) = index.and_then(|index| piece.get_mut(index)) {
                    *byte ^= 0x55;
                }
                self.write(&piece, to).await
            }
            Fault::Chunk(number, edit) => {
                let editor = self.editor.get_or_insert_with(|| ChunkEditor::new(number, edit));
                let (edited, over) = editor.push(&piece);
                if self.write(&edited, to).await.is_break() || over { Flow::Break(()) } else { Flow::Continue(()) }
            }
            Fault::Rewrite(make) => {
                let piece = self.rewriter.get_or_insert_with(|| make())(piece);
                self.write(&piece, to).await
            }
        }
    }

    async fn flush(&mut self, to: &mut OwnedWriteHalf) -> Flow {
        let kept = std::mem::take(&mut self.kept);
        self.write(&kept, to).await
    }

    async fn write(&mut self, bytes: &[u8], to: &mut OwnedWriteHalf) -> Flow {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.passed += count;
        let total = if self.of_request { &self.shared.sent } else { &self.shared.received };
        total.fetch_add(count, Ordering::SeqCst);
        if to.write_all(bytes).await.is_ok() { Flow::Continue(()) } else { Flow::Break(()) }
    }
}
