//! Where dockerd begins to look for a port when any will do (`-p 80`). It cannot see which ones the host has free, takes the
//! first of its own, and does not try another when the host's is taken; so not every engine may begin at the same.

use std::fs;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// A new number with each reading.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";
/// The kernel's own range.
const FIRST: u32 = 32768;
const LAST: u32 = 60999;
/// So many beginnings, so far apart, leave thousands of ports behind each.
const BEGINNINGS: u32 = 320;
const APART: u32 = 64;

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
        assert_eq!(range("0000000a-f0cd-4c5e-9f0b-0123456789ab").as_deref(), Some("32768 60999"));
        // 319 is the highest rest there is.
        assert_eq!(range("000013f0-f0cd-4c5e-9f0b-0123456789ab").as_deref(), Some("53184 60999"));
        assert_ne!(range("1234567"), range("1234568"));
        for nonsense in ["", "123456", "random!"] {
            assert_eq!(range(nonsense), None);
        }
    }
}
