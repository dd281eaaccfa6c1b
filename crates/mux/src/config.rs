//! What a session may use, and when it counts as dead.

use std::time::Duration;

/// Limits and times of a session. Each side has its own; nothing here has to agree with the peer's.
#[derive(Debug, Clone)]
pub struct Config {
    /// How often a ping is sent.
    pub heartbeat: Duration,
    /// Nothing was heard for this long, although a ping went out: the session ends with [`crate::End::Silent`].
    pub silence: Duration,
    /// Streams that may be open at once, in both directions together, at most 65,536.
    pub max_streams: usize,
    /// Streams that the peer opened and [`crate::Incoming`] has not handed out yet; more are refused.
    pub backlog: usize,
    /// Credit of a new stream: bytes that the peer may send before anything was read.
    pub window: u32,
    /// To what the credit of a stream grows whose reader keeps up.
    pub max_window: u32,
    /// Bytes of credit over all streams beyond [`crate::LEAN_WINDOW`] for each.
    pub receive_budget: u64,
    /// Bytes that one stream's writers may have waiting to be sent.
    pub send_buffer: usize,
    /// Checks every frame with CRC-32C, if the peer is willing as well.
    pub checksums: bool,
    /// How long the greeting waits for an answer before it is repeated.
    pub greeting: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            silence: Duration::from_secs(15),
            max_streams: 4096,
            backlog: 4096,
            window: 256 * 1024,
            max_window: 4 * 1024 * 1024,
            receive_budget: 64 * 1024 * 1024,
            send_buffer: 256 * 1024,
            checksums: cfg!(debug_assertions),
            greeting: Duration::from_millis(300),
        }
    }
}
