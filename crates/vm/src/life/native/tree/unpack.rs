//! An archive, which may be anybody's, into an empty folder, and nowhere else.
//!
//! Everything is made in a folder that was made just before and is held open, under a name that is one name and was free:
//! no link and no `..` is ever followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tar::{EntryType, Header};

use super::attributes::Attributes;
use super::record::{self, Entry, Kind, Unreadable};
use super::stream::{Stopped, Unparted};
use super::{BLOCK, DEPTH, FOLDERS, RECORDS, SEGMENTS, inside, padding};
use crate::life::LifeError;
use crate::life::archive::{DISK_LIMIT, ReadProblem};

const NAME: usize = 255;
/// A line of a map of holes.
const LINE: usize = 21;

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::life) struct UnpackReport {
    pub(in crate::life) entries: u64,
    pub(in crate::life) bytes: u64,
}

impl From<Unreadable> for Stopped {
    fn from(Unreadable(what): Unreadable) -> Self {
        damaged(format!("there is {what} in it that cannot be"))
    }
}

fn damaged(what: impl Into<String>) -> Stopped {
    ReadProblem::Damaged(what.into()).into()
}

/// A folder whose content is being made. What it is itself, it becomes last.
struct Open {
    folder: File,
    name: Vec<u8>,
    attributes: Attributes,
    shown: PathBuf,
}

struct Unpacker<'a> {
    root: File,
    to: &'a Path,
    open: Vec<Open>,
    report: UnpackReport,
}

/// Makes what the archive says in the folder, which is empty, and reads the backup to its end.
pub(in crate::life) fn unpack<R: Read, P: FnMut(u64, u64)>(
    from: &mut Unparted<'_, R, P>,
    to: &Path,
) -> Result<UnpackReport, Stopped> {
    let root = folder(to).map_err(LifeError::file("open", to))?;
    let mut unpacker = Unpacker { root, to, open: Vec::new(), report: UnpackReport::default() };
    while let Some(entry) = next(from)? {
        unpacker.make(&entry, from)?;
        unpacker.report.entries += 1;
    }
    unpacker.leave(0)?;
    from.end()?;
    Ok(unpacker.report)
}

/// The next entry; none at the end.
fn next<R: Read, P: FnMut(u64, u64)>(from: &mut Unparted<'_, R, P>) -> Result<Option<Entry>, Stopped> {
    let mut records: Option<BTreeMap<Vec<u8>, Vec<u8>>> = None;
    loop {
        let mut header = Header::new_old();
        from.exactly(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            let mut second = [0; BLOCK];
            from.exactly(&mut second)?;
            if records.is_some() || second.iter().any(|&byte| byte != 0) {
                return Err(damaged("its files end in the middle of one"));
            }
            return Ok(None);
        }
        if !record::is_whole(&header) {
            return Err(damaged("a header's checksum is wrong"));
        }
        if header.entry_type() != EntryType::XHeader {
            return Ok(Some(Entry::read(&header, records.unwrap_or_default())?));
        }
        let length = header.entry_size().ok().and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|&length| length <= RECORDS && records.is_none()) else {
            return Err(damaged("records that are too long"));
        };
        let mut text = vec![0; length];
        from.exactly(&mut text)?;
        skip_padding(from, length as u64)?;
        records = Some(record::records(&text)?);
    }
}

impl Unpacker<'_> {
    fn make<R: Read, P: FnMut(u64, u64)>(
        &mut self,
        entry: &Entry,
        from: &mut Unparted<'_, R, P>,
    ) -> Result<(), Stopped> {
        let names = names(&entry.path)?;
        let Some((&name, above)) = names.split_last() else { return Err(damaged("an entry has no name")) };
        let common = self.open.iter().zip(above).take_while(|(open, name)| open.name == **name).count();
        self.leave(common)?;
        let path = || entry.path.escape_ascii().to_string();
        if self.open.len() != above.len() {
            return Err(damaged(format!("{} is in no folder", path())));
        }
        if above.is_empty() && entry.kind != Kind::Folder {
            return Err(damaged(format!("{} is no folder", path())));
        }
        let at = inside(self.open.last().map_or(&self.root, |open| &open.folder), name);
        let shown = self.to.join(OsStr::from_bytes(&entry.path));
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::AlreadyExists => damaged(format!("{} is in it twice", path())),
            _ => LifeError::file("create", &shown)(error).into(),
        };
        match entry.kind {
            Kind::Folder => {
                fs::DirBuilder::new().mode(0o700).create(&at).map_err(failed)?;
                let folder = folder(&at).map_err(failed)?;
                let attributes = entry.attributes.clone();
                self.open.push(Open { folder, name: name.to_vec(), attributes, shown });
                return Ok(());
            }
            Kind::Name => {
                return self.name(entry, &at).map_err(|error| match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => failed(error),
                    _ => damaged(format!("{} is one more name of nothing", path())),
                });
            }
            Kind::File => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
                let file = options.open(&at).map_err(failed)?;
                self.report.bytes += fill(file, entry, from, &shown)?;
                skip_padding(from, entry.stored)?;
            }
            Kind::Link => symlink(OsStr::from_bytes(&entry.target), &at).map_err(failed)?,
            Kind::Pipe | Kind::CharacterDevice | Kind::BlockDevice => {
                let (kind, (major, minor)) = match entry.kind {
                    Kind::CharacterDevice => (SFlag::S_IFCHR, entry.device),
                    Kind::BlockDevice => (SFlag::S_IFBLK, entry.device),
                    _ => (SFlag::S_IFIFO, (0, 0)),
                };
                let device = makedev(u64::from(major), u64::from(minor));
                let made = mknod(&at, kind, Mode::S_IRUSR | Mode::S_IWUSR, device);
                made.map_err(|errno| failed(errno.into()))?;
            }
        }
        let given = entry.attributes.give(&at, entry.kind == Kind::Link);
        given.map_err(LifeError::file("give owner and attributes to", &shown))?;
        Ok(())
    }

    /// Gives a second name to what was made before, found without following any link.
    fn name(&self, entry: &Entry, at: &Path) -> io::Result<()> {
        let names = names(&entry.target).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let Some((name, above)) = names.split_last() else { return Err(ErrorKind::InvalidInput.into()) };
        let mut parent = self.root.try_clone()?;
        for name in above {
            parent = folder(&inside(&parent, name))?;
        }
        fs::hard_link(inside(&parent, name), at)
    }

    /// Goes up to a folder of that depth; those that are left become what they are to be.
    fn leave(&mut self, depth: usize) -> Result<(), LifeError> {
        while self.open.len() > depth {
            let Some(left) = self.open.pop() else { break };
            let given = left.attributes.give(&inside(&left.folder, b"."), false);
            given.map_err(LifeError::file("give owner and attributes to", &left.shown))?;
        }
        Ok(())
    }
}

/// The names of a path that leads nowhere else.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, Stopped> {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').take(DEPTH + 2).collect();
    let is_name = |name: &&[u8]| {
        !name.is_empty() && name.len() <= NAME && **name != *b"." && **name != *b".." && !name.contains(&0)
    };
    let is_known = names.first().is_some_and(|first| FOLDERS.iter().any(|known| known.as_bytes() == *first));
    if is_known && names.len() <= DEPTH + 1 && names.iter().all(is_name) {
        return Ok(names);
    }
    let shown: String = path.escape_ascii().to_string().chars().take(NAME).collect();
    Err(damaged(format!("an entry leads elsewhere: {shown}")))
}

/// Fills a file, and says with how many bytes.
fn fill<R: Read, P: FnMut(u64, u64)>(
    mut file: File,
    entry: &Entry,
    from: &mut Unparted<'_, R, P>,
    shown: &Path,
) -> Result<u64, Stopped> {
    let write = |error| Stopped::from(LifeError::file("write", shown)(error));
    let Some(length) = entry.length else {
        copy(&mut file, entry.stored, from, shown)?;
        return Ok(entry.stored);
    };
    let (parts, mapped) = map(from, length)?;
    let kept: u64 = parts.iter().map(|(_, length)| length).sum();
    if kept.checked_add(mapped) != Some(entry.stored) {
        return Err(damaged("a map of holes does not fit its file"));
    }
    file.set_len(length).map_err(write)?;
    for (at, length) in parts {
        file.seek(SeekFrom::Start(at)).map_err(write)?;
        copy(&mut file, length, from, shown)?;
    }
    Ok(kept)
}

fn copy<R: Read, P: FnMut(u64, u64)>(
    file: &mut File,
    mut length: u64,
    from: &mut Unparted<'_, R, P>,
    shown: &Path,
) -> Result<(), Stopped> {
    while length > 0 {
        let bytes = from.some(usize::try_from(length).unwrap_or(usize::MAX))?;
        file.write_all(bytes).map_err(LifeError::file("write", shown))?;
        length -= bytes.len() as u64;
    }
    Ok(())
}

/// The parts of a file with holes, in their order and inside of it, and the bytes that said so.
fn map<R: Read, P: FnMut(u64, u64)>(
    from: &mut Unparted<'_, R, P>,
    length: u64,
) -> Result<(Vec<(u64, u64)>, u64), Stopped> {
    let wrong = || damaged("a map of holes cannot be");
    let mut read = 0;
    let count = number(from, &mut read)?;
    if count > SEGMENTS as u64 + 1 || length > DISK_LIMIT {
        return Err(wrong());
    }
    let (mut parts, mut next) = (Vec::new(), 0_u64);
    for _ in 0..count {
        let (at, long) = (number(from, &mut read)?, number(from, &mut read)?);
        let end = at.checked_add(long).filter(|&end| at >= next && end <= length).ok_or_else(wrong)?;
        next = end;
        if long > 0 {
            parts.push((at, long));
        }
    }
    let padding = skip_padding(from, read)?;
    Ok((parts, read + padding))
}

fn number<R: Read, P: FnMut(u64, u64)>(from: &mut Unparted<'_, R, P>, read: &mut u64) -> Result<u64, Stopped> {
    let mut line = Vec::with_capacity(LINE);
    loop {
        let &[byte] = from.some(1)? else { return Err(damaged("a map of holes cannot be")) };
        *read += 1;
        match byte {
            b'\n' if !line.is_empty() => return Ok(record::decimal(&line)?),
            byte if line.len() < LINE => line.push(byte),
            _ => return Err(damaged("a map of holes cannot be")),
        }
    }
}

fn skip_padding<R: Read, P: FnMut(u64, u64)>(from: &mut Unparted<'_, R, P>, length: u64) -> Result<u64, Stopped> {
    let mut rest = [0; BLOCK];
    let room = rest.get_mut(..padding(length)).unwrap_or_default();
    from.exactly(room)?;
    Ok(room.len() as u64)
}

fn folder(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}
