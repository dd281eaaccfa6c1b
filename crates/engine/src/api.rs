//! The calls of the API, a module for each of its areas.

pub(crate) mod attach;
pub mod build;
pub(crate) mod containers;
pub mod distribution;
pub(crate) mod environment;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod files;
pub mod images;
pub(crate) mod logs;
pub mod model;
pub mod networks;
pub(crate) mod options;
pub mod plugins;
pub mod progress;
pub mod session;
pub(crate) mod stats;
pub mod swarm;
pub(crate) mod system;
pub mod volumes;
