#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod forwarding;
mod holding;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::{EngineSocket, Gate, Serving, Settings, UnixEngine};

/// Only a bound against hanging.
const DEADLINE: Duration = Duration::from_secs(60);

/// A served socket and, behind it, an engine that does what the test says.
struct Ground {
    folder: TempDir,
    gate: watch::Sender<Gate>,
    serving: Serving,
    engine: UnixListener,
}

/// Holds for ever, and counts the test's own connections.
fn patient() -> Settings {
    Settings { hold: Duration::from_secs(3600), uncounted: None, ..Settings::default() }
}

fn starting() -> Gate {
    Gate::Starting { stage: "booting".to_owned() }
}

fn closed() -> Gate {
    Gate::Closed { message: "the engine was stopped; start it".to_owned() }
}

impl Ground {
    async fn open() -> Self {
        let ground = Self::new(starting(), patient()).await;
        ground.open_gate();
        ground
    }

    async fn new(gate: Gate, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let gate = watch::Sender::new(gate);
        let socket = EngineSocket::bind(&folder.path().join("docker.sock")).await.unwrap();
        let serving = socket.serve(gate.subscribe(), settings).unwrap();
        Self { folder, gate, serving, engine }
    }

    fn open_gate(&self) {
        self.gate.send_replace(Gate::Open(Arc::new(UnixEngine(self.engine_path()))));
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    fn engine_path(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    async fn client(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    /// The engine's end of the next connection.
    async fn accept(&self) -> UnixStream {
        within(self.engine.accept()).await.unwrap().0
    }

    /// Both ends of a connection that is let through.
    async fn pair(&self) -> (UnixStream, UnixStream) {
        (self.client().await, self.accept().await)
    }

    /// Returns when so many connections are open.
    async fn connections(&self, count: usize) {
        let mut activity = self.serving.activity();
        within(activity.wait_for(|activity| activity.connections == count)).await.unwrap();
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.unwrap()
}

/// Everything up to the end, which must be an orderly one.
async fn rest(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

async fn exactly(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}
