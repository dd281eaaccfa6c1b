//! The time, as the wire has it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where this process begins to count what pages remember: above what an earlier one reached, and exact in the page.
pub(crate) fn number_of_this_process() -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    (seconds & 0xffff_ffff) << 20
}

/// Milliseconds since the epoch.
pub(crate) fn now_milliseconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |age| age.as_secs_f64() * 1000.0)
}
