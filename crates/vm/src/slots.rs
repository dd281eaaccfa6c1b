//! Which system image a machine boots from.
//!
//! One that worked is current, and a copy of it is kept in the data folder, for an update replaces what is installed. An
//! installed image that is another one is tried: each boot is written down before it begins, and when three have gone
//! wrong the image is refused, by its digest, and the current one boots again from its copy. See
//! `docs/decisions/007-image-slots.md`.

mod keep;
mod record;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use keep::{Cancel, KeepError};
pub(crate) use record::ImageId;
use record::{Record, TRIES};

use crate::appliance::Appliance;
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::status::RefusedImage;

/// The images of one engine, and what is known about them.
#[derive(Debug)]
pub(crate) struct Slots {
    folder: PathBuf,
    /// Without a machine there is nothing to boot: what is installed is run.
    machine: bool,
    installed: Result<Appliance, Unusable>,
    record: Record,
    /// As it was before this process tried anything.
    at_start: Record,
    /// Why the record there was could not be read.
    unreadable: Option<String>,
    /// The image that worked in this process: another one has to wait for the next.
    settled: Option<ImageId>,
    trying: Option<ImageId>,
    first_try: Option<Instant>,
    /// How the last try in this process went wrong, until an image has worked.
    last_failure: Option<String>,
    /// The tries so far took so long that whoever waits gets the image that works.
    deferred: bool,
}

/// An image to boot from.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) appliance: Appliance,
    /// It has to show that it works, and there is one to go back to.
    pub(crate) trial: bool,
    /// Why it is not the one that is installed, or what else is wrong about images.
    pub(crate) warning: Option<String>,
    pub(crate) refused: Option<RefusedImage>,
}

/// Why an image cannot be booted from.
#[derive(Clone, Debug)]
pub(crate) struct Unusable {
    pub(crate) why: String,
    pub(crate) fix: &'static str,
}

impl From<Error> for Unusable {
    /// The errors' texts end with what to do, which is shown apart.
    fn from(error: Error) -> Self {
        let (text, fix) = (error.to_string(), error.fix());
        let why = text.strip_suffix(&format!("; {fix}")).unwrap_or(&text).to_owned();
        Self { why, fix }
    }
}

impl Choice {
    fn plain(appliance: Appliance) -> Self {
        Self { appliance, trial: false, warning: None, refused: None }
    }
}

impl Slots {
    pub(crate) fn open(paths: &EnginePaths, machine: bool, installed: Result<Appliance, Error>) -> Self {
        let folder = paths.images_folder();
        let loaded = if machine { Record::load(&folder) } else { Ok(Record::default()) };
        let (record, unreadable) = match loaded {
            Ok(record) => (record, None),
            Err(error) => (Record::default(), Some(error.to_string())),
        };
        Self {
            folder,
            machine,
            installed: installed.map_err(Unusable::from),
            at_start: record.clone(),
            record,
            unreadable,
            settled: None,
            trying: None,
            first_try: None,
            last_failure: None,
            deferred: false,
        }
    }

    /// What is installed, whether it will be used or not.
    pub(crate) fn installed(&self) -> Option<&Appliance> {
        self.installed.as_ref().ok()
    }

    /// Where the copies are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says what to boot next, having read all of it; a try is counted, on the disk, before this returns. Blocks.
    ///
    /// # Errors
    ///
    /// What is installed cannot be used, and no copy of what worked is there.
    pub(crate) fn choose(&mut self) -> Result<Choice, Unusable> {
        self.trying = None;
        if !self.machine {
            return self.installed.clone().map(Choice::plain);
        }
        let intact = self.installed.clone().and_then(|found| intact(&found).map(|()| found).map_err(Unusable::from));
        let known = self.settled.as_ref().or(self.record.current.as_ref());
        match intact {
            Ok(appliance) if known.is_none_or(|known| known == appliance.id()) => {
                let warning = self.unreadable.as_ref().map(|why| self.unknown(why));
                Ok(Choice { warning, ..Choice::plain(appliance) })
            }
            Ok(appliance) => Ok(self.between(appliance)),
            Err(Unusable { why, fix }) => {
                let Some(kept) = self.kept(None).find(intact_or_said) else {
                    return Err(Unusable { why, fix });
                };
                let warning = format!(
                    "the installed system image cannot be used ({why}); the one that worked last ({}) is used; {fix}",
                    kept.id().short()
                );
                Ok(Choice { warning: Some(warning), ..Choice::plain(kept) })
            }
        }
    }

    /// Another image is installed than the one that worked last.
    fn between(&mut self, new: Appliance) -> Choice {
        if self.kept(Some(new.id())).next().is_none() {
            // Nothing to go back to: as with the first image ever, what goes wrong is told.
            return Choice::plain(new);
        }
        let mut unwritten = None;
        if self.settled.is_none() && !self.deferred && self.record.refusal(new.id()).is_none() {
            if self.record.tries(new.id()) >= TRIES {
                self.record.refuse(new.id());
                self.save();
            } else {
                match self.begin(new.id()) {
                    Ok(()) => return Choice { trial: true, ..Choice::plain(new) },
                    Err(error) => unwritten = Some(error),
                }
            }
        }
        let Some(kept) = self.kept(Some(new.id())).find(intact_or_said) else { return Choice::plain(new) };
        let (name, old) = (new.id().short(), kept.id().short());
        let warning = match (self.record.refusal(new.id()), unwritten) {
            (_, Some(error)) => format!(
                "the new system image {name} was not tried: its tries cannot be counted ({}: {error}); the one that \
                 worked last ({old}) is used; make {} writable, or room there",
                self.folder.display(),
                self.folder.display()
            ),
            (Some(refusal), None) => format!(
                "the new system image {name} was rolled back: {} starts of it went wrong (the last: {}); the one that \
                 worked before ({old}) is used; install another version of Berth, or have this one tried again: \
                 `berth engine stop`, then `berth engine start --retry-image`",
                refusal.tries, refusal.why
            ),
            (None, None) => format!(
                "the new system image {name} did not start (try {} of {TRIES}: {}); the one that worked last ({old}) is \
                 used, and the new one is tried again at the next start: `berth engine stop`, then `berth engine start`",
                self.record.tries(new.id()),
                self.record.why(new.id()).unwrap_or("nobody saw why")
            ),
        };
        let refused = self.record.refusal(new.id()).map(|refusal| RefusedImage {
            id: refusal.image.as_str().to_owned(),
            tries: refusal.tries,
            why: refusal.why.clone(),
        });
        Choice { warning: Some(warning), refused, ..Choice::plain(kept) }
    }

    fn unknown(&self, why: &str) -> String {
        format!(
            "what was known about system images is lost ({} cannot be read: {why}); the installed one is used, as if it were \
             the first; there is nothing to do",
            self.folder.join("record.json").display()
        )
    }

    /// Copies of what worked, the best first. Their files have the right lengths.
    fn kept<'a>(&'a self, but: Option<&'a ImageId>) -> impl Iterator<Item = Appliance> + use<'a> {
        let settled = self.settled.as_ref();
        let known = settled.into_iter().chain(&self.record.current).chain(&self.record.previous);
        known.filter(move |image| Some(*image) != but).filter_map(|image| keep::find(&self.folder, image).ok())
    }

    fn begin(&mut self, image: &ImageId) -> io::Result<()> {
        let before = self.record.clone();
        self.record.begin(image);
        if let Err(error) = self.try_save() {
            self.record = before;
            return Err(error);
        }
        tracing::info!(image = image.short(), tries = self.record.tries(image), "a new system image is tried");
        self.trying = Some(image.clone());
        self.first_try.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// The boot that [`Slots::choose`] counted went wrong. Another follows, of this image or of the one that works, which
    /// it is at once when the tries have taken longer than `patience`.
    pub(crate) fn failed(&mut self, why: &str, patience: Duration) {
        let Some(image) = self.trying.take() else { return };
        tracing::warn!(
            image = image.short(),
            tries = self.record.tries(&image),
            why,
            "a new system image did not work"
        );
        self.record.failed(&image, why);
        if self.record.tries(&image) >= TRIES {
            self.record.refuse(&image);
        }
        self.save();
        self.last_failure = Some(why.to_owned());
        self.deferred = self.first_try.is_some_and(|first| first.elapsed() > patience);
    }

    /// The boot that was counted says nothing about its image: somebody stopped it, or this computer did not let it.
    pub(crate) fn take_back(&mut self) {
        if let Some(image) = self.trying.take() {
            self.record.take_back(&image);
            self.save();
        }
    }

    /// The image that works did not start either, so what went wrong was not the new one's doing. Says how that failed.
    pub(crate) fn acquit(&mut self) -> Option<String> {
        let why = self.last_failure.take()?;
        self.record.trial.clone_from(&self.at_start.trial);
        self.record.refused.clone_from(&self.at_start.refused);
        self.save();
        Some(why)
    }

    /// The image works: an engine in it has answered. It becomes the current one, and of the copies there are, only its own
    /// and that of the one before it stay. Blocks.
    ///
    /// # Errors
    ///
    /// It cannot be written down, so the next start will not know it.
    pub(crate) fn proven(&mut self, image: &ImageId) -> io::Result<()> {
        self.settled = Some(image.clone());
        self.trying = None;
        // What goes wrong from now on acquits nobody.
        self.last_failure = None;
        if !self.machine {
            return Ok(());
        }
        let before = self.record.clone();
        self.record.proven(image);
        if self.record != before || self.unreadable.is_some() {
            self.try_save()?;
            self.unreadable = None;
        }
        let kept: Vec<_> = self.record.current.iter().chain(&self.record.previous).collect();
        if let Err(error) = keep::prune(&self.folder, &kept) {
            tracing::warn!(%error, folder = %self.folder.display(), "a copy that nobody needs any more is left");
        }
        Ok(())
    }

    /// What cannot be written is tried again from the same place at the next start, which is safe.
    fn save(&self) {
        if let Err(error) = self.try_save() {
            tracing::warn!(%error, folder = %self.folder.display(), "what is known about system images cannot be written");
        }
    }

    fn try_save(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.record.save(&self.folder)
    }
}

/// Keeps a copy of an image that works, so that it is there when an update has replaced it. Blocks, for seconds.
///
/// # Errors
///
/// There is no room, the image was replaced meanwhile, or `cancel` said so.
pub(crate) fn keep_copy(folder: &Path, appliance: &Appliance, cancel: &Cancel) -> Result<(), KeepError> {
    keep::keep(folder, appliance, cancel)
}

/// Lets every image be tried again. The engine must not run.
///
/// # Errors
///
/// It cannot be written down.
pub(crate) fn forgive(paths: &EnginePaths) -> Result<(), Error> {
    let folder = paths.images_folder();
    // One that cannot be read refuses nothing.
    let Ok(record) = Record::load(&folder) else { return Ok(()) };
    let mut forgiving = record.clone();
    forgiving.forgive();
    if forgiving == record {
        return Ok(());
    }
    forgiving.save(&folder).map_err(Error::file("write into", &folder))
}

fn intact(appliance: &Appliance) -> Result<(), Error> {
    appliance.vm()?.verify()
}

fn intact_or_said(kept: &Appliance) -> bool {
    let intact = intact(kept);
    if let Err(error) = &intact {
        tracing::warn!(%error, "the copy of a system image cannot be used");
    }
    intact.is_ok()
}
