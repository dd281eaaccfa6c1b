//! Files with holes: where the content that an archive holds of them belongs.

/// Most segments that are read of one file.
pub(super) const SEGMENTS: usize = 100_000;

/// A piece of content between holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The segments of one file, checked: in order, without overlap, within `size`, and `stored` bytes together.
pub(super) fn check(map: &[u64], size: u64, stored: u64) -> Option<Vec<Segment>> {
    let (pairs, rest) = map.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let (mut end, mut sum) = (0, 0_u64);
    let mut segments = Vec::new();
    for [offset, length] in pairs.iter().copied() {
        if offset < end {
            return None;
        }
        end = offset.checked_add(length).filter(|end| *end <= size)?;
        sum = sum.checked_add(length)?;
        if length > 0 {
            segments.push(Segment { offset, length });
        }
    }
    (sum == stored).then_some(segments)
}

/// Reads the map that version 1.0 puts before the content: lines of decimal digits, the first says how many pairs.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    digits: Vec<u8>,
    count: Option<usize>,
    numbers: Vec<u64>,
}

impl MapReader {
    /// Takes a block. `Some(true)` when the map is complete, `None` if it is none.
    pub(super) fn take(&mut self, block: &[u8]) -> Option<bool> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return None;
                }
                continue;
            }
            let number = super::pax::decimal(&self.digits)?;
            self.digits.clear();
            match self.count {
                None => self.count = Some(usize::try_from(number).ok().filter(|count| *count <= SEGMENTS)?),
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() == count * 2) {
                return Some(true);
            }
        }
        Some(false)
    }

    pub(super) fn into_map(self) -> Vec<u64> {
        self.numbers
    }
}

/// Adds the segments of an old GNU block; an empty one ends them. `None` if they are no numbers.
pub(super) fn old_segments(block: &[u8], map: &mut Vec<u64>) -> Option<()> {
    let (pairs, _) = block.as_chunks::<24>();
    for pair in pairs {
        let (offset, length) = pair.split_at(12);
        if offset.first() == Some(&0) || length.first() == Some(&0) {
            break;
        }
        map.push(u64::try_from(super::header::number(offset)?).ok()?);
        map.push(u64::try_from(super::header::number(length)?).ok()?);
        if map.len() > SEGMENTS * 2 {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_the_map() {
        assert_eq!(check(&[0, 4, 8, 2], 10, 6).unwrap().len(), 2);
        assert!(check(&[], 10, 0).unwrap().is_empty());
        for (map, size, stored) in [
            (&[0, 4, 2, 2][..], 10, 6),
            (&[0, 4, 8, 3], 10, 7),
            (&[0, 4], 10, 5),
            (&[0], 10, 0),
            (&[u64::MAX, 2], u64::MAX, 2),
        ] {
            assert!(check(map, size, stored).is_none(), "{map:?}");
        }
    }

    #[test]
    fn reads_the_map_in_blocks() {
        let mut reader = MapReader::default();
        assert_eq!(reader.take(b"2\n0\n4\n1"), Some(false));
        assert_eq!(reader.take(b"0\n2\n\0\0"), Some(true));
        assert_eq!(reader.into_map(), [0, 4, 10, 2]);
        assert_eq!(MapReader::default().take(b"99999999\n"), None);
        assert_eq!(MapReader::default().take(&[b'1'; 512]), None);
        assert_eq!(MapReader::default().take(b"x\n"), None);
        assert_eq!(MapReader::default().take(b"0\n"), Some(true));
    }
}
