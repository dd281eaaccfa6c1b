//! The data disk: a sparse raw file with one owner, which only ever grows.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::libc;

use super::image_lock::in_use;

/// What no file system of ours fits below; a disk that is smaller was damaged.
const SMALLEST: u64 = 64 << 20;
/// A QEMU whose supervisor was killed is being torn down, with all its memory.
const LAST_OWNER_TRIES: u32 = 100;
const LAST_OWNER_PAUSE: Duration = Duration::from_millis(50);

const RESTORE: &str = "restore it from a backup, or move it away to begin with an empty one";
const OTHER_FOLDER: &str = "choose another folder for the engine's data";
const OWNER: &str = "start the engine as its owner, or choose another folder for the engine's data";
const BUSY: &str = "stop the program that uses it, then start the engine again";
const OTHER_SIZE: &str = "choose another size in the settings";
const LOG: &str = "look at the log, and start the engine again";

/// Why a data disk cannot be used. Each text says what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("a machine with a data disk of {bytes} bytes cannot be made; {OTHER_SIZE}")]
    BadSize { bytes: u64 },
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the data disk {} is no ordinary file; {OTHER_FOLDER}", path.display())]
    NotADisk { path: PathBuf },
    #[error("the data disk {} belongs to user {owner}; {OWNER}", path.display())]
    ForeignDisk { path: PathBuf, owner: u32 },
    #[error("the data disk {} is cut short: it has {bytes} bytes and should have {expected}; {RESTORE}", path.display())]
    CutShort { path: PathBuf, bytes: u64, expected: u64 },
    #[error("the data disk {} is in use by another process; {BUSY}", path.display())]
    DiskInUse { path: PathBuf },
}

impl DiskError {
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }

    /// What to do about it, for a failure's `fix`; where the text has it, the text ends with it.
    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::BadSize { .. } => OTHER_SIZE,
            Self::File { .. } => LOG,
            Self::NotADisk { .. } => OTHER_FOLDER,
            Self::ForeignDisk { .. } => OWNER,
            Self::CutShort { .. } => RESTORE,
            Self::DiskInUse { .. } => BUSY,
        }
    }
}

/// The exclusive right to a data disk.
#[derive(Debug)]
pub(crate) struct DataDisk {
    _file: Flock<File>,
    /// How large it is, which may be more than was asked for.
    pub(crate) bytes: u64,
}

impl DataDisk {
    /// Opens the disk, creates it when there is none, and grows it to `bytes`.
    ///
    /// # Errors
    ///
    /// It is in use, another's, no ordinary file, or smaller than the file system in it.
    pub(crate) async fn open(path: &Path, bytes: u64) -> Result<Self, DiskError> {
        if bytes < SMALLEST {
            return Err(DiskError::BadSize { bytes });
        }
        let file = match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, bytes).map_err(DiskError::file("create", path))?;
                open(path)
            }
            opened => opened,
        };
        let file = match file {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(DiskError::NotADisk { path: path.to_path_buf() });
            }
            Err(error) => return Err(DiskError::file("open", path)(error)),
        };
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(DiskError::DiskInUse { path: path.to_path_buf() }),
            Err((_, errno)) => return Err(DiskError::file("lock", path)(errno.into())),
        };
        wait_for_last_owner(&file, path).await?;
        let bytes = check_and_grow(&file, path, bytes)?;
        Ok(Self { _file: file, bytes })
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A named pipe in its place must not hang the start.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)
}

/// Under another name first: a disk is there whole or not at all.
fn create(path: &Path, bytes: u64) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh).and_then(|file| {
        file.set_len(bytes)?;
        file.sync_all()?;
        std::fs::rename(fresh, path)
    });
    if made.is_err() {
        let _ = std::fs::remove_file(fresh);
    }
    made?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// QEMU locks an image by some of its bytes, with a lock of another kind than ours.
async fn wait_for_last_owner(file: &File, path: &Path) -> Result<(), DiskError> {
    for _ in 0..LAST_OWNER_TRIES {
        if !in_use(file) {
            return Ok(());
        }
        tokio::time::sleep(LAST_OWNER_PAUSE).await;
    }
    Err(DiskError::DiskInUse { path: path.to_path_buf() })
}

/// Says how large it is then.
fn check_and_grow(file: &File, path: &Path, bytes: u64) -> Result<u64, DiskError> {
    let metadata = file.metadata().map_err(DiskError::file("look at", path))?;
    if !metadata.is_file() {
        return Err(DiskError::NotADisk { path: path.to_path_buf() });
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(DiskError::ForeignDisk { path: path.to_path_buf(), owner: metadata.uid() });
    }
    let expected = file_system_bytes(file).map_err(DiskError::file("read", path))?.unwrap_or_default().max(SMALLEST);
    if metadata.len() < expected {
        return Err(DiskError::CutShort { path: path.to_path_buf(), bytes: metadata.len(), expected });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let owner_only = std::fs::Permissions::from_mode(0o600);
        file.set_permissions(owner_only).map_err(DiskError::file("protect", path))?;
    }
    if metadata.len() < bytes {
        file.set_len(bytes).and_then(|()| file.sync_all()).map_err(DiskError::file("grow", path))?;
    }
    Ok(metadata.len().max(bytes))
}

/// The bytes that the ext4 on the disk says it has; none when there is no ext4.
fn file_system_bytes(file: &File) -> io::Result<Option<u64>> {
    const SUPERBLOCK: u64 = 1024;
    const MAGIC: u16 = 0xef53;
    const INCOMPATIBLE_64BIT: u32 = 0x80;
    let word = |offset: u64| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, SUPERBLOCK + offset).map(|()| u32::from_le_bytes(bytes))
    };
    let magic = match word(0x38) {
        // The lower half: next to it is the file system's state.
        Ok(magic) => magic & 0xffff,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if magic != u32::from(MAGIC) {
        return Ok(None);
    }
    let high = if word(0x60)? & INCOMPATIBLE_64BIT == 0 { 0 } else { word(0x150)? };
    let blocks = u64::from(high) << 32 | u64::from(word(0x04)?);
    // A block has at most 64 KiB; more is damage, which the file system's own check explains better.
    Ok(Some(word(0x18)?).filter(|&log| log <= 6).map(|log| blocks.saturating_mul(1024 << log)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
    use std::path::{Path, PathBuf};

    use super::{DataDisk, DiskError, SMALLEST};

    const SIZE: u64 = 256 << 20;

    fn disk() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data disk.raw");
        (folder, path)
    }

    /// Just the fields of an ext4 superblock that are looked at.
    fn write_superblock(path: &Path, blocks: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let write = |offset: u64, bytes: &[u8]| file.write_all_at(bytes, 1024 + offset).unwrap();
        write(0x04, &u32::try_from(blocks & 0xffff_ffff).unwrap().to_le_bytes());
        write(0x18, &2_u32.to_le_bytes());
        write(0x38, &[0x53, 0xef, 1, 0]);
        write(0x60, &0x80_u32.to_le_bytes());
        write(0x150, &u32::try_from(blocks >> 32).unwrap().to_le_bytes());
    }

    #[tokio::test]
    async fn it_is_sparse_the_owners_and_only_grows() {
        let (folder, path) = disk();
        std::fs::write(folder.path().join("data disk.raw.new"), "left by a crash").unwrap();
        drop(DataDisk::open(&path, SIZE).await.unwrap());
        let made = path.metadata().unwrap();
        assert_eq!((made.len(), made.permissions().mode() & 0o777), (SIZE, 0o600));
        assert!(made.blocks() * 512 < 1 << 20, "not sparse: {} blocks", made.blocks());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        drop(DataDisk::open(&path, 2 * SIZE).await.unwrap());
        assert_eq!(DataDisk::open(&path, SIZE).await.unwrap().bytes, 2 * SIZE);
        let grown = path.metadata().unwrap();
        assert_eq!((grown.len(), grown.permissions().mode() & 0o777), (2 * SIZE, 0o600));
    }

    #[tokio::test]
    async fn it_has_one_user() {
        let (_folder, path) = disk();
        let held = DataDisk::open(&path, SIZE).await.unwrap();
        assert!(matches!(DataDisk::open(&path, SIZE).await, Err(DiskError::DiskInUse { .. })));
        drop(held);
        DataDisk::open(&path, SIZE).await.unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_was_cut_short_is_left_as_it_is() {
        let (_folder, path) = disk();
        drop(DataDisk::open(&path, SIZE).await.unwrap());
        write_superblock(&path, SIZE / 4096);
        drop(DataDisk::open(&path, SIZE).await.unwrap());
        write_superblock(&path, SIZE / 4096 + 1);
        let error = DataDisk::open(&path, 4 * SIZE).await.unwrap_err();
        assert!(matches!(error, DiskError::CutShort { expected, .. } if expected == SIZE + 4096), "{error}");
        write_superblock(&path, 1 << 33);
        let error = DataDisk::open(&path, 4 * SIZE).await.unwrap_err();
        assert!(matches!(error, DiskError::CutShort { expected, .. } if expected == 1 << 45), "{error}");
        assert_eq!(path.metadata().unwrap().len(), SIZE);
        std::fs::write(&path, "").unwrap();
        let error = DataDisk::open(&path, SIZE).await.unwrap_err();
        assert!(matches!(error, DiskError::CutShort { bytes: 0, expected: SMALLEST, .. }), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_file_of_ours_is_refused() {
        let (folder, path) = disk();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(DataDisk::open(&path, SIZE).await, Err(DiskError::NotADisk { .. })));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(DataDisk::open(&path, SIZE).await, Err(DiskError::NotADisk { .. })));
        let absent = folder.path().join("no folder/disk");
        assert!(matches!(DataDisk::open(&absent, SIZE).await, Err(DiskError::File { what: "create", .. })));
        assert!(matches!(DataDisk::open(&absent, 5).await, Err(DiskError::BadSize { .. })));
    }

    #[tokio::test]
    async fn anothers_disk_is_refused() {
        let (_folder, path) = disk();
        drop(DataDisk::open(&path, SIZE).await.unwrap());
        // Only root can give a file away; for others, root's own are another's.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let error = DataDisk::open(&path, SIZE).await.unwrap_err();
        assert!(matches!(error, DiskError::ForeignDisk { owner: 12345, .. }), "{error}");
    }
}
