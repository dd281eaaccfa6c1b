//! For tests alone: real engines that are thrown away, a fake engine for what a real one cannot be made to
//! show, and the smallest of images.

pub mod daemon;
pub mod engines;
pub mod fake;
pub mod fake_qemu;
pub mod fake_wsl;
pub mod fault;
pub mod image;
pub mod podman;
pub mod raw;
pub mod real;
pub mod registry;
pub mod registry_container;
pub mod ssh;
pub mod tls_engine;
