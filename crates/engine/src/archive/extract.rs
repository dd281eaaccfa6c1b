//! An archive into a folder.

use std::{ffi::OsString, path::Path};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};

use super::{ArchiveError, ExtractError, ExtractReport, NameRules, Progress, writer::Writer};
use crate::Error;

/// Pieces of the stream that wait for the disk.
const QUEUE: usize = 16;

/// What to do with files that were in the folder before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// The archive's file takes its place; a folder is never replaced.
    #[default]
    Replace,
    /// It is kept, and the archive's file is left out.
    Keep,
}

/// Which symbolic links are made. None is ever followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Those that stay in the folder.
    #[default]
    Inside,
    /// All, as written. Other programs may follow them out of the folder later.
    All,
    /// None.
    None,
}

/// How much may be extracted. For a limit in time, drop the future.
#[derive(Clone, Debug)]
pub struct ExtractLimits {
    /// All files together, in bytes, holes included. More stops the extraction.
    pub bytes: u64,
    /// Entries in the archive. More stop the extraction.
    pub entries: u64,
    /// A single file, in bytes, holes included. A larger one is left out.
    pub file: u64,
    /// Names in a path. A path of as many, or more, is left out.
    pub depth: usize,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 2_000_000, file: 64 << 30, depth: 4_096 }
    }
}

/// How to extract.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// How much.
    pub limits: ExtractLimits,
    /// Which names are refused.
    pub names: NameRules,
    /// What becomes of files that are there.
    pub existing: Existing,
    /// Which symbolic links are made.
    pub symlinks: Symlinks,
    /// Another name for the first part of every path: `Save as`.
    pub rename: Option<OsString>,
    /// Permission bits that are taken from the archive. Setuid, setgid and sticky bits never are.
    pub mode_mask: u32,
    /// Take owner and group from the archive, which needs privileges.
    pub ownership: bool,
    #[doc(hidden)]
    pub walk_by_name: bool,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            limits: ExtractLimits::default(),
            names: NameRules::default(),
            existing: Existing::default(),
            symlinks: Symlinks::default(),
            rename: None,
            mode_mask: 0o755,
            ownership: false,
            walk_by_name: false,
        }
    }
}

/// Between the stream and the thread that writes.
pub(super) enum Feed {
    Bytes(Bytes),
    /// The stream came to its end; without this, it was given up.
    End,
}

/// Extracts an uncompressed tar into a folder that exists, and touches nothing outside it.
///
/// A file gets its name when its content is complete. Dropping the future ends the work at the next piece and leaves
/// whole files only. Extended attributes are not restored.
///
/// # Errors
/// [`ExtractError`] with what was written until then: the stream failed, the archive is damaged, a quota was reached,
/// or the disk could not be written.
pub async fn extract<S>(
    stream: S,
    destination: &Path,
    options: &ExtractOptions,
    progress: Option<watch::Sender<Progress>>,
) -> Result<ExtractReport, ExtractError>
where
    S: Stream<Item = Result<Bytes, Error>>,
{
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let (destination, options) = (destination.to_path_buf(), options.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut report = ExtractReport::default();
        let result = Writer::open(&destination, &options, progress, &mut report)
            .and_then(|writer| writer.run(|| receiver.blocking_recv()));
        (result, Box::new(report))
    });
    let mut stream = std::pin::pin!(stream);
    let mut failure = None;
    loop {
        let feed = match stream.next().await {
            Some(Ok(bytes)) => Feed::Bytes(bytes),
            Some(Err(error)) => {
                failure = Some(ArchiveError::Stream(Box::new(error)));
                break;
            }
            None => Feed::End,
        };
        let last = matches!(feed, Feed::End);
        // The other side closes only when it failed, and says below with what.
        if sender.send(feed).await.is_err() || last {
            break;
        }
    }
    drop(sender);
    let Ok((result, report)) = work.await else {
        return Err(ExtractError { cause: ArchiveError::Abandoned, report: Box::default() });
    };
    match (failure, result) {
        (None, Ok(())) => Ok(*report),
        (Some(cause), _) | (None, Err(cause)) => Err(ExtractError { cause, report }),
    }
}
