//! `berth-guest sockets PID`: makes sockets in the network of an engine that runs in a user namespace, for a supervisor
//! that cannot enter it, having many threads. What it made belongs to that network for good; the supervisor uses it.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::error::Error;

/// Serves until the other end of its standard input is closed. Each request is two bytes: `4` or `6`, and `s` for a stream
/// or `d` for datagrams. Each answer is an error's number, and with 0 comes the socket; the first one answers nobody and
/// says that it is there.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let pid: u32 = match arguments {
        [pid] => pid.parse().map_err(|_| Error::Usage(format!("{pid:?} is no process")))?,
        _ => return Err(Error::Usage("one process is wanted".to_owned())),
    };
    let entered = enter(pid);
    answer(entered.as_ref().map(|()| None).map_err(Error::errno))?;
    entered?;
    let stdin = std::io::stdin();
    let mut request = [0; 2];
    loop {
        match nix::unistd::read(stdin.as_fd(), &mut request) {
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(ExitCode::SUCCESS),
            Ok(2) => {
                let made = make(request);
                answer(made.as_ref().map(Some).map_err(|&errno| errno))?;
            }
            Err(Errno::EINTR) => {}
            Ok(_) => return Err(Error::Usage("a request is two bytes".to_owned())),
            Err(source) => return Err(Error::System { what: "reading a request".to_owned(), source }),
        }
    }
}

fn enter(pid: u32) -> Result<(), Error> {
    let open = |name: &str| {
        let path = PathBuf::from(format!("/proc/{pid}/ns/{name}"));
        File::open(&path).map_err(Error::file("cannot open", &path))
    };
    let (user, network) = (open("user")?, open("net")?);
    setns(user, CloneFlags::CLONE_NEWUSER).map_err(Error::system("entering the user namespace"))?;
    setns(network, CloneFlags::CLONE_NEWNET).map_err(Error::system("entering the network namespace"))
}

fn make([family, kind]: [u8; 2]) -> Result<OwnedFd, Errno> {
    let family = match family {
        b'4' => AddressFamily::Inet,
        b'6' => AddressFamily::Inet6,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let kind = match kind {
        b's' => SockType::Stream,
        b'd' => SockType::Datagram,
        _ => return Err(Errno::EPROTOTYPE),
    };
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

fn answer(what: Result<Option<&OwnedFd>, Errno>) -> Result<(), Error> {
    let number = what.as_ref().map_or_else(|&errno| errno as i32, |_| 0).to_ne_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    let passed = what.ok().flatten().map(|socket| [socket.as_fd()]);
    if let Some(passed) = &passed {
        with.push(SendAncillaryMessage::ScmRights(passed));
    }
    rustix::net::sendmsg(std::io::stdin().as_fd(), &[IoSlice::new(&number)], &mut with, SendFlags::NOSIGNAL)
        .map(|_| ())
        .map_err(|error| Error::Io { what: "answering", source: error.into() })
}
