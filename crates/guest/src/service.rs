//! One of the programs PID 1 keeps running.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;
use crate::init::Message;
use crate::logs;
use crate::protocol::{Event, ServiceState, emit};

/// A service that ran this long has started well; its next end is no part of a crash loop.
const SETTLED: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Ends in a row after which the service is reported as not staying up.
const CRASH_LOOP: u32 = 5;
const LOG_FOLDER: &str = "/var/log/berth";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Taken over from the host: the engine pulls through the user's proxy.
const PASSED_VARIABLES: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "ALL_PROXY", "all_proxy"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Containerd,
    Dockerd,
    /// Talks to the host of a machine.
    Agent,
}

impl Name {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Dockerd => "dockerd",
            Self::Agent => "agent",
        }
    }
}

/// When a service that ended is started again, and whether that has become hopeless.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    ends: u32,
}

impl Backoff {
    /// The delay before the next start, given how long the service lived.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED {
            self.ends = 0;
        }
        let delay = if self.ends == 0 {
            Duration::ZERO
        } else {
            FIRST_DELAY.saturating_mul(1 << self.ends.min(10)).min(LONGEST_DELAY)
        };
        self.ends = self.ends.saturating_add(1);
        delay
    }

    fn crash_loop(&self) -> Option<u32> {
        (self.ends == CRASH_LOOP).then_some(self.ends)
    }
}

pub(crate) struct Service {
    pub(crate) name: Name,
    program: &'static str,
    arguments: Vec<String>,
    /// Removed before a start: a left-over pid may by now be some other process.
    pid_file: Option<PathBuf>,
    /// Variables of its own, over those that every service has.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Its standard input and output, where it has any.
    channel: Option<OwnedFd>,
    pub(crate) pid: Option<Pid>,
    /// What it was told last.
    state: Option<ServiceState>,
    started: Instant,
    backoff: Backoff,
    /// When to start it again.
    pub(crate) due: Option<Instant>,
}

impl Service {
    pub(crate) fn new(
        name: Name,
        program: &'static str,
        arguments: &[&str],
        pid_file: Option<&str>,
        messages: SyncSender<Message>,
    ) -> Result<Self, Error> {
        hear_readiness(name, messages)?;
        Ok(Self {
            name,
            program,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            pid_file: pid_file.map(PathBuf::from),
            environment: &[],
            channel: None,
            pid: None,
            state: None,
            started: Instant::now(),
            backoff: Backoff::default(),
            due: None,
        })
    }

    /// A program that talks to this one over `channel`, and says there that it is ready.
    pub(crate) fn with_channel(name: Name, program: &'static str, arguments: &[&str], channel: OwnedFd) -> Self {
        Self {
            name,
            program,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            pid_file: None,
            environment: &[],
            channel: Some(channel),
            pid: None,
            state: None,
            started: Instant::now(),
            backoff: Backoff::default(),
            due: None,
        }
    }

    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.due = None;
        if let Some(file) = &self.pid_file {
            let _ = std::fs::remove_file(file);
        }
        let mut command = Command::new(self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("TMPDIR", "/var/tmp")
            .env("NOTIFY_SOCKET", notify_socket(self.name))
            .envs(self.environment.iter().copied())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(channel) = &self.channel {
            let end = || channel.try_clone().map_err(Error::io("passing on a channel"));
            command.stdin(end()?).stdout(end()?);
        }
        for name in PASSED_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut child = command.spawn().map_err(Error::file("cannot start", Path::new(self.program)))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        self.pid = Some(pid);
        self.started = Instant::now();
        if let Some(stderr) = child.stderr.take() {
            let name = self.name.text();
            thread::Builder::new()
                .name(format!("{name}-log"))
                .spawn(move || logs::keep(stderr, Path::new(LOG_FOLDER), name))
                .map_err(Error::io("starting a thread"))?;
        }
        self.tell(ServiceState::Started, None);
        Ok(())
    }

    /// Takes note of its end and plans the next start.
    pub(crate) fn ended(&mut self, how: &str) {
        self.pid = None;
        let delay = self.backoff.after(self.started.elapsed());
        self.due = Some(Instant::now() + delay);
        if self.name == Name::Agent {
            // Nobody else can be told: the console is what is left.
            let _ = writeln!(std::io::stderr(), "berth-guest: the agent ended ({how})");
        }
        self.tell(ServiceState::Exited, Some(how.to_owned()));
        if let Some(exits) = self.backoff.crash_loop() {
            emit(&Event::CrashLoop { service: self.name.text(), exits, detail: how.to_owned() });
        }
    }

    pub(crate) fn tell(&mut self, state: ServiceState, detail: Option<String>) {
        self.state = Some(state);
        let pid = self.pid.map(Pid::as_raw);
        emit(&Event::Service { service: self.name.text(), state, pid, detail });
    }

    /// Tells again what was told last.
    pub(crate) fn tell_again(&self) {
        if let Some(state) = self.state {
            let pid = self.pid.map(Pid::as_raw);
            emit(&Event::Service { service: self.name.text(), state, pid, detail: None });
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            let _ = kill(pid, signal);
        }
    }
}

fn notify_socket(name: Name) -> PathBuf {
    Path::new("/run/notify").join(name.text())
}

/// Both programs report being ready as systemd wants it, which is an event and not a socket to try.
fn hear_readiness(name: Name, messages: SyncSender<Message>) -> Result<(), Error> {
    let path = notify_socket(name);
    let socket = UnixDatagram::bind(&path).map_err(Error::file("cannot listen on", &path))?;
    thread::Builder::new()
        .name(format!("{}-ready", name.text()))
        .spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(read) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
                if text.lines().any(|line| line == "READY=1") && messages.send(Message::Ready(name)).is_err() {
                    return;
                }
            }
        })
        .map_err(Error::io("starting a thread"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn the_first_end_is_answered_at_once_and_a_crash_loop_slowly() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(50);
        assert_eq!(backoff.after(short), Duration::ZERO);
        assert_eq!(backoff.after(short), Duration::from_millis(200));
        let delays: Vec<_> = (0..10).map(|_| backoff.after(short)).collect();
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(delays.last(), Some(&Duration::from_secs(10)));
    }

    #[test]
    fn a_long_life_is_forgiven() {
        let mut backoff = Backoff::default();
        for _ in 0..4 {
            backoff.after(Duration::ZERO);
        }
        assert_eq!(backoff.after(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(backoff.crash_loop(), None);
    }

    #[test]
    fn a_crash_loop_is_reported_once() {
        let mut backoff = Backoff::default();
        let reports = (0..20).filter(|_| {
            backoff.after(Duration::ZERO);
            backoff.crash_loop().is_some()
        });
        assert_eq!(reports.count(), 1);
    }
}
