//! Backup and restore of the native engine's files; and of both kinds of engine on a file system that fills up.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

use super::super::{Cancel, LifeError, ResetScope, backup, reset, restore};
use crate::backend::{Backend, EngineSettings};
use crate::life::MAKING;
use crate::lock::EngineLock;
use crate::paths::EnginePaths;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn paths(folder: &Path, name: &str) -> EnginePaths {
    EnginePaths::with_runtime(&folder.join(name), Some(folder.join("run"))).unwrap()
}

fn engine(folder: &Path, name: &str, content: &str) -> EnginePaths {
    let paths = paths(folder, name);
    paths.create_data().unwrap();
    fs::write(paths.lock_file(), "").unwrap();
    for name in ["docker/volumes", "containerd"] {
        fs::create_dir_all(paths.data().join(name)).unwrap();
    }
    fs::write(paths.data().join("docker/volumes/file"), content).unwrap();
    paths
}

fn content(paths: &EnginePaths) -> Option<String> {
    fs::read_to_string(paths.data().join("docker/volumes/file")).ok()
}

fn kept(paths: &EnginePaths, to: &Path) {
    backup(paths, to, false, &Cancel::default(), |_, _| {}).unwrap();
}

fn bring_back(paths: &EnginePaths, from: &Path, force: bool) -> Result<u64, LifeError> {
    restore(paths, from, force, &Cancel::default(), |_, _| {}).map(|report| report.entries)
}

fn nothing_beside(paths: &EnginePaths) {
    for name in [MAKING, ".restored", ".replaced"] {
        assert!(!paths.data().join(name).exists(), "{name} is left");
    }
}

#[test]
fn files_come_back_and_replace_others_only_when_forced() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one", "kept");
    let file = folder.path().join("kept");
    kept(&one, &file);
    let two = paths(folder.path(), "two");
    assert_eq!(bring_back(&two, &file, false).unwrap(), 4);
    assert_eq!(content(&two).as_deref(), Some("kept"));
    assert_eq!(EngineSettings::load(&two).unwrap().backend, Backend::Native);
    fs::write(two.data().join("docker/volumes/file"), "other").unwrap();
    fs::write(two.data().join("docker/extra"), "other").unwrap();
    assert!(matches!(bring_back(&two, &file, false), Err(LifeError::HasData(_))));
    assert_eq!(content(&two).as_deref(), Some("other"));
    bring_back(&two, &file, true).unwrap();
    assert_eq!(content(&two).as_deref(), Some("kept"));
    assert!(!two.data().join("docker/extra").exists());
    nothing_beside(&two);
    let held = EngineLock::take(&two).unwrap();
    assert!(matches!(bring_back(&two, &file, true), Err(LifeError::Running { .. })));
    drop(held);
    // What a killed restore left goes with what can be made again.
    fs::create_dir_all(two.data().join(MAKING).join("new/docker")).unwrap();
    reset(&two, ResetScope::KeepData).unwrap();
    nothing_beside(&two);
    assert_eq!(content(&two).as_deref(), Some("kept"));
}

#[test]
fn each_kind_of_backup_stays_with_its_kind_of_engine() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one", "kept");
    let file = folder.path().join("kept");
    kept(&one, &file);
    let machine = machine(folder.path(), "machine", 4096);
    let error = bring_back(&machine, &file, true).unwrap_err();
    assert!(matches!(error, LifeError::MachineData(_)), "{error}");
    let disk = folder.path().join("disk");
    kept(&machine, &disk);
    let error = bring_back(&one, &disk, true).unwrap_err();
    assert!(matches!(error, LifeError::NativeData(_)), "{error}");
    assert_eq!(content(&one).as_deref(), Some("kept"));
}

#[test]
fn a_file_cut_or_changed_anywhere_changes_nothing() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one", "kept");
    let file = folder.path().join("kept");
    kept(&one, &file);
    fs::write(one.data().join("docker/volumes/file"), "present").unwrap();
    let whole = fs::read(&file).unwrap();
    let bad = folder.path().join("bad");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        for bytes in [&bytes[..], &whole[..at]] {
            fs::write(&bad, bytes).unwrap();
            assert!(bring_back(&one, &bad, true).is_err(), "at {at}");
        }
    }
    assert_eq!(content(&one).as_deref(), Some("present"));
    nothing_beside(&one);
}

#[test]
fn who_leaves_off_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one", &"long".repeat(1 << 20));
    let file = folder.path().join("kept");
    let cancel = Cancel::default();
    let error = backup(&one, &file, false, &cancel, |_, _| cancel.cancel()).unwrap_err();
    assert!(matches!(error, LifeError::Cancelled), "{error}");
    assert!(!file.exists() && !folder.path().join("kept.partial").exists());
    kept(&one, &file);
    fs::write(one.data().join("docker/volumes/file"), "present").unwrap();
    let cancel = Cancel::default();
    let error = restore(&one, &file, true, &cancel, |_, _| cancel.cancel()).unwrap_err();
    assert!(matches!(error, LifeError::Cancelled), "{error}");
    assert_eq!(content(&one).as_deref(), Some("present"));
    nothing_beside(&one);
}

#[test]
fn links_instead_of_the_engines_folders_are_refused() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one", "kept");
    let file = folder.path().join("kept");
    kept(&one, &file);
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(one.data().join("containerd"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, one.data().join("containerd")).unwrap();
    let again = folder.path().join("again");
    let error = backup(&one, &again, false, &Cancel::default(), |_, _| {}).unwrap_err();
    assert!(matches!(error, LifeError::LeadsElsewhere(_)) && !again.exists(), "{error}");
    assert!(matches!(bring_back(&one, &file, true), Err(LifeError::LeadsElsewhere(_))));
    assert!(elsewhere.exists());
}

fn machine(folder: &Path, name: &str, used: u32) -> EnginePaths {
    let paths = paths(folder, name);
    paths.create_data().unwrap();
    paths.create_machine_folder().unwrap();
    fs::write(paths.lock_file(), "").unwrap();
    let disk = File::create(paths.data_disk()).unwrap();
    disk.set_len(4 << 30).unwrap();
    disk.write_all_at(&unpackable(used), 1 << 20).unwrap();
    paths
}

/// Bytes that get no smaller.
fn unpackable(length: u32) -> Vec<u8> {
    (0..length / 32).flat_map(|number| <sha2::Sha256 as sha2::Digest>::digest(number.to_le_bytes())).collect()
}

/// A file system of its own for this thread, which goes with it.
fn small(folder: &Path, mib: u32) -> PathBuf {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let small = folder.join("small");
    fs::create_dir(&small).unwrap();
    let size = format!("size={mib}m");
    mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
    small
}

/// Takes all the room there is.
fn fill(folder: &Path) {
    let file = File::create(folder.join("filler")).unwrap();
    let mut at = 0;
    while let Ok(written) = file.write_at(&[1; 65536], at) {
        at += written as u64;
    }
}

#[test]
fn a_file_system_that_fills_up_loses_neither_backup_nor_data() {
    // In a thread of its own, for what it mounts is seen by it alone.
    let tested = std::thread::spawn(|| {
        if !is_root() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        // Room for what a restore keeps free, too.
        let small = small(folder.path(), 96);
        let native = engine(folder.path(), "native", "");
        fs::write(native.data().join("docker/volumes/large"), unpackable(6 << 20)).unwrap();
        let machine = machine(folder.path(), "machine", 6 << 20);
        for engine in [&native, &machine] {
            // There is room when it begins.
            let to = small.join("kept");
            let full = backup(engine, &to, false, &Cancel::default(), |done, _| {
                if done > 2 << 20 {
                    fill(&small);
                }
            });
            let error = full.unwrap_err();
            assert!(matches!(error, LifeError::Full { .. }), "{error}");
            assert_eq!(fs::read_dir(&small).unwrap().count(), 1, "something is left beside the filler");
            // And an earlier backup stays when there is none.
            fs::remove_file(small.join("filler")).unwrap();
            fs::write(&to, "an earlier one").unwrap();
            fill(&small);
            let error = backup(engine, &to, true, &Cancel::default(), |_, _| {}).unwrap_err();
            assert!(matches!(error, LifeError::NoRoom { .. }), "{error}");
            assert_eq!(fs::read(&to).unwrap(), b"an earlier one");
            for name in ["filler", "kept"] {
                fs::remove_file(small.join(name)).unwrap();
            }
        }
        // And the other way: data on the small one, restored over until it is full.
        for (name, engine) in [("native", &native), ("machine", &machine)] {
            let file = folder.path().join(format!("{name}.kept"));
            kept(engine, &file);
            let there = paths(&small, name);
            bring_back(&there, &file, false).unwrap();
            let marked = there.data().join(if name == "native" { "docker/volumes/large" } else { "vm/data.raw" });
            let before = marked.metadata().unwrap().ino();
            let full = restore(&there, &file, true, &Cancel::default(), |_, _| fill(&small));
            let error = full.unwrap_err();
            assert!(matches!(error, LifeError::Full { .. }), "{error}");
            assert_eq!(marked.metadata().unwrap().ino(), before);
            nothing_beside(&there);
            fs::remove_dir_all(there.data()).unwrap();
            let _ = fs::remove_file(small.join("filler"));
        }
        umount(&small).unwrap();
    });
    tested.join().unwrap();
}
