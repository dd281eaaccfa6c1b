use std::io;
use std::path::{Path, PathBuf};

use crate::appliance::ImageProblem;
use crate::backend::Missing;
use crate::status::Failure;

/// Why the engine could not be started, stopped or asked. Each text says what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine that was asked for is root's.
    #[error(
        "this engine belongs to root; use `sudo berth engine …`, an engine of your own with --data, or one that already runs with `--engine URL`"
    )]
    NeedsRoot,
    /// The native engine cannot be run without root here.
    #[error(transparent)]
    Rootless(#[from] Missing),
    /// Sockets have no place that is this user's.
    #[error(
        "there is no folder for the engine's sockets: {} cannot be made ({source}); log in with a session of your own, or set \
         XDG_RUNTIME_DIR to a folder that only you may enter",
        folder.display()
    )]
    NoRuntimeFolder {
        /// Where it was to be.
        folder: PathBuf,
        /// Why it is not.
        source: io::Error,
    },
    /// No appliance was found.
    #[error("the engine's appliance was not found ({}); {}", looked_in(.0), crate::appliance::FIX)]
    NoAppliance(Vec<PathBuf>),
    /// An appliance was found and is not usable.
    #[error("the appliance in {} cannot be used: {why}; {}", path.display(), crate::appliance::FIX)]
    BadAppliance {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file that a machine boots from is not what was built.
    #[error("{} of the appliance cannot be used: {problem}; {}", path.display(), crate::appliance::FIX)]
    BadImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: ImageProblem,
    },
    /// A program that belongs to Berth is missing.
    #[error("`{name}` was not found next to {}; reinstall Berth, or run `cargo build`", next_to.display())]
    MissingProgram {
        /// Its file name.
        name: &'static str,
        /// The program that was to start it.
        next_to: PathBuf,
    },
    /// Another system's backend was asked for.
    #[error("the backend `{backend}` needs {needs}; use `--backend {instead}` on this computer")]
    OtherSystem {
        /// Its name.
        backend: &'static str,
        /// On what it runs.
        needs: &'static str,
        /// What runs here.
        instead: &'static str,
    },
    /// What is to be done with the distributions was not.
    #[error(transparent)]
    Wsl(#[from] berth_wsl::Error),
    /// The engine cannot be run as was asked.
    #[error("{0}")]
    BadSettings(String),
    /// The supervisor was asked for something that could not be done.
    #[error("it was not done: {0}")]
    NotDone(String),
    /// Neither variable says where the user's data is.
    #[error("there is no place for the engine's data: neither XDG_DATA_HOME nor HOME is set; name one with --data")]
    NoDataFolder,
    /// A socket's path does not fit into its address.
    #[error(
        "the path {} is longer than a socket's path may be ({limit} bytes); set XDG_RUNTIME_DIR to a shorter folder",
        path.display()
    )]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// How long it may be.
        limit: usize,
    },
    /// Another program listens where the engine's socket is to be.
    #[error("{} belongs to {}, which listens on it; end that program, or use another data folder with --data", path.display(), pid.map_or_else(|| "another program".to_owned(), |pid| format!("process {pid}")))]
    SocketTaken {
        /// The socket.
        path: PathBuf,
        /// The process that listens on it.
        pid: Option<i32>,
    },
    /// Something else is where the engine's socket is to be.
    #[error("{} is where the engine's socket is to be, and is no socket; move it away", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// Another supervisor holds the data folder.
    #[error("the engine of {} is already run by process {}", data.display(), pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()))]
    Locked {
        /// The data folder.
        data: PathBuf,
        /// The supervisor's process.
        pid: Option<u32>,
    },
    /// A reset was cut off, and what is left is not whole.
    #[error("a reset of this engine was not finished ({} is left of it); finish it: `berth engine reset --all`", folder.display())]
    HalfReset {
        /// Where the data was moved that is being removed.
        folder: PathBuf,
    },
    /// The supervisor holds its lock and does not speak.
    #[error("the engine's supervisor (process {}) does not answer: {why}; end that process and start the engine again", pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()))]
    NotAnswering {
        /// The supervisor's process.
        pid: Option<u32>,
        /// What was seen.
        why: String,
    },
    /// The supervisor ended before it could be asked anything.
    #[error("the engine's supervisor ended at once: {}", last_line(.log))]
    SupervisorEnded {
        /// The end of its log.
        log: Vec<String>,
    },
    /// The supervisor ended, or was killed, in the middle of a question.
    #[error("the engine's supervisor ended while it was asked; ask again")]
    HungUp,
    /// Somebody stopped it before it was ready.
    #[error("the engine was stopped while it was starting; start it again if that was not meant")]
    StoppedMeanwhile,
    /// The engine did not start.
    #[error("the engine failed while {}: {}; {}", .0.stage, .0.cause, .0.fix)]
    Failed(Box<Failure>),
    /// The supervisor and this program do not understand each other.
    #[error(
        "the engine's supervisor was not understood: {0}; stop the engine with the version of Berth that started it"
    )]
    Protocol(String),
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else the system refused.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// What to do about it, for a failure's `fix`.
    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::NeedsRoot => "use `sudo berth engine …`, an engine of your own with --data, or `--engine URL`",
            Self::NoRuntimeFolder { .. } => "set XDG_RUNTIME_DIR to a folder that only you may enter",
            Self::NoAppliance(_) | Self::BadAppliance { .. } | Self::BadImage { .. } => crate::appliance::FIX,
            Self::MissingProgram { .. } => "reinstall Berth, or run `cargo build`",
            Self::Wsl(error) => error.fix(),
            Self::SocketTaken { .. } => "end that program, or use another data folder with --data",
            Self::NotASocket { .. } => "move it away",
            Self::SocketPathTooLong { .. } => "set XDG_RUNTIME_DIR to a shorter folder",
            _ => "look at the log, and start the engine again",
        }
    }
}

fn looked_in(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("looked in {}", paths.join(", "))
}

fn last_line(log: &[String]) -> &str {
    log.last().map_or("it left no message", String::as_str)
}
