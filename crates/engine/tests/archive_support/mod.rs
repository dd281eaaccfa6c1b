//! Archives written by hand, well-formed and hostile, and a look at a folder that forgets nothing.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use berth_engine::{Error, archive::*};
use bytes::Bytes;
use futures_util::{Stream, stream};

/// Builds a tar block by block, with nothing in the way of mistakes.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

pub struct Header<'a> {
    pub name: &'a [u8],
    pub flag: u8,
    pub size: u64,
    pub mode: u32,
    pub link: &'a [u8],
    pub gnu: bool,
}

impl Default for Header<'_> {
    fn default() -> Self {
        Header { name: b"", flag: b'0', size: 0, mode: 0o644, link: b"", gnu: false }
    }
}

pub fn block(header: &Header<'_>) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &header.name[..header.name.len().min(100)]);
    put(100, format!("{:07o}", header.mode).as_bytes());
    put(108, b"0001750");
    put(116, b"0001750");
    put(124, format!("{:011o}", header.size).as_bytes());
    put(136, format!("{:011o}", 1_700_000_000).as_bytes());
    put(156, &[header.flag]);
    put(157, &header.link[..header.link.len().min(100)]);
    put(257, if header.gnu { b"ustar  \0" } else { b"ustar\x0000" });
    checksum(&mut block);
    block
}

pub fn checksum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub fn raw(mut self, header: &Header<'_>, content: &[u8]) -> Self {
        self.0.extend_from_slice(&block(header));
        self.content(content)
    }

    pub fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn entry(self, name: &str, flag: u8, link: &str) -> Self {
        self.raw(&Header { name: name.as_bytes(), flag, link: link.as_bytes(), mode: 0o755, ..Header::default() }, b"")
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(&Header { name: name.as_bytes(), size: content.len() as u64, ..Header::default() }, content)
    }

    pub fn folder(self, name: &str) -> Self {
        self.entry(name, b'5', "")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', target)
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', target)
    }

    pub fn long_name(self, name: &[u8]) -> Self {
        self.raw(
            &Header { name: b"././@LongLink", flag: b'L', size: name.len() as u64, gnu: true, ..Header::default() },
            name,
        )
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.pax_of(b'x', records)
    }

    pub fn pax_of(self, flag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let length = (bare + 1..).find(|length| bare + length.to_string().len() == *length).unwrap();
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.raw(&Header { name: b"PaxHeaders/x", flag, size: body.len() as u64, ..Header::default() }, &body)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn pieces(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
    let pieces: Vec<_> = bytes.chunks(size.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

pub async fn listed(bytes: &[u8]) -> Result<Listing, ArchiveError> {
    list(pieces(bytes, 1000), &ListLimits::default()).await
}

pub async fn extracted(bytes: &[u8], into: &Path, options: &ExtractOptions) -> Result<ExtractReport, ExtractError> {
    extract(pieces(bytes, 1000), into, options, None).await
}

/// Everything about a tree: names, kinds, inodes, modes, sizes, times, link counts, content.
pub fn tree(path: &Path) -> BTreeMap<String, String> {
    fn visit(path: &Path, shown: &str, tree: &mut BTreeMap<String, String>) {
        let found = fs::symlink_metadata(path).unwrap();
        let kind = found.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(path).unwrap().to_string_lossy().into_owned()
        } else if kind.is_file() {
            String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
        } else {
            String::new()
        };
        let facts = format!(
            "{} {:o} {} {} {} {} {}:{} {content:?}",
            found.ino(),
            found.permissions().mode(),
            found.nlink(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.uid(),
            found.gid()
        );
        tree.insert(shown.to_owned(), facts);
        if kind.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                visit(&entry.path(), &format!("{shown}/{}", entry.file_name().to_string_lossy()), tree);
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(path, "", &mut found);
    found
}

/// Relative paths of all that is in a folder.
pub fn names(path: &Path) -> Vec<String> {
    tree(path).into_keys().filter(|name| !name.is_empty()).map(|name| name[1..].to_owned()).collect()
}

/// A folder to extract into, with something beside it that must stay as it is.
pub struct Scene {
    pub outer: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("outside/folder")).unwrap();
        fs::write(outer.path().join("outside/secret"), "secret").unwrap();
        fs::write(outer.path().join("outside/folder/file"), "file").unwrap();
        fs::set_permissions(outer.path().join("outside/folder"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(outer.path().join("into")).unwrap();
        Self { outer }
    }

    pub fn target(&self) -> std::path::PathBuf {
        self.outer.path().join("into")
    }

    pub fn outside(&self) -> std::path::PathBuf {
        self.outer.path().join("outside")
    }

    /// Extracts both ways of walking, one after the other, and checks that nothing outside changed.
    pub async fn attack(&self, bytes: &[u8], options: &ExtractOptions) -> Result<ExtractReport, ExtractError> {
        let before = tree(&self.outside());
        let beside: Vec<_> = fs::read_dir(self.outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        let mut first = None;
        for walk_by_name in [false, true] {
            if walk_by_name {
                fs::remove_dir_all(self.target()).unwrap();
                fs::create_dir(self.target()).unwrap();
            }
            let options = ExtractOptions { walk_by_name, ..options.clone() };
            let report = extracted(bytes, &self.target(), &options).await;
            assert_eq!(tree(&self.outside()), before, "nothing outside changes");
            let now: Vec<_> = fs::read_dir(self.outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(now, beside, "nothing appears beside");
            assert!(!names(&self.target()).iter().any(|name| name.contains(".part")), "no file is left half-written");
            let first = first.get_or_insert(format!("{report:?}"));
            assert_eq!(*first, format!("{report:?}"), "both ways of walking do the same");
            if walk_by_name {
                return report;
            }
        }
        unreachable!()
    }
}

pub fn reasons(report: &ExtractReport) -> Vec<(&str, SkipReason)> {
    report.skipped.first.iter().map(|skipped| (skipped.path.as_str(), skipped.reason)).collect()
}
