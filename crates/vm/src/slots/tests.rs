//! Which image is chosen, and what is kept.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::record::{Record, TRIES};
use super::{Cancel, Choice, KeepError, Slots, keep_copy};
use crate::appliance::Appliance;
use crate::error::Error;
use crate::paths::EnginePaths;

const PATIENCE: Duration = Duration::from_secs(3600);

/// An appliance whose files are what its manifest says, and nothing more.
pub(crate) fn appliance(folder: &Path, recipe: &str, protocol: u32) -> Appliance {
    fs::create_dir_all(folder.join("root/usr/sbin")).unwrap();
    fs::write(folder.join("root/usr/sbin/dockerd"), "").unwrap();
    let mut files = serde_json::Map::new();
    for name in ["vmlinux", "initramfs", "os.erofs"] {
        fs::write(folder.join(name), name).unwrap();
        let sha256: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        files.insert(name.to_owned(), serde_json::json!({ "size": name.len(), "sha256": sha256 }));
    }
    let manifest = serde_json::json!({
        "format": 2, "suite": "s", "architecture": std::env::consts::ARCH, "recipe": recipe, "kernel_version": "7",
        "kernel_command_line": "quiet", "agent_protocol": protocol, "files": files,
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    Appliance::open(folder).unwrap()
}

/// A data folder, in which each call is a new supervisor.
struct Ground {
    folder: tempfile::TempDir,
    paths: EnginePaths,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let paths = EnginePaths::with_runtime(&data, Some(folder.path().to_path_buf())).unwrap();
        Self { folder, paths }
    }

    fn image(&self, name: &str) -> Appliance {
        appliance(&self.folder.path().join(name), name, 1)
    }

    fn slots(&self, installed: Result<Appliance, Error>) -> Slots {
        Slots::open(&self.paths, true, installed)
    }

    /// The image boots, works and is kept.
    fn works(&self, image: &Appliance) {
        let mut slots = self.slots(Ok(image.clone()));
        slots.choose().unwrap();
        slots.proven(image.id()).unwrap();
        keep_copy(slots.folder(), image, &Cancel::default()).unwrap();
    }

    fn record(&self) -> Record {
        Record::load(&self.paths.images_folder()).unwrap()
    }

    fn copies(&self) -> Vec<String> {
        let entries = fs::read_dir(self.paths.images_folder()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "record.json");
        names.sort();
        names
    }

    fn copy(&self, image: &Appliance) -> PathBuf {
        self.paths.images_folder().join(image.id().as_str())
    }
}

fn booted(choice: &Choice, image: &Appliance) -> bool {
    choice.appliance.id() == image.id() && choice.appliance.vm().unwrap().verify().is_ok()
}

fn warning(choice: &Choice) -> &str {
    choice.warning.as_deref().unwrap_or_default()
}

#[test]
fn the_first_image_ever_has_nothing_behind_it() {
    let ground = Ground::new();
    let image = ground.image("a");
    for _ in 0..=TRIES {
        let choice = ground.slots(Ok(image.clone())).choose().unwrap();
        assert!(booted(&choice, &image) && !choice.trial && choice.warning.is_none(), "{choice:?}");
    }
    assert!(!ground.paths.images_folder().exists(), "nothing is known of an image that was not seen to work");
    let missing = Error::NoAppliance(vec![PathBuf::from("/nowhere")]);
    let unusable = ground.slots(Err(missing)).choose().unwrap_err();
    assert!(unusable.why.contains("/nowhere") && !unusable.fix.is_empty(), "{unusable:?}");
}

#[test]
fn an_update_is_tried_so_often_and_then_the_one_before_boots_from_its_copy() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    // The update has replaced it.
    fs::remove_dir_all(ground.folder.path().join("a")).unwrap();
    let mut slots = ground.slots(Ok(new.clone()));
    for tries in 1..=TRIES {
        let choice = slots.choose().unwrap();
        assert!(booted(&choice, &new) && choice.trial, "{choice:?}");
        assert_eq!(ground.record().tries(new.id()), tries, "on the disk before it is tried");
        slots.failed("it panicked", PATIENCE);
    }
    let choice = slots.choose().unwrap();
    assert!(booted(&choice, &old) && !choice.trial, "{choice:?}");
    assert!(choice.appliance.folder().starts_with(ground.paths.data()));
    let told = warning(&choice);
    assert!(told.contains("rolled back") && told.contains("it panicked") && told.contains("--retry-image"), "{told}");
    assert_eq!(choice.refused.as_ref().unwrap().tries, TRIES);
    slots.proven(old.id()).unwrap();
    assert_eq!(slots.acquit(), None, "what goes wrong later is another matter");

    // Nor is it tried by those that come later, until somebody wants it.
    let choice = ground.slots(Ok(new.clone())).choose().unwrap();
    assert!(booted(&choice, &old) && warning(&choice).contains("rolled back"), "{choice:?}");
    super::forgive(&ground.paths).unwrap();
    let choice = ground.slots(Ok(new.clone())).choose().unwrap();
    assert!(booted(&choice, &new) && choice.trial);
    assert_eq!(ground.record().tries(new.id()), 1);

    // Another one is nothing that was refused.
    let next = ground.image("c");
    let mut slots = ground.slots(Ok(next.clone()));
    assert!(slots.choose().unwrap().trial);
    slots.proven(next.id()).unwrap();
    assert_eq!(ground.record().current.as_ref(), Some(next.id()));
    assert_eq!(ground.record().previous.as_ref(), Some(old.id()));
}

#[test]
fn a_supervisor_that_is_killed_has_counted_its_try() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    for _ in 0..TRIES {
        assert!(ground.slots(Ok(new.clone())).choose().unwrap().trial);
    }
    let choice = ground.slots(Ok(new)).choose().unwrap();
    assert!(booted(&choice, &old) && warning(&choice).contains("killed"), "{choice:?}");
}

#[test]
fn what_is_damaged_is_not_tried_and_is_looked_at_again() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    let os = ground.folder.path().join("b/os.erofs");
    for content in ["os", "os.EROFS"] {
        fs::write(&os, content).unwrap();
        let choice = ground.slots(Ok(new.clone())).choose().unwrap();
        assert!(booted(&choice, &old) && !choice.trial, "{choice:?}");
        let told = warning(&choice);
        assert!(told.contains("cannot be used") && told.contains("os.erofs"), "{told}");
    }
    let foreign = Error::BadAppliance { path: "/b".into(), why: "it is for vax".to_owned() };
    let choice = ground.slots(Err(foreign)).choose().unwrap();
    assert!(booted(&choice, &old) && warning(&choice).contains("for vax"), "{choice:?}");
    // The same image as the current one, but broken where it is installed.
    fs::write(ground.folder.path().join("a/vmlinux"), "").unwrap();
    let choice = ground.slots(Ok(old.clone())).choose().unwrap();
    assert!(booted(&choice, &old) && warning(&choice).contains("vmlinux"), "{choice:?}");
    // And mended.
    fs::write(&os, "os.erofs").unwrap();
    let choice = ground.slots(Ok(new.clone())).choose().unwrap();
    assert!(booted(&choice, &new) && choice.trial && choice.warning.is_none(), "{choice:?}");
}

#[test]
fn a_copy_that_is_damaged_is_no_way_back() {
    let ground = Ground::new();
    let (first, second, new) = (ground.image("a"), ground.image("b"), ground.image("c"));
    ground.works(&first);
    ground.works(&second);
    let mut slots = ground.slots(Ok(new.clone()));
    assert!(slots.choose().unwrap().trial);
    slots.failed("no", Duration::ZERO);
    // Same length, other content: seen when it is to be booted.
    fs::write(ground.copy(&second).join("os.erofs"), "os.EROFS").unwrap();
    assert!(booted(&slots.choose().unwrap(), &first), "the one before it");
    fs::remove_file(ground.copy(&first).join("initramfs")).unwrap();
    let choice = slots.choose().unwrap();
    assert!(booted(&choice, &new) && !choice.trial, "nothing is left but what is installed: {choice:?}");
    // A copy is made anew where its length shows that it is not whole.
    keep_copy(slots.folder(), &first, &Cancel::default()).unwrap();
    assert!(booted(&slots.choose().unwrap(), &first));
}

#[test]
fn who_waits_too_long_gets_the_one_that_works_and_the_next_start_tries_again() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    let mut slots = ground.slots(Ok(new.clone()));
    assert!(slots.choose().unwrap().trial);
    slots.failed("it hung", Duration::ZERO);
    let choice = slots.choose().unwrap();
    assert!(booted(&choice, &old) && warning(&choice).contains("try 1 of 3: it hung"), "{choice:?}");
    slots.proven(old.id()).unwrap();
    assert!(booted(&slots.choose().unwrap(), &old), "not while this supervisor lives");
    let choice = ground.slots(Ok(new.clone())).choose().unwrap();
    assert!(choice.trial);
    assert_eq!(ground.record().tries(new.id()), 2);
}

#[test]
fn an_image_is_not_blamed_for_what_it_did_not_do() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    let before = ground.record();
    // Stopped by somebody, or QEMU is not installed.
    let mut slots = ground.slots(Ok(new.clone()));
    slots.choose().unwrap();
    slots.take_back();
    slots.take_back();
    assert_eq!(ground.record(), before);
    // The one that works does not start either.
    for _ in 0..TRIES {
        assert!(slots.choose().unwrap().trial);
        slots.failed("no disk", PATIENCE);
    }
    assert!(ground.record().refusal(new.id()).is_some());
    assert!(!slots.choose().unwrap().trial);
    assert_eq!(slots.acquit().as_deref(), Some("no disk"));
    assert_eq!(ground.record(), before);
    assert_eq!(slots.acquit(), None);
}

#[test]
fn a_record_that_is_damaged_is_said_and_begun_anew() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    let file = ground.paths.images_folder().join("record.json");
    fs::write(&file, "{\"format\": 1, \"cur").unwrap();
    let mut slots = ground.slots(Ok(new.clone()));
    let choice = slots.choose().unwrap();
    assert!(booted(&choice, &new) && !choice.trial, "{choice:?}");
    assert!(warning(&choice).contains("record.json"), "{choice:?}");
    slots.proven(new.id()).unwrap();
    assert_eq!(ground.record().current.as_ref(), Some(new.id()));
    assert!(ground.copies().is_empty(), "nobody knows whether those worked");
    assert!(slots.choose().unwrap().warning.is_none());
}

#[test]
fn a_try_that_cannot_be_counted_is_not_made() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    // In the way of the file that is to become the record; a mode would not keep root from it.
    fs::create_dir(ground.paths.images_folder().join("record.json.new")).unwrap();
    let choice = ground.slots(Ok(new.clone())).choose().unwrap();
    assert!(booted(&choice, &old) && warning(&choice).contains("cannot be counted"), "{choice:?}");
    assert!(ground.slots(Ok(new.clone())).proven(new.id()).is_err());
}

#[test]
fn two_copies_are_kept_and_no_half_one() {
    let ground = Ground::new();
    let images = ["a", "b", "c"].map(|name| ground.image(name));
    images.iter().for_each(|image| ground.works(image));
    let mut expected = [&images[1], &images[2]].map(|image| image.id().as_str().to_owned());
    expected.sort();
    assert_eq!(ground.copies(), expected);
    fs::create_dir(ground.paths.images_folder().join("somebody's")).unwrap();

    // Cut off, replaced meanwhile, or damaged: there is no copy, and the next try makes one.
    let next = ground.image("d");
    let folder = ground.paths.images_folder();
    let mut slots = ground.slots(Ok(next.clone()));
    slots.proven(next.id()).unwrap();
    let cancelled = Cancel::default();
    cancelled.cancel();
    assert!(matches!(keep_copy(&folder, &next, &cancelled), Err(KeepError::Cancelled)));
    fs::write(ground.folder.path().join("d/os.erofs"), "os.EROFS").unwrap();
    assert!(matches!(keep_copy(&folder, &next, &Cancel::default()), Err(KeepError::Changed(_))));
    fs::write(ground.folder.path().join("d/os.erofs"), "os.erofs").unwrap();
    let _ = appliance(&ground.folder.path().join("d"), "another", 1);
    assert!(matches!(keep_copy(&folder, &next, &Cancel::default()), Err(KeepError::Changed(_))));
    assert!(!ground.copy(&next).exists());
    fs::create_dir(folder.join(format!("{}.new", next.id().as_str()))).unwrap();
    let next = ground.image("d");
    keep_copy(&folder, &next, &Cancel::default()).unwrap();
    let mut expected = [&images[2], &next].map(|image| image.id().as_str().to_owned()).to_vec();
    expected.push("somebody's".to_owned());
    expected.sort();
    assert_eq!(ground.copies(), expected);
}

#[test]
fn without_a_machine_what_is_installed_is_run() {
    let ground = Ground::new();
    let (old, new) = (ground.image("a"), ground.image("b"));
    ground.works(&old);
    fs::remove_file(ground.folder.path().join("b/os.erofs")).unwrap();
    let mut slots = Slots::open(&ground.paths, false, Ok(new.clone()));
    let choice = slots.choose().unwrap();
    assert!(choice.appliance.id() == new.id() && !choice.trial && choice.warning.is_none());
    slots.proven(new.id()).unwrap();
    assert_eq!(ground.record().current.as_ref(), Some(old.id()));
}
