//! A small generator: a seed is a schedule.

use std::ops::Range;

#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Splitmix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    pub(super) fn within(&mut self, range: Range<usize>) -> usize {
        let span = u64::try_from(range.end - range.start).unwrap();
        range.start + usize::try_from(self.next() % span).unwrap()
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.within(0..count) == 0
    }

    /// Mostly small, sometimes up to `most`.
    pub(super) fn size(&mut self, most: usize) -> usize {
        let most = if self.one_in(4) { most } else { most.min(200) };
        self.within(1..most + 1)
    }

    pub(super) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}
