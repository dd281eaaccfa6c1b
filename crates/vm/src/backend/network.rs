//! The way out of the engine's network namespace: slirp4netns, which needs no rule and no interface on the host, or, of an
//! engine without root, pasta where it is installed, which is the same and faster.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::native::Namespaces;
use crate::appliance::Appliance;

/// From the range set aside for benchmarks, which neither homes nor offices use.
const CIDR: &str = "198.19.93.0/24";
const ADDRESS: &str = "198.19.93.100";
const GATEWAY: &str = "198.19.93.2";
/// Names are answered here, by whomever the host asks.
pub(crate) const DNS: &str = "198.19.93.3";
const READY_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Slirp4netns,
    Pasta,
}

/// How to run slirp4netns or pasta on this machine.
#[derive(Clone, Debug)]
pub(crate) struct WayOut {
    kind: Kind,
    program: PathBuf,
    first_arguments: Vec<OsString>,
    /// What to take where this one does not get ready.
    otherwise: Option<Box<WayOut>>,
}

/// A running one. It ends when this is dropped, also when this process is killed.
#[derive(Debug)]
pub(crate) struct Attached {
    child: Child,
    _leash: Option<StdUnixStream>,
}

impl WayOut {
    /// slirp4netns is the host's own, or the appliance's through the appliance's loader: the host may be another
    /// distribution. pasta is the host's, and only taken without root: as root it becomes nobody, who may enter nothing.
    pub(crate) fn find(appliance: &Appliance, rootless: bool) -> Option<Self> {
        let slirp4netns = match on_host("slirp4netns") {
            Some(program) => Some(Self::of_host(Kind::Slirp4netns, program)),
            None => Self::of_appliance(&appliance.root()),
        };
        match on_host("pasta").filter(|program| rootless && is_recent(program)) {
            Some(program) => {
                let otherwise = slirp4netns.map(Box::new);
                Some(Self { otherwise, ..Self::of_host(Kind::Pasta, program) })
            }
            None => slirp4netns,
        }
    }

    fn of_host(kind: Kind, program: PathBuf) -> Self {
        Self { kind, program, first_arguments: Vec::new(), otherwise: None }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Slirp4netns => "slirp4netns",
            Kind::Pasta => "pasta",
        }
    }

    /// What to take after this one could not be attached.
    pub(crate) fn otherwise(&mut self, why: &io::Error) -> Option<Self> {
        let other = self.otherwise.take()?;
        tracing::warn!(%why, "{} does not work, {} is taken", self.name(), other.name());
        Some(*other)
    }

    fn of_appliance(root: &Path) -> Option<Self> {
        let program = root.join("usr/bin/slirp4netns");
        let loader = loader(root).filter(|_| program.is_file())?;
        let mut libraries = OsString::new();
        for entry in std::fs::read_dir(root.join("usr/lib")).ok()?.flatten() {
            if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
                libraries.push(entry.path());
                libraries.push(":");
            }
        }
        libraries.push(root.join("usr/lib"));
        let first_arguments = vec!["--library-path".into(), libraries, program.into()];
        Some(Self { kind: Kind::Slirp4netns, program: loader, first_arguments, otherwise: None })
    }

    /// Gives the namespace an interface and waits until it works.
    pub(crate) async fn attach(&self, namespaces: &Namespaces) -> io::Result<Attached> {
        if namespaces.user.is_some() {
            may_open_tun()?;
        }
        let mut command = Command::new(&self.program);
        command.args(&self.first_arguments).stderr(Stdio::inherit()).process_group(0).kill_on_drop(true);
        match self.kind {
            Kind::Slirp4netns => self.attach_slirp4netns(command, namespaces).await,
            Kind::Pasta => self.attach_pasta(command, namespaces).await,
        }
    }

    async fn attach_slirp4netns(&self, mut command: Command, namespaces: &Namespaces) -> io::Result<Attached> {
        let (ready, theirs) = StdUnixStream::pair()?;
        let (leash, their_leash) = StdUnixStream::pair()?;
        ready.set_nonblocking(true)?;
        command
            .args(["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"])
            .arg(format!("--cidr={CIDR}"))
            // The standard descriptors serve as the two it wants, as no other can be passed on.
            .args(["--ready-fd=0", "--exit-fd=1"]);
        if let Some(user) = &namespaces.user {
            command.arg(path_option("--userns-path=", user));
        }
        let child = command
            .arg(&namespaces.network)
            .arg("tap0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(their_leash)))
            .spawn()?;
        // Whoever holds the other ends but the program itself would hide its end.
        drop(command);
        let ready = UnixStream::from_std(ready)?;
        self.ready(child, ready, Some(leash)).await
    }

    async fn attach_pasta(&self, mut command: Command, namespaces: &Namespaces) -> io::Result<Attached> {
        command
            .args(["--foreground", "--quiet", "--config-net", "--ipv4-only", "--ns-ifname=tap0", "--mtu=65520"])
            .args(["--no-map-gw", "--tcp-ports=none", "--udp-ports=none", "--tcp-ns=none", "--udp-ns=none"])
            .arg(format!("--address={ADDRESS}"))
            .arg("--netmask=24")
            .arg(format!("--gateway={GATEWAY}"))
            .arg(format!("--dns-forward={DNS}"))
            // It writes its number there once it is ready.
            .arg("--pid=/proc/self/fd/1");
        if let Some(user) = &namespaces.user {
            command.arg(path_option("--userns=", user));
        }
        command.arg(path_option("--netns=", &namespaces.network));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        match child.stdout.take() {
            Some(stdout) => self.ready(child, stdout, None).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits for its first word.
    async fn ready(
        &self,
        mut child: Child,
        mut from: impl AsyncRead + Unpin,
        leash: Option<StdUnixStream>,
    ) -> io::Result<Attached> {
        let name = self.name();
        let mut said = [0; 1];
        match timeout(READY_PATIENCE, from.read(&mut said)).await {
            Ok(Ok(1..)) => Ok(Attached { child, _leash: leash }),
            Ok(Ok(_)) => {
                let how = timeout(Duration::from_secs(1), child.wait()).await;
                let how = how.ok().and_then(Result::ok).map_or_else(String::new, |status| format!(" ({status})"));
                Err(io::Error::other(format!("{name} ended{how}")))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{name} does not get ready"))),
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

fn on_host(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Before, it kept the end of a connection to itself when the other side had ended it first.
fn is_recent(pasta: &Path) -> bool {
    const FIRST: u32 = 20_231_204;
    let said = std::process::Command::new(pasta).arg("--version").stdin(Stdio::null()).output();
    let date = said.ok().and_then(|said| date_in(&String::from_utf8_lossy(&said.stdout)));
    let recent = date.is_some_and(|date| date >= FIRST);
    if !recent {
        tracing::info!(pasta = %pasta.display(), ?date, "this pasta is too old, or does not say how old it is");
    }
    recent
}

/// `pasta 2024_10_30.ee7d0b6`, or `pasta 0.0~git20240220.1e6f92b-1`.
fn date_in(version: &str) -> Option<u32> {
    let plain = version.lines().next()?.replace('_', "");
    let dates = plain.split(|character: char| !character.is_ascii_digit()).filter(|digits| digits.len() == 8);
    dates.filter_map(|digits| digits.parse().ok()).next()
}

/// Either program opens it as this user, and says little when it may not.
fn may_open_tun() -> io::Result<()> {
    const TUN: &str = "/dev/net/tun";
    match std::fs::OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let fix = "as root: `chmod 666 /dev/net/tun`, which the system does by itself as a rule";
            Err(io::Error::other(format!("this user may not open {TUN}; {fix}")))
        }
        Err(error) => Err(io::Error::other(format!("{TUN} cannot be opened ({error}); as root: `modprobe tun`"))),
    }
}

fn path_option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

fn loader(root: &Path) -> Option<PathBuf> {
    ["lib64", "lib"].iter().find_map(|folder| {
        let entries = std::fs::read_dir(root.join(folder)).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")) && path.is_file()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::date_in;

    #[test]
    fn a_pasta_says_how_old_it_is() {
        assert_eq!(date_in("pasta 2024_10_30.ee7d0b6\nCopyright Red Hat"), Some(20_241_030));
        assert_eq!(date_in("pasta 0.0~git20261002.cba3570-1"), Some(20_261_002));
        assert_eq!((date_in("pasta unknown version"), date_in("")), (None, None));
    }
}
