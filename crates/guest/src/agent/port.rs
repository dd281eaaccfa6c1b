//! The virtio port to the host, as a stream of bytes.
//!
//! While the host is away, reading gives an end at once; that is the end of a session, not of the port.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

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

/// The port for one session. It is no pipe, and what is done with a pipe is what can be done with it.
pub(super) fn stream(device: &File) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Error> {
    let what = "using the port to the host";
    let end = || device.try_clone().map_err(Error::io(what));
    let read = pipe::Receiver::from_file_unchecked(end()?).map_err(Error::io(what))?;
    let write = pipe::Sender::from_file_unchecked(end()?).map_err(Error::io(what))?;
    Ok(tokio::io::join(read, write))
}
