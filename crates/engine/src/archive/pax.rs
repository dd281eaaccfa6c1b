//! Extended headers: records of `length key=value`, which overrule the header that follows.

use super::{ArchiveError, Modified};

/// Largest extended header that is read, in bytes.
pub(super) const LIMIT: usize = 1024 * 1024;

/// What extended headers say about the entry after them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<Modified>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) sparse: PaxSparse,
}

/// What extended headers say about holes.
#[derive(Clone, Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.size` and `GNU.sparse.realsize`.
    pub(super) size: Option<u64>,
    /// Offsets and lengths in turn, of version 0.
    pub(super) map: Vec<u64>,
}

impl Pax {
    /// Adds the records of one extended header; `global` is one for all entries after it.
    pub(super) fn extend(&mut self, mut records: &[u8], global: bool, offset: u64) -> Result<(), ArchiveError> {
        let damaged = |why| ArchiveError::Damaged { offset, why };
        while !records.is_empty() {
            let (record, rest) = split_record(records).ok_or(damaged("an extended header is malformed"))?;
            records = rest;
            let equals = memchr::memchr(b'=', record).ok_or(damaged("an extended header is malformed"))?;
            let (key, value) = record.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            let of_one_entry = matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.");
            if global && of_one_entry {
                // Readers differ in whether such a header counts, so what the archive holds would depend on the reader.
                return Err(damaged("a global header gives every entry the same path, size or holes"));
            }
            match key {
                b"path" => self.path = present(value).map(<[u8]>::to_vec),
                b"linkpath" => self.link = present(value).map(<[u8]>::to_vec),
                b"size" => {
                    let size = present(value).map(|value| decimal(value).ok_or(damaged("a size is no number")));
                    self.size = size.transpose()?;
                }
                b"mtime" => self.modified = modified(value),
                b"uid" => self.uid = decimal(value),
                b"gid" => self.gid = decimal(value),
                _ => self.sparse.set(key, value).ok_or(damaged("a sparse file is described wrongly"))?,
            }
        }
        Ok(())
    }
}

impl PaxSparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"GNU.sparse.major" => self.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.minor = Some(decimal(value)?),
            b"GNU.sparse.name" => self.name = present(value).map(<[u8]>::to_vec),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.size = Some(decimal(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.map.push(decimal(value)?),
            b"GNU.sparse.map" => {
                self.map = value.split(|byte| *byte == b',').map(decimal).collect::<Option<_>>()?;
            }
            _ => {}
        }
        Some(())
    }
}

/// An empty value takes an earlier one back.
fn present(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

/// The first record without its length and line end, and the rest.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', records.get(..20).unwrap_or(records))?;
    let length = usize::try_from(decimal(records.get(..space)?)?).ok()?;
    let record = records.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, records.get(length..)?))
}

/// A number in decimal digits, within what fits a signed number.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })?;
    (value <= i64::MAX.cast_unsigned()).then_some(value)
}

/// Seconds with a fraction, such as `-1.5`.
fn modified(value: &[u8]) -> Option<Modified> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0_u32;
    let fraction = parts.next().unwrap_or_default();
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    Some(match (negative, nanos) {
        (false, nanos) => Modified { seconds, nanos },
        (true, 0) => Modified { seconds: -seconds, nanos: 0 },
        (true, nanos) => Modified { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// Appends one record.
pub(super) fn write(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while bare + digits(length) != length {
        length = bare + digits(length);
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |places| places as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(records: &[u8]) -> Result<Pax, ArchiveError> {
        let mut pax = Pax::default();
        pax.extend(records, false, 0)?;
        Ok(pax)
    }

    #[test]
    fn reads_what_it_writes() {
        for length in [0, 1, 80, 88, 89, 90, 91, 92, 989, 990, 991, 992, 9_990, 100_000] {
            let mut records = Vec::new();
            write(&mut records, "path", &vec![b'x'; length]);
            write(&mut records, "size", b"7");
            let pax = parse(&records).unwrap();
            assert_eq!(pax.path.map_or(0, |path| path.len()), length);
            assert_eq!(pax.size, Some(7), "the record after one of {length} bytes is found");
        }
    }

    #[test]
    fn refuses_what_is_malformed() {
        for records in [
            &b"x"[..],
            b"7 a=b\n1",
            b"99 a=b\n",
            b"0 a=b\n",
            b"2 \n",
            b"5 a=b\n",
            b"5 abc\n",
            b"12 size=-10\n",
            b"99999999999999999999999 a=b\n",
            b"27 size=99999999999999999999\n",
        ] {
            assert!(parse(records).is_err(), "{}", String::from_utf8_lossy(records));
        }
        assert!(Pax::default().extend(b"10 path=a\n", true, 0).is_err());
        assert!(Pax::default().extend(b"13 comment=a\n", true, 0).is_ok());
    }

    #[test]
    fn reads_times() {
        assert_eq!(modified(b"1.5"), Some(Modified { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(modified(b"-1.25"), Some(Modified { seconds: -2, nanos: 750_000_000 }));
        assert_eq!(modified(b"-3"), Some(Modified { seconds: -3, nanos: 0 }));
        assert_eq!(modified(b"1.1234567899"), Some(Modified { seconds: 1, nanos: 123_456_789 }));
        assert_eq!(modified(b"1.x"), None);
        assert_eq!(modified(b""), None);
    }
}
