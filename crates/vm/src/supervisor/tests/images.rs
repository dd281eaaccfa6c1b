//! New system images, good and bad, and the way back.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use berth_mux::control::Request;
use berth_testkit::fake_qemu::{Canary, Crash, Ending, Script, Stage};
use tempfile::TempDir;

use super::guest::Habits;
use super::{Ground, Plan, hasty};
use crate::appliance::Appliance;
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::slots::tests::appliance;
use crate::status::{State, Status};

/// A protocol that the agent of these tests does not speak.
const LATER: u32 = 9;

/// Emulated, so that nobody tries another accelerator.
fn plan(installed: Appliance) -> Plan {
    let script = Script { canary: Canary::Aborts, ..Script::default() };
    Plan { script, installed: Some(Ok(installed)), ..Plan::default() }
}

/// A data folder in which an image has worked and is kept, and that image.
async fn with_old() -> (TempDir, Appliance) {
    let folder = tempfile::tempdir().unwrap();
    let old = appliance(&folder.path().join("old"), "old", 1);
    let ground = Ground::in_folder(folder, plan(old.clone())).await;
    (kept(ground).await, old)
}

/// Waits until the present image is kept, and stops.
async fn kept(mut ground: Ground) -> TempDir {
    ground.status(|status| status.image.as_ref().is_some_and(|image| image.kept)).await;
    let folder = ground.end().await.1;
    // As if a file system had been made on its disk, which is waited for.
    let disk = std::fs::File::options().write(true).open(folder.path().join("data/vm/data.raw")).unwrap();
    disk.write_all_at(&[0x53, 0xef], 1024 + 56).unwrap();
    folder
}

fn new(folder: &TempDir, protocol: u32) -> Appliance {
    appliance(&folder.path().join("new"), "new", protocol)
}

/// Which images were booted, one letter each, since the first so many.
fn booted(ground: &Ground, after: usize) -> String {
    let is_new = |line: &Vec<String>| line.iter().any(|word| word.contains("/new/"));
    ground.starts().iter().skip(after).map(|line| if is_new(line) { 'n' } else { 'o' }).collect()
}

fn runs(status: &Status, image: &Appliance) -> bool {
    status.image.as_ref().is_some_and(|running| running.id == image.id().as_str())
}

async fn usable(ground: &mut Ground) -> Status {
    ground.status(Status::is_usable).await
}

#[tokio::test]
async fn one_that_works_becomes_the_current_one() {
    let (folder, old) = with_old().await;
    let new = new(&folder, 1);
    let mut ground = Ground::in_folder(folder, plan(new.clone())).await;
    let status = ground.state(State::Ready).await;
    assert!(runs(&status, &new) && status.warnings.is_empty(), "{status:#?}");
    assert_eq!(booted(&ground, 1), "n");
    let folder = kept(ground).await;
    for image in [&old, &new] {
        assert!(folder.path().join("data/vm/images").join(image.id().as_str()).join("os.erofs").exists());
    }
    // From now on what goes wrong with it is told, as ever.
    let habits = Habits { fails: Some(("disk".to_owned(), "no ext4".to_owned())), ..Habits::default() };
    let mut ground = Ground::in_folder(folder, Plan { habits, ..plan(new) }).await;
    assert!(ground.failure().await.cause.contains("no ext4"));
    assert_eq!(booted(&ground, 2), "n");
}

#[tokio::test]
async fn after_three_starts_that_went_wrong_the_old_one_runs_again() {
    let (folder, old) = with_old().await;
    let other = new(&folder, LATER);
    let mut ground = Ground::in_folder(folder, plan(other.clone())).await;
    let status = usable(&mut ground).await;
    assert_eq!(booted(&ground, 1), "nnno");
    assert!(runs(&status, &old) && ground.ping().await);
    assert_eq!(status.state, State::Degraded);
    let told = &status.warnings[0];
    assert!(told.contains("rolled back") && told.contains("protocol") && told.contains("--retry-image"), "{told}");
    let refused = status.image.as_ref().unwrap().refused.clone().unwrap();
    assert_eq!((refused.id.as_str(), refused.tries), (other.id().as_str(), 3));
    let names: Vec<_> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(
        names,
        ["preparing", "booting", "kernel", "services", "connecting"],
        "those of the start that went well"
    );
    let folder = ground.end().await.1;

    // A new supervisor knows it, and says it.
    let mut ground = Ground::in_folder(folder, plan(other.clone())).await;
    let status = usable(&mut ground).await;
    assert!(booted(&ground, 5) == "o" && status.warnings[0].contains("rolled back"), "{status:#?}");
    let folder = ground.end().await.1;

    // Repaired: another image.
    let mut ground = Ground::in_folder(folder, plan(appliance(Path::new(other.folder()), "newer", 1))).await;
    let status = ground.state(State::Ready).await;
    assert!(booted(&ground, 6) == "n" && status.image.unwrap().refused.is_none());
    ground.stop().await;
}

#[tokio::test]
async fn a_kernel_that_panics_is_started_as_often_as_it_is_counted() {
    let (folder, old) = with_old().await;
    let new = new(&folder, 1);
    let plan = plan(new.clone());
    let script = Script {
        console: vec!["Kernel panic - not syncing: no init found".to_owned()],
        ending: Some(Ending::Reset),
        only_with: Some(new.folder().to_path_buf()),
        ..plan.script
    };
    let mut ground = Ground::in_folder(folder, Plan { script, ..plan }).await;
    let status = usable(&mut ground).await;
    assert_eq!(booted(&ground, 1), "nnno");
    assert!(runs(&status, &old) && status.warnings[0].contains("Kernel panic"), "{status:#?}");
    ground.stop().await;
}

#[tokio::test]
async fn what_it_breaks_on_an_accelerator_is_not_the_accelerators_fault() {
    let (mut folder, old) = with_old().await;
    let new = new(&folder, 1);
    for stage in [Stage::Negotiating, Stage::Continuing, Stage::Running] {
        std::fs::remove_file(folder.path().join("data/vm/accelerator.json")).unwrap();
        let crash = Some(Crash { stage, code: None, says: "no".to_owned() });
        let script = Script { crash, only_with: Some(new.folder().to_path_buf()), ..Script::default() };
        let plan = Plan { script, installed: Some(Ok(new.clone())), ..Plan::default() };
        let mut ground = Ground::in_folder(folder, plan).await;
        let status = usable(&mut ground).await;
        assert!(runs(&status, &old) && status.warnings[0].contains("rolled back"), "{status:#?}");
        assert_ne!(status.accelerator.as_ref().unwrap().name, "emulation", "{status:#?}");
        folder = ground.end().await.1;
        let paths = EnginePaths::with_runtime(&folder.path().join("data"), None).unwrap();
        crate::slots::forgive(&paths).unwrap();
    }
}

#[tokio::test]
async fn a_supervisor_that_is_killed_has_counted() {
    let (folder, old) = with_old().await;
    let new = new(&folder, 1);
    let mut folder = folder;
    for run in 1..=3 {
        let habits = Habits { mute: true, ..Habits::default() };
        let mut ground = Ground::in_folder(folder, Plan { habits, ..plan(new.clone()) }).await;
        // It runs, and nobody knows yet what will become of it.
        ground.agent.asked(|request| matches!(request, Request::Hello { .. })).await;
        assert_eq!(booted(&ground, run), "n");
        let status = ground.status(|status| status.image.is_some()).await;
        assert!(runs(&status, &new) && status.image.unwrap().trial);
        folder = ground.killed().await;
    }
    let mut ground = Ground::in_folder(folder, plan(new)).await;
    let status = usable(&mut ground).await;
    assert_eq!(booted(&ground, 4), "o");
    assert!(runs(&status, &old) && status.warnings[0].contains("killed"), "{status:#?}");
    ground.stop().await;
}

#[tokio::test]
async fn somebody_who_stops_it_blames_nobody() {
    let (mut folder, _) = with_old().await;
    let new = new(&folder, 1);
    for run in 1..=4 {
        let habits = Habits { mute: true, ..Habits::default() };
        let mut ground = Ground::in_folder(folder, Plan { habits, ..plan(new.clone()) }).await;
        ground.agent.asked(|request| matches!(request, Request::Hello { .. })).await;
        assert_eq!(booted(&ground, run), "n");
        folder = ground.end().await.1;
    }
}

#[tokio::test]
async fn one_that_is_damaged_is_not_even_started() {
    let (mut folder, old) = with_old().await;
    let new = new(&folder, 1);
    let os = new.folder().join("os.erofs");
    let foreign = || Error::BadAppliance { path: "/new".into(), why: "it is for vax".to_owned() };
    for (content, words) in [("os", "2 bytes"), ("os.EROFS", "content"), ("os.erofs", "for vax")] {
        std::fs::write(&os, content).unwrap();
        let installed = if words == "for vax" { Err(foreign()) } else { Ok(new.clone()) };
        let mut ground = Ground::in_folder(folder, Plan { installed: Some(installed), ..plan(new.clone()) }).await;
        let status = usable(&mut ground).await;
        assert!(!booted(&ground, 0).contains('n') && runs(&status, &old), "{status:#?}");
        assert!(status.warnings[0].contains("cannot be used") && status.warnings[0].contains(words), "{status:#?}");
        folder = ground.end().await.1;
    }
}

#[tokio::test]
async fn the_first_one_ever_fails_as_it_always_did() {
    let folder = tempfile::tempdir().unwrap();
    let new = new(&folder, LATER);
    let mut ground = Ground::in_folder(folder, Plan { pace: hasty, ..plan(new) }).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("protocol") && failure.fix.contains("appliance"), "{failure:?}");
    assert_eq!(booted(&ground, 0), "n");
    let gone = Error::NoAppliance(Vec::new());
    let mut ground = Ground::new(Plan { installed: Some(Err(gone)), ..Plan::default() }).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("not found") && failure.stage == "preparing", "{failure:?}");
}

#[tokio::test]
async fn when_the_old_one_does_not_start_either_that_is_told_and_the_new_one_stays_untried() {
    let (folder, old) = with_old().await;
    let new = new(&folder, 1);
    let habits = Habits { fails: Some(("disk".to_owned(), "the disk is damaged".to_owned())), ..Habits::default() };
    let mut ground = Ground::in_folder(folder, Plan { habits, ..plan(new.clone()) }).await;
    let failure = ground.failure().await;
    assert_eq!(booted(&ground, 1), "nnno");
    assert!(failure.cause.contains("damaged") && failure.cause.contains("new system image"), "{failure:?}");
    let folder = ground.left().await;
    let mut ground = Ground::in_folder(folder, plan(new.clone())).await;
    let status = ground.state(State::Ready).await;
    assert!(runs(&status, &new) && !runs(&status, &old), "{status:#?}");
    ground.stop().await;
}

#[tokio::test]
async fn this_computer_not_being_ready_is_no_try() {
    let (folder, _) = with_old().await;
    let new = new(&folder, 1);
    let disk = folder.path().join("data/vm/data.raw");
    let whole = disk.metadata().unwrap().len();
    std::fs::write(&disk, "cut").unwrap();
    let mut ground = Ground::in_folder(folder, plan(new.clone())).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("cut short"), "{failure:?}");
    assert_eq!(booted(&ground, 1), "");
    let folder = ground.left().await;
    std::fs::File::options().write(true).open(&disk).unwrap().set_len(whole).unwrap();
    let mut ground = Ground::in_folder(folder, plan(new.clone())).await;
    assert!(runs(&ground.state(State::Ready).await, &new));
    ground.stop().await;
}
