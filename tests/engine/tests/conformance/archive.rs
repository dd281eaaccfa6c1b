//! Files of containers: what they are, and getting them out and in.

use berth_engine::{ContainerRef, Docker, Error, FileKind, RequestBody, UploadArchive};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::exec::{read, sh, sleeper};
use crate::harness::{Case, CaseContext, Outcome, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(kinds),
        case!(stat_of_nothing),
        case!(download_a_file),
        case!(download_a_folder),
        case!(download_nothing),
        case!(of_a_stopped_container),
        case!(there_and_back),
        case!(upload_in_pieces),
        case!(upload_thirty_two_megabytes),
        case!(upload_into_nothing),
        case!(upload_into_a_file),
        case!(compressed_is_refused),
        case!(broken_upload),
        case!(damaged_archive),
        case!(kinds_are_kept),
        case!(owners_are_kept),
        case!(odd_names),
        case!(names_that_are_no_text),
        case!(paths_stay_inside),
        case!(links_stay_inside),
        case!(read_only_root),
        case!(nobody),
    ]
}

/// An entry of a tar archive in the oldest of its formats.
fn entry(name: &[u8], kind: u8, owner: u32, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(format!("{owner:07o}").as_bytes());
    header[116..123].copy_from_slice(format!("{owner:07o}").as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[136..147].copy_from_slice(b"14570000000");
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    archive(&[entry(name.as_bytes(), b'0', 0, content)])
}

async fn download(docker: &Docker, container: &ContainerRef, path: impl AsRef<[u8]>) -> Vec<u8> {
    let (_, stream) = docker.download_archive(container, path).await.unwrap();
    stream.map(|piece| piece.unwrap().to_vec()).concat().await
}

/// Whether an archive holds these bytes anywhere, in a name or as content.
fn holds(archive: &[u8], bytes: &[u8]) -> bool {
    archive.windows(bytes.len()).any(|window| window == bytes)
}

async fn run(docker: &Docker, container: &ContainerRef, script: &str) -> String {
    let session = docker.exec(container, &sh(script)).await.unwrap();
    read(session.streams.output).await.0
}

fn plain() -> UploadArchive {
    UploadArchive::default()
}

async fn kinds(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    run(
        &docker,
        &container,
        "cd /tmp; printf 12345 > file; busybox chmod 4751 file; busybox ln -s file link; busybox mkdir folder",
    )
    .await;
    let stat = docker.container_path(&container, "/tmp/file").await.unwrap();
    assert_eq!((stat.name.as_str(), stat.size, stat.kind(), stat.permissions()), ("file", 5, FileKind::File, 0o4751));
    assert!(stat.modified.is_some_and(|millis| millis > 1.6e12));
    let stat = docker.container_path(&container, "/tmp/link").await.unwrap();
    assert_eq!((stat.kind(), stat.link_target.as_str()), (FileKind::Link, "/tmp/file"));
    assert_eq!(docker.container_path(&container, "/tmp/folder").await.unwrap().kind(), FileKind::Folder);
    assert_eq!(docker.container_path(&container, "/").await.unwrap().kind(), FileKind::Folder);
    Outcome::Pass
}

async fn stat_of_nothing(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    assert!(docker.container_path(&container, "/no/such").await.unwrap_err().is_not_found());
    assert!(matches!(docker.container_path(&container, "").await, Err(Error::InvalidReference { .. })));
    assert!(matches!(docker.container_path(&container, "/a\0b").await, Err(Error::InvalidReference { .. })));
    Outcome::Pass
}

async fn download_a_file(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let (stat, stream) = docker.download_archive(&container, "/etc/passwd").await.unwrap();
    assert_eq!((stat.name.as_str(), stat.kind()), ("passwd", FileKind::File));
    let bytes: Vec<u8> = stream.map(|piece| piece.unwrap().to_vec()).concat().await;
    assert!(holds(&bytes, b"root:x:0:0") && bytes.starts_with(b"passwd\0"));
    assert_eq!(bytes.len() % 512, 0);
    Outcome::Pass
}

async fn download_a_folder(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    run(&docker, &container, "busybox mkdir -p /tmp/a/b; echo deep > /tmp/a/b/c; busybox ln -s /etc/passwd /tmp/a/l")
        .await;
    let bytes = download(&docker, &container, "/tmp/a").await;
    assert!(holds(&bytes, b"a/b/c\0") && holds(&bytes, b"deep\n") && holds(&bytes, b"/etc/passwd\0"));
    let bytes = download(&docker, &container, "/tmp/a/.").await;
    assert!(holds(&bytes, b"b/c\0") && !holds(&bytes, b"a/b/c\0"), "the content of the folder alone");
    Outcome::Pass
}

async fn download_nothing(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let refused = docker.download_archive(&container, "/no/such").await.map(drop).unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    Outcome::Pass
}

async fn of_a_stopped_container(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("off", &["true"], json!({})).await;
    docker.upload_archive(&container, "/tmp", file("x", b"still"), &plain()).await.unwrap();
    assert_eq!(docker.container_path(&container, "/tmp/x").await.unwrap().size, 5);
    assert!(holds(&download(&docker, &container, "/tmp/x").await, b"still"));
    Outcome::Pass
}

async fn there_and_back(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    run(&docker, &container, "busybox mkdir -p /tmp/a/b /tmp/copy; echo deep > /tmp/a/b/c; busybox ln -s c /tmp/a/b/l")
        .await;
    let bytes = download(&docker, &container, "/tmp/a").await;
    docker.upload_archive(&container, "/tmp/copy", bytes, &plain()).await.unwrap();
    assert_eq!(run(&docker, &container, "cat /tmp/copy/a/b/l; busybox readlink /tmp/copy/a/b/l").await, "deep\nc\n");
    Outcome::Pass
}

async fn upload_in_pieces(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let pieces: Vec<_> = file("piece", b"by piece").chunks(7).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    let body = RequestBody::stream(stream::iter(pieces));
    docker.upload_archive(&container, "/tmp", body, &plain()).await.unwrap();
    assert_eq!(run(&docker, &container, "cat /tmp/piece").await, "by piece");
    Outcome::Pass
}

async fn upload_thirty_two_megabytes(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let content: Vec<u8> = (0..8 * 1024 * 1024_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let bytes = Bytes::from(file("big", &content));
    let pieces: Vec<_> = bytes.chunks(65_536).map(|piece| Ok(bytes.slice_ref(piece))).collect();
    let body = RequestBody::stream(stream::iter(pieces));
    docker.upload_archive(&container, "/tmp", body, &plain()).await.unwrap();
    let back = download(&docker, &container, "/tmp/big").await;
    assert!(back.get(512..512 + content.len()) == Some(&content[..]), "the same bytes come back");
    Outcome::Pass
}

async fn upload_into_nothing(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let refused = docker.upload_archive(&container, "/no/such", file("x", b"x"), &plain()).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    Outcome::Pass
}

async fn upload_into_a_file(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let refused = docker.upload_archive(&container, "/etc/passwd", file("x", b"x"), &plain()).await.unwrap_err();
    assert!(refused.to_string().contains("not a directory"), "{refused:?}");
    Outcome::Pass
}

async fn compressed_is_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    for start in [&b"\x1f\x8b\x08\0\0\0\0\0"[..], b"\xfd7zXZ\0\0\0", b"BZh91AY&", b"\x28\xb5\x2f\xfd\0\0\0\0"] {
        let refused = docker.upload_archive(&container, "/tmp", start.to_vec(), &plain()).await.unwrap_err();
        assert!(matches!(refused, Error::Compressed(_)), "{refused:?}");
    }
    Outcome::Pass
}

/// A stream that fails on the way breaks the upload off: the engine must not take its half for the whole.
async fn broken_upload(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let bytes = file("half", &vec![7; 1024 * 1024]);
    let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    let pieces = [Ok(half), Err(std::io::Error::other("the disk is gone"))];
    let failed = docker.upload_archive(&container, "/tmp", RequestBody::stream(stream::iter(pieces)), &plain()).await;
    assert!(failed.is_err());
    assert!(docker.inspect_container(&container).await.unwrap().state.status.is_alive());
    Outcome::Pass
}

async fn damaged_archive(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let refused = docker.upload_archive(&container, "/tmp", vec![b'x'; 2048], &plain()).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    Outcome::Pass
}

async fn kinds_are_kept(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    run(&docker, &container, "busybox mkdir /tmp/folder").await;
    let keep = UploadArchive::default().keep_kinds(true);
    let refused = docker.upload_archive(&container, "/tmp", file("folder", b"x"), &keep).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    assert_eq!(docker.container_path(&container, "/tmp/folder").await.unwrap().kind(), FileKind::Folder);
    Outcome::Pass
}

async fn owners_are_kept(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let owned = archive(&[entry(b"owned", b'0', 1234, b"x")]);
    docker.upload_archive(&container, "/tmp", owned, &UploadArchive::default().keep_owners(true)).await.unwrap();
    assert_eq!(run(&docker, &container, "busybox stat -c %u:%g /tmp/owned").await, "1234:1234\n");
    Outcome::Pass
}

async fn odd_names(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    for name in ["a b", "a?b&c=d#e", "%2e%2e", "a\nb\r\nX: y", "ü\u{202e}", "-rf", "<b>", "a;b", "a+b", "~", "'\""] {
        docker.upload_archive(&container, "/tmp", file(name, name.as_bytes()), &plain()).await.unwrap();
        let path = format!("/tmp/{name}");
        let stat = docker.container_path(&container, &path).await.unwrap();
        assert_eq!((stat.name.as_str(), stat.size), (name, i64::try_from(name.len()).unwrap()));
        assert!(holds(&download(&docker, &container, &path).await[512..], name.as_bytes()), "{name:?}");
    }
    Outcome::Pass
}

async fn names_that_are_no_text(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let bytes = archive(&[entry(b"\xff\xfe\x80", b'0', 0, b"content")]);
    docker.upload_archive(&container, "/tmp", bytes, &plain()).await.unwrap();
    assert_eq!(docker.container_path(&container, b"/tmp/\xff\xfe\x80").await.unwrap().size, 7);
    let bytes = download(&docker, &container, b"/tmp/\xff\xfe\x80").await;
    assert!(holds(&bytes, b"content"), "it is not in the archive");
    Outcome::Pass
}

async fn paths_stay_inside(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let bytes = download(&docker, &container, "/../../../../etc/passwd").await;
    assert!(holds(&bytes, b"root:x:0:0:root:/root:/bin/sh\n"));
    assert_eq!(docker.container_path(&container, "/tmp/../etc/passwd").await.unwrap().name, "passwd");
    assert!(docker.container_path(&container, "/../../proc/1/root/usr/bin/dockerd").await.is_err());
    Outcome::Pass
}

async fn links_stay_inside(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    run(&docker, &container, "busybox ln -s ../../../../../../etc /tmp/out; echo mine > /etc/mine").await;
    let bytes = download(&docker, &container, "/tmp/out/mine").await;
    assert!(holds(&bytes, b"mine\n"), "the container's own /etc");
    docker.upload_archive(&container, "/tmp/out", file("new", b"x"), &plain()).await.unwrap();
    assert_eq!(run(&docker, &container, "cat /etc/new").await, "x");
    Outcome::Pass
}

async fn read_only_root(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = json!({ "NetworkMode": "none", "ReadonlyRootfs": true });
    let container = cx.running("fixed", &["sleep", "600"], json!({ "HostConfig": host })).await;
    let refused = docker.upload_archive(&container, "/tmp", file("x", b"x"), &plain()).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused:?}");
    Outcome::Pass
}

async fn nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.container_path(&nobody, "/etc").await.unwrap_err().is_not_found());
    assert!(docker.download_archive(&nobody, "/etc").await.map(drop).unwrap_err().is_not_found());
    let refused = docker.upload_archive(&nobody, "/etc", file("x", b"x"), &plain()).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    Outcome::Pass
}
