//! An orderly end: containers are stopped by dockerd with their own stop timeouts, then dockerd, then containerd.

use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config;
use crate::error::Error;
use crate::http;
use crate::init::{Message, Services};
use crate::protocol::{Event, emit};

/// For stopping every container and dockerd itself.
const ENGINE_DEADLINE: Duration = Duration::from_secs(60);
const RELOAD_DEADLINE: Duration = Duration::from_secs(3);
const CONTAINERD_DEADLINE: Duration = Duration::from_secs(5);
const REST_DEADLINE: Duration = Duration::from_secs(2);

/// Stops everything, and gives containers at most `grace` for it. When it returns only PID 1 is left in the namespace.
pub(crate) fn run(services: &mut Services, grace: Option<Duration>) {
    let grace = grace.unwrap_or(ENGINE_DEADLINE);
    if services.dockerd.pid.is_some() {
        // With live restore on, dockerd would leave the containers running, to be killed with the namespace.
        if let Err(error) = live_restore_off(services) {
            emit(&Event::Warning { message: format!("containers may not be stopped in order: {error}") });
        }
        services.dockerd.signal(Signal::SIGTERM);
        if !wait(services, grace, |services| services.dockerd.pid.is_none()) {
            let message = format!("dockerd did not stop in {} s and was killed", grace.as_secs());
            emit(&Event::Warning { message });
            services.dockerd.signal(Signal::SIGKILL);
        }
    }
    services.containerd.signal(Signal::SIGTERM);
    if !wait(services, CONTAINERD_DEADLINE, |services| services.containerd.pid.is_none()) {
        services.containerd.signal(Signal::SIGKILL);
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // To PID 1, -1 is everyone else in the namespace; nobody there is an error, and the best news.
        if kill(Pid::from_raw(-1), signal).is_err() || wait_for_nobody(services, REST_DEADLINE) {
            break;
        }
    }
}

fn live_restore_off(services: &Services) -> Result<(), Error> {
    let settings = config::daemon(&services.settings, false).to_string();
    crate::files::write(Path::new(config::DAEMON_JSON), &settings)?;
    let socket = Path::new(config::DOCKER_SOCKET);
    // Listening before the signal is sent: the reload is an event of the daemon.
    let reloads = "/events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%2C%22event%22%3A%5B%22reload%22%5D%7D";
    let mut events = http::get(socket, reloads, RELOAD_DEADLINE)?;
    services.dockerd.signal(Signal::SIGHUP);
    events.line()?;
    let info = http::get(socket, "/info", RELOAD_DEADLINE)?.json()?;
    match info.get("LiveRestoreEnabled").and_then(serde_json::Value::as_bool) {
        Some(false) => Ok(()),
        _ => Err(Error::Answer("live restore is still on")),
    }
}

/// Handles messages until `done` or the deadline; says which.
fn wait(services: &mut Services, patience: Duration, done: impl Fn(&Services) -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !done(services) {
        match services.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Message::Exited { pid, how }) => services.ended(pid, &how),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return done(services),
        }
    }
    true
}

fn wait_for_nobody(services: &Services, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        match services.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Message::NoChildren) => return true,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
        }
    }
}
