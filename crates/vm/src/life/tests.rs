//! Backup and restore against files that are whole, damaged and hostile.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::super::archive::{BackupManifest, BackupWriter};
use super::super::{Cancel, LifeError, backup, restore};
use crate::backend::{Backend, EngineSettings};
use crate::lock::EngineLock;
use crate::paths::EnginePaths;
use crate::status::Versions;

const SIZE: u64 = 5 << 30;

fn paths(folder: &Path, name: &str) -> EnginePaths {
    EnginePaths::with_runtime(&folder.join(name), Some(folder.join("run"))).unwrap()
}

fn engine(folder: &Path, name: &str) -> EnginePaths {
    let paths = paths(folder, name);
    paths.create_data().unwrap();
    paths.create_machine_folder().unwrap();
    fs::write(paths.lock_file(), "").unwrap();
    let disk = File::create(paths.data_disk()).unwrap();
    disk.set_len(SIZE).unwrap();
    for (offset, byte) in [(1024, 1), (3 << 30, 2), (SIZE - 4096, 3)] {
        let bytes: Vec<u8> = (0..4096_u32).map(|number| number.to_le_bytes()[0].wrapping_mul(byte)).collect();
        disk.write_all_at(&bytes, offset).unwrap();
    }
    paths
}

fn kept(paths: &EnginePaths, to: &Path) {
    backup(paths, to, false, &Cancel::default(), |_, _| {}).unwrap();
}

fn bring_back(paths: &EnginePaths, from: &Path, force: bool) -> Result<(), LifeError> {
    restore(paths, from, force, &Cancel::default(), |_, _| {}).map(|_| ())
}

fn manifest() -> BackupManifest {
    BackupManifest {
        format: 1,
        backend: "qemu".to_owned(),
        data_format: 1,
        disk_bytes: SIZE,
        used_bytes: 8 << 20,
        versions: Versions::default(),
        berth: "0".to_owned(),
        created: 0,
    }
}

fn written(folder: &Path, manifest: &BackupManifest, parts: &[(u64, Vec<u8>)]) -> PathBuf {
    let mut writer = BackupWriter::new(Vec::new(), manifest).unwrap();
    for (offset, bytes) in parts {
        writer.part(*offset, bytes).unwrap();
    }
    let file = folder.join("made");
    fs::write(&file, writer.finish().unwrap().0).unwrap();
    file
}

fn left_beside(paths: &EnginePaths) -> bool {
    paths.machine_folder().join("data.raw.new").exists()
}

#[test]
fn what_is_brought_back_is_what_was_kept_and_as_sparse() {
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one");
    let file = folder.path().join("kept");
    kept(&one, &file);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(file.metadata().unwrap().len() < 1 << 20);
    let two = paths(folder.path(), "two");
    bring_back(&two, &file, false).unwrap();
    let (from, to) = (File::open(one.data_disk()).unwrap(), File::open(two.data_disk()).unwrap());
    for offset in [0, 1024, 4096, 3 << 30, SIZE - 4096] {
        let (mut was, mut is) = ([0; 4096], [0; 4096]);
        from.read_exact_at(&mut was, offset).unwrap();
        to.read_exact_at(&mut is, offset).unwrap();
        assert_eq!(was, is, "at {offset}");
    }
    let metadata = to.metadata().unwrap();
    assert_eq!(metadata.len(), SIZE);
    assert!(metadata.blocks() * 512 < 8 << 20, "{} blocks", metadata.blocks());
    let settings = EngineSettings::load(&two).unwrap();
    assert_eq!((settings.backend, settings.disk_gib), (Backend::Qemu, 5));
    assert!(!left_beside(&two));
}

#[test]
fn nothing_is_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one");
    let file = folder.path().join("kept");
    fs::write(&file, "mine").unwrap();
    let error = backup(&one, &file, false, &Cancel::default(), |_, _| {}).unwrap_err();
    assert!(matches!(error, LifeError::Exists(_)), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    backup(&one, &file, true, &Cancel::default(), |_, _| {}).unwrap();
    assert!(matches!(bring_back(&one, &file, false), Err(LifeError::HasData(_))));
    bring_back(&one, &file, true).unwrap();
}

#[test]
fn an_engine_that_runs_or_has_other_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one");
    let file = folder.path().join("kept");
    kept(&one, &file);
    let held = EngineLock::take(&one).unwrap();
    assert!(matches!(bring_back(&one, &file, true), Err(LifeError::Running { .. })));
    let other = folder.path().join("other");
    let error = backup(&one, &other, false, &Cancel::default(), |_, _| {}).unwrap_err();
    assert!(matches!(error, LifeError::Running { .. }) && !other.exists(), "{error}");
    drop(held);
    let native = paths(folder.path(), "native");
    fs::create_dir_all(native.data().join("docker")).unwrap();
    assert!(matches!(bring_back(&native, &file, true), Err(LifeError::NativeData(_))));
}

#[test]
fn who_leaves_off_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one");
    let file = folder.path().join("kept");
    let cancel = Cancel::default();
    let error = backup(&one, &file, false, &cancel, |_, _| cancel.cancel()).unwrap_err();
    assert!(matches!(error, LifeError::Cancelled), "{error}");
    assert!(!file.exists() && !folder.path().join("kept.partial").exists());
    kept(&one, &file);
    let cancel = Cancel::default();
    restore(&one, &file, true, &cancel, |_, _| cancel.cancel()).unwrap_err();
    assert!(!left_beside(&one));
}

#[test]
fn every_byte_counts_and_a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = engine(folder.path(), "one");
    let disk = fs::metadata(one.data_disk()).unwrap().ino();
    let file = written(folder.path(), &manifest(), &[(0, vec![7; 600]), (4096, vec![9; 50])]);
    let whole = fs::read(&file).unwrap();
    let bad = folder.path().join("bad");
    for length in 0..whole.len() {
        fs::write(&bad, &whole[..length]).unwrap();
        assert!(bring_back(&one, &bad, true).is_err(), "cut at {length}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        fs::write(&bad, &bytes).unwrap();
        assert!(bring_back(&one, &bad, true).is_err(), "changed at {at}");
    }
    fs::write(&bad, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(matches!(bring_back(&one, &bad, true), Err(LifeError::Damaged { .. })));
    assert_eq!(fs::metadata(one.data_disk()).unwrap().ino(), disk, "the disk of before");
    assert!(!left_beside(&one));
    bring_back(&one, &file, true).unwrap();
}

#[test]
fn sizes_that_lie_and_later_formats_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let two = paths(folder.path(), "two");
    let newer = written(folder.path(), &BackupManifest { format: 2, ..manifest() }, &[]);
    assert!(matches!(bring_back(&two, &newer, false), Err(LifeError::Newer { .. })));
    assert!(!two.data().exists(), "a folder was made for it");
    let newer = written(folder.path(), &BackupManifest { data_format: 2, ..manifest() }, &[]);
    assert!(matches!(bring_back(&two, &newer, false), Err(LifeError::Newer { .. })));
    for lie in
        [BackupManifest { disk_bytes: u64::MAX, ..manifest() }, BackupManifest { used_bytes: SIZE + 1, ..manifest() }]
    {
        let file = written(folder.path(), &lie, &[]);
        assert!(matches!(bring_back(&two, &file, false), Err(LifeError::Damaged { .. })));
    }
    let parts: [&[(u64, Vec<u8>)]; 5] = [
        &[(SIZE, vec![1])],
        &[(u64::MAX, vec![1])],
        &[(4096, vec![1]), (0, vec![1])],
        &[(0, vec![1; (1 << 20) + 1])],
        &(0..9).map(|number| (number << 20, vec![1; 1 << 20])).collect::<Vec<_>>(),
    ];
    for parts in parts {
        let file = written(folder.path(), &manifest(), parts);
        assert!(matches!(bring_back(&two, &file, false), Err(LifeError::Damaged { .. })));
    }
    assert!(!two.data_disk().exists() && !left_beside(&two));
}
