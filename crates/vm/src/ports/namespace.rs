use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::sync::oneshot;

const QUEUE: usize = 1024;

struct Wanted {
    family: AddressFamily,
    kind: SockType,
    reply: oneshot::Sender<io::Result<OwnedFd>>,
}

/// Sockets inside another network namespace. A socket belongs for good to the namespace it was created in, so one
/// thread that lives there is enough: it creates them, everyone else uses them.
#[derive(Debug)]
pub(crate) struct NetworkNamespace {
    wanted: SyncSender<Wanted>,
}

impl NetworkNamespace {
    /// Enters the namespace of that file with a thread, which leaves when this is dropped.
    pub(crate) fn enter(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let (wanted, queue) = sync_channel(QUEUE);
        let (entered, has_entered) = sync_channel(1);
        thread::Builder::new().name("engine-network".to_owned()).spawn(move || {
            let result = setns(&file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            let is_in = result.is_ok();
            if entered.send(result).is_ok() && is_in {
                create_sockets(&queue);
            }
        })?;
        has_entered.recv().map_err(io::Error::other)??;
        Ok(Self { wanted })
    }

    /// A non-blocking socket that can reach that address from within.
    pub(crate) async fn socket(&self, to: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
        let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let (reply, answer) = oneshot::channel();
        self.wanted.try_send(Wanted { family, kind, reply }).map_err(|error| match error {
            TrySendError::Full(_) => io::Error::from(io::ErrorKind::WouldBlock),
            TrySendError::Disconnected(_) => io::Error::from(io::ErrorKind::NotConnected),
        })?;
        answer.await.map_err(io::Error::other)?
    }
}

fn create_sockets(queue: &Receiver<Wanted>) {
    for Wanted { family, kind, reply } in queue {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Whoever asked may be gone by now, and the socket with it.
        let _ = reply.send(socket(family, kind, flags, None).map_err(io::Error::from));
    }
}
