//! The virtio port to the host, as a stream of bytes.
//!
//! While the host is away, reading gives an end at once; that is the end of a session, not of the port.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::OFlag;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::Error;

const NAME: &str = "berth.agent.0";

/// The device of the port. Its number depends on what else the machine has.
fn find() -> Result<PathBuf, Error> {
    let ports = Path::new("/sys/class/virtio-ports");
    for entry in fs::read_dir(ports).map_err(Error::file("cannot read", ports))?.flatten() {
        if fs::read_to_string(entry.path().join("name")).unwrap_or_default().trim() == NAME {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(Error::Machine(format!("the machine has no port {NAME}")))
}

/// Opens the port for good: a host takes one that is closed for a machine without an agent.
pub(super) fn open() -> Result<File, Error> {
    let device = find()?;
    File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&device)
        .map_err(Error::file("cannot open", &device))
}

/// The port for one session.
#[derive(Debug)]
pub(super) struct Port(AsyncFd<File>);

impl Port {
    pub(super) fn of(device: &File) -> Result<Self, Error> {
        let device = device.try_clone().map_err(Error::io("using the port to the host"))?;
        #[expect(
            deprecated,
            reason = "the file is this value's own and never replaced; what replaces the call is unsafe"
        )]
        AsyncFd::new(device).map(Self).map_err(Error::io("using the port to the host"))
    }
}

// Not as tokio's own pipes do it: they take a read that fills less than its buffer for the last there is, and a port gives
// one buffer of the host's at a time.
impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            // Of the moment when it was taken: the host may have come back since. tokio holds it to be for good, and would ask
            // again and again; for a session it is the end.
            let gone = guard.ready().is_read_closed();
            let space = buffer.initialize_unfilled();
            match guard.try_io(|device| device.get_ref().read(space)) {
                Ok(read) => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) if gone => return Poll::Ready(Ok(())),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            let gone = guard.ready().is_write_closed();
            match guard.try_io(|device| device.get_ref().write(bytes)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) if gone => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
