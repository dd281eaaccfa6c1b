//! The bytes on the pipe: greeting, frames, and the buffers they pass through. No IO.

pub(crate) mod batch;
pub(crate) mod checksum;
pub(crate) mod frame;
pub(crate) mod greeting;
pub(crate) mod hello;
pub(crate) mod intake;
pub(crate) mod queue;
