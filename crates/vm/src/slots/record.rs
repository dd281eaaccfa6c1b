//! What is remembered about system images: one small file, which is replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Boots that a new image gets to show that it works.
pub(super) const TRIES: u32 = 3;
/// Of the record's file, as this version writes it.
const FORMAT: u32 = 1;
const FILE: &str = "record.json";
const FRESH: &str = "record.json.new";
/// It is far smaller, unless somebody else wrote it.
const LIMIT: u64 = 64 << 10;
/// Refused images that are remembered; one that was forgotten would only be tried again.
const REFUSALS: usize = 8;
/// What is told of a failure, in characters.
const WHY: usize = 600;

/// Which image it is: the digest of its manifest, which holds those of its files. It is also the name of its folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ImageId(String);

/// A text that is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no system image")]
pub(crate) struct NoImageId(String);

impl TryFrom<String> for ImageId {
    type Error = NoImageId;

    fn try_from(text: String) -> Result<Self, NoImageId> {
        let is_digest = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_digest { Ok(Self(text)) } else { Err(NoImageId(text.chars().take(80).collect())) }
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> Self {
        id.0
    }
}

impl ImageId {
    /// Of the image with this manifest.
    pub(crate) fn of(manifest: &[u8]) -> Self {
        Self(Sha256::digest(manifest).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As much of it as people are shown.
    pub(crate) fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// An image that has to show that it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) image: ImageId,
    /// Boots that were begun, the present one with them.
    pub(super) tries: u32,
    /// How the last one ended, if anybody lived to see it.
    #[serde(default)]
    pub(super) why: Option<String>,
}

/// An image that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) image: ImageId,
    pub(super) tries: u32,
    pub(super) why: String,
}

/// What is known about images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(default)]
    format: u32,
    /// The one that worked last.
    #[serde(default)]
    pub(super) current: Option<ImageId>,
    /// The one that worked before it.
    #[serde(default)]
    pub(super) previous: Option<ImageId>,
    #[serde(default)]
    pub(super) trial: Option<Trial>,
    #[serde(default)]
    pub(super) refused: Vec<Refusal>,
}

impl Record {
    /// What the folder says; without a word, nothing is known.
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        use std::io::Read as _;
        let file = match File::open(folder.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(LIMIT).read_to_end(&mut text)?;
        let record: Self = serde_json::from_slice(&text)?;
        if record.format != FORMAT {
            let why = format!("its format is {}, and this version reads {FORMAT}", record.format);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(record)
    }

    /// Puts it in the place of what was there: whatever happens, one of the two is found afterwards, whole.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&Self { format: FORMAT, ..self.clone() })?;
        let fresh = folder.join(FRESH);
        let mut file = File::create(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join(FILE))?;
        File::open(folder)?.sync_all()
    }

    /// Boots of this image that were begun and of which none is known to have gone well.
    pub(super) fn tries(&self, image: &ImageId) -> u32 {
        self.trial.as_ref().filter(|trial| trial.image == *image).map_or(0, |trial| trial.tries)
    }

    /// How the last of them went wrong.
    pub(super) fn why(&self, image: &ImageId) -> Option<&str> {
        self.trial.as_ref().filter(|trial| trial.image == *image)?.why.as_deref()
    }

    pub(super) fn refusal(&self, image: &ImageId) -> Option<&Refusal> {
        self.refused.iter().find(|refusal| refusal.image == *image)
    }

    /// A boot of a new image begins.
    pub(super) fn begin(&mut self, image: &ImageId) {
        let before = self.trial.take().filter(|trial| trial.image == *image);
        let (tries, why) = before.map_or((0, None), |trial| (trial.tries, trial.why));
        self.trial = Some(Trial { image: image.clone(), tries: tries.saturating_add(1), why });
    }

    /// The boot that was begun is not to count.
    pub(super) fn take_back(&mut self, image: &ImageId) {
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.image == *image) {
            trial.tries = trial.tries.saturating_sub(1);
        }
        self.trial.take_if(|trial| trial.tries == 0);
    }

    /// The boot that was begun went wrong.
    pub(super) fn failed(&mut self, image: &ImageId, why: &str) {
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.image == *image) {
            trial.why = Some(why.chars().take(WHY).collect());
        }
    }

    /// An image that had all its tries is refused from now on.
    pub(super) fn refuse(&mut self, image: &ImageId) {
        let Some(Trial { image, tries, why }) = self.trial.take_if(|trial| trial.image == *image) else { return };
        let why = why.unwrap_or_else(|| "the engine's supervisor was killed while it started".to_owned());
        self.refused.retain(|refusal| refusal.image != image);
        self.refused.push(Refusal { image, tries, why });
        let surplus = self.refused.len().saturating_sub(REFUSALS);
        self.refused.drain(..surplus);
    }

    /// The image works.
    pub(super) fn proven(&mut self, image: &ImageId) {
        if self.current.as_ref() != Some(image) {
            self.previous = self.current.replace(image.clone());
        }
        self.trial.take_if(|trial| trial.image == *image);
        self.refused.retain(|refusal| refusal.image != *image);
    }

    /// Every image may be tried again.
    pub(super) fn forgive(&mut self) {
        self.trial = None;
        self.refused.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ImageId, REFUSALS, Record, TRIES};

    fn image(digit: char) -> ImageId {
        ImageId::try_from(digit.to_string().repeat(64)).unwrap()
    }

    #[test]
    fn what_was_saved_is_found_and_what_is_not_ours_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(Record::load(folder).unwrap(), Record::default());
        let mut record = Record::default();
        record.proven(&image('a'));
        record.begin(&image('b'));
        record.failed(&image('b'), "it panicked");
        record.save(folder).unwrap();
        // A write that was cut off is in nobody's way.
        fs::write(folder.join("record.json.new"), "{").unwrap();
        let found = Record::load(folder).unwrap();
        assert_eq!((found.current, found.trial), (record.current.clone(), record.trial.clone()));
        record.save(folder).unwrap();
        let text = fs::read_to_string(folder.join("record.json")).unwrap();
        let half = &text[..text.len() / 2];
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        let outside = text.replace(image('a').as_str(), "../../../../etc");
        for bad in [half, &newer, &outside, "", "[]"] {
            fs::write(folder.join("record.json"), bad).unwrap();
            assert!(Record::load(folder).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_is_tried_so_often_and_then_refused_until_it_works() {
        let (old, new) = (image('a'), image('b'));
        let mut record = Record::default();
        record.proven(&old);
        for tries in 1..=TRIES {
            record.begin(&new);
            assert_eq!(record.tries(&new), tries);
        }
        record.take_back(&new);
        assert_eq!(record.tries(&new), TRIES - 1);
        record.begin(&new);
        record.refuse(&new);
        assert_eq!((record.tries(&new), record.refusal(&new).unwrap().tries), (0, TRIES));
        assert!(record.refusal(&new).unwrap().why.contains("killed"), "nobody saw why");
        record.begin(&image('c'));
        record.begin(&new);
        assert_eq!(record.tries(&new), 1, "only the last image's tries are counted");
        record.proven(&new);
        assert_eq!((record.current.as_ref(), record.previous.as_ref()), (Some(&new), Some(&old)));
        assert_eq!((record.tries(&new), record.refusal(&new)), (0, None));
        record.proven(&new);
        assert_eq!(record.previous, Some(old));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut record = Record::default();
        for digit in "0123456789abcdef".chars() {
            record.begin(&image(digit));
            record.failed(&image(digit), &"x".repeat(100_000));
            record.refuse(&image(digit));
        }
        assert_eq!(record.refused.len(), REFUSALS);
        assert!(serde_json::to_vec(&record).unwrap().len() < 10_000);
        assert!(record.refusal(&image('f')).is_some());
        record.forgive();
        assert_eq!(record, Record::default());
    }
}
