//! Runs the appliance in namespaces of this kernel, through `berth-guest`.

pub(crate) mod rootless;

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::appliance::Appliance;
use crate::backend::GuestEvent;
use crate::backend::network::DNS;
use crate::error::Error;
use crate::lines;
use crate::paths::EnginePaths;
use crate::ports::NetworkNamespace;
use crate::program::find_next_to;
use crate::socket::OpenFiles;
use rootless::Identities;

const LINE_LIMIT: u64 = 64 << 10;
/// After its last word the outer process only has cgroups to remove.
const EXIT_PATIENCE: Duration = Duration::from_secs(10);

/// Where the containers' network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) network: PathBuf,
    /// The user namespace it belongs to, where that is another one than the supervisor's.
    pub(crate) user: Option<PathBuf>,
}

/// A running guest.
#[derive(Debug)]
pub(crate) struct Guest {
    pid: u32,
    rootless: bool,
    /// As long as it is open, the guest runs.
    stdin: Option<ChildStdin>,
    events: mpsc::Receiver<GuestEvent>,
}

impl Guest {
    pub(crate) fn launch(
        paths: &EnginePaths,
        appliance: &Appliance,
        identities: Option<&Identities>,
        with_network: bool,
        open_files: OpenFiles,
    ) -> Result<Self, Error> {
        let mut command = Command::new(program()?);
        command
            .arg("native")
            .arg("--root")
            .arg(appliance.root())
            .arg("--data")
            .arg(paths.data())
            .arg("--runtime")
            .arg(paths.guest_runtime())
            .args(["--cgroup", &paths.cgroup(), "--hostname", "berth"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its own group: Ctrl-C in a terminal is for the supervisor, which then stops things in order.
            .process_group(0);
        if let Some(identities) = identities {
            command.args(identities.arguments());
            if let Some(cgroup) = identities.delegated() {
                command.arg("--delegated").arg(cgroup);
            }
        }
        if with_network {
            command.args(["--dns", DNS]);
        }
        let mut child = open_files.lowered(|| command.spawn()).map_err(Error::system("starting berth-guest"))?;
        let (sender, events) = mpsc::channel(64);
        let stdin = child.stdin.take();
        let pid = child.id().unwrap_or_default();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(listen(stdout, child, sender));
        }
        Ok(Self { pid, rootless: identities.is_some(), stdin, events })
    }

    /// What it tells next; none when it is gone, with everything that ran in it.
    pub(crate) async fn next(&mut self) -> Option<GuestEvent> {
        self.events.recv().await
    }

    /// Asks it to shut down. It also does so when this process ends, by the same means.
    pub(crate) fn stop(&mut self) {
        self.stdin = None;
    }

    /// Ends it without order: its PID 1 dies, and with it the whole namespace.
    pub(crate) fn kill(&mut self) {
        self.stdin = None;
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        for child in std::fs::read_to_string(children).unwrap_or_default().split_whitespace() {
            if let Ok(pid) = child.parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Those of its containers; exist once it is isolated.
    pub(crate) fn namespaces(&self) -> Namespaces {
        let of = |name: &str| PathBuf::from(format!("/proc/{}/ns/{name}", self.pid));
        Namespaces { network: of("net"), user: self.rootless.then(|| of("user")) }
    }

    /// The way to the network of its containers.
    pub(crate) fn enter_network(&self) -> std::io::Result<NetworkNamespace> {
        if self.rootless {
            // Only a process of one thread may enter a user namespace.
            let helper = program().map_err(std::io::Error::other)?;
            NetworkNamespace::through(std::process::Command::new(helper).arg("sockets").arg(self.pid.to_string()))
        } else {
            NetworkNamespace::enter(&self.namespaces().network)
        }
    }
}

async fn listen(stdout: ChildStdout, mut child: Child, events: mpsc::Sender<GuestEvent>) {
    let mut input = BufReader::new(stdout);
    loop {
        match lines::read::<GuestEvent>(&mut input, LINE_LIMIT).await {
            Ok(Some(event)) => {
                tracing::info!(?event, "guest");
                // A supervisor that no longer listens still has to wait for the end.
                let _ = events.send(event).await;
            }
            Ok(None) => break,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "the guest said something that is not understood");
            }
            Err(error) => {
                tracing::warn!(%error, "the guest cannot be heard");
                break;
            }
        }
    }
    match tokio::time::timeout(EXIT_PATIENCE, child.wait()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(how = describe(status), "the guest ended"),
        Ok(Err(error)) => tracing::warn!(%error, "the guest cannot be waited for"),
        Err(_) => tracing::warn!("the guest does not end"),
    }
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

/// `berth-guest` is installed next to the other programs.
fn program() -> Result<PathBuf, Error> {
    find_next_to("berth-guest")
}
