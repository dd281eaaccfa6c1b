use std::fs::File;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::sync::oneshot;

const QUEUE: usize = 1024;
/// For a helper to make a socket, or to be there.
const HELPER_PATIENCE: Duration = Duration::from_secs(10);

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

    /// The namespace that a helper is in, which this starts and which ends when this is dropped. It is asked over its
    /// standard input, and passes on the sockets it makes.
    pub(crate) fn through(helper: &mut Command) -> io::Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(HELPER_PATIENCE))?;
        ours.set_write_timeout(Some(HELPER_PATIENCE))?;
        // Ctrl-C at a terminal is not meant for it.
        let mut child = helper.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).process_group(0).spawn()?;
        // Their end is the child's alone from here on: its death is then heard.
        helper.stdin(Stdio::null());
        let (wanted, queue) = sync_channel(QUEUE);
        let there = receive(&ours).map(drop);
        let kept = there.is_ok();
        thread::Builder::new().name("engine-network".to_owned()).spawn(move || {
            if kept {
                ask_for_sockets(&mut ours, &queue);
            }
            drop(ours);
            let _ = child.wait();
        })?;
        there.map(|()| Self { wanted })
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

fn ask_for_sockets(helper: &mut UnixStream, queue: &Receiver<Wanted>) {
    for Wanted { family, kind, reply } in queue {
        let family = if family == AddressFamily::Inet6 { b'6' } else { b'4' };
        let kind = if kind == SockType::Datagram { b'd' } else { b's' };
        let made = helper.write_all(&[family, kind]).and_then(|()| receive(helper));
        let made = made.and_then(|socket| socket.ok_or_else(|| io::ErrorKind::InvalidData.into()));
        let gone = made.as_ref().is_err_and(|error| error.raw_os_error().is_none());
        let _ = reply.send(made);
        // A late answer would be taken for the next one.
        if gone {
            return;
        }
    }
}

/// An answer of the helper's: the number of an error, or 0 and, but for the first one, a socket.
fn receive(helper: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut number = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(helper, &mut [IoSliceMut::new(&mut number)], &mut with, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            received => break received?,
        }
    };
    if received.bytes != number.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let passed = with.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    match i32::from_ne_bytes(number) {
        0 => Ok(passed),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn create_sockets(queue: &Receiver<Wanted>) {
    for Wanted { family, kind, reply } in queue {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Whoever asked may be gone by now, and the socket with it.
        let _ = reply.send(socket(family, kind, flags, None).map_err(io::Error::from));
    }
}
