//! Packing: what is in the archive, what is not, and what happens when files change meanwhile.
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
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
    time::{Duration, SystemTime},
};

use archive_support::*;
use berth_engine::archive::{ignore::DockerIgnore, *};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use proptest::prelude::*;

async fn packed(sources: Vec<Source>, options: PackOptions) -> (Vec<u8>, Result<(), ArchiveError>, PackReport) {
    let Pack { estimate, stream, outcome } = pack(sources, options, None).await.unwrap();
    let bytes = stream.try_fold(Vec::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    let bytes = bytes.await.unwrap();
    let (result, report) = outcome.await;
    if let Some(estimate) = estimate
        && result.is_ok()
    {
        assert_eq!(estimate.archive, bytes.len() as u64, "an estimate of files at rest is exact");
        assert_eq!((estimate.entries, estimate.content), (report.entries, report.bytes));
    }
    (bytes, result, report)
}

async fn paths(bytes: &[u8]) -> Vec<String> {
    listed(bytes).await.unwrap().entries.iter().map(|entry| entry.path_lossy().into_owned()).collect()
}

fn contents(path: &Path) -> Vec<Source> {
    vec![Source { path: path.to_path_buf(), name: "".into() }]
}

/// A tree with everything that can be in one.
fn sample(root: &Path) {
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    fs::write(root.join("file"), "content").unwrap();
    fs::write(root.join("sub/big"), vec![7; 700_000]).unwrap();
    fs::write(root.join("sub").join("l".repeat(200)), "long").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"invalid-\xff\xfe")), "bytes").unwrap();
    fs::write(root.join("new\nline ü"), "").unwrap();
    symlink("sub/big", root.join("link")).unwrap();
    symlink("x".repeat(300), root.join("sub/long-link")).unwrap();
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(root.join("sub/empty"), fs::Permissions::from_mode(0o750)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    fs::File::open(root.join("file")).unwrap().set_modified(old).unwrap();
}

#[tokio::test]
async fn archive_pack_and_extract_give_the_same_tree() {
    let scene = Scene::new();
    sample(&scene.outside());
    let (bytes, result, report) = packed(contents(&scene.outside()), PackOptions::default()).await;
    result.unwrap();
    assert_eq!((report.skipped.total(), bytes.len() % 512), (0, 0));
    let (again, ..) = packed(contents(&scene.outside()), PackOptions::default()).await;
    assert_eq!(bytes, again, "the order does not depend on the disk");
    let options = ExtractOptions { mode_mask: 0o777, symlinks: Symlinks::All, ..ExtractOptions::default() };
    let report = extracted(&bytes, &scene.target(), &options).await.unwrap();
    assert_eq!((report.skipped.total(), report.end_marker), (0, true));
    let facts = |path: &Path| -> Vec<(String, Vec<String>)> {
        let seen = tree(path).into_iter().filter(|(name, _)| !name.is_empty());
        // Without inode and owner, and times to the second.
        let parts = seen.map(|(name, facts)| (name, facts.splitn(8, ' ').map(str::to_owned).collect::<Vec<_>>()));
        parts.map(|(name, facts)| (name, [1, 2, 3, 4, 7].map(|index| facts[index].clone()).to_vec())).collect()
    };
    assert_eq!(facts(&scene.target()), facts(&scene.outside()));
    let file = listed(&bytes).await.unwrap().entries.into_iter().find(|entry| entry.path == b"file").unwrap();
    assert_eq!((file.uid, file.gid, file.mode, file.modified.seconds), (0, 0, 0o640, 1_000_000));
}

#[tokio::test]
async fn archive_pack_is_read_by_another_program() {
    let scene = Scene::new();
    sample(&scene.outside());
    let named =
        vec![Source::named(scene.outside()), Source { path: scene.outside().join("file"), name: "other".into() }];
    let options = PackOptions { owner: Owner::Fixed(3_000_000, 5), ..PackOptions::default() };
    let (bytes, result, _) = packed(named, options).await;
    result.unwrap();
    let at = scene.target().join("a.tar");
    fs::write(&at, &bytes).unwrap();
    let output = std::process::Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(&at).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), listed(&bytes).await.unwrap().entries.len());
    assert!(text.contains("3000000/5") && text.contains("outside/sub/big") && text.contains(" other\n"), "{text}");
}

#[tokio::test]
async fn archive_pack_never_follows_links_and_skips_sockets() {
    let scene = Scene::new();
    let root = scene.target();
    symlink("../outside", root.join("out")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    let (bytes, result, report) = packed(contents(&root), PackOptions::default()).await;
    result.unwrap();
    assert_eq!(paths(&bytes).await, ["loop", "out"]);
    assert_eq!(report.skipped.counts[&SkipReason::Special], 2);
    // A source that is a link is one, unless it was asked to stand for its folder.
    let link = Source::named(root.join("out"));
    assert_eq!(paths(&packed(vec![link], PackOptions::default()).await.0).await, ["out"]);
    let source = Source { path: root.join("out"), name: "".into() };
    assert!(pack(vec![source.clone()], PackOptions::default(), None).await.is_err());
    let (bytes, ..) = packed(vec![source], PackOptions { follow_sources: true, ..PackOptions::default() }).await;
    assert_eq!(paths(&bytes).await, ["folder/", "folder/file", "secret"]);
    let missing = pack(vec![Source::named(root.join("missing"))], PackOptions::default(), None).await.unwrap_err();
    assert!(missing.to_string().contains("missing"));
    let few = PackOptions { entries: 1, ..PackOptions::default() };
    assert!(matches!(
        pack(contents(&root), few, None).await,
        Err(ArchiveError::Quota { .. } | ArchiveError::File { .. })
    ));
}

#[tokio::test]
async fn archive_pack_keeps_its_promise_when_files_change() {
    for grows in [false, true] {
        let scene = Scene::new();
        let root = scene.target();
        // Enough before it that the file is not yet open when it changes, and large enough to be open for long.
        fs::write(root.join("a"), vec![1; 8 << 20]).unwrap();
        fs::write(root.join("b"), b"after").unwrap();
        let Pack { mut stream, outcome, .. } = pack(contents(&root), PackOptions::default(), None).await.unwrap();
        let mut bytes = stream.next().await.unwrap().unwrap().to_vec();
        let file = fs::OpenOptions::new().append(true).open(root.join("a")).unwrap();
        if grows {
            (&file).write_all(b"more").unwrap();
        } else {
            file.set_len(5 << 20).unwrap();
        }
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let (result, report) = outcome.await;
        assert!(matches!(result, Err(ArchiveError::Changed { count: 1, .. })));
        assert_eq!(report.changed, ["a"]);
        let listing = listed(&bytes).await.unwrap();
        assert_eq!(listing.entries.iter().map(|entry| entry.size).collect::<Vec<_>>(), [8 << 20, 5]);
        assert!(listing.end_marker, "the archive is whole all the same");
    }
}

#[tokio::test]
async fn archive_pack_stops_when_nobody_reads() {
    let scene = Scene::new();
    fs::File::create(scene.target().join("endless")).unwrap().set_len(1 << 40).unwrap();
    let Pack { mut stream, outcome, .. } = pack(contents(&scene.target()), PackOptions::default(), None).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let (result, report) = tokio::time::timeout(Duration::from_secs(5), outcome).await.unwrap();
    assert!(matches!(result, Err(ArchiveError::Abandoned)));
    assert_eq!(report.bytes, 0);
}

#[tokio::test]
async fn archive_pack_is_never_taken_for_a_compressed_one() {
    let scene = Scene::new();
    for name in [&b"BZh9"[..], b"\x1f\x8b\x08x", b"\xfd7zXZ", b"\x50\x2a\x4d\x18", b"\x04\x22\x4d\x18"] {
        fs::write(scene.target().join(OsStr::from_bytes(name)), "x").unwrap();
        let source = vec![Source::named(scene.target().join(OsStr::from_bytes(name)))];
        let (bytes, ..) = packed(source, PackOptions::default()).await;
        assert_eq!(Compression::of(&bytes), None, "{name:?}");
        assert_eq!(listed(&bytes).await.unwrap().entries[0].path, name);
        let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
        assert!(refuse_compressed(stream).await.is_ok());
    }
}

#[tokio::test]
async fn archive_pack_tells_its_progress() {
    let scene = Scene::new();
    sample(&scene.outside());
    let (sender, receiver) = tokio::sync::watch::channel(Progress::default());
    let packing = pack(contents(&scene.outside()), PackOptions::default(), Some(sender)).await.unwrap();
    let bytes: Vec<_> = packing.stream.try_collect().await.unwrap();
    let (result, report) = packing.outcome.await;
    result.unwrap();
    let told = receiver.borrow().clone();
    assert_eq!((told.entries, told.bytes), (report.entries, report.bytes));
    let (sender, receiver) = tokio::sync::watch::channel(Progress::default());
    let stream = futures_util::stream::iter(bytes.into_iter().map(Ok));
    let report = extract(stream, &scene.target(), &ExtractOptions::default(), Some(sender)).await.unwrap();
    let told = receiver.borrow().clone();
    assert_eq!(
        (told.bytes, told.entries),
        (report.bytes, report.files + report.folders + report.symlinks + report.skipped.total())
    );
    assert!(!told.current.is_empty());
}

async fn context(folder: &Path, dockerfile: &Path) -> (BuildContextParts, Vec<u8>) {
    let BuildContext { dockerfile, ignore_file, pack } =
        build_context(folder, dockerfile, &ContextOptions::default(), None).await.unwrap();
    let pieces: Vec<Bytes> = pack.stream.try_collect().await.unwrap();
    pack.outcome.await.0.unwrap();
    (
        BuildContextParts { dockerfile, ignored_by: ignore_file.map(|path| path.file_name().unwrap().to_owned()) },
        pieces.concat(),
    )
}

struct BuildContextParts {
    dockerfile: String,
    ignored_by: Option<std::ffi::OsString>,
}

#[tokio::test]
async fn archive_context_leaves_out_what_is_ignored() {
    let scene = Scene::new();
    let root = scene.target();
    fs::create_dir_all(root.join("node_modules/x")).unwrap();
    fs::create_dir_all(root.join("docker")).unwrap();
    fs::create_dir_all(root.join("vendor/a/b")).unwrap();
    for file in ["node_modules/x/y", "docker/Dockerfile", "docker/other", "main.rs", "vendor/a/b/keep", "vendor/a/drop"]
    {
        fs::write(root.join(file), file).unwrap();
    }
    fs::write(root.join(".dockerignore"), "*\n!main.rs\n!vendor/a/b\n").unwrap();
    let (parts, bytes) = context(&root, Path::new("docker/Dockerfile")).await;
    assert_eq!(
        (parts.dockerfile.as_str(), parts.ignored_by.unwrap().to_str().unwrap()),
        ("docker/Dockerfile", ".dockerignore")
    );
    let sent = [
        ".dockerignore",
        "docker/",
        "docker/Dockerfile",
        "main.rs",
        "vendor/",
        "vendor/a/",
        "vendor/a/b/",
        "vendor/a/b/keep",
    ];
    assert_eq!(paths(&bytes).await, sent);

    fs::write(root.join("docker/Dockerfile.dockerignore"), "vendor\n**/node_modules\n").unwrap();
    let (parts, bytes) = context(&root, Path::new("docker/Dockerfile")).await;
    assert_eq!(parts.ignored_by.unwrap().to_str().unwrap(), "Dockerfile.dockerignore");
    let sent =
        [".dockerignore", "docker/", "docker/Dockerfile", "docker/Dockerfile.dockerignore", "docker/other", "main.rs"];
    assert_eq!(paths(&bytes).await, sent);
}

#[tokio::test]
async fn archive_context_takes_a_dockerfile_from_elsewhere() {
    let scene = Scene::new();
    let root = scene.target();
    fs::write(root.join("a"), "a").unwrap();
    fs::write(root.join(".dockerignore"), "nothing").unwrap();
    fs::write(scene.outside().join("Dockerfile"), "FROM scratch").unwrap();
    for dockerfile in [scene.outside().join("Dockerfile"), "../outside/Dockerfile".into()] {
        let (parts, bytes) = context(&root, &dockerfile).await;
        assert!(parts.dockerfile.starts_with(".dockerfile.") && parts.dockerfile.len() > 20);
        assert_eq!(paths(&bytes).await, [".dockerignore", &parts.dockerfile, "a"]);
        let again = Scene::new();
        extracted(&bytes, &again.target(), &ExtractOptions::default()).await.unwrap();
        let hidden = fs::read_to_string(again.target().join(".dockerignore")).unwrap();
        assert_eq!(hidden, format!("nothing\n{}\n", parts.dockerfile));
        assert_eq!(fs::read_to_string(again.target().join(&parts.dockerfile)).unwrap(), "FROM scratch");
    }
    // A link in the folder to a file outside leads nowhere in the context.
    symlink("../outside/Dockerfile", root.join("Dockerfile")).unwrap();
    assert!(context(&root, Path::new("Dockerfile")).await.0.dockerfile.starts_with(".dockerfile."));
    let options = ContextOptions::default();
    let error = build_context(&root, Path::new("missing"), &options, None).await.unwrap_err();
    assert!(error.to_string().contains("missing is not a file with build instructions"));
    fs::write(root.join(".dockerignore"), "ok\n[a-\n").unwrap();
    let error = build_context(&root, Path::new("a"), &options, None).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Ignore(ignore::IgnoreError::Pattern { line: 2, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn archive_pack_of_any_names_comes_back(
        names in prop::collection::btree_map(prop::collection::vec(1_u8..=255, 1..250), 0_usize..3000, 0..12)
    ) {
        let scene = Scene::new();
        let mut expected = std::collections::BTreeMap::new();
        for (name, size) in names {
            let name: Vec<u8> = name.into_iter().filter(|byte| *byte != b'/').collect();
            if name.is_empty() || name == b"." || name == b".." { continue; }
            fs::write(scene.target().join(OsStr::from_bytes(&name)), vec![b'x'; size]).unwrap();
            expected.insert(name, size as u64);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (bytes, result, _) = runtime.block_on(packed(contents(&scene.target()), PackOptions::default()));
        result.unwrap();
        prop_assert_eq!(Compression::of(&bytes), None);
        let listing = runtime.block_on(listed(&bytes)).unwrap();
        let found: std::collections::BTreeMap<_, _> = listing.entries.into_iter().map(|entry| (entry.path, entry.size)).collect();
        prop_assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn archive_pack_looks_behind_exceptions_with_wildcards() {
    let scene = Scene::new();
    let root = scene.target();
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::write(root.join("a/b/c/keep.md"), "").unwrap();
    fs::write(root.join("a/b/drop"), "").unwrap();
    let ignore = Some(DockerIgnore::parse(b"*\n!**/*.md").unwrap());
    let (bytes, ..) = packed(contents(&root), PackOptions { ignore, ..PackOptions::default() }).await;
    assert_eq!(paths(&bytes).await, ["a/", "a/b/", "a/b/c/", "a/b/c/keep.md"]);
}
