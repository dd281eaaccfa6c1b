//! The way out of the engine's network namespace: slirp4netns, which needs no rule and no interface on the host.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::appliance::Appliance;

/// From the range set aside for benchmarks, which neither homes nor offices use.
const CIDR: &str = "198.19.93.0/24";
/// slirp4netns answers names here, asking whomever the host asks.
pub(crate) const DNS: &str = "198.19.93.3";
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// How to run slirp4netns on this machine.
#[derive(Clone, Debug)]
pub(crate) struct WayOut {
    program: PathBuf,
    first_arguments: Vec<std::ffi::OsString>,
}

/// A running slirp4netns. It ends when this is dropped, also when this process is killed.
#[derive(Debug)]
pub(crate) struct Attached {
    child: Child,
    _leash: StdUnixStream,
}

impl WayOut {
    /// The host's own, or the appliance's through the appliance's loader: the host may be another distribution.
    pub(crate) fn find(appliance: &Appliance) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let host = std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/bin")])
            .map(|folder| folder.join("slirp4netns"))
            .find(|program| program.is_file());
        match host {
            Some(program) => Some(Self { program, first_arguments: Vec::new() }),
            None => Self::of_appliance(&appliance.root()),
        }
    }

    fn of_appliance(root: &Path) -> Option<Self> {
        let program = root.join("usr/bin/slirp4netns");
        let loader = loader(root).filter(|_| program.is_file())?;
        let mut libraries = std::ffi::OsString::new();
        for entry in std::fs::read_dir(root.join("usr/lib")).ok()?.flatten() {
            if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
                libraries.push(entry.path());
                libraries.push(":");
            }
        }
        libraries.push(root.join("usr/lib"));
        Some(Self { program: loader, first_arguments: vec!["--library-path".into(), libraries, program.into()] })
    }

    /// Gives the namespace an interface and waits until it works.
    pub(crate) async fn attach(&self, namespace: &Path) -> io::Result<Attached> {
        let (ready, theirs) = StdUnixStream::pair()?;
        let (leash, their_leash) = StdUnixStream::pair()?;
        ready.set_nonblocking(true)?;
        let mut child = Command::new(&self.program)
            .args(&self.first_arguments)
            .args(["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"])
            .arg(format!("--cidr={CIDR}"))
            // The standard descriptors serve as the two it wants, as no other can be passed on.
            .args(["--ready-fd=0", "--exit-fd=1"])
            .arg(namespace)
            .arg("tap0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(their_leash)))
            .stderr(Stdio::inherit())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut ready = UnixStream::from_std(ready)?;
        let mut said = [0; 1];
        match timeout(READY_PATIENCE, ready.read(&mut said)).await {
            Ok(Ok(1..)) => Ok(Attached { child, _leash: leash }),
            Ok(Ok(_)) => {
                let how = timeout(Duration::from_secs(1), child.wait()).await;
                let how = how.ok().and_then(Result::ok).map_or_else(String::new, |status| format!(" ({status})"));
                Err(io::Error::other(format!("slirp4netns ended{how}")))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "slirp4netns does not get ready")),
        }
    }
}

impl Attached {
    /// Returns when it has ended by itself.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    pub(crate) async fn detach(mut self) {
        let _ = self.child.kill().await;
    }
}

fn loader(root: &Path) -> Option<PathBuf> {
    ["lib64", "lib"].iter().find_map(|folder| {
        let entries = std::fs::read_dir(root.join(folder)).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")) && path.is_file()
        })
    })
}
