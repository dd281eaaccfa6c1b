//! The file that holds a data disk, or the native engine's files: a head that says what it is, the used parts of the disk or
//! of the files' stream, packed, and a digest of it all.
//!
//! `BERTHBAK`, the length of the manifest (u32), the manifest (JSON), then parts: offset on the disk (u64), bytes there
//! (u32), bytes in the file (u32), zlib data. A part of no bytes ends them; SHA-256 of all before it follows. Numbers are
//! little-endian.

use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::paths::EnginePaths;
use crate::status::Versions;
use crate::supervisor::read_state;

const MAGIC: &[u8; 8] = b"BERTHBAK";
/// What a backup is of.
pub(super) const MACHINE: &str = "qemu";
pub(super) const NATIVE: &str = "native";
const FORMAT: u32 = 1;
/// The format of what is on the disk, of which `berth-guest` keeps its own record there.
const DATA_FORMAT: u32 = 1;
/// Bytes of the disk in one part.
pub(super) const PART: usize = 1 << 20;
/// What zlib can add to bytes that cannot be packed, and more.
const PACKED_LIMIT: usize = PART + (PART >> 4);
const MANIFEST_LIMIT: u32 = 64 << 10;
/// The largest disk that settings allow.
pub(super) const DISK_LIMIT: u64 = 65_536 << 30;
const DIGEST: usize = 32;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupManifest {
    pub(super) format: u32,
    pub(super) backend: String,
    pub(super) data_format: u32,
    /// The disk's size, or how long the files' stream is.
    pub(super) disk_bytes: u64,
    /// At most so much of it is in the file.
    pub(super) used_bytes: u64,
    /// The versions that used it last.
    #[serde(default)]
    pub(super) versions: Versions,
    /// The version of Berth that made it.
    pub(super) berth: String,
    /// When, in seconds since 1970.
    pub(super) created: u64,
}

impl BackupManifest {
    /// Of an engine's data as it is now.
    pub(super) fn new(paths: &EnginePaths, backend: &str, disk_bytes: u64, used_bytes: u64) -> Self {
        Self {
            format: FORMAT,
            backend: backend.to_owned(),
            data_format: DATA_FORMAT,
            disk_bytes,
            used_bytes,
            versions: read_state(paths).unwrap_or_default().versions,
            berth: env!("CARGO_PKG_VERSION").to_owned(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

/// Why a backup could not be read.
#[derive(Debug)]
pub(super) enum ReadProblem {
    NotABackup,
    Newer(String),
    Damaged(String),
    Read(io::Error),
}

impl From<io::Error> for ReadProblem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends too early".to_owned()),
            _ => Self::Read(error),
        }
    }
}

/// Writes a backup.
pub(super) struct BackupWriter<W> {
    to: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> BackupWriter<W> {
    pub(super) fn new(to: W, manifest: &BackupManifest) -> io::Result<Self> {
        let mut writer = Self { to, digest: Sha256::new(), bytes: 0 };
        let text = serde_json::to_vec(manifest)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        writer.write(MAGIC)?;
        writer.write(&length.to_le_bytes())?;
        writer.write(&text)?;
        Ok(writer)
    }

    pub(super) fn part(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut packer = ZlibEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
        packer.write_all(bytes)?;
        let packed = packer.finish()?;
        self.head(offset, bytes.len(), packed.len())?;
        self.write(&packed)
    }

    /// Ends the file, and says how long it is.
    pub(super) fn finish(mut self) -> io::Result<(W, u64)> {
        self.head(0, 0, 0)?;
        let digest = self.digest.finalize_reset();
        self.to.write_all(&digest)?;
        Ok((self.to, self.bytes.saturating_add(DIGEST as u64)))
    }

    fn head(&mut self, offset: u64, bytes: usize, packed: usize) -> io::Result<()> {
        let word = |length: usize| u32::try_from(length).map(u32::to_le_bytes).map_err(io::Error::other);
        self.write(&offset.to_le_bytes())?;
        self.write(&word(bytes)?)?;
        self.write(&word(packed)?)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.to.write_all(bytes)
    }
}

/// Reads a backup, which may be anybody's.
pub(super) struct BackupReader<R> {
    from: R,
    digest: Sha256,
    pub(super) manifest: BackupManifest,
    /// Where the next part may begin at the earliest.
    next: u64,
    used: u64,
    packed: Vec<u8>,
    part: Vec<u8>,
}

impl<R: Read> BackupReader<R> {
    pub(super) fn new(mut from: R) -> Result<Self, ReadProblem> {
        let mut digest = Sha256::new();
        let mut read = |bytes: &mut [u8]| from.read_exact(bytes).map(|()| digest.update(&*bytes));
        let mut magic = [0; 8];
        match read(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadProblem::NotABackup),
            read => read?,
        }
        if &magic != MAGIC {
            return Err(ReadProblem::NotABackup);
        }
        let mut length = [0; 4];
        read(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > MANIFEST_LIMIT {
            return Err(ReadProblem::Damaged(format!("its manifest would be {length} bytes long")));
        }
        let mut text = vec![0; length as usize];
        read(&mut text)?;
        let manifest = manifest(&text)?;
        Ok(Self { from, digest, manifest, next: 0, used: 0, packed: Vec::new(), part: Vec::new() })
    }

    /// The next part and where it belongs; none at the end, when all of the file has been found to be as it was
    /// written. What came before that is not to be trusted.
    pub(super) fn part(&mut self) -> Result<Option<(u64, &[u8])>, ReadProblem> {
        let mut head = [0; 16];
        self.read(&mut head)?;
        let [offset @ .., b0, b1, b2, b3, p0, p1, p2, p3] = head;
        let offset = u64::from_le_bytes(offset);
        let bytes = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        let packed = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        if bytes == 0 {
            return self.end().map(|()| None);
        }
        let end = offset.checked_add(bytes as u64);
        let end = end.filter(|&end| offset >= self.next && end <= self.manifest.disk_bytes);
        self.used = self.used.saturating_add(bytes as u64);
        let (Some(end), true) = (end, bytes <= PART && packed <= PACKED_LIMIT && self.used <= self.manifest.used_bytes)
        else {
            return Err(ReadProblem::Damaged(format!("a part of {bytes} bytes at {offset} cannot be")));
        };
        self.next = end;
        self.packed.resize(packed, 0);
        self.from.read_exact(&mut self.packed)?;
        self.digest.update(&self.packed);
        self.part.clear();
        // One byte more than it may have shows that it has too many.
        let unpacked = ZlibDecoder::new(self.packed.as_slice()).take(bytes as u64 + 1).read_to_end(&mut self.part);
        if unpacked.is_err() || self.part.len() != bytes {
            return Err(ReadProblem::Damaged(format!("the part at {offset} cannot be unpacked")));
        }
        Ok(Some((offset, &self.part)))
    }

    fn end(&mut self) -> Result<(), ReadProblem> {
        let found = self.digest.finalize_reset();
        let mut told = [0; DIGEST];
        self.from.read_exact(&mut told)?;
        if found.as_slice() != told {
            return Err(ReadProblem::Damaged("its digest is another".to_owned()));
        }
        match self.from.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err(ReadProblem::Damaged("something follows its end".to_owned())),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), ReadProblem> {
        self.from.read_exact(bytes)?;
        self.digest.update(&*bytes);
        Ok(())
    }
}

fn manifest(text: &[u8]) -> Result<BackupManifest, ReadProblem> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |error: serde_json::Error| ReadProblem::Damaged(format!("its manifest cannot be read ({error})"));
    // Alone first: a newer manifest may have another shape.
    let Format { format } = serde_json::from_slice(text).map_err(damaged)?;
    if format > FORMAT {
        return Err(ReadProblem::Newer(format!("format {format}, this version knows {FORMAT}")));
    }
    let manifest: BackupManifest = serde_json::from_slice(text).map_err(damaged)?;
    if manifest.data_format > DATA_FORMAT {
        let data = manifest.data_format;
        return Err(ReadProblem::Newer(format!("data of format {data}, this version knows {DATA_FORMAT}")));
    }
    if ![MACHINE, NATIVE].contains(&manifest.backend.as_str()) {
        return Err(ReadProblem::Newer("data of another kind of engine".to_owned()));
    }
    if manifest.disk_bytes > DISK_LIMIT || manifest.used_bytes > manifest.disk_bytes {
        return Err(ReadProblem::Damaged("it tells of sizes that cannot be".to_owned()));
    }
    Ok(manifest)
}
