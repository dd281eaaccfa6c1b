//! The live view of one engine: watch, queue of containers to look at, cache.

mod backoff;
pub(crate) mod cache;
mod queue;
pub(crate) mod watch;
