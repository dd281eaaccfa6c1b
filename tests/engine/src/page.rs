//! A page without a window: the command layer in this process, on an engine that is there, asked as a page asks it.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_app::wire::{
    ContainerRow, EngineRow, FrameBody, Host, LogLine, RpcRequest, SessionPollRes, StreamId, WireError, log_flags,
};
use berth_app::{App, Config, Endpoint, EngineChoice};
use serde_json::{Value, json};

#[allow(missing_debug_implementations, reason = "nobody prints a whole page")]
/// What a page has been told, put together as a page does.
pub struct Page {
    app: Arc<App>,
    _background: Box<dyn Any + Send>,
    acks: BTreeMap<u64, u64>,
    log: Option<StreamId>,
    /// The engine's row.
    pub engine: Option<EngineRow>,
    /// Containers by id.
    pub containers: BTreeMap<String, ContainerRow>,
    /// Lines of the log without Berth's own notes.
    pub lines: Vec<LogLine>,
    /// Berth's own notes in the log.
    pub notes: Vec<String>,
    /// Lines of the log that were said to be left out.
    pub left_out: u64,
    /// The log ended, as it should or not.
    pub ended: bool,
}

impl Page {
    /// A page of the engine on `socket`, that keeps what Berth keeps in `data`. Needs a tokio runtime.
    ///
    /// # Panics
    /// When Berth cannot begin.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub async fn open(socket: &Path, data: PathBuf) -> Self {
        let engine = EngineChoice::Adopted(Endpoint::Unix(socket.to_owned()));
        let (app, background) = App::start(Config { host: Host::Browser, data: Some(data), engine }).unwrap();
        let page = Self {
            app,
            _background: Box::new(background),
            acks: BTreeMap::new(),
            log: None,
            engine: None,
            containers: BTreeMap::new(),
            lines: Vec::new(),
            notes: Vec::new(),
            left_out: 0,
            ended: false,
        };
        page.call("world_open", json!({})).await.unwrap();
        page
    }

    /// Calls a command.
    ///
    /// # Errors
    /// What the page would be shown.
    ///
    /// # Panics
    /// When the answer is no JSON.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub async fn call(&self, command: &str, payload: Value) -> Result<Value, WireError> {
        let request_id = format!("{command}-{}", std::process::id()).parse().ok();
        let client = "page".parse().unwrap();
        let request = RpcRequest { cmd: command.to_owned(), payload, client, request_id };
        self.app.dispatch(request).await.map(|text| serde_json::from_str(&text).unwrap())
    }

    /// Opens the log of a container, all that a page may ask for, and follows it.
    ///
    /// # Panics
    /// When it is refused.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub async fn open_log(&mut self, container: &str) {
        let payload = json!({ "container": { "engine": "adopted", "id": container }, "tail": 50_000, "follow": true });
        let opened = self.call("logs_open", payload).await.unwrap();
        self.log = Some(serde_json::from_value(opened).unwrap());
    }

    /// Asks for what is new and takes it in. False when there was nothing for a while.
    ///
    /// # Panics
    /// When the session has lost a stream.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub async fn poll(&mut self) -> bool {
        let acks: Vec<_> =
            self.acks.iter().map(|(stream, sequence)| json!({ "stream": stream, "sequence": sequence })).collect();
        let poll = json!({ "acks": acks, "maxBytes": 262_144, "waitMilliseconds": 1000 });
        let answer: SessionPollRes = serde_json::from_value(self.call("session_poll", poll).await.unwrap()).unwrap();
        assert!(answer.unknown.is_empty(), "the session has lost streams: {:?}", answer.unknown);
        let told = !answer.frames.is_empty();
        for frame in answer.frames {
            let last = self.acks.entry(frame.stream.0).or_default();
            assert_eq!(frame.sequence, *last + 1, "frames count up");
            *last = frame.sequence;
            self.apply(frame.body);
        }
        told
    }

    fn apply(&mut self, body: FrameBody) {
        match body {
            FrameBody::World(patch) => {
                if patch.reset {
                    self.containers.clear();
                }
                self.engine = patch.engines.into_iter().next().or(self.engine.take());
                self.containers.extend(patch.containers.into_iter().map(|row| (row.id.to_string(), row)));
                for gone in patch.containers_removed {
                    self.containers.remove(gone.id.as_str());
                }
            }
            FrameBody::Log(batch) => {
                for line in batch.lines {
                    if line.1 & log_flags::NOTE == 0 { self.lines.push(line) } else { self.notes.push(line.2) }
                }
            }
            FrameBody::Gap(gap) => self.left_out += gap.lines,
            FrameBody::End | FrameBody::Failed(_) => self.ended = true,
        }
    }
}
