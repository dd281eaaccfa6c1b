//! Why data could not be forgotten, kept or brought back.

use std::io;
use std::path::{Path, PathBuf};

/// Why data could not be forgotten, kept or brought back, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The engine runs.
    #[error("the engine of {} runs{}; stop it first: `berth engine stop`", data.display(), pid.map_or_else(String::new, |pid| format!(" (process {pid})")))]
    Running {
        /// The data folder.
        data: PathBuf,
        /// Its supervisor.
        pid: Option<u32>,
    },
    /// Nothing in the folder is known to be Berth's.
    #[error("{} is no data folder of Berth's: no engine ever ran there; nothing was removed", .0.display())]
    NotOurs(PathBuf),
    /// Something in the folder leads elsewhere.
    #[error("{} leads elsewhere (a link or a mount), and what is there may be somebody else's; undo that first; nothing was changed", .0.display())]
    LeadsElsewhere(PathBuf),
    /// Something in the folder is not Berth's, so the rest may not be either.
    #[error("{} is not Berth's, so what is beside it may not be either, whatever its name; move it elsewhere first; nothing was removed", .0.display())]
    NotAlone(PathBuf),
    /// There is nothing to keep.
    #[error("{} does not exist: this engine has no data yet", .0.display())]
    NoData(PathBuf),
    /// A machine's disk was to come where the native engine's files are.
    #[error(
        "the data folder has the files of an engine of the backend `native` ({}), and the backup is a machine's disk; restore \
         it into another folder (--data)",
        .0.display()
    )]
    NativeData(PathBuf),
    /// The native engine's files were to come where a machine's disk is.
    #[error(
        "the data folder has the disk of an engine in a machine ({}), and the backup is of the backend `native`; restore it \
         into another folder (--data)",
        .0.display()
    )]
    MachineData(PathBuf),
    /// The data is in a distribution of Windows'.
    #[error(
        "the data of this engine is in the distribution `{0}`, which Windows keeps and brings back: `wsl --export {0} FILE`"
    )]
    Distribution(String),
    /// Folders in folders in folders.
    #[error("{} is nested too deep to be backed up; remove it or move it up", .0.display())]
    TooDeep(PathBuf),
    /// Somebody writes where nobody should.
    #[error("{} was changed by another process while it was read; end that process and try again", .0.display())]
    Changing(PathBuf),
    /// The file system is full.
    #[error("cannot {what} {}: its file system is full; make room, or use another one; nothing was changed", path.display())]
    Full {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
    },
    /// The disk is still open somewhere.
    #[error("{} is in use by another process; wait for it to end, or end it", .0.display())]
    DiskInUse(PathBuf),
    /// The file is there already.
    #[error("{} exists; name another file, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The engine has data.
    #[error("the engine has data ({}); restoring replaces all of it: back it up first, then use --force", .0.display())]
    HasData(PathBuf),
    /// Not enough room.
    #[error("{} has {free} bytes free, and up to {needed} are needed; make room, or use another file system", folder.display())]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// What is free.
        free: u64,
        /// What is needed.
        needed: u64,
    },
    /// The file is no backup.
    #[error("{} is not a backup made by Berth; nothing was changed", .0.display())]
    NotABackup(PathBuf),
    /// Made by a later Berth.
    #[error("{} was made by a newer Berth ({what}); restore it with that version; nothing was changed", path.display())]
    Newer {
        /// The backup.
        path: PathBuf,
        /// What is newer.
        what: String,
    },
    /// It is not as it was written.
    #[error("{} is damaged: {what}; nothing was changed; use another copy of it", path.display())]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Somebody asked to leave off.
    #[error("cancelled; nothing was changed")]
    Cancelled,
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The engine's own files.
    #[error(transparent)]
    Engine(#[from] crate::Error),
}

impl LifeError {
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { what, path },
            _ => Self::File { what, path, source },
        }
    }
}
