use std::io;
use std::path::{Path, PathBuf};

use super::machine::Exit;
use super::qmp::QmpError;
use crate::backend::machine::DiskError;

const INSTALL: &str =
    "install it (Debian, Ubuntu: `qemu-system-x86`; Fedora: `qemu-system-x86-core`; Arch: `qemu-system-x86`)";
const SHORTER: &str = "set XDG_RUNTIME_DIR to a shorter folder";
const OTHER_FOLDER: &str = "choose another folder for the engine's data";
const LOG: &str = "look at the log, and start the engine again";

/// Why a machine cannot be started or driven. Each text says what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QemuError {
    #[error("QEMU was not found ({} in PATH); {INSTALL}", .0.join(" or "))]
    NotInstalled(&'static [&'static str]),
    #[error("{} cannot be used as QEMU: {why}; {INSTALL}", path.display())]
    BadProgram { path: PathBuf, why: String },
    #[error("{} is QEMU {version}, and {minimum} is the oldest that will do; {INSTALL}", path.display())]
    TooOld { path: PathBuf, version: String, minimum: String },
    #[error("{} cannot be given to QEMU: {why}; {OTHER_FOLDER}", path.display())]
    BadPath { path: PathBuf, why: &'static str },
    #[error("the path {} is longer than a socket's path may be ({limit} bytes); {SHORTER}", path.display())]
    SocketPathTooLong { path: PathBuf, limit: usize },
    #[error("a machine with {what} cannot be made; choose another size in the settings")]
    BadSize { what: String },
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("a data disk of {bytes} bytes is never made smaller, and {asked} were asked for")]
    WouldShrink { bytes: u64, asked: u64 },
    #[error("{} cannot be run: {source}; {INSTALL}", path.display())]
    Spawn { path: PathBuf, source: io::Error },
    #[error("QEMU ended before the machine ran: {0}; {LOG}")]
    Ended(Box<Exit>),
    #[error("QEMU did not answer within {seconds} s and was killed; {LOG}")]
    Silent { seconds: f32 },
    #[error("QEMU was not understood and was killed: {0}; {LOG}")]
    Greeting(#[source] QmpError),
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("QEMU (process {pid}) was killed and does not end: the system is busy with its files; wait, or restart")]
    NotReaped { pid: u32 },
    #[error("the agent's socket {} cannot be connected: {source}", path.display())]
    Channel { path: PathBuf, source: io::Error },
}

impl QemuError {
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }

    /// What to do about it, for a failure's `fix`; where the text has it, the text ends with it.
    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::NotInstalled(_) | Self::BadProgram { .. } | Self::TooOld { .. } | Self::Spawn { .. } => INSTALL,
            Self::SocketPathTooLong { .. } => SHORTER,
            Self::BadPath { .. } => OTHER_FOLDER,
            Self::Disk(error) => error.fix(),
            Self::BadSize { .. } | Self::WouldShrink { .. } => "choose another size in the settings",
            _ => LOG,
        }
    }
}
