//! The way out of the engine's network, which is its own: that of the distribution is every distribution's, and its rules
//! and ports are not ours.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::Error;

const PROGRAM: &str = "/usr/bin/slirp4netns";
/// As the native engine's, from the range set aside for benchmarks.
const CIDR: &str = "198.19.93.0/24";
/// Names are answered here, by whomever the distribution asks.
pub(super) const DNS: &str = "198.19.93.3";
const PATIENCE: Duration = Duration::from_secs(10);

/// A way out, for as long as this is held.
pub(super) struct Attached {
    child: Child,
    _leash: UnixStream,
}

/// Gives the network of a process an interface and waits until it works.
pub(super) fn attach(pid: u32) -> Result<Attached, Error> {
    let what = "containers cannot reach other machines";
    if !Path::new(PROGRAM).is_file() {
        return Err(Error::Machine(format!("{what}: the system image has no {PROGRAM}")));
    }
    let (mut ready, theirs) = UnixStream::pair().map_err(Error::io(what))?;
    let (leash, their_leash) = UnixStream::pair().map_err(Error::io(what))?;
    ready.set_read_timeout(Some(PATIENCE)).map_err(Error::io(what))?;
    let child = Command::new(PROGRAM)
        .args(["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"])
        .arg(format!("--cidr={CIDR}"))
        // The standard descriptors serve as the two it wants, as no other can be passed on.
        .args(["--ready-fd=0", "--exit-fd=1"])
        .arg(format!("/proc/{pid}/ns/net"))
        .arg("tap0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(OwnedFd::from(their_leash)))
        .spawn()
        .map_err(Error::io(what))?;
    let attached = Attached { child, _leash: leash };
    match ready.read(&mut [0; 1]) {
        Ok(1..) => Ok(attached),
        Ok(_) => Err(Error::Machine(format!("{what}: {PROGRAM} ended"))),
        Err(error) => Err(Error::Machine(format!("{what}: {PROGRAM} does not get ready ({error})"))),
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
