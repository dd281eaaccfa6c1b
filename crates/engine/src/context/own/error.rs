//! Why a context could not be written.

use std::{io, path::PathBuf};

use crate::context::ContextProblem;

/// Why a context could not be written, and what to do. Nothing was lost then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextWriteError {
    /// What is there already cannot be read, and so is left alone.
    #[error(transparent)]
    Problem(#[from] ContextProblem),
    /// The user has no home, and no folder is named.
    #[error("it is not known where Docker's configuration is: there is no home folder; name one with DOCKER_CONFIG")]
    NoFolder,
    /// A context with this name exists and is somebody else's.
    #[error(
        "there is a context `{name}` already, which Berth did not make, in {}; it was left alone; rename or remove it \
         (`docker context rm {name}`) if Berth is to make its own",
        path.display()
    )]
    Foreign {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// There is no such context.
    #[error("there is no context `{name}` of Berth's; make it with `berth context create`")]
    NotMade {
        /// Its name.
        name: String,
    },
    /// Docker would not take the name.
    #[error("`{0}` is no name that Docker allows for a context")]
    Name(String),
    /// The engine's address cannot be written down.
    #[error("the engine's address cannot be written into a context: it is not plain text")]
    Address,
    /// A file or folder is another user's.
    #[error(
        "{} belongs to user {owner}, and this is user {user}: what were written there would not be its owner's any more; \
         run this as that user, or name a folder of your own with DOCKER_CONFIG",
        path.display()
    )]
    OtherUser {
        /// Which one.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who this is.
        user: u32,
    },
    /// A link to nothing, whose owner meant something by it.
    #[error("{} is a link that leads nowhere; repair or remove it", .0.display())]
    LeadsNowhere(PathBuf),
    /// Somebody else writes the same file all the time.
    #[error("{} was changed by somebody else again and again; try again", .0.display())]
    Changing(PathBuf),
    /// The system refused.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// What was being done.
        verb: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
