//! The system image of an engine's machine: chosen before each start, judged by what comes of it, kept when it works.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{End, Engine, Life, Note};
use crate::appliance::Appliance;
use crate::slots::{Cancel, Choice, KeepError, Slots, Unusable, keep_copy};
use crate::status::{Failure, ImageStatus, State};

/// What is known about images. What is asked of it reads and writes files, so none of it is done here.
#[derive(Clone, Debug)]
pub(in crate::supervisor) struct Images(Arc<Mutex<Slots>>);

impl Images {
    pub(in crate::supervisor) fn new(slots: Slots) -> Self {
        Self(Arc::new(Mutex::new(slots)))
    }

    pub(super) fn installed(&self) -> Option<Appliance> {
        self.take().installed().cloned()
    }

    fn take(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Slots) -> T + Send + 'static) -> io::Result<T> {
        let images = self.clone();
        spawn_blocking(move || work(&mut images.take())).await.map_err(io::Error::other)
    }
}

/// The work that keeps an image: it is written down as the current one, and copied.
pub(super) struct Keeping {
    cancel: Cancel,
    task: JoinHandle<()>,
}

impl Keeping {
    fn begin(images: Images, appliance: Appliance, notes: mpsc::Sender<Note>) -> Self {
        let cancel = Cancel::default();
        let of_task = cancel.clone();
        let task = spawn_blocking(move || {
            let kept = keep(&images, &appliance, &of_task);
            if let Some(outcome) = kept {
                // Nobody listens to a guest that is at its end.
                let _ = notes.blocking_send(Note::Kept(outcome));
            }
        });
        Self { cancel, task }
    }

    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until nothing is written any more.
    pub(super) async fn end(self) {
        self.cancel();
        let _ = self.task.await;
    }
}

/// Keeps a copy, or says why there is none; nothing when it was to leave off.
fn keep(images: &Images, appliance: &Appliance, cancel: &Cancel) -> Option<Option<String>> {
    let folder = {
        let mut slots = images.take();
        let folder = slots.folder().to_path_buf();
        if let Err(error) = slots.proven(appliance.id()) {
            let at = folder.display();
            return Some(Some(format!(
                "it cannot be written down which system image works ({error}), so an update of it could not be rolled back; \
                 make {at} writable, or room there, and start the engine again"
            )));
        }
        folder
    };
    match keep_copy(&folder, appliance, cancel) {
        Ok(()) => Some(None),
        Err(KeepError::Cancelled) => None,
        Err(error) => Some(Some(format!(
            "no copy of the system image is kept, so an update of it could not be rolled back: {error}; it is tried again at \
             the next start"
        ))),
    }
}

impl Engine<'_> {
    /// What the next guest boots from. Where it has to show that it works, that it is tried has been counted.
    pub(super) async fn choose_image(&self) -> Result<Choice, Failure> {
        let chosen = self.given.images.with(Slots::choose).await;
        let chosen =
            chosen.unwrap_or_else(|error| Err(Unusable { why: error.to_string(), fix: "start the engine again" }));
        let choice = chosen.map_err(|Unusable { why, fix }| self.failure(State::Preparing.name(), why, fix))?;
        if self.given.settings.backend.features().machine {
            let image = ImageStatus {
                id: choice.appliance.id().as_str().to_owned(),
                kernel: choice.appliance.manifest().kernel_version.clone(),
                trial: choice.trial,
                kept: false,
                refused: choice.refused.clone(),
            };
            self.tell_image(|status| *status = image);
        }
        Ok(choice)
    }

    /// The engine in it answers for the first time.
    pub(super) fn image_works(&self, life: &mut Life) {
        if life.keeping.is_none() && self.given.settings.backend.features().machine {
            let images = self.given.images.clone();
            life.keeping = Some(Keeping::begin(images, life.appliance.clone(), life.notes.clone()));
            self.tell_image(|image| image.trial = false);
        }
    }

    pub(super) fn image_kept(&self) {
        self.tell_image(|image| image.kept = true);
    }

    /// What the end of a guest means for its image, and for what comes next.
    pub(super) async fn judge_image(&self, trial: bool, life: &Life, end: End) -> End {
        match end {
            End::Failed { failure, outside: false } if trial => {
                let (why, patience) = (failure.cause, life.pace.stages);
                let _ = self.given.images.with(move |slots| slots.failed(&why, patience)).await;
                End::Unproven
            }
            End::Failed { mut failure, outside } => {
                let before = self.given.images.with(|slots| {
                    slots.take_back();
                    slots.acquit()
                });
                if let Ok(Some(why)) = before.await {
                    let also = "; before that, the new system image did not start either: ";
                    failure.cause.push_str(also);
                    failure.cause.push_str(&why);
                }
                End::Failed { failure, outside }
            }
            End::Asked if trial && life.keeping.is_none() => {
                let _ = self.given.images.with(Slots::take_back).await;
                End::Asked
            }
            end => end,
        }
    }

    fn tell_image(&self, change: impl FnOnce(&mut ImageStatus)) {
        self.journal.change(|status| {
            let before = status.image.clone();
            change(status.image.get_or_insert_default());
            status.image != before
        });
    }
}
