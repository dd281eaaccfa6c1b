//! Archives that mean harm, and those that only look odd.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

mod archive_support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use archive_support::*;
use berth_engine::archive::*;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use proptest::prelude::*;

fn defaults() -> ExtractOptions {
    ExtractOptions::default()
}

fn all_links() -> ExtractOptions {
    ExtractOptions { symlinks: Symlinks::All, ..defaults() }
}

#[tokio::test]
async fn archive_paths_that_lead_outside_are_left_out() {
    let scene = Scene::new();
    let outside = scene.outside();
    let tar = Tar::default()
        .file("../outside/secret", b"x")
        .file("a/../../outside/secret", b"x")
        .file("a/..", b"x")
        .file("..", b"x")
        .folder("../outside/folder")
        .long_name(format!("{}/new", outside.display()).as_bytes())
        .file("short", b"x")
        .file("/absolute", b"x")
        .file("", b"x")
        .pax(&[("path", b"nul\0/../../x")])
        .file("innocent", b"x")
        .file("good", b"good")
        .end();
    let report = scene.attack(&tar, &defaults()).await.unwrap();
    assert_eq!(report.files, 1);
    assert_eq!(names(&scene.target()), ["good"]);
    assert_eq!(report.skipped.counts[&SkipReason::Parent], 5);
    assert_eq!(report.skipped.counts[&SkipReason::Absolute], 2);
    assert_eq!(report.skipped.counts[&SkipReason::Nul], 1);
    assert_eq!(report.skipped.counts[&SkipReason::EmptyPath], 1);
}

#[tokio::test]
async fn archive_symlinks_are_never_written_through() {
    let scene = Scene::new();
    let tar = Tar::default()
        .symlink("folder", "../outside")
        .file("folder/secret", b"overwritten")
        .folder("folder/folder")
        .symlink("file", "../outside/secret")
        .file("file", b"replaced, not followed")
        .symlink("deep", "../outside/folder")
        .file("deep/x/y", b"x")
        .symlink("deep/link", "x")
        .hard_link("deep/hard", "file")
        .symlink("self", ".")
        .symlink("up", "self/..")
        .file("self/../up/x", b"x")
        .file("up/outside/secret", b"x")
        .end();
    let report = scene.attack(&tar, &all_links()).await.unwrap();
    assert_eq!(report.skipped.counts[&SkipReason::InTheWay], 6, "{:?}", report.skipped);
    assert_eq!(fs::read_to_string(scene.target().join("file")).unwrap(), "replaced, not followed");
    assert!(fs::symlink_metadata(scene.target().join("folder")).unwrap().is_symlink());

    let scene = Scene::new();
    let report = scene.attack(&tar, &defaults()).await.unwrap();
    assert_eq!(report.skipped.counts[&SkipReason::LinkOutside], 4, "`self/..` climbs from wherever `self` leads");
}

#[tokio::test]
async fn archive_symlinks_do_not_lend_mode_or_time() {
    let scene = Scene::new();
    let tar = Tar::default()
        .symlink("x", "../outside/folder")
        .raw(&Header { name: b"x", flag: b'5', mode: 0o777, ..Header::default() }, b"")
        .symlink("y", "../outside/folder")
        .raw(&Header { name: b"y/", flag: b'5', mode: 0o777, ..Header::default() }, b"")
        .raw(&Header { name: b"y/.", flag: b'5', mode: 0o777, ..Header::default() }, b"")
        .end();
    let report = scene.attack(&tar, &all_links()).await.unwrap();
    assert!(fs::symlink_metadata(scene.target().join("x")).unwrap().is_dir(), "the last entry of a name wins");
    assert_eq!(report.folders, 3);

    // A link that was there before this run stays, and is not followed.
    let scene = Scene::new();
    let before = tree(&scene.outside());
    symlink("../outside/folder", scene.target().join("x")).unwrap();
    let report = extracted(&tar, &scene.target(), &defaults()).await.unwrap();
    assert_eq!(tree(&scene.outside()), before);
    assert!(fs::symlink_metadata(scene.target().join("x")).unwrap().is_symlink());
    assert!(reasons(&report).contains(&("x", SkipReason::InTheWay)));
}

#[tokio::test]
async fn archive_hard_links_reach_only_what_this_run_extracted() {
    let scene = Scene::new();
    let tar = Tar::default()
        .hard_link("passwd", "/etc/passwd")
        .hard_link("up", "../outside/secret")
        .hard_link("later", "file")
        .file("file", b"content")
        .hard_link("name", "file")
        .hard_link("sub/name", "./file")
        .hard_link("file", "file")
        .symlink("link", "../outside/secret")
        .hard_link("through", "link/secret")
        .hard_link("of-link", "link")
        .file("name", b"a file of its own")
        .end();
    let report = scene.attack(&tar, &all_links()).await.unwrap();
    assert_eq!(report.hard_links, 2, "{:?}", report.skipped);
    let skipped: Vec<_> = reasons(&report).into_iter().map(|(path, _)| path).collect();
    assert_eq!(skipped, ["passwd", "up", "later", "file", "through", "of-link"]);
    let found = fs::metadata(scene.target().join("sub/name")).unwrap();
    assert_eq!(found.ino(), fs::metadata(scene.target().join("file")).unwrap().ino());
    assert_eq!(fs::read(scene.target().join("file")).unwrap(), b"content", "a later file does not write into the link");

    let scene = Scene::new();
    fs::write(scene.target().join("mine"), "mine").unwrap();
    let tar = Tar::default().hard_link("theirs", "mine").end();
    let report = extracted(&tar, &scene.target(), &defaults()).await.unwrap();
    assert_eq!(reasons(&report), [("theirs", SkipReason::LinkTarget)], "a file that was there before is not theirs");
}

#[tokio::test]
async fn archive_special_files_and_bits_are_dropped() {
    let scene = Scene::new();
    let tar = Tar::default()
        .entry("char", b'3', "")
        .entry("block", b'4', "")
        .entry("pipe", b'6', "")
        .entry("strange", b'Z', "")
        .raw(&Header { name: b"setuid", mode: 0o7777, ..Header::default() }, b"")
        .raw(&Header { name: b"folder", mode: 0o7000, flag: b'5', ..Header::default() }, b"")
        .end();
    let report = scene.attack(&tar, &ExtractOptions { mode_mask: 0o7777, ..defaults() }).await.unwrap();
    assert_eq!(names(&scene.target()), ["folder", "setuid"]);
    assert_eq!(report.skipped.counts[&SkipReason::Special], 3);
    assert_eq!(report.skipped.counts[&SkipReason::Unknown], 1);
    let mode = |name: &str| fs::metadata(scene.target().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("setuid"), mode("folder")), (0o777, 0o700));
    assert_eq!(fs::metadata(scene.target().join("setuid")).unwrap().mtime(), 1_700_000_000);
    assert_eq!(fs::metadata(scene.target().join("folder")).unwrap().mtime(), 1_700_000_000);
}

#[tokio::test]
async fn archive_sizes_that_disagree_do_not_desynchronise() {
    // CVE-2025-62518: the extended header tells the truth, the plain one hides an archive inside the content.
    let hidden = Tar::default().file("smuggled", b"evil").end();
    let size = hidden.len().to_string();
    let tar = Tar::default().pax(&[("size", size.as_bytes())]).0;
    let tar =
        Tar(tar).raw(&Header { name: b"outer.tar", size: 0, ..Header::default() }, &hidden).file("after", b"y").end();
    let listing = listed(&tar).await.unwrap();
    let found: Vec<_> = listing.entries.iter().map(|entry| (entry.path_lossy(), entry.size)).collect();
    assert_eq!(found, [("outer.tar".into(), hidden.len() as u64), ("after".into(), 1)]);

    // Also with a long name in between, whose own size the extended header must not overrule.
    let tar = Tar::default().pax(&[("size", size.as_bytes())]).long_name(b"long.tar").0;
    let tar = Tar(tar).raw(&Header { name: b"x", size: 3, ..Header::default() }, &hidden).file("after", b"y").end();
    let found: Vec<_> = listed(&tar).await.unwrap().entries.into_iter().map(|entry| entry.path).collect();
    assert_eq!(found, [&b"long.tar"[..], b"after"]);

    // The other way round, the content is shorter than the plain header says.
    let tar = Tar::default().pax(&[("size", b"2")]).raw(&Header { name: b"a", size: 4096, ..Header::default() }, b"ab");
    let found: Vec<_> =
        listed(&tar.file("b", b"").end()).await.unwrap().entries.into_iter().map(|entry| entry.size).collect();
    assert_eq!(found, [2, 0]);

    // Links and folders have no content, as for the engine's own reader.
    for flag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let tar = Tar::default().raw(&Header { name: b"a", size: 512, flag, ..Header::default() }, b"").file("b", b"");
        assert_eq!(listed(&tar.end()).await.unwrap().entries.len(), 2);
    }
    for bad in [&b"-1"[..], b"x", b"99999999999999999999999"] {
        let tar = Tar::default().pax(&[("size", bad)]).file("a", b"").end();
        assert!(matches!(listed(&tar).await, Err(ArchiveError::Damaged { .. })));
    }
    let tar = Tar::default().pax_of(b'g', &[("size", b"5")]).file("a", b"").end();
    assert!(matches!(listed(&tar).await, Err(ArchiveError::Damaged { .. })));
    let tar = Tar::default().pax_of(b'g', &[("comment", b"a commit"), ("mtime", b"5")]).file("a", b"").end();
    assert_eq!(listed(&tar).await.unwrap().entries[0].modified.seconds, 5);
}

#[tokio::test]
async fn archive_names_without_end_cost_nothing_and_are_left_out() {
    let scene = Scene::new();
    let tar = Tar::default().long_name(&vec![b'n'; 1024 * 1024]).file("x", b"content").file("after", b"y").end();
    let report = scene.attack(&tar, &defaults()).await.unwrap();
    assert_eq!(report.skipped.counts[&SkipReason::NameTooLong], 1);
    assert_eq!(names(&scene.target()), ["after"]);
    let listing = listed(&tar).await.unwrap();
    assert!(listing.entries[0].cut && listing.entries[0].path.len() == 64 * 1024);

    // A header that announces what never comes must not size an allocation.
    let tar = Tar::default().raw(&Header { flag: b'L', size: 0o77777777777, ..Header::default() }, b"abc").0;
    assert!(matches!(listed(&tar).await, Err(ArchiveError::Truncated { .. })));
    let tar = Tar::default().raw(&Header { flag: b'x', size: 0o77777777777, ..Header::default() }, b"abc").0;
    assert!(matches!(listed(&tar).await, Err(ArchiveError::Truncated { .. })));
}

fn old_sparse(real: u64, segments: &[(u64, u64)], content: &[u8]) -> Tar {
    let mut head =
        block(&Header { name: b"sparse", flag: b'S', size: content.len() as u64, gnu: true, ..Header::default() });
    for (index, (offset, length)) in segments.iter().enumerate() {
        head[386 + index * 24..][..12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        head[398 + index * 24..][..12].copy_from_slice(format!("{length:011o}\0").as_bytes());
    }
    head[483] = 0x80;
    head[487..495].copy_from_slice(&real.to_be_bytes());
    checksum(&mut head);
    Tar(head.to_vec()).content(content)
}

#[tokio::test]
async fn archive_sparse_files_count_by_their_real_size() {
    let scene = Scene::new();
    let tar = old_sparse(1 << 40, &[(0, 3)], b"abc").file("after", b"y").end();
    let options = ExtractOptions { limits: ExtractLimits { file: 1 << 30, ..ExtractLimits::default() }, ..defaults() };
    let report = scene.attack(&tar, &options).await.unwrap();
    assert_eq!(reasons(&report), [("sparse", SkipReason::TooLarge)]);
    let options = ExtractOptions {
        limits: ExtractLimits { bytes: 1 << 30, file: 1 << 50, ..ExtractLimits::default() },
        ..defaults()
    };
    let error = scene.attack(&tar, &options).await.unwrap_err();
    assert!(matches!(error.cause, ArchiveError::Quota { quota: Quota::Bytes, .. }));

    let small = old_sparse(1 << 20, &[(0, 3), (4096, 2)], b"abcde").end();
    scene.attack(&small, &defaults()).await.unwrap();
    let content = fs::read(scene.target().join("sparse")).unwrap();
    assert_eq!((content.len(), &content[..3], &content[4096..4098]), (1 << 20, &b"abc"[..], &b"de"[..]));
    assert!(content.iter().filter(|byte| **byte != 0).count() == 5);
    assert!(fs::metadata(scene.target().join("sparse")).unwrap().blocks() * 512 < 1 << 20, "holes stay holes");

    for (real, segments) in [(10, &[(0, 3), (2, 2)][..]), (4, &[(0, 3), (3, 2)]), (10, &[(0, 3)]), (10, &[(0, 6)])] {
        assert!(matches!(listed(&old_sparse(real, segments, b"abcde").end()).await, Err(ArchiveError::Damaged { .. })));
    }
    for version in 0..3 {
        let mut content = b"abcde".to_vec();
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        match version {
            0 => records.extend([
                ("GNU.sparse.size", &b"5000"[..]),
                ("GNU.sparse.offset", b"0"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"4096"),
                ("GNU.sparse.numbytes", b"2"),
            ]),
            1 => records.extend([("GNU.sparse.size", &b"5000"[..]), ("GNU.sparse.map", b"0,3,4096,2")]),
            _ => {
                records.extend([
                    ("GNU.sparse.major", &b"1"[..]),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"5000"),
                ]);
                let mut map = b"2\n0\n3\n4096\n2\n".to_vec();
                map.resize(512, 0);
                content = [map, content].concat();
            }
        }
        records.push(("GNU.sparse.name", b"real-name"));
        let tar = Tar::default().pax(&records).file("GNUSparseFile.0/x", &content).file("after", b"y").end();
        let report = scene.attack(&tar, &defaults()).await.unwrap();
        assert_eq!((report.files, report.bytes), (2, 5001), "version {version}");
        let found = fs::read(scene.target().join("real-name")).unwrap();
        assert_eq!((found.len(), &found[..3], &found[4096..4098]), (5000, &b"abc"[..], &b"de"[..]));
    }
}

#[tokio::test]
async fn archive_duplicates_clashes_and_reserved_names() {
    let scene = Scene::new();
    let tar = Tar::default()
        .file("a", b"first")
        .file("a", b"second")
        .symlink("b", "a")
        .file("b", b"file")
        .file("c/x", b"x")
        .file("c", b"x")
        .file("d", b"x")
        .file("d/x", b"x")
        .file("d", b"last")
        .end();
    let report = scene.attack(&tar, &defaults()).await.unwrap();
    assert_eq!(fs::read(scene.target().join("a")).unwrap(), b"second");
    assert_eq!(fs::read(scene.target().join("b")).unwrap(), b"file");
    assert_eq!(fs::read(scene.target().join("d")).unwrap(), b"last");
    assert_eq!(reasons(&report), [("c", SkipReason::InTheWay), ("d/x", SkipReason::InTheWay)]);

    let tar = Tar::default()
        .file("Readme", b"1")
        .file("README", b"2")
        .file("Dir/a", b"3")
        .file("dir/b", b"4")
        .file("ÄÖ", b"5")
        .file("äö", b"6")
        .file("CON", b"7")
        .file("a:b", b"8")
        .file("dot.", b"9")
        .file("x/aux.txt/y", b"0")
        .file("space ", b"0")
        .end();
    let scene = Scene::new();
    let names_of_windows = NameRules { windows: true, ignore_case: true };
    let report = scene.attack(&tar, &ExtractOptions { names: names_of_windows, ..defaults() }).await.unwrap();
    assert_eq!(names(&scene.target()), ["Dir", "Dir/a", "Readme", "ÄÖ"]);
    assert_eq!(report.skipped.counts[&SkipReason::CaseClash], 3);
    assert_eq!(report.skipped.counts[&SkipReason::ReservedName], 5);
    let scene = Scene::new();
    let plain = NameRules { windows: false, ignore_case: false };
    assert_eq!(scene.attack(&tar, &ExtractOptions { names: plain, ..defaults() }).await.unwrap().files, 11);
}

#[tokio::test]
async fn archive_existing_files_are_kept_if_asked() {
    let scene = Scene::new();
    fs::write(scene.target().join("a"), "mine").unwrap();
    let tar = Tar::default().file("a", b"theirs").file("b", b"1").file("b", b"2").end();
    let keep = ExtractOptions { existing: Existing::Keep, ..defaults() };
    let report = extracted(&tar, &scene.target(), &keep).await.unwrap();
    assert_eq!(reasons(&report), [("a", SkipReason::Exists)]);
    assert_eq!(fs::read(scene.target().join("a")).unwrap(), b"mine");
    assert_eq!(fs::read(scene.target().join("b")).unwrap(), b"2");
    // `Save as`, which is how a single file is downloaded.
    let rename = ExtractOptions { rename: Some("mine.txt".into()), ..defaults() };
    extracted(&Tar::default().file("theirs.txt", b"x").end(), &scene.target(), &rename).await.unwrap();
    assert_eq!(fs::read(scene.target().join("mine.txt")).unwrap(), b"x");
    let rename = ExtractOptions { rename: Some("../x".into()), ..defaults() };
    assert_eq!(scene.attack(&tar, &rename).await.unwrap().files, 0);
}

#[tokio::test]
async fn archive_quotas_stop_and_depth_is_refused() {
    let scene = Scene::new();
    let mut tar = Tar::default();
    for index in 0..50 {
        tar = tar.file(&format!("f{index}"), b"0123456789");
    }
    let limits = |bytes, entries| ExtractOptions {
        limits: ExtractLimits { bytes, entries, ..ExtractLimits::default() },
        ..defaults()
    };
    let tar = tar.end();
    let error = scene.attack(&tar, &limits(1 << 20, 20)).await.unwrap_err();
    assert!(matches!(error.cause, ArchiveError::Quota { quota: Quota::Entries, limit: 20 }));
    assert_eq!(error.report.files, 20);
    let error = scene.attack(&tar, &limits(105, 1000)).await.unwrap_err();
    assert!(matches!(error.cause, ArchiveError::Quota { quota: Quota::Bytes, limit: 105 }));
    assert_eq!((error.report.files, names(&scene.target()).len()), (10, 10));

    let deep =
        |depth: usize| Tar::default().pax(&[("path", &b"d/".repeat(depth)[..])]).folder("d").file("z", b"").end();
    for (depth, folders) in [(4095, 1), (4096, 0), (20_000, 0)] {
        let scene = Scene::new();
        let report = extracted(&deep(depth), &scene.target(), &defaults()).await.unwrap();
        assert_eq!((report.folders, report.files), (folders, 1), "{:?}", report.skipped);
        // The standard library keeps a descriptor for each level.
        assert!(std::process::Command::new("rm").arg("-rf").arg(scene.target()).status().unwrap().success());
    }
}

#[tokio::test]
async fn archive_bombs_end_at_the_quota() {
    // Ten gigabytes of zeros as they would come, and a million empty files.
    let zeros = Bytes::from(vec![0; 1 << 20]);
    let head =
        Tar::default().pax(&[("size", b"10737418240")]).raw(&Header { name: b"zeros", ..Header::default() }, b"").0;
    let start = stream::iter([Ok(Bytes::from(head))]);
    let scene = Scene::new();
    let options = ExtractOptions { limits: ExtractLimits { bytes: 1 << 30, ..ExtractLimits::default() }, ..defaults() };
    let error = extract(
        start.chain(stream::repeat_with(move || Ok(zeros.clone())).take(10_240)),
        &scene.target(),
        &options,
        None,
    )
    .await
    .unwrap_err();
    assert!(matches!(error.cause, ArchiveError::Quota { .. }));
    let files =
        stream::iter(0..1_000_000).map(|index| Ok(Bytes::from(Tar::default().file(&format!("{index}"), b"").0)));
    let options = ExtractOptions { limits: ExtractLimits { entries: 500, ..ExtractLimits::default() }, ..defaults() };
    let error = extract(files, &scene.target(), &options, None).await.unwrap_err();
    assert_eq!(error.report.files, 500);
    assert!(error.to_string().contains("500 files"));
}

#[tokio::test]
async fn archive_cancelling_leaves_whole_files_only() {
    let scene = Scene::new();
    let start = Tar::default().file("whole", b"whole").0;
    let half = Tar(start).raw(&Header { name: b"half", size: 1 << 20, ..Header::default() }, &[1; 4096]).0;
    let stream = stream::iter([Ok(Bytes::from(half))]).chain(stream::pending());
    let options = defaults();
    let into = scene.target();
    let work = extract(stream, &into, &options, None);
    assert!(tokio::time::timeout(Duration::from_millis(300), work).await.is_err());
    for _ in 0..100 {
        if names(&into) == ["whole"] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what is left: {:?}", names(&into));
}

#[tokio::test]
async fn archive_truncation_and_failure_of_the_stream_are_errors() {
    let scene = Scene::new();
    let tar = Tar::default().file("a", b"a").file("b", &[7; 5000]).end();
    for end in [100, 600, 1024 + 600, 1024 + 512 + 5000] {
        let error = extracted(&tar[..end], &scene.target(), &defaults()).await.unwrap_err();
        assert!(matches!(error.cause, ArchiveError::Truncated { .. }), "{end}");
        assert!(!names(&scene.target()).iter().any(|name| name.contains("part")));
    }
    assert!(!extracted(&tar[..1024], &scene.target(), &defaults()).await.unwrap().end_marker);
    let scene = Scene::new();
    let failing = pieces(&tar[..2000], 100).chain(stream::iter([Err(berth_engine::Error::Stream("gone".into()))]));
    let error = extract(failing, &scene.target(), &defaults(), None).await.unwrap_err();
    assert!(matches!(error.cause, ArchiveError::Stream(_)));
    assert_eq!((error.report.files, names(&scene.target())), (1, vec!["a".to_owned()]));
    let mut broken = tar;
    broken[1030] ^= 1;
    assert!(matches!(listed(&broken).await, Err(ArchiveError::Damaged { offset: 1024, .. })));
    let missing = scene.outer.path().join("missing");
    let error = extracted(&broken, &missing, &defaults()).await.unwrap_err();
    assert!(error.report.files == 0 && error.cause.to_string().starts_with("Could not open"));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_folders_exchanged_for_links_meanwhile_win_nothing() {
    for walk_by_name in [false, true] {
        let scene = Scene::new();
        let into = scene.target();
        fs::create_dir_all(scene.outside().join("deep")).unwrap();
        let before = tree(&scene.outside());
        let stop = Arc::new(AtomicBool::new(false));
        fs::create_dir(into.join("d")).unwrap();
        symlink("../outside", into.join("bait")).unwrap();
        let swapper = {
            let (into, stop) = (into.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                let mut swaps = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, into.join("d"), CWD, into.join("bait"), RenameFlags::EXCHANGE).unwrap();
                    swaps += 1;
                }
                swaps
            })
        };
        let mut tar = Tar::default();
        for index in 0..250 {
            tar = tar
                .folder("d")
                .folder("d/deep")
                .file("d/secret", b"overwritten")
                .file(&format!("d/deep/new{index}"), b"x")
                .hard_link("d/hard", "d/secret")
                .symlink("d/link", "secret");
        }
        let options = ExtractOptions { walk_by_name, symlinks: Symlinks::All, ..defaults() };
        let tar = tar.end();
        // A whole run can fall between two exchanges, so it goes on until both sides were met often.
        let (mut rounds, mut written, mut refused) = (0, 0, 0);
        while rounds < 20 || ((written < 1_000 || refused < 100) && rounds < 1_000) {
            let report = extracted(&tar, &into, &options).await.unwrap();
            rounds += 1;
            written += report.files;
            refused += report.skipped.counts.get(&SkipReason::InTheWay).copied().unwrap_or(0);
        }
        assert!(
            written >= 1_000 && refused >= 100,
            "{written} files were written, {refused} links were met and refused"
        );
        stop.store(true, Ordering::Relaxed);
        assert!(swapper.join().unwrap() > 100, "the folder was exchanged while files were written");
        assert_eq!(tree(&scene.outside()), before, "nothing outside changes");
    }
}

#[tokio::test]
async fn archive_lists_stop_at_their_limits() {
    let tar = Tar::default().file("a", b"x").file("b", b"y").symlink("c", "target").end();
    let limits = ListLimits { entries: 2, ..ListLimits::default() };
    let listing = list(pieces(&tar, 7), &limits).await.unwrap();
    assert!(listing.truncated && listing.entries.len() == 2);
    let limits = ListLimits { names: 5, ..ListLimits::default() };
    assert!(list(pieces(&tar, 7), &limits).await.unwrap().truncated);
    let listing = list(pieces(&tar, 7), &ListLimits::default()).await.unwrap();
    assert!(!listing.truncated && listing.end_marker);
    assert_eq!(listing.entries[2].link_lossy().unwrap(), "target");
    assert_eq!((listing.entries[0].uid, listing.entries[0].mode), (0o1750, 0o644));
    assert_eq!(entries(pieces(&tar, 7), &limits).count().await, 3);
    let truncated: Vec<_> = entries(pieces(&tar[..700], 7), &limits).collect().await;
    assert!(truncated[0].is_ok() && truncated.last().unwrap().is_err());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn archive_any_pieces_give_the_same_listing(sizes in prop::collection::vec(1_usize..700, 1..40)) {
        let tar = Tar::default()
            .file("a", &[1; 700]).pax(&[("path", &[b'p'; 300][..]), ("mtime", b"1.5")]).file("x", b"y")
            .long_name(&[b'l'; 600]).file("x", b"").symlink("s", "t")
            .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9"), ("GNU.sparse.name", b"n")])
            .file("x", &[&b"1\n2\n3\n"[..], &[0; 506], b"abc"].concat()).folder("f/").end();
        let mut rest = &tar[..];
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(Ok(Bytes::copy_from_slice(piece)));
            rest = after;
        }
        let runtime = runtime();
        let whole = runtime.block_on(list(archive_support::pieces(&tar, tar.len()), &ListLimits::default())).unwrap();
        prop_assert_eq!(whole.entries.len(), 6);
        prop_assert_eq!(runtime.block_on(list(stream::iter(pieces), &ListLimits::default())).unwrap(), whole);
    }

    #[test]
    fn archive_any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let _ = fuzz_list(&bytes);
    }

    #[test]
    fn archive_damage_never_panics(changes in prop::collection::vec((0_usize..6000, any::<u8>(), any::<bool>()), 1..12)) {
        let mut tar = old_sparse(1 << 20, &[(0, 3), (4096, 2)], b"abcde")
            .pax(&[("path", b"p"), ("size", b"3"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"7")]).file("x", b"abc")
            .long_name(&[b'l'; 300]).hard_link("h", "p").end();
        for (at, value, repair) in changes {
            let length = tar.len();
            tar[at % length] = value;
            if repair {
                // With the checksum put right the damage is read and not just refused.
                let start = at % length / 512 * 512;
                let mut head: [u8; 512] = tar[start..start + 512].try_into().unwrap();
                checksum(&mut head);
                tar[start..start + 512].copy_from_slice(&head);
            }
        }
        let _ = fuzz_list(&tar);
        let scene = Scene::new();
        let options = ExtractOptions { limits: ExtractLimits { file: 1 << 22, bytes: 1 << 24, ..ExtractLimits::default() }, ..defaults() };
        let before = tree(&scene.outside());
        let _ = runtime().block_on(extracted(&tar, &scene.target(), &options));
        prop_assert_eq!(tree(&scene.outside()), before);
    }
}
