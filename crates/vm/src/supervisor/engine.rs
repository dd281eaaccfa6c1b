//! The engine's life as its supervisor sees it: launches guests, follows what they tell, and decides its state.

mod idle;
mod image;
mod way_out;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::journal::{Journal, log_tail};
use crate::appliance::Appliance;
use crate::backend::network::WayOut;
use crate::backend::{Condition, EngineSettings, Guest, GuestEvent, Identities, Pace, ServiceState, Tools, Upkeep};
use crate::paths::EnginePaths;
use crate::ping;
use crate::ports::{Ports, Reach};
use crate::socket::{Activity, Gate, OpenFiles};
use crate::status::{AcceleratorStatus, Failure, State, Versions};
use idle::Idle;
pub(super) use image::Images;
use image::Keeping;
use way_out::Network;

/// An earlier guest that still stops its containers is waited for.
const WAIT_DEADLINE: Duration = Duration::from_secs(100);
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const PING_PATIENCE: Duration = Duration::from_secs(5);
const PING_PAUSE: Duration = Duration::from_millis(200);
const HEALTH_PAUSE: Duration = Duration::from_secs(10);
/// Unanswered pings in a row after which the engine is said not to answer.
const MISSES: u32 = 3;
const RELAUNCHES: usize = 3;
const RELAUNCH_WINDOW: Duration = Duration::from_secs(600);
const LOG_LINES: usize = 200;
/// Warnings that are shown of one guest: it may give as many as it likes.
const WARNINGS: usize = 20;

/// What the supervisor's own tasks tell it.
enum Note {
    Answers(Box<Versions>),
    /// A health check: whether it was answered.
    Checked(bool),
    /// The way out exists, or why it does not.
    Network(Option<String>),
    /// The image that works is kept, or why it is not.
    Kept(Option<String>),
}

/// What an engine is run with.
pub(super) struct Given {
    pub(super) images: Images,
    pub(super) settings: EngineSettings,
    /// Who is who in an engine without root.
    pub(super) identities: Option<Identities>,
    /// Where ports are asked for from namespaces of this kernel.
    pub(super) listener: Arc<UnixListener>,
    pub(super) open_files: OpenFiles,
    /// What machines are made with.
    pub(super) tools: Tools,
    /// Who uses the engine.
    pub(super) activity: watch::Receiver<Activity>,
    /// How long it runs without being used.
    pub(super) idle_after: Option<Duration>,
    /// Somebody wants it awake without connecting to it.
    pub(super) wake: Arc<Notify>,
}

pub(super) struct Engine<'a> {
    paths: &'a EnginePaths,
    journal: &'a Journal,
    gate: &'a watch::Sender<Gate>,
    given: Given,
    stopping: watch::Receiver<bool>,
    way_out: Option<WayOut>,
    /// What can be had done in the present guest, for whoever is asked to.
    upkeep: watch::Sender<Option<Upkeep>>,
    relaunches: VecDeque<Instant>,
    idle: Idle,
}

/// One guest and what is known about it.
struct Life {
    guest: Guest,
    appliance: Appliance,
    /// What keeps its image, since it has answered once.
    keeping: Option<Keeping>,
    notes: mpsc::Sender<Note>,
    ports: Option<Ports>,
    network: Option<Network>,
    pinging: Option<AbortOnDrop>,
    network_known: bool,
    network_warning: Option<String>,
    warnings: Vec<String>,
    /// What is wrong at the moment.
    conditions: BTreeMap<Condition, String>,
    answers: bool,
    /// Why it does not answer, once it has.
    trouble: Option<String>,
    misses: u32,
    failure: Option<Told>,
    pace: Pace,
    /// When its stages began.
    since: Instant,
    deadline: Instant,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a guest says went wrong for good.
struct Told {
    stage: String,
    cause: String,
    fix: Option<String>,
    log: Vec<String>,
    outside: bool,
}

impl std::fmt::Display for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.stage, self.cause)
    }
}

impl Life {
    /// The present stage gets its time once more, within that of all stages.
    fn progress(&mut self) {
        let deadline = (Instant::now() + self.pace.stage).min(self.since + self.pace.stages);
        self.deadline = self.deadline.max(deadline);
    }
}

enum End {
    Asked,
    /// Nobody uses it.
    Unused,
    Crashed {
        cause: String,
        /// What it said can be done, if it said anything.
        fix: Option<String>,
    },
    Failed {
        failure: Failure,
        /// It has nothing to do with what was started.
        outside: bool,
    },
    /// A new system image does not work, at least this time.
    Unproven,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        paths: &'a EnginePaths,
        journal: &'a Journal,
        gate: &'a watch::Sender<Gate>,
        given: Given,
        stopping: watch::Receiver<bool>,
        upkeep: watch::Sender<Option<Upkeep>>,
    ) -> Self {
        let outside = given.settings.backend.features().network_from_outside;
        let way_out = outside.then(|| WayOut::find(&given.images.installed()?, given.identities.is_some())).flatten();
        let idle = Idle::new(given.activity.clone(), given.idle_after);
        Self { paths, journal, gate, given, stopping, way_out, upkeep, relaunches: VecDeque::new(), idle }
    }

    /// Keeps the engine running until it is asked to stop, or does not stay up.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        loop {
            if *self.stopping.borrow() {
                self.journal.enter(State::Stopping);
                return Ok(());
            }
            let end = self.one_life().await?;
            match end {
                End::Asked => return Ok(()),
                End::Failed { failure, .. } => return Err(failure),
                // The next choice is another try, or the image that works.
                End::Unproven => self.journal.enter(State::Preparing),
                End::Crashed { cause, fix } => self.may_relaunch(&cause, fix.as_deref())?,
                End::Unused => self.sleep().await,
            }
        }
    }

    /// Returns when it is needed, or is to stop.
    async fn sleep(&mut self) {
        let wake = Arc::clone(&self.given.wake);
        tokio::select! {
            _ = self.stopping.wait_for(|&stop| stop) => {}
            () = self.idle.used() => tracing::info!("somebody connected: the engine wakes up"),
            () = wake.notified() => tracing::info!("the engine is woken up"),
        }
    }

    async fn one_life(&mut self) -> Result<End, Failure> {
        let choice = self.choose_image().await?;
        let Given { settings, identities, open_files, tools, .. } = &self.given;
        let features = settings.backend.features();
        let (ids, outside) = (identities.as_ref(), self.way_out.is_some());
        let guest = Guest::launch(self.paths, &choice, settings, ids, outside, *open_files, tools)
            .map_err(|error| self.failure(State::Preparing.name(), error.to_string(), error.fix()))?;
        self.hold("starting");
        self.journal.enter(State::Booting);
        let (notes, mut told) = mpsc::channel(16);
        let mut life = Life {
            guest,
            appliance: choice.appliance,
            keeping: None,
            notes,
            ports: None,
            network: None,
            pinging: None,
            network_known: !features.network_from_outside,
            network_warning: None,
            warnings: Vec::new(),
            conditions: choice.warning.map(|text| (Condition::Image, text)).into_iter().collect(),
            answers: false,
            trouble: None,
            misses: 0,
            failure: None,
            pace: settings.backend.pace(),
            since: Instant::now(),
            deadline: Instant::now() + settings.backend.pace().stage,
        };
        self.upkeep.send_replace(life.guest.upkeep());
        let mut stopping = self.stopping.clone();
        let mut idle = std::mem::replace(&mut self.idle, Idle::new(self.given.activity.clone(), None));
        let end = loop {
            let starting = !life.answers && life.trouble.is_none();
            if !life.answers {
                idle.restart();
            }
            tokio::select! {
                _ = stopping.wait_for(|&stop| stop) => {
                    self.journal.enter(State::Stopping);
                    let message = "the engine is being stopped; start it again with `berth engine start`".to_owned();
                    self.gate.send_replace(Gate::Closed { message });
                    break End::Asked;
                }
                event = life.guest.next() => match event {
                    Some(event) => self.hear(&mut life, event),
                    None => {
                        let told = life.failure.take();
                        break if self.journal.state() == State::Degraded || life.answers {
                            let cause = told.as_ref().map(ToString::to_string);
                            let cause = cause.unwrap_or_else(|| "the engine's processes ended".to_owned());
                            End::Crashed { cause, fix: told.and_then(|told| told.fix) }
                        } else {
                            let cause = "the engine's processes ended".to_owned();
                            self.give_up(told.unwrap_or_else(|| self.now(cause)))
                        };
                    }
                },
                Some(note) = told.recv() => self.note(&mut life, note),
                () = idle.unused(self.paths.socket()), if life.answers => {
                    self.hold("waking up");
                    // Whoever got through before that is counted by now.
                    if !idle.is_used() {
                        tracing::info!("nobody uses the engine: it is stopped until somebody does");
                        self.journal.enter(State::Asleep);
                        break End::Unused;
                    }
                    self.gate.send_replace(Gate::Open(life.guest.dial(self.paths)));
                }
                () = sleep_until(life.deadline), if starting => {
                    let stage = self.journal.state().name();
                    break self.give_up(self.now(format!("the engine did not get through \"{stage}\" in time")));
                }
            }
            if let Some(told) =
                life.failure.take_if(|_| !matches!(self.journal.state(), State::Ready | State::Degraded))
            {
                break self.give_up(told);
            }
        };
        self.idle = idle;
        let end = self.judge_image(choice.trial, &life, end).await;
        match &end {
            End::Asked | End::Unused => {}
            End::Crashed { .. } => self.hold("being restarted"),
            End::Unproven => self.hold("starting"),
            End::Failed { failure, .. } => drop(self.gate.send_replace(Gate::failed(failure))),
        }
        self.upkeep.send_replace(None);
        drop(told);
        self.end_life(life).await;
        Ok(end)
    }

    /// Ends the guest in order, or without when it takes too long.
    async fn end_life(&self, mut life: Life) {
        life.pinging = None;
        life.keeping.iter().for_each(Keeping::cancel);
        life.guest.stop();
        let over = async {
            while let Some(event) = life.guest.next().await {
                if let GuestEvent::Warning { message } = event {
                    tracing::warn!(message, "while stopping");
                }
            }
        };
        if timeout(life.pace.stop, over).await.is_err() {
            tracing::warn!("the engine does not stop and is killed");
            life.guest.kill();
            let _ = timeout(KILL_PATIENCE, async { while life.guest.next().await.is_some() {} }).await;
        }
        if let Some(keeping) = life.keeping {
            keeping.end().await;
        }
        // Last: containers may say goodbye to other machines while they stop.
        if let Some(network) = life.network {
            let _ = timeout(KILL_PATIENCE, network.end()).await;
        }
    }

    /// Requests wait from now on.
    fn hold(&self, stage: &str) {
        self.gate.send_replace(Gate::Starting { stage: stage.to_owned() });
    }

    fn may_relaunch(&mut self, cause: &str, fix: Option<&str>) -> Result<(), Failure> {
        let now = Instant::now();
        self.relaunches.retain(|&at| now.duration_since(at) < RELAUNCH_WINDOW);
        if self.relaunches.len() >= RELAUNCHES {
            let usual = "look at the log; stop what disturbs the engine, then start it again";
            let fix = fix.unwrap_or(usual);
            return Err(self.failure("running", format!("{cause}, again and again"), fix));
        }
        self.relaunches.push_back(now);
        self.degrade(vec![format!("the engine is starting again: {cause}")]);
        Ok(())
    }

    fn hear(&self, life: &mut Life, event: GuestEvent) {
        match event {
            GuestEvent::Waiting => life.deadline = Instant::now() + WAIT_DEADLINE,
            GuestEvent::Isolated => self.isolated(life),
            GuestEvent::Stage { name } => {
                life.progress();
                self.journal.stage(&name);
            }
            GuestEvent::Progress => life.progress(),
            GuestEvent::Accelerator { name, why, pace } => {
                life.pace = pace;
                life.since = Instant::now();
                life.deadline = life.since + pace.stage;
                self.journal.change(|status| {
                    let found = Some(AcceleratorStatus { name, why });
                    let changed = status.accelerator != found;
                    status.accelerator = found;
                    changed
                });
            }
            GuestEvent::Lost { why } => {
                self.hold("being looked for");
                life.pinging = None;
                if life.answers || life.trouble.is_some() {
                    life.answers = false;
                    life.trouble = Some(format!("the engine's machine cannot be reached: {why}"));
                    self.judge(life);
                }
            }
            GuestEvent::Shares(shares) => {
                self.journal.change(|status| std::mem::replace(&mut status.shares, shares) != status.shares);
            }
            GuestEvent::FileEvents(now) => self.journal.change(|status| {
                let changed = status.file_events.as_ref() != Some(&now);
                status.file_events = Some(now);
                changed
            }),
            GuestEvent::Condition { what, text } => {
                match text {
                    Some(text) => drop(life.conditions.insert(what, text)),
                    None => drop(life.conditions.remove(&what)),
                }
                self.judge(life);
            }
            GuestEvent::Service { service, state, detail } if service == "dockerd" => match state {
                ServiceState::Started => {
                    life.deadline = Instant::now() + life.pace.connect;
                    self.journal.enter(State::Connecting);
                }
                ServiceState::Ready => {
                    // A machine that was reached late tells only how it is by now.
                    if self.journal.state() == State::Booting {
                        self.journal.enter(State::Connecting);
                    }
                    self.gate.send_replace(Gate::Open(life.guest.dial(self.paths)));
                    self.ask(life);
                }
                ServiceState::Exited => {
                    self.hold("restarting");
                    let how = detail.unwrap_or_else(|| "no reason known".to_owned());
                    life.pinging = None;
                    if life.answers || life.trouble.is_some() {
                        life.answers = false;
                        life.trouble = Some(format!("the engine is restarting: dockerd ended ({how})"));
                        self.judge(life);
                    }
                }
                ServiceState::Other => {}
            },
            GuestEvent::Service { service, state: ServiceState::Exited, detail } => {
                tracing::warn!(service, ?detail, "restarting");
            }
            GuestEvent::CrashLoop { service, exits, detail } => {
                let last = log_tail(&self.paths.logs(), &[&service], 1).pop().unwrap_or_default();
                let text = format!("{service} ended {exits} times in a row ({detail}); its last word: {last}");
                if life.answers || life.trouble.is_some() {
                    life.trouble = Some(text);
                    self.judge(life);
                } else {
                    life.failure = Some(Told {
                        stage: "services".to_owned(),
                        cause: text,
                        fix: None,
                        log: Vec::new(),
                        outside: false,
                    });
                }
            }
            GuestEvent::Warning { message } => {
                if !life.warnings.contains(&message) {
                    life.warnings.push(message);
                    let surplus = life.warnings.len().saturating_sub(WARNINGS);
                    life.warnings.drain(..surplus);
                }
                self.judge(life);
            }
            GuestEvent::Failed { stage, cause, fix, log, outside } => {
                life.failure = Some(Told { stage, cause, fix, log, outside });
            }
            GuestEvent::Service { .. } | GuestEvent::Other => {}
        }
    }

    /// The namespaces exist: ports can be published, and a way out be attached, while dockerd is starting.
    fn isolated(&self, life: &mut Life) {
        let Guest::Native(guest) = &life.guest else { return };
        match guest.enter_network() {
            Ok(namespace) => {
                let listener = Arc::clone(&self.given.listener);
                life.ports = Some(Ports::serve(listener, Reach::Namespace(Arc::new(namespace))));
            }
            Err(error) => life.warnings.push(format!("ports cannot be published: {error}")),
        }
        match self.way_out.clone() {
            Some(way_out) => {
                life.network = Some(Network::keep(way_out, guest.namespaces(), life.notes.clone()));
            }
            None => {
                life.network_known = true;
                life.network_warning = Some(
                    "containers cannot reach other machines: slirp4netns is neither installed nor in the appliance; install it"
                        .to_owned(),
                );
            }
        }
    }

    /// dockerd says it is ready; what counts is that it answers.
    fn ask(&self, life: &mut Life) {
        let (socket, notes) = (self.paths.socket().to_path_buf(), life.notes.clone());
        life.pinging = Some(AbortOnDrop(tokio::spawn(async move {
            while !ping::ping(&socket, PING_PATIENCE).await {
                sleep(PING_PAUSE).await;
            }
            let versions = ping::versions(&socket, PING_PATIENCE).await;
            if notes.send(Note::Answers(Box::new(versions))).await.is_err() {
                return;
            }
            loop {
                sleep(HEALTH_PAUSE).await;
                let answered = ping::ping(&socket, PING_PATIENCE).await;
                if notes.send(Note::Checked(answered)).await.is_err() {
                    return;
                }
            }
        })));
    }

    fn note(&self, life: &mut Life, note: Note) {
        match note {
            Note::Answers(mut versions) => {
                let manifest = life.appliance.manifest();
                versions.suite = Some(manifest.suite.clone());
                if versions.containerd.is_none() {
                    versions.containerd = manifest.versions.get("containerd").cloned();
                }
                self.journal.change(|status| std::mem::replace(&mut status.versions, *versions) != status.versions);
                life.answers = true;
                life.trouble = None;
                life.misses = 0;
                self.image_works(life);
            }
            Note::Kept(None) => self.image_kept(),
            Note::Kept(Some(why)) => drop(life.conditions.insert(Condition::ImageCopy, why)),
            Note::Checked(true) => {
                life.misses = 0;
                life.answers = true;
                life.trouble = None;
            }
            Note::Checked(false) => {
                life.misses = life.misses.saturating_add(1);
                if life.misses >= MISSES {
                    life.trouble = Some("the engine does not answer".to_owned());
                }
            }
            Note::Network(warning) => {
                life.network_known = true;
                life.network_warning = warning;
            }
        }
        self.judge(life);
    }

    /// The state follows from what is known: answering and without warnings is ready.
    fn judge(&self, life: &Life) {
        let began = matches!(self.journal.state(), State::Ready | State::Degraded);
        let ready = life.answers && life.trouble.is_none() && life.network_known;
        if !ready && !began {
            return;
        }
        let warnings: Vec<String> = life
            .trouble
            .iter()
            .chain(life.conditions.values())
            .chain(&life.network_warning)
            .chain(&life.warnings)
            .cloned()
            .collect();
        if warnings.is_empty() && ready {
            self.journal.change(|status| !std::mem::take(&mut status.warnings).is_empty());
            self.journal.enter(State::Ready);
        } else if !warnings.is_empty() {
            self.degrade(warnings);
        }
    }

    fn degrade(&self, warnings: Vec<String>) {
        self.journal.enter(State::Degraded);
        self.journal.change(|status| {
            let changed = status.warnings != warnings;
            status.warnings = warnings;
            changed
        });
    }

    /// What went wrong in the present stage.
    fn now(&self, cause: String) -> Told {
        Told { stage: self.journal.state().name().to_owned(), cause, fix: None, log: Vec::new(), outside: false }
    }

    fn give_up(&self, told: Told) -> End {
        let usual = "look at the log below and in the data folder, then start the engine again";
        let mut failure = self.failure(&told.stage, told.cause, told.fix.as_deref().unwrap_or(usual));
        if !told.log.is_empty() {
            failure.log = told.log;
        }
        End::Failed { failure, outside: told.outside }
    }

    fn failure(&self, stage: &str, cause: String, fix: &str) -> Failure {
        Failure {
            stage: stage.to_owned(),
            cause,
            fix: fix.to_owned(),
            log: log_tail(&self.paths.logs(), self.given.settings.backend.logs(), LOG_LINES),
        }
    }
}
