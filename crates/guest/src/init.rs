//! PID 1: builds the place, starts the services, keeps them, and ends in order when its input ends.

use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::Deserialize;

use crate::arguments::Options;
use crate::config::Settings;
use crate::error::Error;
use crate::protocol::{Event, ServiceState, emit};
use crate::reaper::Reaper;
use crate::service::{Name, Service};
use crate::{config, delegated, mounts, network, rootlesskit, shutdown};

const COMMAND_LIMIT: u64 = 4096;
/// How long nothing can happen: the loop wakes for messages and for planned starts only.
const IDLE: Duration = Duration::from_secs(3600);

/// Everything PID 1 reacts to, in one queue.
#[derive(Debug)]
pub(crate) enum Message {
    Ready(Name),
    Exited {
        pid: Pid,
        how: String,
    },
    NoChildren,
    /// Somebody new listens and wants to know how things are.
    Status,
    /// With the time that containers get to stop by themselves, if it was said.
    Stop(Option<Duration>),
}

/// The services and the queue that concerns them.
pub(crate) struct Services {
    pub(crate) containerd: Service,
    pub(crate) dockerd: Service,
    /// In a machine alone: elsewhere the supervisor hears this process itself.
    pub(crate) agent: Option<Service>,
    pub(crate) messages: Receiver<Message>,
    pub(crate) settings: Settings,
    /// In which stage it failed for good, and why.
    pub(crate) failure: Option<(&'static str, String)>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    match boot(options) {
        Ok((services, reaper, _lock)) => {
            let mut services = services;
            keep(&mut services, &reaper);
            emit(&Event::Stopped);
            Ok(ExitCode::SUCCESS)
        }
        Err((stage, error)) => {
            emit(&Event::Failed { stage, cause: error.to_string() });
            Err(error)
        }
    }
}

type Lock = nix::fcntl::Flock<std::fs::File>;
type Booted = (Services, Reaper, Lock);

fn boot(options: &Options) -> Result<Booted, (&'static str, Error)> {
    let lock = isolate(options)?;
    let (services, reaper) = start(options).map_err(|error| ("services", error))?;
    Ok((services, reaper, lock))
}

/// Builds the place, and says so. Nobody else uses the data as long as the lock is held.
pub(crate) fn isolate(options: &Options) -> Result<Lock, (&'static str, Error)> {
    if nix::unistd::getpid() != Pid::from_raw(1) {
        return Err(("start", Error::Usage("`init` is started by `native`, as PID 1".to_owned())));
    }
    if options.delegated.is_some() {
        delegated::separate().map_err(|error| ("start", error))?;
    }
    let lock = mounts::lock(&options.data, || emit(&Event::Waiting)).map_err(|error| ("lock", error))?;
    mounts::same(&lock, &options.data).map_err(|error| ("lock", error))?;
    mounts::enter(options).map_err(|error| ("mounts", error))?;
    nix::unistd::sethostname(&options.hostname)
        .map_err(Error::system("setting the host name"))
        .map_err(|error| ("mounts", error))?;
    for message in network::prepare().map_err(|error| ("network", error))? {
        emit(&Event::Warning { message });
    }
    emit(&Event::Isolated);
    Ok(lock)
}

fn start(options: &Options) -> Result<(Services, Reaper), Error> {
    let settings = options.settings();
    if settings.cgroup.is_none() {
        rootlesskit::serve()?;
    }
    let (mut services, sender) = Services::new(settings)?;
    let reaper = Reaper::start(sender.clone())?;
    listen(sender)?;
    services.containerd.start()?;
    reaper.child_started();
    Ok((services, reaper))
}

#[derive(Deserialize)]
struct Command {
    command: String,
    #[serde(default)]
    grace_seconds: Option<u32>,
}

/// Reads the commands of whoever listens. The end of the input means `stop`.
pub(crate) fn listen(messages: SyncSender<Message>) -> Result<(), Error> {
    listen_to(std::io::stdin(), messages)
}

/// The same of somebody else.
pub(crate) fn listen_to(
    input: impl std::io::Read + Send + 'static,
    messages: SyncSender<Message>,
) -> Result<(), Error> {
    thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || {
            let mut input = std::io::BufReader::new(input);
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = std::io::Read::take(&mut input, COMMAND_LIMIT).read_until(b'\n', &mut line);
                let ended = read.map_or(true, |read| read == 0);
                let command = serde_json::from_slice::<Command>(&line).ok();
                let message = match command.as_ref().map(|line| (line.command.as_str(), line.grace_seconds)) {
                    _ if ended => Message::Stop(None),
                    Some(("stop", grace)) => Message::Stop(grace.map(|seconds| Duration::from_secs(seconds.into()))),
                    Some(("status", _)) => Message::Status,
                    _ => continue,
                };
                if messages.send(message).is_err() || ended {
                    return;
                }
            }
        })
        .map_err(Error::io("starting a thread"))?;
    Ok(())
}

/// Keeps the services until it is asked to stop, and then stops them in order.
pub(crate) fn keep(services: &mut Services, reaper: &Reaper) {
    let grace = loop {
        let next = services.all().filter_map(|service| service.due).min();
        let patience = next.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        match services.messages.recv_timeout(patience) {
            Ok(Message::Stop(grace)) => break grace,
            Err(RecvTimeoutError::Disconnected) => break None,
            Ok(Message::Ready(name)) => services.ready(name, reaper),
            Ok(Message::Status) => services.tell_again(),
            Ok(Message::Exited { pid, how }) => services.ended(pid, &how),
            Ok(Message::NoChildren) | Err(RecvTimeoutError::Timeout) => {}
        }
        services.start_due(reaper);
    };
    emit(&Event::Stopping);
    shutdown::run(services, grace);
}

impl Services {
    /// The services, none of them started, and the other end of their queue.
    pub(crate) fn new(settings: Settings) -> Result<(Self, SyncSender<Message>), Error> {
        let (sender, messages) = sync_channel(256);
        let containerd = Service::new(
            Name::Containerd,
            "/usr/bin/containerd",
            &["--config", config::CONTAINERD_TOML],
            None,
            sender.clone(),
        )?;
        let mut dockerd = Service::new(
            Name::Dockerd,
            "/usr/sbin/dockerd",
            &["--config-file", config::DAEMON_JSON],
            Some(config::DOCKER_PID),
            sender.clone(),
        )?;
        if settings.cgroup.is_none() {
            dockerd.environment = rootlesskit::ENVIRONMENT;
        }
        Ok((Self { containerd, dockerd, agent: None, messages, settings, failure: None }, sender))
    }

    fn all(&self) -> impl Iterator<Item = &Service> {
        [&self.containerd, &self.dockerd].into_iter().chain(&self.agent)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        [&mut self.containerd, &mut self.dockerd].into_iter().chain(&mut self.agent)
    }

    fn tell_again(&self) {
        self.all().for_each(Service::tell_again);
        if let Some((stage, cause)) = &self.failure {
            emit(&Event::Failed { stage, cause: cause.clone() });
        }
    }

    fn ready(&mut self, name: Name, reaper: &Reaper) {
        match name {
            Name::Containerd => {
                self.containerd.tell(ServiceState::Ready, None);
                // The first start only: later ones are planned by its own end.
                if self.dockerd.pid.is_none() && self.dockerd.due.is_none() {
                    start_or_plan(&mut self.dockerd, reaper);
                }
            }
            Name::Dockerd => self.dockerd.tell(ServiceState::Ready, None),
            Name::Agent => {}
        }
    }

    /// Takes note of a service's end; other processes of the namespace end without anyone's interest.
    pub(crate) fn ended(&mut self, pid: Pid, how: &str) {
        for service in self.all_mut() {
            if service.pid == Some(pid) {
                service.ended(how);
            }
        }
    }

    fn start_due(&mut self, reaper: &Reaper) {
        let now = Instant::now();
        for service in self.all_mut() {
            if service.due.is_some_and(|due| due <= now) {
                start_or_plan(service, reaper);
            }
        }
    }
}

fn start_or_plan(service: &mut Service, reaper: &Reaper) {
    match service.start() {
        Ok(()) => reaper.child_started(),
        Err(error) => service.ended(&error.to_string()),
    }
}
