//! Where dockerd begins to look for a port when any will do (`-p 80`). It cannot see which ones the host has free, takes the
//! first of its own, and does not try another when the host's is taken; so not every engine may begin at the same.

use std::fs;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// A new number with each reading.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";
/// Below what hosts give to their own connections (32768 and up), with thousands of ports behind the last beginning.
const FIRST: u32 = 20_000;
const BEGINNINGS: u32 = 125;
const APART: u32 = 64;
/// Connections out of the namespace keep the ports they had.
const LAST: u32 = 60_999;

/// Chooses a beginning. Without one, dockerd takes what is usual.
pub(super) fn choose() {
    if let Some(range) = fs::read_to_string(RANDOM).ok().as_deref().and_then(range) {
        let _ = fs::write(RANGE, range);
    }
}

/// The range by the first digits of something random.
fn range(random: &str) -> Option<String> {
    let number = u32::from_str_radix(random.get(..7)?, 16).ok()?;
    Some(format!("{} {LAST}", FIRST + number % BEGINNINGS * APART))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn every_beginning_leaves_thousands_of_ports() {
        assert_eq!(range("000000a0-f0cd-4c5e-9f0b-0123456789ab").as_deref(), Some("20640 60999"));
        // 124 is the highest rest there is.
        assert_eq!(range("000007c0-f0cd-4c5e-9f0b-0123456789ab").as_deref(), Some("27936 60999"));
        assert_ne!(range("1234567"), range("1234568"));
        for nonsense in ["", "123456", "random!"] {
            assert_eq!(range(nonsense), None);
        }
    }
}
