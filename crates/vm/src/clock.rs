use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as the UI counts them.
pub(crate) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}
