//! What feeds the streams of sessions.

pub(crate) mod logs;
