//! How much memory this computer has.

pub(super) use super::vz::memory_bytes;
