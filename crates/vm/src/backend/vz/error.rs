use std::io;
use std::path::{Path, PathBuf};

use crate::backend::machine::DiskError;

const UPDATE: &str = "update macOS to version 13 or newer";
const SIGN: &str =
    "sign this program with the entitlements in assets/macos/berth.entitlements (docs/guide.md says how)";
const SIZE: &str = "choose other sizes in the settings, and start the engine again";
const RESTART: &str = "stop the engine and start it again";
const LOG: &str = "look at the log, and start the engine again";

/// Why a machine of macOS's cannot be started or driven. Each text says what happened, why, and what to do.
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "only macOS says some of it"))]
#[derive(Debug, thiserror::Error)]
pub(crate) enum VzError {
    #[error("this version of macOS has no machines as Berth needs them; {UPDATE}")]
    TooOld,
    #[error(
        "this computer cannot run machines: Virtualization.framework says that it is not supported here; {RESTART}"
    )]
    Unsupported,
    #[error("this program may not make machines: it has no entitlement com.apple.security.virtualization; {SIGN}")]
    NotEntitled,
    #[error("macOS does not take the machine's configuration: {0}; {SIZE}")]
    Invalid(String),
    #[error("macOS does not {what}: {why}; {LOG}")]
    Failed { what: &'static str, why: String },
    #[error("macOS did not {what} within {seconds} s; {RESTART}")]
    Silent { what: &'static str, seconds: f32 },
    #[error("nobody listens in the guest yet; wait until the engine is ready")]
    Refused,
    #[error("the machine has ended; {LOG}")]
    Gone,
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("a connection to the guest cannot be used: {0}; {RESTART}")]
    Connection(#[source] io::Error),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "macOS cannot make the disk of a machine larger while it runs; stop the engine, and start it with the new size"
    )]
    CannotGrow,
}

impl VzError {
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }

    /// What to do about it, for a failure's `fix`; where the text has it, the text ends with it.
    pub(super) fn fix(&self) -> &'static str {
        match self {
            Self::TooOld => UPDATE,
            Self::NotEntitled => SIGN,
            Self::Invalid(_) => SIZE,
            Self::Unsupported | Self::Silent { .. } | Self::Connection(_) => RESTART,
            Self::Disk(error) => error.fix(),
            _ => LOG,
        }
    }
}
