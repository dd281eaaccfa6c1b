use std::io;
use std::path::{Path, PathBuf};

/// Why the guest could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "{0}; usage: berth-guest native|init --root DIR --data DIR --runtime DIR --cgroup NAME [--hostname NAME] [--dns IP] [IDS], \
         or berth-guest vm-init, or berth-guest agent [--stdio], or berth-guest wsl --stdio --data DIR --cgroup NAME, \
         or berth-guest wsl-data --share DIR, or berth-guest map IDS, or berth-guest sockets PID, \
         or berth-guest probe|measure|remove IDS PATH; IDS: --uids LIST --gids LIST --newuidmap FILE --newgidmap FILE"
    )]
    Usage(String),
    #[error("{what}: {source}")]
    System { what: String, source: nix::errno::Errno },
    #[error("{what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("the port cannot be published: {0}")]
    Publish(String),
    #[error("the ids of the user namespace cannot be mapped: {0}")]
    Identities(String),
    #[error("{0}")]
    Disk(String),
    #[error("{0}")]
    Machine(String),
    #[error("dockerd's answer cannot be read: {0}")]
    Answer(&'static str),
}

impl Error {
    /// The system's number for it, where there is one.
    pub(crate) fn errno(&self) -> nix::errno::Errno {
        use nix::errno::Errno;
        match self {
            Self::System { source, .. } => *source,
            Self::File { source, .. } | Self::Io { source, .. } => {
                source.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
            }
            _ => Errno::EIO,
        }
    }

    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |source| Self::System { what: what.into(), source }
    }

    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
