//! What the engine tells while it moves images: one event for each thing it says, and their sum.

use std::collections::HashMap;

use futures_util::{Stream, StreamExt as _, future};
use serde_json::Value;

use crate::{Docker, Error, http::Call, reference::Digest};

/// Longest text that is taken from one message, in bytes.
const TEXT_CAP: usize = 16 * 1024;

/// Layers that a [`PullProgress`] keeps apart.
const LAYERS: usize = 1024;

/// The most a transfer can have done before it has ended: more layers may turn up.
const NEARLY: f64 = 0.99;

/// Digits of the shortest form of a layer's id.
const SHORT_ID: usize = 12;

/// Where one layer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerPhase {
    /// Known, nothing fetched yet.
    PullingFsLayer,
    /// Waits for its turn.
    Waiting,
    /// Is being fetched.
    Downloading,
    /// Its digest is being checked.
    Verifying,
    /// Is there, packed.
    DownloadComplete,
    /// Is being unpacked.
    Extracting,
    /// Done.
    PullComplete,
    /// The engine had it before.
    AlreadyExists,
    /// Is about to be sent.
    Preparing,
    /// Is being sent.
    Pushing,
    /// Sent.
    Pushed,
    /// The registry took it from this other repository of its own.
    MountedFrom(String),
    /// The registry had it before.
    LayerAlreadyExists,
    /// Is being read from an archive.
    Loading,
    /// A transfer broke and begins again.
    Retrying {
        /// In so many seconds.
        seconds: u32,
    },
    /// What no version known to this client says, in the engine's words.
    Other(String),
}

impl LayerPhase {
    /// Reads the engine's words.
    #[must_use]
    pub fn from_status(status: &str) -> Self {
        match status {
            "Pulling fs layer" => Self::PullingFsLayer,
            "Waiting" => Self::Waiting,
            "Downloading" => Self::Downloading,
            "Verifying Checksum" => Self::Verifying,
            "Download complete" => Self::DownloadComplete,
            "Extracting" => Self::Extracting,
            "Pull complete" => Self::PullComplete,
            "Already exists" => Self::AlreadyExists,
            "Preparing" => Self::Preparing,
            "Pushing" => Self::Pushing,
            "Pushed" => Self::Pushed,
            "Layer already exists" => Self::LayerAlreadyExists,
            "Loading layer" => Self::Loading,
            _ => Self::from_phrase(status),
        }
    }

    fn from_phrase(status: &str) -> Self {
        if let Some(repository) = status.strip_prefix("Mounted from ") {
            return Self::MountedFrom(repository.to_owned());
        }
        let retry = status.strip_prefix("Retrying in ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        match retry {
            Some(seconds) => Self::Retrying { seconds },
            None => Self::Other(status.to_owned()),
        }
    }

    /// Nothing more will happen to the layer.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::PullComplete | Self::AlreadyExists | Self::Pushed | Self::MountedFrom(_) | Self::LayerAlreadyExists
        )
    }

    /// All of its bytes were moved.
    fn is_transferred(&self) -> bool {
        self.is_final() || matches!(self, Self::Verifying | Self::DownloadComplete | Self::Extracting)
    }

    /// Its numbers count bytes that are moved, not bytes that are unpacked.
    fn counts_transfer(&self) -> bool {
        !matches!(self, Self::Extracting | Self::Retrying { .. })
    }
}

/// What became of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEvent {
    /// Id of the layer, shortened by the engine.
    pub id: String,
    /// Where it stands.
    pub phase: LayerPhase,
    /// Bytes of this phase that are done, where the engine counts.
    pub current: Option<u64>,
    /// Bytes of this phase, where the engine knows.
    pub total: Option<u64>,
}

/// One thing the engine said while it pulled, pushed or loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferEvent {
    /// A layer went on.
    Layer(LayerEvent),
    /// The digest of what was pulled.
    Digest(Digest),
    /// A tag is in the registry. Docker says it twice.
    Pushed {
        /// The tag.
        tag: String,
        /// Digest of its manifest.
        digest: Digest,
        /// Size of its manifest in bytes.
        size: u64,
    },
    /// An image of an archive is there: its name, or its id if it has none.
    Loaded(String),
    /// A pull ended well.
    Finished {
        /// Something was fetched; false if the engine had it all.
        changed: bool,
        /// The engine's words.
        text: String,
    },
    /// Anything else, in the engine's words.
    Note {
        /// What it is about, such as a tag; may be empty.
        id: String,
        /// The words.
        text: String,
    },
}

/// One object of a stream, whoever sends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) stream: String,
    pub(crate) current: Option<u64>,
    pub(crate) total: Option<u64>,
    pub(crate) aux: Option<Value>,
}

impl Message {
    /// Takes what is understood and leaves the rest. An error that the engine reports is one.
    pub(crate) fn read(mut value: Value) -> Result<Self, Error> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(bounded).unwrap_or_default();
        let detail = text(value.pointer("/errorDetail/message"));
        let error = if detail.trim().is_empty() { text(value.get("error")) } else { detail };
        let says_error = !error.trim().is_empty() || value.get("errorDetail").is_some_and(Value::is_object);
        if says_error {
            let error = error.trim();
            let error = if error.is_empty() { "The engine failed without saying why" } else { error };
            return Err(Error::Stream(error.to_owned()));
        }
        let number = |name: &str| value.get("progressDetail")?.get(name)?.as_u64();
        Ok(Self {
            id: text(value.get("id")),
            status: text(value.get("status")),
            stream: text(value.get("stream")),
            current: number("current"),
            total: number("total").filter(|total| *total > 0),
            aux: value.get_mut("aux").map(Value::take).filter(|aux| !aux.is_null()),
        })
    }

    /// What it says of a transfer; `None` if nothing.
    pub(crate) fn transfer(self) -> Option<TransferEvent> {
        if let Some(pushed) = self.aux.as_ref().and_then(pushed) {
            return Some(pushed);
        }
        let text = if self.status.is_empty() { self.stream.trim() } else { self.status.trim() };
        if text.is_empty() {
            return None;
        }
        for start in ["Loaded image: ", "Loaded image ID: "] {
            if let Some(name) = text.strip_prefix(start) {
                return Some(TransferEvent::Loaded(name.trim().to_owned()));
            }
        }
        if let Some(digest) = text.strip_prefix("Digest: ").and_then(|digest| digest.parse().ok()) {
            return Some(TransferEvent::Digest(digest));
        }
        if let Some(pushed) = pushed_line(text) {
            return Some(pushed);
        }
        if let Some(end) = text.strip_prefix("Status: ") {
            let changed = !end.starts_with("Image is up to date");
            return Some(TransferEvent::Finished { changed, text: end.to_owned() });
        }
        let phase = LayerPhase::from_status(text);
        let names_layer = self.id.len() >= SHORT_ID && self.id.bytes().all(|b| b.is_ascii_hexdigit());
        if !self.id.is_empty() && (names_layer || !matches!(phase, LayerPhase::Other(_))) {
            let Self { id, current, total, .. } = self;
            return Some(TransferEvent::Layer(LayerEvent { id, phase, current, total }));
        }
        Some(TransferEvent::Note { text: text.to_owned(), id: self.id })
    }
}

fn pushed(aux: &Value) -> Option<TransferEvent> {
    let digest = aux.get("Digest")?.as_str()?.parse().ok()?;
    let tag = aux.get("Tag").and_then(Value::as_str).map(bounded).unwrap_or_default();
    Some(TransferEvent::Pushed { tag, digest, size: aux.get("Size").and_then(Value::as_u64).unwrap_or_default() })
}

/// `1: digest: sha256:… size: 528`, all that Podman says.
fn pushed_line(text: &str) -> Option<TransferEvent> {
    let (tag, rest) = text.split_once(": digest: ")?;
    let (digest, size) = rest.split_once(" size: ")?;
    Some(TransferEvent::Pushed { tag: tag.to_owned(), digest: digest.parse().ok()?, size: size.parse().ok()? })
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(TEXT_CAP);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// The messages of a call. The first error, the engine's or the connection's, is the last item.
pub(crate) fn messages(docker: &Docker, call: Call) -> impl Stream<Item = Result<Message, Error>> + Send + use<> {
    docker.values::<Value>(call).map(|value| Message::read(value?)).scan(false, |failed, message| {
        let next = (!*failed).then_some(message);
        *failed |= matches!(next, Some(Err(_)));
        future::ready(next)
    })
}

/// The transfer events of a call.
pub(crate) fn transfer(docker: &Docker, call: Call) -> impl Stream<Item = Result<TransferEvent, Error>> + Send + use<> {
    messages(docker, call).filter_map(|message| future::ready(message.map(Message::transfer).transpose()))
}

/// One layer in a [`PullProgress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// Id of the layer, shortened by the engine.
    pub id: String,
    /// Where it stands.
    pub phase: LayerPhase,
    /// Bytes fetched or sent. Never falls, not even when a transfer begins again.
    pub done: u64,
    /// Bytes to fetch or to send, 0 while unknown. Never falls.
    pub total: u64,
    /// Bytes unpacked. Never falls.
    pub extracted: u64,
}

/// The sum of the events of a pull, a push or a load. Its numbers never go backwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PullProgress {
    layers: Vec<LayerProgress>,
    places: HashMap<String, usize>,
    fraction: f64,
    /// Digest of the image, once the engine has told it.
    pub digest: Option<Digest>,
    /// How a pull ended: true if something was fetched.
    pub changed: Option<bool>,
}

impl PullProgress {
    /// Takes in one event.
    pub fn apply(&mut self, event: &TransferEvent) {
        match event {
            TransferEvent::Layer(layer) => self.layer(layer),
            TransferEvent::Digest(digest) => self.digest = Some(digest.clone()),
            TransferEvent::Pushed { digest, .. } => {
                self.digest = Some(digest.clone());
                self.fraction = 1.0;
            }
            TransferEvent::Finished { changed, .. } => {
                self.changed = Some(*changed);
                self.fraction = 1.0;
            }
            TransferEvent::Loaded(_) => self.fraction = 1.0,
            TransferEvent::Note { .. } => {}
        }
    }

    /// The layers in the order in which they were first heard of; at most 1024 of them.
    #[must_use]
    pub fn layers(&self) -> &[LayerProgress] {
        &self.layers
    }

    /// Bytes moved.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.done))
    }

    /// Bytes to move, as far as the engine has told.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.total))
    }

    /// How much is done, from 0 to 1, and 1 only once the engine has said that it ended well, which Podman does not say of
    /// a pull. Stays where it is while newly found layers make the whole larger.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.fraction
    }

    fn layer(&mut self, event: &LayerEvent) {
        let place = match self.places.get(&event.id) {
            Some(place) => *place,
            None if self.layers.len() < LAYERS => {
                self.places.insert(event.id.clone(), self.layers.len());
                let phase = event.phase.clone();
                self.layers.push(LayerProgress { id: event.id.clone(), phase, done: 0, total: 0, extracted: 0 });
                self.layers.len() - 1
            }
            None => return,
        };
        let Some(layer) = self.layers.get_mut(place) else { return };
        layer.phase = event.phase.clone();
        if event.phase.counts_transfer() {
            layer.total = layer.total.max(event.total.unwrap_or_default());
            layer.done = layer.done.max(event.current.unwrap_or_default());
            // Some engines count the bytes of a compressed stream beyond its announced size.
            layer.total = if layer.total == 0 { 0 } else { layer.total.max(layer.done) };
        }
        if event.phase.is_transferred() {
            layer.done = layer.done.max(layer.total);
        }
        if event.phase == LayerPhase::Extracting {
            layer.extracted = layer.extracted.max(event.current.unwrap_or_default());
        }
        if event.phase == LayerPhase::PullComplete {
            layer.extracted = layer.extracted.max(layer.total);
        }
        self.advance();
    }

    #[expect(clippy::cast_precision_loss, reason = "a part of a whole on a screen")]
    fn advance(&mut self) {
        // While sizes are missing nobody can tell how much of the whole this is.
        let unknown = self.layers.iter().any(|layer| layer.total == 0 && !layer.phase.is_transferred());
        let total = self.total();
        if unknown || total == 0 {
            return;
        }
        let now = self.done() as f64 / total as f64;
        self.fraction = self.fraction.max(now.clamp(0.0, NEARLY));
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
