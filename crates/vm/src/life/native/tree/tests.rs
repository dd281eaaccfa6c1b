//! Trees with everything a file can be, and archives that nobody should have written.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::XattrFlags;

use super::attributes::Attributes;
use super::pack::Sink;
use super::record::{Entry, Kind};
use super::{Counter, DEPTH, Parts, Stopped, Unparted, pack, unpack};
use crate::life::archive::{BackupManifest, BackupReader, BackupWriter, ReadProblem};
use crate::life::{Cancel, LifeError};
use crate::status::Versions;

/// Owners, devices and `trusted` attributes are root's to make.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn manifest(length: u64) -> BackupManifest {
    BackupManifest {
        format: 1,
        backend: "native".to_owned(),
        data_format: 1,
        disk_bytes: length,
        used_bytes: length,
        versions: Versions::default(),
        berth: "0".to_owned(),
        created: 0,
    }
}

fn packed(data: &Path) -> Vec<u8> {
    let mut counter = Counter::default();
    pack(data, &mut counter).unwrap();
    let writer = BackupWriter::new(Vec::new(), &manifest(counter.0)).unwrap();
    let (cancel, to) = (Cancel::default(), Path::new("/to"));
    let mut parts = Parts::new(writer, to, counter.0, &cancel, |_, _| {});
    pack(data, &mut parts).unwrap();
    parts.finish().unwrap().unwrap().0
}

/// A backup of that stream.
fn around(stream: &[u8]) -> Vec<u8> {
    let writer = BackupWriter::new(Vec::new(), &manifest(stream.len() as u64)).unwrap();
    let cancel = Cancel::default();
    let mut parts = Parts::new(writer, Path::new("/to"), stream.len() as u64, &cancel, |_, _| {});
    parts.bytes(stream).unwrap();
    parts.finish().unwrap().unwrap().0
}

fn unpacked(backup: &[u8], to: &Path) -> Result<u64, Stopped> {
    let reader = BackupReader::new(backup)?;
    unpack(&mut Unparted::new(reader, &Cancel::default(), |_, _| {}), to).map(|report| report.entries)
}

/// Everything that can be known of what is in a folder, a line each.
fn described(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) {
            continue;
        }
        let attributes = Attributes::read(&path, &metadata).unwrap();
        let name = path.strip_prefix(folder).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let kind = metadata.mode() & 0o170_000;
        let mut line = format!("{name} {kind:o} {attributes:?} {:x}", metadata.rdev());
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            line.push_str(&format!(" {} names", metadata.nlink()));
        }
        if metadata.is_symlink() {
            line.push_str(&format!(" to {:?}", fs::read_link(&path).unwrap()));
        }
        if metadata.is_file() {
            let bytes = fs::read(&path).unwrap();
            let digest: String = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&bytes))
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            line.push_str(&format!(" {} bytes {digest}, {} blocks", bytes.len(), metadata.blocks()));
        }
        // The folder itself was made by the test.
        if path != folder {
            lines.push(line);
        }
    }
    lines.sort();
    lines
}

fn attribute(path: &Path, name: &[u8], value: &[u8]) {
    rustix::fs::lsetxattr(path, OsStr::from_bytes(name), value, XattrFlags::empty()).unwrap();
}

/// A tree with what an engine's folders have, and worse.
fn nasty(data: &Path) {
    let docker = data.join("docker");
    fs::create_dir_all(docker.join("deep/er")).unwrap();
    fs::create_dir_all(data.join("containerd")).unwrap();
    fs::write(docker.join("file"), "content").unwrap();
    fs::write(docker.join("empty"), "").unwrap();
    fs::write(docker.join("block"), [7; 512]).unwrap();
    fs::write(docker.join("large"), (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    for (index, name) in [&b"one\xff\xfe name"[..], b"new\nline", b" ", &[b'n'; 255], b"a=b", b"-x"].iter().enumerate()
    {
        fs::write(docker.join(OsStr::from_bytes(name)), format!("{index}")).unwrap();
    }
    let long = docker.join("d".repeat(90)).join("e".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("file"), "long").unwrap();
    symlink("x".repeat(3000), docker.join("long link")).unwrap();
    symlink("/etc/passwd", docker.join("link")).unwrap();
    symlink("gone\nhere", docker.join("deep/dangling")).unwrap();
    fs::hard_link(docker.join("file"), docker.join("deep/er/second")).unwrap();
    fs::hard_link(docker.join("file"), data.join("containerd/third")).unwrap();
    fs::hard_link(docker.join("link"), docker.join("deep/link too")).unwrap();
    let holes = File::create(docker.join("holes")).unwrap();
    holes.set_len(48 << 20).unwrap();
    for at in [1 << 20, (32 << 20) + 5, (48 << 20) - 4096] {
        holes.write_all_at(b"here", at).unwrap();
    }
    File::create(docker.join("only a hole")).unwrap().set_len(16 << 20).unwrap();
    drop(UnixListener::bind(docker.join("socket")).unwrap());
    if is_root() {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        for (name, kind, device) in [
            ("whiteout", SFlag::S_IFCHR, makedev(0, 0)),
            ("disk", SFlag::S_IFBLK, makedev(259, 1_000_000)),
            ("pipe", SFlag::S_IFIFO, 0),
        ] {
            mknod(&docker.join(name), kind, Mode::S_IRUSR, device).unwrap();
        }
        std::os::unix::fs::lchown(docker.join("link"), Some(4_000_000_000), Some(7)).unwrap();
        std::os::unix::fs::lchown(docker.join("file"), Some(1000), Some(2_097_152)).unwrap();
        std::os::unix::fs::lchown(docker.join("deep"), Some(33), Some(33)).unwrap();
        attribute(&docker.join("deep"), b"trusted.overlay.opaque", b"y");
        attribute(&docker.join("file"), b"trusted.a%3D=b", b"line\nline\0\n");
        attribute(&docker.join("file"), b"user.long", &[b'\n'; 3000]);
        attribute(&docker.join("whiteout"), b"trusted.empty", b"");
        attribute(&docker.join("link"), b"trusted.of.a.link", b"x");
        // cap_net_raw+ep, whose first byte of the sets is 0x20 and which holds line ends elsewhere.
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0];
        attribute(&docker.join("block"), b"security.capability", &capability);
    }
    for (name, mode) in [("file", 0o4755), ("empty", 0o000), ("deep", 0o1777), ("deep/er", 0o2550)] {
        fs::set_permissions(docker.join(name), Permissions::from_mode(mode)).unwrap();
    }
    for (name, seconds, nanoseconds) in [
        ("file", 1, 999_999_999),
        ("empty", -2, 500_000_000),
        ("deep/er", 1_000_000_000, 1),
        ("holes", 1 << 33, 7),
        ("deep", 5, 0),
    ] {
        let time = nix::sys::time::TimeSpec::new(seconds, nanoseconds);
        let flags = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
        nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &docker.join(name), &time, &time, flags).unwrap();
    }
}

#[test]
fn what_is_unpacked_is_what_was_packed_with_all_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    nasty(&from);
    fs::create_dir(&to).unwrap();
    let backup = packed(&from);
    assert!(backup.len() < 14 << 20, "holes are not kept: {} bytes", backup.len());
    unpacked(&backup, &to).map_err(|_| ()).unwrap();
    let (was, is) = (described(&from), described(&to));
    assert!(was.len() > 20);
    for (was, is) in was.iter().zip(&is) {
        assert_eq!(was, is);
    }
    assert_eq!(was.len(), is.len());
    assert!(!to.join("docker/socket").exists());
    assert_eq!(packed(&to), backup, "the same files are the same bytes");
}

/// That the archive is what it says to be, whatever becomes of Berth.
#[test]
fn gnu_tar_reads_it() {
    let tar = std::process::Command::new("tar").arg("--version").output();
    if !is_root() || !tar.is_ok_and(|output| output.stdout.starts_with(b"tar (GNU tar)")) {
        return;
    }
    struct Plain(File);
    impl Sink for Plain {
        fn bytes(&mut self, bytes: &[u8]) -> Result<(), LifeError> {
            self.0.write_all(bytes).map_err(LifeError::file("write", Path::new("")))
        }
        fn content(&mut self, file: &File, path: &Path, from: u64, length: u64) -> Result<(), LifeError> {
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            file.read_exact_at(&mut bytes, from).map_err(LifeError::file("read", path))?;
            self.bytes(&bytes)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    nasty(&from);
    fs::create_dir(&to).unwrap();
    let archive = folder.path().join("archive.tar");
    pack(&from, &mut Plain(File::create(&archive).unwrap())).unwrap();
    let mut command = std::process::Command::new("tar");
    command.arg("-C").arg(&to).args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]).arg(&archive);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Attributes of a link are beyond it.
    let comparable =
        |lines: Vec<String>| -> Vec<String> { lines.into_iter().filter(|line| !line.contains("link")).collect() };
    let (was, is) = (comparable(described(&from)), comparable(described(&to)));
    for (was, is) in was.iter().zip(&is) {
        assert_eq!(was, is);
    }
}

#[test]
fn what_no_file_here_is_large_enough_for_is_written_and_read_back() {
    let of = Attributes {
        mode: 0o7777,
        owner: u32::MAX - 1,
        group: 2_097_152,
        modified: (-9_000_000_000, 1),
        extended: vec![(b"user.%=%25%3D".to_vec(), b"=\n 12 x=y\n".to_vec())],
    };
    for stored in [8_589_934_591, 8_589_934_592, 1 << 45] {
        let entry = Entry { stored, length: Some(1 << 46), attributes: of.clone(), ..entry("docker/file", Kind::File) };
        let blocks = entry.blocks().unwrap();
        let (before, header) = blocks.split_at(blocks.len() - 512);
        let mut read = tar::Header::new_old();
        read.as_mut_bytes().copy_from_slice(header);
        assert!(super::record::is_whole(&read));
        let length = tar::Header::from_byte_slice(&before[..512]).entry_size().unwrap();
        let records = super::record::records(&before[512..][..usize::try_from(length).unwrap()]).unwrap();
        assert_eq!(Entry::read(&read, records).map_err(|_| ()), Ok(entry));
    }
    let endless = Attributes { extended: vec![(b"user.x".to_vec(), vec![0; 1 << 20])], ..of };
    assert!(Entry { attributes: endless, ..entry("docker/file", Kind::File) }.blocks().is_none());
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        target: Vec::new(),
        stored: 0,
        length: None,
        device: (0, 0),
        attributes: Attributes {
            mode: 0o700,
            owner: nix::unistd::geteuid().as_raw(),
            group: nix::unistd::getegid().as_raw(),
            ..Attributes::default()
        },
    }
}

fn to(path: &str, kind: Kind, target: &str) -> Entry {
    Entry { target: target.as_bytes().to_vec(), ..entry(path, kind) }
}

fn with(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let entry = Entry { stored: content.len() as u64, ..entry(path, Kind::File) };
    let mut padded = content.to_vec();
    padded.resize(content.len().div_ceil(512) * 512, 0);
    (entry, padded)
}

fn holes(length: u64, map: &str, content: usize) -> (Entry, Vec<u8>) {
    let mut bytes = map.as_bytes().to_vec();
    bytes.resize(512, 0);
    bytes.resize(512 + content, 7);
    let (entry, bytes) = with("docker/holes", &bytes);
    (Entry { length: Some(length), ..entry }, bytes)
}

fn stream(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut stream: Vec<u8> =
        entries.iter().flat_map(|(entry, content)| [entry.blocks().unwrap(), content.clone()].concat()).collect();
    stream.extend_from_slice(&[0; 1024]);
    stream
}

#[test]
fn no_entry_leaves_the_folder() {
    let docker = || (entry("docker", Kind::Folder), Vec::new());
    let plain = |entry: Entry| (entry, Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "mine").unwrap();
    let out = outside.to_str().unwrap();
    let deep = (0..=DEPTH + 1).map(|level| plain(entry(&format!("docker{}", "/d".repeat(level)), Kind::Folder)));
    let bad: Vec<Vec<(Entry, Vec<u8>)>> = vec![
        vec![with("../outside/new", b"x")],
        vec![with("/tmp/new", b"x")],
        vec![docker(), with("docker/../../outside/new", b"x")],
        vec![docker(), with("docker/./new", b"x")],
        vec![docker(), with("docker//new", b"x")],
        vec![docker(), with("docker/..", b"x")],
        vec![docker(), with(&format!("docker/{}\0b", "x".repeat(120)), b"x")],
        vec![docker(), with(&format!("docker/{}", "x".repeat(256)), b"x")],
        vec![with("", b"x")],
        vec![plain(entry("other", Kind::Folder))],
        vec![with("docker", b"x")],
        vec![plain(to("docker", Kind::Link, out))],
        vec![docker(), with("docker/none/new", b"x")],
        vec![docker(), plain(to("docker/link", Kind::Link, out)), with("docker/link/new", b"x")],
        vec![
            docker(),
            plain(to("docker/link", Kind::Link, out)),
            plain(entry("docker/link", Kind::Folder)),
            with("docker/link/new", b"x"),
        ],
        vec![docker(), plain(to("docker/link", Kind::Link, &format!("{out}/file"))), with("docker/link", b"x")],
        vec![docker(), with("docker/file", b"x"), with("docker/file", b"y")],
        vec![docker(), with("docker/file", b"x"), with("docker/file/new", b"y")],
        vec![docker(), plain(to("docker/name", Kind::Name, "../outside/file"))],
        vec![docker(), plain(to("docker/name", Kind::Name, &format!("{out}/file")))],
        vec![
            docker(),
            plain(to("docker/link", Kind::Link, out)),
            plain(to("docker/name", Kind::Name, "docker/link/file")),
        ],
        vec![docker(), plain(to("docker/name", Kind::Name, "docker"))],
        vec![docker(), plain(to("docker/name", Kind::Name, "docker/none"))],
        vec![docker(), docker()],
        deep.collect(),
    ];
    for (number, entries) in bad.iter().enumerate() {
        let into = tempfile::tempdir_in(folder.path()).unwrap();
        let stopped = unpacked(&around(&stream(entries)), into.path());
        assert!(matches!(stopped, Err(Stopped::Problem(ReadProblem::Damaged(_)))), "number {number} was taken");
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"mine");
        assert_eq!(outside.join("file").metadata().unwrap().nlink(), 1, "number {number}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "number {number}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "number {number}");
    }
}

#[test]
fn maps_of_holes_that_lie_and_blocks_that_are_none_are_refused() {
    let docker = || (entry("docker", Kind::Folder), Vec::new());
    let good = stream(&[docker(), holes(1 << 20, "2\n4096\n4\n1048576\n0\n", 4)]);
    let into = tempfile::tempdir().unwrap();
    assert!(unpacked(&around(&good), into.path()).is_ok());
    let file = into.path().join("docker/holes").metadata().unwrap();
    assert_eq!(file.len(), 1 << 20);
    assert!(file.blocks() * 512 <= 64 << 10, "{} blocks", file.blocks());
    for (length, map, content) in [
        (1 << 20, "1\n4096\n4\n", 5),
        (1 << 20, "1\n4096\n4\n", 3),
        (4099, "1\n4096\n4\n", 4),
        (1 << 20, "2\n4096\n4\n4098\n4\n", 8),
        (1 << 20, "1\n18446744073709551615\n4\n", 4),
        (u64::MAX, "1\n0\n4\n", 4),
        (1 << 20, "999999999\n0\n4\n", 4),
        (1 << 20, "-1\n0\n4\n", 4),
        (1 << 20, "1\n00000000000000000000000000000\n4\n", 4),
        (1 << 20, "\n\n", 4),
        (1 << 20, "1 0 4", 4),
    ] {
        let into = tempfile::tempdir().unwrap();
        let stopped = unpacked(&around(&stream(&[docker(), holes(length, map, content)])), into.path());
        assert!(matches!(stopped, Err(Stopped::Problem(ReadProblem::Damaged(_)))), "{length} {map:?} {content}");
    }
    // Each byte of the stream another one, with a digest that fits: nothing panics, and nothing is made outside.
    let small = stream(&[docker(), with("docker/file", b"content"), (to("docker/link", Kind::Link, "x"), Vec::new())]);
    for at in 0..small.len() {
        let mut bytes = small.clone();
        bytes[at] ^= 0x15;
        let into = tempfile::tempdir().unwrap();
        let _ = unpacked(&around(&bytes), into.path());
    }
    for length in (0..small.len()).step_by(100) {
        let into = tempfile::tempdir().unwrap();
        assert!(unpacked(&around(&small[..length]), into.path()).is_err(), "cut at {length}");
    }
    let into = tempfile::tempdir().unwrap();
    assert!(unpacked(&around(&[small, vec![1]].concat()), into.path()).is_err(), "something follows");
}
