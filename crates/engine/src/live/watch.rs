//! Keeps a store in step with an engine.
//!
//! Events are opened *first*, then containers are listed, then what events named meanwhile is looked at again: nothing
//! can fall between the list and the events. An event means "look at this container again" and nothing more; what the
//! engine answers to an inspect is the truth. A broken stream leaves the rows as last seen and starts over.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join, pending},
    stream::FuturesUnordered,
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    ApiVersion, Container, ContainerId, ContainerInspect, ContainerSummary, Docker, Endpoint, EngineInfo, Error, Event,
    EventKind, Filters, Link, ListContainers, Snapshot, SnapshotWriter, Store,
    decode::timestamp::now_millis,
    live::backoff::Backoff,
    live::queue::{Queue, Verdict},
};

/// How closely to watch. The defaults are right for a user interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Least time between two inspects of one container.
    pub debounce: Duration,
    /// Least time between two snapshots; the first change after a quiet time is published at once.
    pub publish_every: Duration,
    /// Most inspects at a time.
    pub inspects: usize,
    /// Time between two lists that check the rows against the engine.
    pub relist_every: Duration,
    /// Time without a word from the engine after which it is asked whether it is there.
    pub silence: Duration,
    /// Time in which it must answer that, and agree on a version when connecting.
    pub answer_within: Duration,
    /// Time of a healthy connection after which the next loss starts over with short waits.
    pub healthy_after: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(30),
            publish_every: Duration::from_millis(25),
            inspects: 8,
            relist_every: Duration::from_secs(300),
            silence: Duration::from_secs(60),
            answer_within: Duration::from_secs(10),
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// Keeps a watch going; dropping it ends the watch.
#[derive(Debug)]
pub struct WatchHandle {
    task: JoinHandle<()>,
    poke: Arc<Notify>,
}

impl WatchHandle {
    /// Tries to reach a lost engine now instead of when the current wait is over, and starts over with short waits.
    pub fn retry_now(&self) {
        self.poke.notify_waiters();
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the containers of an engine, reachable or not, until the handle is dropped. Must be called within a Tokio
/// runtime.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
/// # fn main() -> Ended { on_engine(example) }
/// # async fn example(docker: berth_engine::Docker) -> Ended {
/// use berth_engine::{WatchOptions, watch};
///
/// # let container = running(&docker, "doc-watch").await?;
/// let (store, _keeps_it_going) = watch(docker.clone(), WatchOptions::default());
/// let mut snapshots = store.subscribe();
/// let seen = snapshots.wait_for(|snapshot| snapshot.listed).await?.clone();
/// assert!(seen.containers.values().any(|container| container.name == "doc-watch"));
/// # docker.kill_container(&container, None).await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn watch(docker: Docker, options: WatchOptions) -> (Store, WatchHandle) {
    let (writer, store) = Store::new(Snapshot::default());
    let poke = Arc::new(Notify::new());
    let state = State {
        writer,
        containers: Arc::default(),
        listed: false,
        link: Link::Connecting,
        published: None,
        changed: false,
    };
    let task = tokio::spawn(run(docker, options, state, Arc::clone(&poke)));
    (store, WatchHandle { task, poke })
}

async fn run(docker: Docker, options: WatchOptions, mut state: State, poke: Arc<Notify>) {
    let mut backoff = Backoff::default();
    loop {
        let mut live = None;
        let Err(error) = follow(&docker, &options, &mut state, &mut live).await;
        docker.forget_version();
        if live.is_some_and(|since: Instant| since.elapsed() >= options.healthy_after) {
            backoff.reset();
        }
        if matches!(state.link, Link::Lost { .. }) {
            tracing::debug!(endpoint = %docker.endpoint(), %error, "the engine is still out of reach");
        } else {
            tracing::info!(endpoint = %docker.endpoint(), %error, "the engine is out of reach");
        }
        let wait = backoff.next(is_cheap(docker.endpoint(), &error), random());
        // Listens before anybody can see the loss, so that no poke that follows from it is missed.
        let mut poked = pin!(poke.notified());
        poked.as_mut().enable();
        state.lost(error);
        tokio::select! {
            () = sleep(wait) => {}
            () = poked => backoff.reset(),
        }
    }
}

fn is_cheap(endpoint: &Endpoint, error: &Error) -> bool {
    let refused = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    matches!((endpoint, error), (Endpoint::Unix(_), Error::Connect { source, .. }) if refused(source.kind()))
}

/// A number from 0 to 1; randomly seeded hashing saves a dependency where it need not be unguessable.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// What is known, and how it gets out.
struct State {
    writer: SnapshotWriter,
    containers: Arc<HashMap<ContainerId, Arc<Container>>>,
    listed: bool,
    link: Link,
    published: Option<Instant>,
    changed: bool,
}

impl State {
    fn publish(&mut self) {
        self.changed = false;
        self.published = Some(Instant::now());
        self.writer.publish(Snapshot {
            revision: 0,
            containers: Arc::clone(&self.containers),
            listed: self.listed,
            link: self.link.clone(),
        });
    }

    fn lost(&mut self, error: Error) {
        let error = Arc::new(error);
        self.link = match self.link {
            Link::Connecting => Link::Lost { since_ms: now_millis(), error, attempts: 1 },
            Link::Live { .. } => Link::Lost { since_ms: now_millis(), error, attempts: 0 },
            Link::Lost { since_ms, attempts, .. } => {
                Link::Lost { since_ms, error, attempts: attempts.saturating_add(1) }
            }
        };
        self.publish();
    }

    fn put(&mut self, mut row: Container) {
        if let Some(older) = self.containers.get(&row.id) {
            row.fill_from(older);
            if **older == row {
                return;
            }
        }
        Arc::make_mut(&mut self.containers).insert(row.id, Arc::new(row));
        self.changed = true;
    }

    fn remove(&mut self, id: &ContainerId) {
        if self.containers.contains_key(id) {
            Arc::make_mut(&mut self.containers).remove(id);
            self.changed = true;
        }
    }

    /// Swaps all rows at once, so that no row of before can stay by mistake. Gives back the order to inspect them in.
    fn swap(&mut self, list: Vec<ContainerSummary>) -> Vec<ContainerId> {
        let mut rows: Vec<Container> = list.into_iter().map(Container::from_summary).collect();
        // Stable: within running and others it stays the engine's order, newest first.
        rows.sort_by_key(|row| !row.state.is_alive());
        let ids = rows.iter().map(|row| row.id).collect();
        let filled = rows.into_iter().map(|mut row| {
            if let Some(older) = self.containers.get(&row.id) {
                row.fill_from(older);
            }
            (row.id, Arc::new(row))
        });
        self.containers = Arc::new(filled.collect());
        self.listed = true;
        ids
    }
}

/// A list that was asked for.
enum Listed {
    /// To replace the rows.
    Rows(Vec<ContainerSummary>, Option<Arc<EngineInfo>>),
    /// To check them.
    Check(Instant, Vec<ContainerSummary>),
}

type Task<T> = BoxFuture<'static, Result<T, Error>>;

/// One connection to the engine, from its events on until they break.
struct Session<'a> {
    docker: &'a Docker,
    options: &'a WatchOptions,
    state: &'a mut State,
    api: ApiVersion,
    queue: Queue,
    inspects: FuturesUnordered<BoxFuture<'static, (ContainerId, Result<ContainerInspect, Error>)>>,
    listing: Option<Task<Listed>>,
    late_info: Option<Task<EngineInfo>>,
    probe: Option<Task<()>>,
    heard: Instant,
    relist_at: Instant,
}

/// Follows the engine until it is lost. `live` becomes the moment at which rows were live.
async fn follow(
    docker: &Docker,
    options: &WatchOptions,
    state: &mut State,
    live: &mut Option<Instant>,
) -> Result<Infallible, Error> {
    let api = within(options.answer_within, "agreeing on a version", docker.negotiate()).await?;
    let filters = Filters::default().with("type", "container").with("type", "network");
    let mut events = within(options.answer_within, "opening events", docker.open_events(None, &filters)).await?;
    let now = Instant::now();
    let mut session = Session {
        docker,
        options,
        state,
        api,
        queue: Queue::new(options.debounce, options.inspects),
        inspects: FuturesUnordered::new(),
        listing: Some(list_rows(docker, true)),
        late_info: None,
        probe: None,
        heard: now,
        relist_at: now + options.relist_every,
    };
    loop {
        let wake = session.advance(live.is_some());
        tokio::select! {
            event = events.next() => match event {
                Some(event) => session.event(&event?),
                None => return Err(Error::Closed { what: "GET /events".to_owned() }),
            },
            Some((id, result)) = session.inspects.next() => session.inspected(id, result),
            listed = optional(&mut session.listing) => {
                session.listing = None;
                match listed? {
                    Listed::Rows(list, info) => {
                        live.get_or_insert_with(Instant::now);
                        session.rows(list, info);
                    }
                    Listed::Check(began, list) => session.check(began, list),
                }
            }
            info = optional(&mut session.late_info) => {
                session.late_info = None;
                session.told(info);
            }
            answer = optional(&mut session.probe) => {
                session.probe = None;
                answer?;
                session.heard = Instant::now();
            }
            () = sleep_until(wake) => {}
        }
    }
}

async fn optional<T>(task: &mut Option<Task<T>>) -> Result<T, Error> {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout { what: what.to_owned(), seconds: limit.as_secs() }),
    }
}

fn list_rows(docker: &Docker, with_info: bool) -> Task<Listed> {
    /// Some engines take seconds to tell of themselves; rows do not wait for that.
    const INFO_WITHIN: Duration = Duration::from_secs(1);
    let docker = docker.clone();
    async move {
        let all = ListContainers { all: true, ..ListContainers::default() };
        let info = async { if with_info { timeout(INFO_WITHIN, docker.info()).await.ok()?.ok() } else { None } };
        let (list, info) = join(docker.list_containers(&all), info).await;
        Ok(Listed::Rows(list?, info.map(Arc::new)))
    }
    .boxed()
}

impl Session<'_> {
    /// Does what is due; gives back when something is due again.
    fn advance(&mut self, live: bool) -> Instant {
        let now = Instant::now();
        if self.queue.is_crowded() {
            self.queue.clear();
            self.listing = Some(list_rows(self.docker, false));
        }
        if live {
            while let Some(id) = self.queue.next(now) {
                let docker = self.docker.clone();
                self.inspects.push(async move { (id, docker.inspect_container(&id.into()).await) }.boxed());
            }
        }
        let mut wake = self.heard + self.options.silence;
        if self.probe.is_some() {
            wake = now + self.options.silence;
        } else if wake <= now {
            self.ask();
            wake = now + self.options.silence;
        }
        if self.relist_at <= now {
            self.relist_at = now + self.options.relist_every;
            if self.listing.is_none() {
                self.listing = Some(self.list_to_check(now));
            }
        }
        wake = wake.min(self.relist_at);
        if live && let Some(due) = self.queue.next_due() {
            wake = wake.min(due);
        }
        if self.state.changed {
            let due = self.state.published.map_or(now, |at| at + self.options.publish_every);
            if due <= now { self.state.publish() } else { wake = wake.min(due) }
        }
        wake
    }

    fn list_to_check(&self, began: Instant) -> Task<Listed> {
        let docker = self.docker.clone();
        async move {
            let all = ListContainers { all: true, ..ListContainers::default() };
            Ok(Listed::Check(began, docker.list_containers(&all).await?))
        }
        .boxed()
    }

    /// Asks whether the engine is there. One question at a time: a frozen engine must not pile up connections.
    fn ask(&mut self) {
        if self.probe.is_none() {
            let docker = self.docker.clone();
            let limit = self.options.answer_within;
            self.probe = Some(async move { within(limit, "GET /_ping", docker.ping()).await }.boxed());
        }
    }

    fn event(&mut self, event: &Event) {
        self.heard = Instant::now();
        if let Some(id) = subject(event) {
            self.queue.touch(id, self.heard);
        }
    }

    fn inspected(&mut self, id: ContainerId, result: Result<ContainerInspect, Error>) {
        let now = Instant::now();
        match result {
            Ok(inspect) => {
                self.heard = now;
                if self.queue.finished(id, now, true) == Verdict::Apply {
                    self.state.put(Container::from_inspect(inspect));
                }
            }
            Err(error) if error.is_not_found() => {
                self.heard = now;
                if self.queue.finished(id, now, false) == Verdict::Apply {
                    self.state.remove(&id);
                }
            }
            Err(error) => {
                if error.is_unreachable() {
                    self.ask();
                }
                if self.queue.failed(id, now, Duration::from_secs(1)) {
                    tracing::debug!(%id, %error, "a container could not be inspected; trying again");
                } else {
                    tracing::warn!(%id, %error, "a container could not be inspected; its row may be old");
                }
            }
        }
    }

    fn rows(&mut self, list: Vec<ContainerSummary>, info: Option<Arc<EngineInfo>>) {
        self.heard = Instant::now();
        let ids = self.state.swap(list);
        self.queue.relisted(&ids);
        if !self.state.link.is_live() {
            if info.is_none() {
                let docker = self.docker.clone();
                self.late_info = Some(async move { docker.info().await }.boxed());
            }
            let info = info.unwrap_or_default();
            self.state.link = Link::Live { since_ms: now_millis(), api: self.api, info };
            tracing::info!(endpoint = %self.docker.endpoint(), api = %self.api, containers = ids.len(), "the engine is live");
        }
        self.state.publish();
    }

    fn told(&mut self, told: Result<EngineInfo, Error>) {
        match told {
            Ok(told) => {
                if let Link::Live { info, .. } = &mut self.state.link {
                    *info = Arc::new(told);
                    self.state.changed = true;
                }
            }
            Err(error) => tracing::warn!(%error, "the engine tells nothing of itself"),
        }
    }

    /// Compares a fresh list with rows that nothing happened to since; any difference means that events were lost.
    fn check(&mut self, began: Instant, list: Vec<ContainerSummary>) {
        let now = Instant::now();
        self.heard = now;
        let listed: HashMap<ContainerId, Container> =
            list.into_iter().map(Container::from_summary).map(|row| (row.id, row)).collect();
        let rows = &self.state.containers;
        let unequal = |(id, row): (&ContainerId, &Container)| rows.get(id).is_none_or(|own| own.differs_from(row));
        let mut drift: Vec<ContainerId> =
            listed.iter().filter(|(id, row)| unequal((*id, *row))).map(|(id, _)| *id).collect();
        drift.extend(rows.keys().filter(|id| !listed.contains_key(*id)));
        drift.retain(|id| self.queue.is_quiet_since(id, began));
        if drift.is_empty() {
            return;
        }
        tracing::warn!(containers = drift.len(), "rows had drifted from the engine; looking at them again");
        for id in drift {
            self.queue.touch(id, now);
        }
    }
}

/// The container that an event asks to look at.
fn subject(event: &Event) -> Option<ContainerId> {
    match event.kind {
        EventKind::Container if !is_noise(event.verb()) => event.id.parse().ok(),
        EventKind::Network if matches!(event.verb(), "connect" | "disconnect") => {
            event.attributes.get("container")?.parse().ok()
        }
        _ => None,
    }
}

/// Events that change nothing of a row; a health check alone makes three of them every few seconds.
fn is_noise(verb: &str) -> bool {
    verb.starts_with("exec")
        || matches!(
            verb,
            "archive-path"
                | "attach"
                | "commit"
                | "copy"
                | "detach"
                | "export"
                | "extract-to-dir"
                | "mount"
                | "resize"
                | "top"
                | "unmount"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, action: &str, id: &str, container: &str) -> Event {
        let attributes = [("container".to_owned(), container.to_owned())].into();
        Event { kind, action: action.to_owned(), id: id.to_owned(), attributes, time_nano: 0 }
    }

    #[test]
    fn events_name_the_container_to_look_at() {
        let (id, other) = ("a".repeat(64), "b".repeat(64));
        let named = |kind, action| subject(&event(kind, action, &id, &other)).map(|id| id.to_string());
        for action in ["create", "start", "die", "destroy", "rename", "oom", "health_status: healthy", "update"] {
            assert_eq!(named(EventKind::Container, action), Some(id.clone()), "{action}");
        }
        for action in ["exec_create: sh -c true", "exec_start: x", "exec_die", "top", "resize", "attach"] {
            assert_eq!(named(EventKind::Container, action), None, "{action}");
        }
        assert_eq!(named(EventKind::Network, "connect"), Some(other.clone()));
        assert_eq!(named(EventKind::Network, "destroy"), None);
        assert_eq!(named(EventKind::Image, "delete"), None);
        assert!(subject(&event(EventKind::Container, "start", "../../version", "")).is_none());
    }

    #[test]
    fn only_a_refused_unix_socket_is_cheap() {
        let unix: Endpoint = "/x".parse().unwrap();
        let tcp: Endpoint = "tcp://host:1".parse().unwrap();
        let connect = |kind: io::ErrorKind| Error::Connect { endpoint: unix.clone(), source: kind.into() };
        assert!(is_cheap(&unix, &connect(io::ErrorKind::NotFound)));
        assert!(!is_cheap(&tcp, &connect(io::ErrorKind::ConnectionRefused)));
        assert!(!is_cheap(&unix, &connect(io::ErrorKind::PermissionDenied)));
        assert!(!is_cheap(&unix, &Error::Closed { what: String::new() }));
        assert!((0.0..=1.0).contains(&random()));
    }
}
