//! Connections of the host's to a vsock port.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Command, Stdio};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, getpeername, listen, socket};
use rustix::net::{SocketFlags, accept_with};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::error::Error;

const MODULE: &str = "vmw_vsock_virtio_transport";
const ANYBODY: u32 = u32::MAX;
const HOST: u32 = 2;
const BACKLOG: i32 = 8;

#[derive(Debug)]
pub(super) struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    pub(super) fn bind(port: u32) -> Result<Self, Error> {
        // A kernel that has it built in has no module.
        let mut modprobe = Command::new("/usr/sbin/modprobe");
        let _ = modprobe.args(["-q", MODULE]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let what = "listening for the host";
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None).map_err(Error::system(what))?;
        bind(socket.as_raw_fd(), &VsockAddr::new(ANYBODY, port)).map_err(Error::system(what))?;
        let backlog = Backlog::new(BACKLOG).map_err(Error::system(what))?;
        listen(&socket, backlog).map_err(Error::system(what))?;
        #[expect(
            deprecated,
            reason = "the socket is this value's own and never replaced; what replaces the call is unsafe"
        )]
        AsyncFd::new(socket).map(Self).map_err(Error::io(what))
    }

    /// The next connection of the host's; those of others, who could be containers, are closed.
    pub(super) async fn accept(&self) -> Result<UnixStream, Error> {
        let what = "accepting the host";
        loop {
            let mut guard = self.0.readable().await.map_err(Error::io(what))?;
            let accepted = guard.try_io(|listener| {
                accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(io::Error::from)
            });
            let Ok(accepted) = accepted else { continue };
            let stream = accepted.map_err(Error::io(what))?;
            let peer = getpeername::<VsockAddr>(stream.as_raw_fd()).map_err(Error::system(what))?;
            if peer.cid() == HOST {
                // It is no unix socket, and is read and written as if it were one.
                return UnixStream::from_std(StdUnixStream::from(stream)).map_err(Error::io(what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ANYBODY, Listener};

    /// Nobody can connect here: that takes a machine.
    #[tokio::test]
    async fn it_waits_for_the_host() {
        // Systems without vsock cannot even listen.
        let Ok(listener) = Listener::bind(ANYBODY) else { return };
        assert!(tokio::time::timeout(Duration::from_millis(20), listener.accept()).await.is_err());
    }
}
