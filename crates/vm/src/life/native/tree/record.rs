//! One entry of the archive as blocks: its header, and before it what a header cannot say.

use std::collections::BTreeMap;

use tar::{EntryType, Header};

use super::attributes::Attributes;
use super::{BLOCK, RECORDS, padding};

/// Room for a name in a header.
const NAME: usize = 100;
const XATTR: &str = "SCHILY.xattr.";
const SPARSE: &str = "GNU.sparse.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
    /// One more name of what was there before.
    Name,
    Link,
    Pipe,
    CharacterDevice,
    BlockDevice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Where a link leads, or what the name is one more of.
    pub(super) target: Vec<u8>,
    /// The bytes that follow.
    pub(super) stored: u64,
    /// The length of a file with holes, whose map comes first in what is stored.
    pub(super) length: Option<u64>,
    pub(super) device: (u32, u32),
    pub(super) attributes: Attributes,
}

/// Why a block is none.
#[derive(Debug)]
pub(super) struct Unreadable(pub(super) String);

fn unreadable<T>(what: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable(what.into()))
}

impl Kind {
    const ALL: [(Self, EntryType); 7] = [
        (Self::Folder, EntryType::Directory),
        (Self::File, EntryType::Regular),
        (Self::Name, EntryType::Link),
        (Self::Link, EntryType::Symlink),
        (Self::Pipe, EntryType::Fifo),
        (Self::CharacterDevice, EntryType::Char),
        (Self::BlockDevice, EntryType::Block),
    ];

    fn entry_type(self) -> EntryType {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(EntryType::Regular, |(_, of)| *of)
    }

    pub(super) fn is_device(self) -> bool {
        matches!(self, Self::CharacterDevice | Self::BlockDevice)
    }
}

impl Entry {
    /// Its blocks, or none if there is more to say of it than there is room for.
    pub(super) fn blocks(&self) -> Option<Vec<u8>> {
        let mut records = Vec::new();
        let (seconds, nanoseconds) = self.attributes.modified;
        put(&mut records, "mtime", time(seconds, nanoseconds).as_bytes());
        if self.path.len() > NAME {
            put(&mut records, "path", &self.path);
        }
        if self.target.len() > NAME {
            put(&mut records, "linkpath", &self.target);
        }
        if let Some(length) = self.length {
            put(&mut records, &format!("{SPARSE}major"), b"1");
            put(&mut records, &format!("{SPARSE}minor"), b"0");
            put(&mut records, &format!("{SPARSE}name"), &self.path);
            put(&mut records, &format!("{SPARSE}realsize"), length.to_string().as_bytes());
        }
        for (name, value) in &self.attributes.extended {
            put_bytes(&mut records, &[XATTR.as_bytes(), &escaped(name)].concat(), value);
        }
        if records.len() > RECORDS {
            return None;
        }
        let mut before = Header::new_ustar();
        before.set_entry_type(EntryType::XHeader);
        before.set_size(records.len() as u64);
        before.set_mode(0o600);
        name_it(&mut before, b"records");
        before.set_cksum();
        let mut blocks = before.as_bytes().to_vec();
        let length = records.len() as u64;
        blocks.append(&mut records);
        blocks.resize(blocks.len() + padding(length), 0);

        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind.entry_type());
        header.set_size(self.stored);
        header.set_mode(self.attributes.mode);
        header.set_uid(u64::from(self.attributes.owner));
        header.set_gid(u64::from(self.attributes.group));
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        if self.kind.is_device() {
            header.set_device_major(self.device.0).ok()?;
            header.set_device_minor(self.device.1).ok()?;
        }
        name_it(&mut header, &self.path);
        if let Some(ustar) = header.as_ustar_mut() {
            fill(&mut ustar.linkname, &self.target);
        }
        header.set_cksum();
        blocks.extend_from_slice(header.as_bytes());
        Some(blocks)
    }

    /// What a header and the records before it say.
    pub(super) fn read(header: &Header, mut records: BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Self, Unreadable> {
        let of = header.entry_type();
        let Some((kind, _)) = Kind::ALL.into_iter().find(|(_, known)| *known == of) else {
            return unreadable(format!("an entry of the kind {}", of.as_byte()));
        };
        let number = |number: std::io::Result<u64>, what: &str| {
            number.ok().and_then(|number| u32::try_from(number).ok()).ok_or_else(|| Unreadable(format!("a {what}")))
        };
        let old = header.as_old();
        let path = records.remove(b"path".as_slice()).unwrap_or_else(|| text(&old.name));
        let target = records.remove(b"linkpath".as_slice()).unwrap_or_else(|| text(&old.linkname));
        let modified = match records.remove(b"mtime".as_slice()) {
            Some(text) => time_of(&text)?,
            None => return unreadable("an entry without a time"),
        };
        let mut sparse = |key: &str| records.remove(format!("{SPARSE}{key}").as_bytes());
        let length = match (sparse("major"), sparse("minor"), sparse("name"), sparse("realsize")) {
            (None, None, None, None) => None,
            (Some(major), Some(minor), Some(name), Some(length))
                if major == b"1" && minor == b"0" && name == path && kind == Kind::File =>
            {
                Some(decimal(&length)?)
            }
            _ => return unreadable("holes of another kind"),
        };
        let mut extended = Vec::new();
        for (key, value) in records {
            match key.strip_prefix(XATTR.as_bytes()) {
                Some(name) => extended.push((unescaped(name)?, value)),
                None => return unreadable(format!("`{}`, which is not known", key.escape_ascii())),
            }
        }
        let device =
            |number: std::io::Result<Option<u32>>| number.ok().flatten().ok_or(Unreadable("a device".to_owned()));
        let attributes = Attributes {
            mode: number(header.mode().map(u64::from), "mode")? & 0o7777,
            owner: number(header.uid(), "user")?,
            group: number(header.gid(), "group")?,
            modified,
            extended,
        };
        let stored = header.entry_size().map_err(|_| Unreadable("a length".to_owned()))?;
        if stored != 0 && kind != Kind::File {
            return unreadable("content of what has none");
        }
        let device =
            if kind.is_device() { (device(header.device_major())?, device(header.device_minor())?) } else { (0, 0) };
        Ok(Self { path, kind, target, stored, length, device, attributes })
    }
}

/// Whether the block's checksum is right.
pub(super) fn is_whole(header: &Header) -> bool {
    let mut again = header.clone();
    again.set_cksum();
    again.cksum().ok() == header.cksum().ok()
}

/// The records in front of a header: each its own length, a key and a value.
pub(super) fn records(mut bytes: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Unreadable> {
    let mut found = BTreeMap::new();
    while !bytes.is_empty() {
        let broken = || Unreadable("records that cannot be read".to_owned());
        let space = bytes.iter().take(20).position(|&byte| byte == b' ').ok_or_else(broken)?;
        let length = decimal(bytes.get(..space).unwrap_or_default())?;
        let length = usize::try_from(length).map_err(|_| broken())?;
        let (record, rest) = bytes.split_at_checked(length).ok_or_else(broken)?;
        let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(broken)?;
        let (key, value) = record.split_at(equals);
        if found.insert(key.to_vec(), value.get(1..).unwrap_or_default().to_vec()).is_some() {
            return Err(broken());
        }
        bytes = rest;
    }
    Ok(found)
}

pub(super) fn decimal(text: &[u8]) -> Result<u64, Unreadable> {
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Unreadable("a number".to_owned()))
}

fn put(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    put_bytes(records, key.as_bytes(), value);
}

fn put_bytes(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A space, an equals sign and the end of the line; and the length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Before 1970, nanoseconds count on from the second before, and are written with a sign.
fn time(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    let (seconds, nanoseconds) = (-(seconds + 1), 1_000_000_000 - nanoseconds);
    format!("-{seconds}.{nanoseconds:09}")
}

fn time_of(text: &[u8]) -> Result<(i64, u32), Unreadable> {
    let broken = || Unreadable("a time".to_owned());
    let (is_before, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let dot = text.iter().position(|&byte| byte == b'.').ok_or_else(broken)?;
    let (seconds, fraction) = text.split_at(dot);
    let fraction = fraction.get(1..).filter(|digits| digits.len() == 9).ok_or_else(broken)?;
    let seconds = i64::try_from(decimal(seconds)?).map_err(|_| broken())?;
    let nanoseconds = u32::try_from(decimal(fraction)?).map_err(|_| broken())?;
    Ok(match (is_before, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

/// A name may hold what ends a key.
fn escaped(name: &[u8]) -> Vec<u8> {
    name.iter().fold(Vec::with_capacity(name.len()), |mut text, &byte| {
        match byte {
            b'%' => text.extend_from_slice(b"%25"),
            b'=' => text.extend_from_slice(b"%3D"),
            byte => text.push(byte),
        }
        text
    })
}

fn unescaped(text: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [b'2', b'5', more @ ..]) => {
                name.push(b'%');
                rest = more;
            }
            (b'%', [b'3', b'D', more @ ..]) => {
                name.push(b'=');
                rest = more;
            }
            (b'%' | 0, _) => return unreadable("an attribute's name"),
            (byte, _) => name.push(byte),
        }
    }
    if name.is_empty() { unreadable("an attribute without a name") } else { Ok(name) }
}

fn name_it(header: &mut Header, name: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        fill(&mut ustar.name, name);
    }
}

/// As much as there is room for: what is longer stands in the records.
fn fill(room: &mut [u8; NAME], text: &[u8]) {
    for (to, from) in room.iter_mut().zip(text) {
        *to = *from;
    }
}

fn text(room: &[u8; NAME]) -> Vec<u8> {
    room.iter().copied().take_while(|&byte| byte != 0).collect()
}

const _: () = assert!(BLOCK == size_of::<Header>());
