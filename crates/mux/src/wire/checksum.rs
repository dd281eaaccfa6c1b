//! CRC-32C (Castagnoli), a table of bytes: it is for debug builds, where it costs less than the rest.

const POLYNOMIAL: u32 = 0x82F6_3B78;

#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "worked out by the compiler")]
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The checksum of both slices, one after the other.
pub(crate) fn crc32c(first: &[u8], second: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        let [low, ..] = sum.to_le_bytes();
        TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default() ^ (sum >> 8)
    };
    !second.iter().fold(first.iter().fold(u32::MAX, step), step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_rfc_3720() {
        assert_eq!(crc32c(b"", b""), 0);
        assert_eq!(crc32c(b"123456789", b""), 0xE306_9283);
        assert_eq!(crc32c(b"1234", b"56789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32], b""), 0x8A91_36AA);
        assert_eq!(crc32c(b"", &[0xFF; 32]), 0x62A8_AB43);
    }
}
