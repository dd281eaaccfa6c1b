//! PID 1: builds the place, starts the services, keeps them, and ends in order when its input ends.

use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::Deserialize;

use crate::arguments::Options;
use crate::error::Error;
use crate::protocol::{Event, ServiceState, emit};
use crate::reaper::Reaper;
use crate::service::{Name, Service};
use crate::{config, mounts, network, shutdown};

const COMMAND_LIMIT: u64 = 4096;
/// How long nothing can happen: the loop wakes for messages and for planned starts only.
const IDLE: Duration = Duration::from_secs(3600);

/// Everything PID 1 reacts to, in one queue.
#[derive(Debug)]
pub(crate) enum Message {
    Ready(Name),
    Exited { pid: Pid, how: String },
    NoChildren,
    Stop,
}

/// The two services and the queue that concerns them.
pub(crate) struct Services {
    pub(crate) containerd: Service,
    pub(crate) dockerd: Service,
    pub(crate) messages: Receiver<Message>,
    pub(crate) cgroup: String,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    match boot(options) {
        Ok((services, reaper, _lock)) => {
            keep(services, &reaper);
            emit(&Event::Stopped);
            Ok(ExitCode::SUCCESS)
        }
        Err((stage, error)) => {
            emit(&Event::Failed { stage, cause: error.to_string() });
            Err(error)
        }
    }
}

type Booted = (Services, Reaper, nix::fcntl::Flock<std::fs::File>);

fn boot(options: &Options) -> Result<Booted, (&'static str, Error)> {
    if nix::unistd::getpid() != Pid::from_raw(1) {
        return Err(("start", Error::Usage("`init` is started by `native`, as PID 1".to_owned())));
    }
    let lock = mounts::lock(&options.data, || emit(&Event::Waiting)).map_err(|error| ("lock", error))?;
    mounts::enter(options).map_err(|error| ("mounts", error))?;
    nix::unistd::sethostname(&options.hostname)
        .map_err(Error::system("setting the host name"))
        .map_err(|error| ("mounts", error))?;
    for message in network::prepare().map_err(|error| ("network", error))? {
        emit(&Event::Warning { message });
    }
    emit(&Event::Isolated);
    let (services, reaper) = start(options).map_err(|error| ("services", error))?;
    Ok((services, reaper, lock))
}

fn start(options: &Options) -> Result<(Services, Reaper), Error> {
    let (sender, messages) = sync_channel(256);
    let mut containerd = Service::new(
        Name::Containerd,
        "/usr/bin/containerd",
        &["--config", config::CONTAINERD_TOML],
        None,
        sender.clone(),
    )?;
    let dockerd = Service::new(
        Name::Dockerd,
        "/usr/sbin/dockerd",
        &["--config-file", config::DAEMON_JSON],
        Some(config::DOCKER_PID),
        sender.clone(),
    )?;
    let reaper = Reaper::start(sender.clone())?;
    listen(sender)?;
    containerd.start()?;
    reaper.child_started();
    Ok((Services { containerd, dockerd, messages, cgroup: options.cgroup.clone() }, reaper))
}

#[derive(Deserialize)]
struct Command {
    command: String,
}

/// Reads the supervisor's commands. There is one, and the end of the input means the same.
fn listen(messages: SyncSender<Message>) -> Result<(), Error> {
    thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || {
            let mut input = std::io::stdin().lock();
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = std::io::Read::take(&mut input, COMMAND_LIMIT).read_until(b'\n', &mut line);
                let ended = read.map_or(true, |read| read == 0);
                let stop = serde_json::from_slice::<Command>(&line).is_ok_and(|line| line.command == "stop");
                if ended || stop {
                    let _ = messages.send(Message::Stop);
                    return;
                }
            }
        })
        .map_err(Error::io("starting a thread"))?;
    Ok(())
}

fn keep(mut services: Services, reaper: &Reaper) {
    loop {
        let next = [&services.containerd, &services.dockerd].into_iter().filter_map(|service| service.due).min();
        let patience = next.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        match services.messages.recv_timeout(patience) {
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Message::Ready(name)) => services.ready(name, reaper),
            Ok(Message::Exited { pid, how }) => services.ended(pid, &how),
            Ok(Message::NoChildren) | Err(RecvTimeoutError::Timeout) => {}
        }
        services.start_due(reaper);
    }
    emit(&Event::Stopping);
    shutdown::run(&mut services);
}

impl Services {
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
        }
    }

    /// Takes note of a service's end; other processes of the namespace end without anyone's interest.
    pub(crate) fn ended(&mut self, pid: Pid, how: &str) {
        for service in [&mut self.containerd, &mut self.dockerd] {
            if service.pid == Some(pid) {
                service.ended(how);
            }
        }
    }

    fn start_due(&mut self, reaper: &Reaper) {
        let now = Instant::now();
        for service in [&mut self.containerd, &mut self.dockerd] {
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
