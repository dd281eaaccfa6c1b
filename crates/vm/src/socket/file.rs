//! The file of a socket: there at once with the right mode, never another's, and gone with its owner.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use crate::error::Error;

/// The file of a socket that this process listens on. Removed when dropped, unless another took its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens under another name, and takes the path when everything is right: nobody finds a socket that is half made.
pub(super) async fn bind(path: &Path) -> Result<(SocketFile, UnixListener), Error> {
    refuse_to_replace(path).await?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(Error::file("listen on", path))?;
    let place = || {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let identity = identity(&fresh)?;
        fs::rename(&fresh, path)?;
        Ok(identity)
    };
    match place() {
        Ok(identity) => Ok((SocketFile { path: path.to_owned(), identity }, listener)),
        Err(source) => {
            let _ = fs::remove_file(&fresh);
            Err(Error::file("listen on", path)(source))
        }
    }
}

/// Only a socket that refuses connections is nobody's.
async fn refuse_to_replace(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("look at", path)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // That it listens is the credential's: it is the listener's, from when it began to listen.
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
            Err(Error::SocketTaken { path: path.to_owned(), pid })
        }
        // Such as one whose queue is full.
        Err(_) => Err(Error::SocketTaken { path: path.to_owned(), pid: None }),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
