//! From bytes of an engine to values: pieces of any size in, whole values out, never a panic.

pub(crate) mod frame;
pub(crate) mod json_stream;
pub(crate) mod lines;
pub(crate) mod timestamp;
