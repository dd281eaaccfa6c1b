//! What happens on an engine, as it happens.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};

use crate::{
    Docker, Error, Filters,
    api::options::options,
    decode::json_stream::JsonStream,
    decode::timestamp,
    http::Call,
    model::{model, nullable},
    operation::Operation,
    transport::StreamBody,
};

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A container; the id of the event is its id.
    Container,
    /// An image; the id is its name or its id.
    Image,
    /// A volume; the id is its name.
    Volume,
    /// A network; the id is its id, and the attribute `container` tells whom it concerns.
    Network,
    /// The engine itself.
    Daemon,
    /// A plugin.
    Plugin,
    /// A node of a swarm.
    Node,
    /// A service of a swarm.
    Service,
    /// A secret of a swarm.
    Secret,
    /// A config of a swarm.
    Config,
    /// A builder.
    Builder,
    /// Anything else, in the engine's word.
    Other(String),
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Daemon => "daemon",
            Self::Plugin => "plugin",
            Self::Node => "node",
            Self::Service => "service",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Builder => "builder",
            Self::Other(word) => word,
        })
    }
}

/// One event. Engines drop events of slow readers without a word: an event is a hint to look, and not the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub kind: EventKind,
    /// What happened, in Docker's words whatever the engine; some have a detail, as in `health_status: healthy`.
    pub action: String,
    /// Id or name of what it is about.
    pub id: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
    /// When, in nanoseconds since the epoch by the engine's clock.
    pub time_nano: i64,
}

impl Event {
    /// The action without its detail.
    #[must_use]
    pub fn verb(&self) -> &str {
        self.action.split_once(':').map_or(self.action.as_str(), |(verb, _)| verb)
    }
}

model! {
    /// An event as it is sent.
    pub struct RawEvent {
        #[serde(rename = "Type")]
        pub kind: String,
        pub action: String,
        pub actor: RawActor,
        #[serde(rename = "timeNano")]
        pub time_nano: i64,
        /// The old form of `action` and of the actor's id.
        #[serde(rename = "status")]
        pub status: String,
        #[serde(rename = "id")]
        pub id: String,
    }

    /// Whom it is about.
    pub struct RawActor {
        #[serde(rename = "ID")]
        pub id: String,
        pub attributes: BTreeMap<String, String>,
    }
}

impl From<RawEvent> for Event {
    fn from(raw: RawEvent) -> Self {
        let kind = match raw.kind.as_str() {
            // Engines of before API 1.22 name no kind, and tell of containers and images alone.
            "container" | "" => EventKind::Container,
            "image" => EventKind::Image,
            "volume" => EventKind::Volume,
            "network" => EventKind::Network,
            "daemon" => EventKind::Daemon,
            "plugin" => EventKind::Plugin,
            "node" => EventKind::Node,
            "service" => EventKind::Service,
            "secret" => EventKind::Secret,
            "config" => EventKind::Config,
            "builder" => EventKind::Builder,
            _ => EventKind::Other(raw.kind),
        };
        let action = if raw.action.is_empty() { raw.status } else { raw.action };
        let podman = match (&kind, action.as_str()) {
            (EventKind::Container, "died") => Some("die"),
            (EventKind::Container | EventKind::Volume | EventKind::Network, "remove") => Some("destroy"),
            (EventKind::Image, "remove") => Some("delete"),
            _ => None,
        };
        Self {
            kind,
            action: podman.map_or(action, str::to_owned),
            id: if raw.actor.id.is_empty() { raw.id } else { raw.actor.id },
            attributes: raw.actor.attributes,
            time_nano: raw.time_nano,
        }
    }
}

/// An open stream of events.
pub(crate) struct EventStream {
    body: StreamBody,
    values: JsonStream,
    ready: VecDeque<Event>,
    ended: bool,
}

impl EventStream {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.body.poll_data(cx)) {
                Some(data) => {
                    self.values.push(&data?);
                    while let Some(raw) = self.values.next::<RawEvent>(self.body.what())? {
                        self.ready.push_back(raw.into());
                    }
                }
                None => {
                    self.ended = true;
                    self.values.finish(self.body.what())?;
                }
            }
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        let polled = stream.poll_event(cx);
        if let Poll::Ready(Some(Err(_))) = polled {
            stream.ended = true;
            stream.ready.clear();
        }
        polled
    }
}

options! {
    /// Which events to hear of.
    pub struct EventOptions {
        /// From this moment on, in nanoseconds since the epoch by the engine's clock; from now on when `None`.
        pub since: Option<i64>,
        /// Up to this moment, after which the stream ends; without an end when `None`. One that has passed already asks
        /// for what the engine remembers.
        pub until: Option<i64>,
        /// Only of these kinds; of all when empty.
        pub kinds: Vec<EventKind>,
        /// Only these actions, such as `start`; all when empty.
        pub actions: Vec<String>,
        /// Further filters: `config`, `container`, `daemon`, `image`, `label`, `network`, `node`, `plugin`, `scope`,
        /// `secret`, `service` and `volume`.
        pub filters: Filters,
    }
}

impl EventOptions {
    fn filters_of_all(&self) -> Filters {
        let kinds = self.kinds.iter().map(|kind| ("type", kind.to_string()));
        let actions = self.actions.iter().map(|action| ("event", action.clone()));
        kinds.chain(actions).fold(self.filters.clone(), |filters, (key, value)| filters.with(key, value))
    }
}

impl Docker {
    /// What happens on the engine, as [`Docker::events`], with a choice of what and until when. API: `SystemEvents`.
    ///
    /// # Errors
    /// As [`Docker::events`].
    #[must_use]
    pub fn events_of(&self, options: &EventOptions) -> BoxStream<'static, Result<Event, Error>> {
        let (docker, options) = (self.clone(), options.clone());
        let open = async move {
            let filters = options.filters_of_all();
            docker.open_events_until(options.since, options.until, &filters).await
        };
        stream::once(open).try_flatten().boxed()
    }

    /// What happens on the engine from now on, or from `since` (nanoseconds since the epoch by the engine's clock) as
    /// far back as the engine remembers, which is 256 events of this run of it. Ends when the engine ends it; dropping
    /// the stream closes its connection. API: `SystemEvents`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// use std::time::{SystemTime, UNIX_EPOCH};
    ///
    /// use futures_util::StreamExt as _;
    ///
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::Filters;
    ///
    /// let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    /// # let container = running(&docker, "doc-events").await?;
    /// let mut events = docker.events(Some(i64::try_from(since)?), &Filters::default().with("container", "doc-events"));
    /// let first = events.next().await.ok_or("the engine ended")??;
    /// assert_eq!(first.verb(), "create");
    /// # docker.kill_container(&container, None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream yields one error and then ends: whatever a call may fail with, [`Error::Closed`] if it ends within
    /// an event, [`Error::TooLarge`] if an event is longer than 1 MiB.
    #[must_use]
    pub fn events(&self, since: Option<i64>, filters: &Filters) -> BoxStream<'static, Result<Event, Error>> {
        let docker = self.clone();
        let filters = filters.clone();
        stream::once(async move { docker.open_events(since, &filters).await }).try_flatten().boxed()
    }

    /// Opens the stream: when this returns, the engine has subscribed it.
    pub(crate) async fn open_events(&self, since: Option<i64>, filters: &Filters) -> Result<EventStream, Error> {
        self.open_events_until(since, None, filters).await
    }

    async fn open_events_until(
        &self,
        since: Option<i64>,
        until: Option<i64>,
        filters: &Filters,
    ) -> Result<EventStream, Error> {
        let mut call = Call::new(Operation::SystemEvents, []);
        for (name, moment) in [("since", since), ("until", until)] {
            if let Some(moment) = moment {
                call = call.query(name, timestamp::as_parameter(moment));
            }
        }
        let (_, body) = self.open(filters.apply(call)).await?;
        Ok(EventStream { body, values: JsonStream::default(), ready: VecDeque::new(), ended: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        serde_json::from_str::<RawEvent>(text).unwrap().into()
    }

    #[test]
    fn reads_dockers_events() {
        let text = r#"{"status":"health_status: healthy","id":"abc","from":"nginx","Type":"container",
            "Action":"health_status: healthy","Actor":{"ID":"abc","Attributes":{"name":"web"}},"scope":"local",
            "time":1709210096,"timeNano":1709210096123456789}"#;
        let event = event(text);
        assert_eq!(
            (event.kind.clone(), event.verb(), event.id.as_str()),
            (EventKind::Container, "health_status", "abc")
        );
        assert_eq!((event.attributes["name"].as_str(), event.time_nano), ("web", 1_709_210_096_123_456_789));
    }

    #[test]
    fn podmans_words_become_dockers() {
        for (kind, theirs, ours) in [
            ("container", "died", "die"),
            ("container", "remove", "destroy"),
            ("volume", "remove", "destroy"),
            ("image", "remove", "delete"),
            ("container", "start", "start"),
        ] {
            let event =
                event(&format!(r#"{{"Type":"{kind}","Action":"{theirs}","Actor":{{"ID":"x","Attributes":null}}}}"#));
            assert_eq!(event.action, ours, "{kind} {theirs}");
        }
    }

    #[test]
    fn options_become_filters() {
        let options = EventOptions::default()
            .kinds([EventKind::Network, EventKind::Other("pod".into())])
            .actions(["create".to_owned()]);
        let expected = Filters::default().with("type", "network").with("type", "pod").with("event", "create");
        assert_eq!(options.filters_of_all(), expected);
    }

    #[test]
    fn the_old_form_and_strange_kinds_are_read() {
        let old = event(r#"{"status":"start","id":"abc","from":"nginx","time":1}"#);
        assert_eq!((old.kind, old.action.as_str(), old.id.as_str()), (EventKind::Container, "start", "abc"));
        assert_eq!(event(r#"{"Type":"secret"}"#).kind, EventKind::Secret);
        assert_eq!(event(r#"{"Type":"pod"}"#).kind, EventKind::Other("pod".into()));
    }
}
