//! Changes of shared folders on this computer, told to the machine, so that those in its containers wake who watch files.
//!
//! Watched are the folders that running containers have mounted, and only while they run. What changed is collected until
//! it has been quiet for a moment, and its paths are sent to the agent, which makes the guest's kernel tell of them
//! (`guest::agent::files`). The agent sets times; that is no change to the watches here, and cannot come back as one.

mod containers;
mod pending;
mod shared;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use berth_mux::control::{Fault, FaultCode, Request};
use berth_mux::{ControlError, ControlSender, Opener};
use rustix::io::Errno;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backend::machine::{Companion, Doing};
use crate::backend::{GuestEvent, Share};
use crate::status::FileEventsStatus;
use containers::{follow, mounted};
use pending::Pending;
use shared::Shared;
use tree::{Heard, Tree};

/// Thousands of files on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many folders are watched is told no more often.
const TOLD_PAUSE: Duration = Duration::from_secs(5);
const BUFFER: usize = 64 << 10;
/// The kernel does not cut an event in two: what does not fill the buffer but for one may be all there is.
const LONGEST_EVENT: usize = 512;

/// Why watchers are not woken.
#[derive(Debug, thiserror::Error)]
enum FileEventsError {
    #[error(
        "this computer does not let its folders be watched ({0}); if there are too many who watch \
         (fs.inotify.max_user_instances), allow more, and start the engine again"
    )]
    Watch(io::Error),
    #[error("the system image is older than Berth and does not know how; update it")]
    Old,
    #[error("the engine no longer tells which containers run")]
    Over,
    #[error("the work ended early: {0}")]
    Work(#[from] tokio::task::JoinError),
}

/// What is done for one machine.
#[derive(Clone, Debug)]
pub(super) struct FileEvents {
    shares: Vec<Share>,
}

impl FileEvents {
    /// None where it is not wanted, or nothing is shared that could be told of: in a folder that is only to be read, the
    /// guest has no way to make an event.
    pub(super) fn new(shares: &[Share], wanted: bool) -> Option<Self> {
        let shares: Vec<Share> = shares.iter().filter(|share| !share.read_only).cloned().collect();
        (wanted && !shares.is_empty()).then_some(Self { shares })
    }

    /// Watches and tells until the session or its dockerd ends.
    async fn watch(self, opener: Opener, control: ControlSender, tell: mpsc::Sender<GuestEvent>) {
        let Err(why) = self.serve(&opener, &control, &tell).await;
        match why {
            FileEventsError::Over => tracing::debug!(%why, "file events"),
            why => {
                tracing::warn!(%why, "changes of shared folders wake nobody");
                let note = Some(format!("no watcher is woken: {why}"));
                let status = FileEventsStatus { on: false, folders: 0, note };
                let _ = tell.send(GuestEvent::FileEvents(status)).await;
            }
        }
    }

    async fn serve(
        self,
        opener: &Opener,
        control: &ControlSender,
        tell: &mpsc::Sender<GuestEvent>,
    ) -> Result<std::convert::Infallible, FileEventsError> {
        let shares = self.shares;
        let tree = tokio::task::spawn_blocking(move || Tree::new(Shared::open(&shares))).await?;
        let mut tree = tree.map_err(FileEventsError::Watch)?;
        // An inotify is no pipe, and what is done with a pipe is what can be done with it.
        let same = tree.inotify().as_fd().try_clone_to_owned().map_err(FileEventsError::Watch)?;
        let mut events = pipe::Receiver::from_file_unchecked(File::from(same)).map_err(FileEventsError::Watch)?;
        let mut buffer = vec![0; BUFFER];
        let changed = Notify::new();
        let mut following = std::pin::pin!(follow(opener, &changed));
        let mut pending = Pending::default();
        // One request at a time: what a slow guest has not done yet is collected here, within a bound.
        let mut sending = JoinSet::new();
        let mut voice = Voice { tell, told: FileEventsStatus { on: true, ..FileEventsStatus::default() }, at: None };
        let mut unknown = None;
        let mut more = false;
        loop {
            tokio::select! {
                over = &mut following => {
                    if let Err(error) = over {
                        tracing::debug!(%error, "containers are not followed");
                    }
                    return Err(FileEventsError::Over);
                }
                () = changed.notified() => {
                    unknown = match mounted(opener).await {
                        Ok(sources) => {
                            tree = with(tree, move |tree| tree.aim(&sources)).await?;
                            None
                        }
                        Err(error) => Some(format!("which folders containers have mounted is not known: {error}")),
                    };
                    voice.say(&tree, unknown.as_ref()).await;
                }
                read = read(&mut events, tree.inotify().as_fd(), &mut buffer, more) => {
                    let read = read.map_err(FileEventsError::Watch)?;
                    more = read.saturating_add(LONGEST_EVENT) > BUFFER;
                    let mut heard = Heard::default();
                    tree.hear(buffer.get(..read).unwrap_or_default(), &mut heard);
                    if heard.is_more() {
                        let explored = with((tree, heard), |(tree, heard)| tree.explore(heard)).await?;
                        (tree, heard) = explored;
                    }
                    let now = Instant::now();
                    heard.changed.into_iter().for_each(|path| pending.add(path, now));
                }
                () = until(pending.due()), if sending.is_empty() => {
                    let paths = pending.take(Instant::now());
                    if !paths.is_empty() {
                        tracing::debug!(count = paths.len(), "files changed");
                        let control = control.clone();
                        sending.spawn(async move { control.request(Request::FilesChanged { paths }, PATIENCE).await });
                    }
                }
                Some(sent) = sending.join_next() => match sent? {
                    Ok(_) => {}
                    Err(ControlError::Fault(Fault { code: FaultCode::UnknownMethod, .. })) => {
                        return Err(FileEventsError::Old);
                    }
                    Err(error) => tracing::debug!(%error, "watchers were not woken"),
                },
                () = until(voice.due(&tree)) => voice.say(&tree, unknown.as_ref()).await,
            }
        }
    }
}

impl Companion for FileEvents {
    fn run(&self, opener: Opener, control: ControlSender, tell: mpsc::Sender<GuestEvent>) -> Doing<'static, ()> {
        Box::pin(self.clone().watch(opener, control, tell))
    }
}

/// What is told of it before a container runs; nothing where nothing is shared.
pub(super) fn status(shares: &[Share], events: Option<&FileEvents>) -> Option<FileEventsStatus> {
    let on = events.is_some();
    (!shares.is_empty()).then(|| FileEventsStatus { on, ..FileEventsStatus::default() })
}

/// What is on and how far, for the status.
struct Voice<'a> {
    tell: &'a mpsc::Sender<GuestEvent>,
    told: FileEventsStatus,
    at: Option<Instant>,
}

impl Voice<'_> {
    /// When there is something new to tell.
    fn due(&self, tree: &Tree) -> Option<Instant> {
        let same = self.told.folders == tree.folders();
        if same { None } else { self.at.map(|at| at + TOLD_PAUSE) }
    }

    async fn say(&mut self, tree: &Tree, unknown: Option<&String>) {
        let note = unknown.cloned().or_else(|| tree.note());
        let now = FileEventsStatus { on: true, folders: tree.folders(), note };
        if now.note != self.told.note
            && let Some(note) = &now.note
        {
            tracing::warn!(note, "file events");
        }
        self.at = Some(Instant::now());
        self.told = now.clone();
        let _ = self.tell.send(GuestEvent::FileEvents(now)).await;
    }
}

/// Does what may take the disk's time where it holds up nobody.
async fn with<T: Send + 'static>(
    mut subject: T,
    work: impl FnOnce(&mut T) + Send + 'static,
) -> Result<T, FileEventsError> {
    let done = tokio::task::spawn_blocking(move || {
        work(&mut subject);
        subject
    });
    Ok(done.await?)
}

/// Reads events. What comes after a buffer that was full is no event to the runtime, which waits for news: it is `more`.
async fn read(events: &mut pipe::Receiver, same: BorrowedFd<'_>, buffer: &mut [u8], more: bool) -> io::Result<usize> {
    if more {
        match rustix::io::read(same, &mut *buffer) {
            Err(Errno::WOULDBLOCK) => {}
            read => return Ok(read?),
        }
    }
    events.read(buffer).await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
