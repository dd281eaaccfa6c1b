//! The calls of the API, a module for each of its areas.

pub(crate) mod containers;
pub(crate) mod events;
pub(crate) mod logs;
pub mod model;
pub(crate) mod system;
