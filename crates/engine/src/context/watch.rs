//! Contexts as they change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{Stream, stream};
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{Contexts, DockerConfigFolder, DockerEnvironment, read::CONTEXTS};

/// Quiet after a change before the files are read: `docker context create` writes several.
const QUIET: Duration = Duration::from_millis(150);

/// How long changes without a pause may put off reading.
const PATIENCE: Duration = Duration::from_secs(2);

/// For file systems that tell nothing, such as most on a network.
const SAFETY: Duration = Duration::from_secs(60);

/// The contexts now, and again whenever they have become different ones.
///
/// It is a stream that never ends. What changes while nobody reads it is read at once, later: the latest wins. The folder
/// need not exist yet, may be replaced as a whole, and its files may be written by renaming. Needs a tokio runtime.
pub fn watch_contexts(folder: DockerConfigFolder, environment: DockerEnvironment) -> ContextWatch {
    let state = Watch { folder, environment, changed: Arc::new(Notify::new()), watcher: None, last: None };
    ContextWatch {
        stream: Box::pin(stream::unfold(state, |mut state| async move {
            let contexts = state.next().await;
            Some((contexts, state))
        })),
    }
}

/// See [`watch_contexts`].
pub struct ContextWatch {
    stream: std::pin::Pin<Box<dyn Stream<Item = Contexts> + Send>>,
}

impl fmt::Debug for ContextWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextWatch").finish_non_exhaustive()
    }
}

impl Stream for ContextWatch {
    type Item = Contexts;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Contexts>> {
        self.stream.as_mut().poll_next(cx)
    }
}

struct Watch {
    folder: DockerConfigFolder,
    environment: DockerEnvironment,
    changed: Arc<Notify>,
    /// Kept because it stops when dropped.
    watcher: Option<RecommendedWatcher>,
    last: Option<Contexts>,
}

impl Watch {
    async fn next(&mut self) -> Contexts {
        loop {
            if self.last.is_some() {
                let _ = timeout(SAFETY, self.changed.notified()).await;
                self.settle().await;
            }
            let contexts = self.read().await;
            if self.last.as_ref() != Some(&contexts) {
                self.last = Some(contexts.clone());
                return contexts;
            }
        }
    }

    /// Waits until nothing has changed for a moment.
    async fn settle(&self) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(QUIET) => return,
            }
        }
    }

    /// Watches anew, then reads: what changes in between is noticed, and read once more.
    async fn read(&mut self) -> Contexts {
        let (folder, environment, changed) = (self.folder.clone(), self.environment.clone(), Arc::clone(&self.changed));
        let work = move || {
            let watcher = watch(folder.path(), changed);
            (watcher, Contexts::load(&folder, &environment))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((watcher, contexts)) => {
                self.watcher = watcher;
                contexts
            }
            // Only when the runtime ends, and with it this.
            Err(_) => std::future::pending().await,
        }
    }
}

/// A watcher of every folder in which a file of the contexts may appear, or of as many as can be watched.
///
/// It is made anew after every change: a folder that was replaced by another of the same name is not the watched one
/// any more, which no kernel tells.
fn watch(folder: &Path, changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    let real = real(folder);
    let above = real.clone();
    let told = move |event: Result<notify::Event, notify::Error>| match event {
        Ok(event) if is_reading(event.kind) => {}
        // The nearest folder that exists may be somebody's home, where much happens.
        Ok(event) if !event.paths.is_empty() && !event.paths.iter().any(|path| concerns(path, &above)) => {}
        _ => changed.notify_one(),
    };
    let mut watcher = match notify::recommended_watcher(told) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "changes of Docker's contexts are noticed late");
            return None;
        }
    };
    for path in folders(&real) {
        if let Err(error) = watcher.watch(&path, RecursiveMode::NonRecursive) {
            tracing::debug!(path = %path.display(), %error, "a folder of Docker's contexts is not watched");
        }
    }
    Some(watcher)
}

/// The path without symlinks, as the system names it in events, of a folder that need not exist.
fn real(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    for ancestor in folder.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), folder.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    folder
}

/// Our own reading must not wake us.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn concerns(path: &Path, folder: &Path) -> bool {
    path.starts_with(folder) || folder.starts_with(path)
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    // Above it, the nearest that exists: there the folder appears, and there it is replaced.
    let mut folders: Vec<PathBuf> =
        folder.ancestors().skip(1).find(|above| above.is_dir()).map(Path::to_owned).into_iter().collect();
    let contexts = folder.join("contexts");
    let (metas, certificates) = (contexts.join("meta"), contexts.join("tls"));
    folders.extend([folder.to_owned(), contexts].into_iter().filter(|path| path.is_dir()));
    for (parent, below) in [(metas, ""), (certificates, "docker")] {
        if !parent.is_dir() {
            continue;
        }
        let children = std::fs::read_dir(&parent).into_iter().flatten().flatten().take(CONTEXTS);
        for child in children.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            folders.extend(Some(child.join(below)).filter(|path| !below.is_empty() && path.is_dir()));
            folders.push(child);
        }
        folders.push(parent);
    }
    folders
}
