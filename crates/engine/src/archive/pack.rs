//! Files and folders into an archive.

use std::{
    ffi::OsString,
    future::Future,
    io::{self, Read},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    ArchiveError, EntryKind, Modified, PackReport, Progress, SkipReason, Skips,
    encode::{self, Described},
    header::{BLOCK, padding},
    ignore::DockerIgnore,
    report::short,
    root,
    walk::{Found, Walk, vanished},
    writer::Teller,
};

/// Size of a piece of the stream.
const PIECE: usize = 256 * 1024;

/// Pieces that wait for the one who reads.
const QUEUE: usize = 4;

/// Something to pack.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is. A symbolic link is packed as one.
    pub path: PathBuf,
    /// Its name in the archive; an empty one means the contents of a folder without the folder.
    pub name: OsString,
}

impl Source {
    /// A file or folder under its own name. What has none, such as `/`, stands for its contents.
    #[must_use]
    pub fn named(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().map(OsString::from).unwrap_or_default();
        Self { path, name }
    }
}

/// Who owns the files in the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// root, whoever owns them here.
    #[default]
    Root,
    /// The same as here.
    Keep,
    /// User and group.
    Fixed(u32, u32),
}

/// How to pack.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// Who owns the files in the archive.
    pub owner: Owner,
    /// What is left out of the sources, by their path in the archive.
    pub ignore: Option<DockerIgnore>,
    /// Most files, folders and links, ignored ones included.
    pub entries: usize,
    /// Look at all files first to say how much it will be.
    pub estimate: bool,
    /// A source that is a symbolic link to a folder stands for that folder. Links in it are packed as links.
    pub follow_sources: bool,
    /// Files that are not on the disk: name and content. They come first and take the place of files of that name.
    pub extra: Vec<(String, Bytes)>,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self {
            owner: Owner::default(),
            ignore: None,
            entries: 5_000_000,
            estimate: true,
            follow_sources: false,
            extra: Vec::new(),
        }
    }
}

/// How much an archive will be, if no file changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of content.
    pub content: u64,
    /// Bytes of the archive.
    pub archive: u64,
}

/// An archive that is being made.
#[derive(Debug)]
pub struct Pack {
    /// How much it will be, if that was asked for.
    pub estimate: Option<Estimate>,
    /// The archive. Dropping it ends the work.
    pub stream: PackStream,
    /// What came of it, once the stream is at its end.
    pub outcome: PackOutcome,
}

/// An archive as a stream. After an error it is at its end, without an end marker.
#[derive(Debug)]
pub struct PackStream {
    receiver: mpsc::Receiver<io::Result<Option<Bytes>>>,
    over: bool,
}

impl Stream for PackStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(context).map(|item| match item {
            Some(Ok(Some(bytes))) => Some(Ok(bytes)),
            Some(Ok(None)) => {
                self.over = true;
                None
            }
            Some(Err(error)) => {
                self.over = true;
                Some(Err(error))
            }
            // An archive that lacks its end must never look whole.
            None => {
                self.over = true;
                Some(Err(io::Error::other(ArchiveError::Abandoned)))
            }
        })
    }
}

/// What came of packing: a future that ends after the stream.
#[derive(Debug)]
pub struct PackOutcome {
    receiver: oneshot::Receiver<(Result<(), ArchiveError>, PackReport)>,
}

impl Future for PackOutcome {
    /// [`ArchiveError::Changed`] if files changed their size meanwhile; the archive is whole all the same. The report
    /// says what was packed in either case.
    type Output = (Result<(), ArchiveError>, PackReport);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.receiver).poll(context);
        outcome.map(|outcome| outcome.unwrap_or_else(|_| (Err(ArchiveError::Abandoned), PackReport::default())))
    }
}

/// Makes an uncompressed tar of files and folders, in the order of `sources` and of their names.
///
/// Symbolic links are kept as links and never followed; devices, pipes and sockets are left out and reported. Times are
/// kept to the second.
///
/// # Errors
/// [`ArchiveError::File`] or [`ArchiveError::Unsuitable`] if a source cannot be read, [`ArchiveError::Quota`] if there
/// are too many files. What fails later is an error of the stream and of the outcome.
pub async fn pack(
    sources: Vec<Source>,
    options: PackOptions,
    progress: Option<watch::Sender<Progress>>,
) -> Result<Pack, ArchiveError> {
    let job =
        Job { sources, replaced: options.extra.iter().map(|(name, _)| name.clone().into_bytes()).collect(), options };
    let prepared = tokio::task::spawn_blocking(move || {
        let estimate = if job.options.estimate { Some(job.estimate()?) } else { job.check().map(|()| None)? };
        Ok((job, estimate))
    });
    let (job, estimate) = prepared.await.unwrap_or(Err(ArchiveError::Abandoned))?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (tell, outcome) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut packer = Packer {
            out: Vec::with_capacity(PIECE + BLOCK),
            sender,
            report: PackReport::default(),
            told: Teller::new(progress),
        };
        let result = packer.run(&job);
        let last = match &result {
            // The stream keeps the reason, and the outcome has the whole error.
            Err(error) if !matches!(error, ArchiveError::Changed { .. }) => Err(io::Error::other(error.to_string())),
            _ => Ok(None),
        };
        let _ = packer.sender.blocking_send(last);
        let _ = tell.send((result, packer.report));
    });
    let stream = PackStream { receiver, over: false };
    Ok(Pack { estimate, stream, outcome: PackOutcome { receiver: outcome } })
}

struct Job {
    sources: Vec<Source>,
    options: PackOptions,
    replaced: Vec<Vec<u8>>,
}

impl Job {
    fn walk(&self, source: &Source) -> Result<Walk<'_>, ArchiveError> {
        let options = &self.options;
        Walk::open(source, options.follow_sources, options.entries, options.ignore.as_ref(), &self.replaced)
    }

    fn check(&self) -> Result<(), ArchiveError> {
        self.sources.iter().try_for_each(|source| self.walk(source).map(|_| ()))
    }

    fn estimate(&self) -> Result<Estimate, ArchiveError> {
        let mut estimate = Estimate { archive: 2 * BLOCK as u64, ..Estimate::default() };
        let mut out = Vec::new();
        let mut add = |entry: &Described<'_>| {
            out.clear();
            encode::write(&mut out, entry);
            estimate.entries += 1;
            estimate.content += entry.size;
            estimate.archive += out.len() as u64 + entry.size + padding(entry.size);
        };
        for (name, content) in &self.options.extra {
            add(&extra(name, content));
        }
        for source in &self.sources {
            let mut walk = self.walk(source)?;
            while let Some(found) = walk.next(name_of(source), &mut Skips::default())? {
                let link = if found.status.kind == EntryKind::Symlink {
                    found.folder.read_link(&found.name).unwrap_or_default()
                } else {
                    Vec::new()
                };
                add(&self.describe(&found, &link));
            }
        }
        Ok(estimate)
    }

    fn describe<'a>(&self, found: &'a Found, link: &'a [u8]) -> Described<'a> {
        let status = &found.status;
        let (uid, gid) = match self.options.owner {
            Owner::Root => (0, 0),
            Owner::Keep => (status.uid, status.gid),
            Owner::Fixed(uid, gid) => (uid.into(), gid.into()),
        };
        Described {
            path: &found.path,
            kind: status.kind,
            size: if status.kind == EntryKind::File { status.size } else { 0 },
            mode: status.mode,
            modified: status.modified,
            uid,
            gid,
            link: (status.kind == EntryKind::Symlink).then_some(link),
        }
    }
}

/// The name of a source in the archive, where it has one.
fn name_of(source: &Source) -> Option<&[u8]> {
    root::archive_name(&source.name).filter(|name| !name.is_empty())
}

fn extra<'a>(name: &'a str, content: &Bytes) -> Described<'a> {
    Described {
        path: name.as_bytes(),
        kind: EntryKind::File,
        size: content.len() as u64,
        mode: 0o644,
        modified: Modified::default(),
        uid: 0,
        gid: 0,
        link: None,
    }
}

struct Packer {
    out: Vec<u8>,
    sender: mpsc::Sender<io::Result<Option<Bytes>>>,
    report: PackReport,
    told: Teller,
}

impl Packer {
    fn run(&mut self, job: &Job) -> Result<(), ArchiveError> {
        for (name, content) in &job.options.extra {
            self.begin(&extra(name, content))?;
            for piece in content.chunks(PIECE) {
                self.out.extend_from_slice(piece);
                self.flush(false)?;
            }
            self.end(content.len() as u64);
        }
        for source in &job.sources {
            let mut walk = job.walk(source)?;
            while let Some(found) = walk.next(name_of(source), &mut self.report.skipped)? {
                self.add(job, found, source)?;
            }
        }
        encode::end(&mut self.out);
        self.flush(true)?;
        self.told.tell(&[], true, |_| {});
        match self.report.changed.first() {
            None => Ok(()),
            Some(first) => Err(ArchiveError::Changed { count: self.report.changed_count, first: first.clone() }),
        }
    }

    fn add(&mut self, job: &Job, mut found: Found, source: &Source) -> Result<(), ArchiveError> {
        let failed = |found: &Found| {
            let shown = short(&found.path);
            // The first part stands for the source itself, unless that is packed without its name.
            let beneath =
                if source.name.is_empty() { Some(shown.as_str()) } else { shown.split_once('/').map(|both| both.1) };
            ArchiveError::file("read", beneath.map_or_else(|| source.path.clone(), |beneath| source.path.join(beneath)))
        };
        match found.status.kind {
            EntryKind::File => {
                let (file, status) = match found.folder.open(&found.name) {
                    Err(error) if vanished(&error) => {
                        self.report.skipped.add(&found.path, SkipReason::Vanished);
                        return Ok(());
                    }
                    opened => opened.map_err(failed(&found))?,
                };
                if status.kind != EntryKind::File {
                    self.report.skipped.add(&found.path, SkipReason::Vanished);
                    return Ok(());
                }
                found.status = status;
                self.begin(&job.describe(&found, &[]))?;
                self.content(file, &found, failed(&found))
            }
            EntryKind::Symlink => {
                let link = match found.folder.read_link(&found.name) {
                    Err(error) if vanished(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                        self.report.skipped.add(&found.path, SkipReason::Vanished);
                        return Ok(());
                    }
                    link => link.map_err(failed(&found))?,
                };
                self.begin(&job.describe(&found, &link))
            }
            _ => self.begin(&job.describe(&found, &[])),
        }
    }

    /// Appends exactly as many bytes as the header says, whatever the file does meanwhile.
    fn content(
        &mut self,
        mut file: std::fs::File,
        found: &Found,
        failed: impl FnOnce(io::Error) -> ArchiveError,
    ) -> Result<(), ArchiveError> {
        let size = found.status.size;
        let mut left = size;
        let mut ended = false;
        while left > 0 {
            let room = PIECE.saturating_sub(self.out.len()).max(1) as u64;
            let wanted = left.min(room);
            let before = self.out.len();
            if !ended && let Err(error) = (&mut file).take(wanted).read_to_end(&mut self.out) {
                return Err(failed(error));
            }
            let read = (self.out.len() - before) as u64;
            if read < wanted {
                ended = true;
                self.out.resize(before + usize::try_from(wanted).unwrap_or(PIECE), 0);
            }
            left -= wanted;
            self.flush(false)?;
            self.told.tell(&[], false, |progress| progress.bytes += wanted);
        }
        let mut more = [0];
        let changed = ended || matches!(file.read(&mut more), Ok(1));
        if changed {
            self.report.add_changed(&found.path);
        }
        self.end(size);
        Ok(())
    }

    fn begin(&mut self, entry: &Described<'_>) -> Result<(), ArchiveError> {
        self.flush(false)?;
        encode::write(&mut self.out, entry);
        self.report.entries += 1;
        let entries = self.report.entries;
        self.told.tell(entry.path, false, |progress| progress.entries = entries);
        Ok(())
    }

    fn end(&mut self, size: u64) {
        encode::pad(&mut self.out, size);
        self.report.bytes += size;
    }

    /// Hands on what is there, if it is enough for a piece or `all` of it is to go.
    fn flush(&mut self, all: bool) -> Result<(), ArchiveError> {
        if self.out.len() < PIECE && (self.out.is_empty() || !all) {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.out, Vec::with_capacity(PIECE + BLOCK));
        self.sender.blocking_send(Ok(Some(piece.into()))).map_err(|_| ArchiveError::Abandoned)
    }
}
