//! Runs the appliance in a machine of macOS's own: Virtualization.framework.
//!
//! Whatever is asked of the framework is in [`VzApi`], and only `framework` knows how it is asked. All the rest runs on any
//! system, and is tested there with a fake of that; a real one it has **never run on**. See `docs/decisions/010-vz.md`.

mod api;
mod error;
#[cfg(target_os = "macos")]
mod framework;
#[cfg(not(target_os = "macos"))]
#[path = "vz/framework_elsewhere.rs"]
mod framework;
mod guest;
mod identity;
mod machine;
mod stream;

pub(crate) use api::VzApi;
#[cfg(test)]
pub(crate) use api::{Asked, Configuration, Ended, MachineState, Started, VzMachine};
pub(crate) use error::VzError;
#[cfg(target_os = "macos")]
pub(crate) use framework::memory_bytes;
#[cfg(test)]
pub(crate) use guest::AGENT_PORT;
pub(crate) use guest::{Tools, launch};
#[cfg(test)]
pub(crate) use machine::Patience;
