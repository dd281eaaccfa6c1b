//! What can go wrong with an archive.

use std::{io, path::PathBuf};

use super::{Compression, ignore::IgnoreError, report::ExtractReport};
use crate::Error;

/// Failure of reading or writing an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The stream that carries the archive failed.
    #[error("The archive could not be read to its end")]
    Stream(#[source] Box<Error>),
    /// The archive breaks the rules of its format.
    #[error("The archive is damaged at byte {offset}: {why}. Ask for it again, or make it again")]
    Damaged {
        /// Where in the archive.
        offset: u64,
        /// Which rule is broken.
        why: &'static str,
    },
    /// The archive ends in the middle of an entry.
    #[error("The archive ends too early, after {offset} bytes. Ask for it again")]
    Truncated {
        /// Bytes that came.
        offset: u64,
    },
    /// The archive is compressed.
    #[error(
        "The archive is compressed with {0}, and the engine would unpack it with a program of the container. \
         Unpack it first, for example with `{hint}`",
        hint = .0.hint()
    )]
    Compressed(Compression),
    /// The archive holds more than is allowed.
    #[error("Stopped at the limit of {limit} {quota}. Choose a part of it, or raise the limit")]
    Quota {
        /// What there is too much of.
        quota: Quota,
        /// How much is allowed.
        limit: u64,
    },
    /// A file or folder of this computer could not be read or written.
    #[error("Could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder was given as a file, or the other way round.
    #[error("{} is not {expected}. Choose another path", path.display())]
    Unsuitable {
        /// The path.
        path: PathBuf,
        /// What it should have been.
        expected: &'static str,
    },
    /// Files changed their size while they were packed, so the archive holds them padded or cut.
    #[error(
        "{count} files changed while they were packed, the first is {first}. Pack them again when they are at rest"
    )]
    Changed {
        /// How many.
        count: usize,
        /// Name of the first in the archive.
        first: String,
    },
    /// The ignore file cannot be used.
    #[error("The ignore file cannot be used")]
    Ignore(#[from] IgnoreError),
    /// The work was given up, because nobody waits for it or because it failed inside.
    #[error("The work on the archive was given up before its end")]
    Abandoned,
}

impl ArchiveError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// What an archive may have too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quota {
    /// Bytes of content, holes of sparse files included.
    Bytes,
    /// Files, folders and links.
    Entries,
}

impl std::fmt::Display for Quota {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Bytes => "bytes",
            Self::Entries => "entries",
        })
    }
}

/// An extraction that did not come to its end. What it wrote until then stays, always as whole files.
#[derive(Debug, thiserror::Error)]
#[error("The extraction stopped after {} files and {} bytes", report.files, report.bytes)]
pub struct ExtractError {
    /// Why it stopped.
    #[source]
    pub cause: ArchiveError,
    /// What was written until then.
    pub report: Box<ExtractReport>,
}
