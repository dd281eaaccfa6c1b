//! The client against every engine: the one Berth brings, the oldest supported, and Podman. See ../../README.md.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod attach;
mod build;
mod containers;
mod differences;
mod distribution;
mod exec;
mod harness;
mod images;
mod insides;
mod logs;
mod networks;
mod plugins;
mod stats;
mod swarm;
mod system;
mod volumes;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&[
        ("archive", archive::cases()),
        ("attach", attach::cases()),
        ("build", build::cases()),
        ("containers", containers::cases()),
        ("distribution", distribution::cases()),
        ("exec", exec::cases()),
        ("images", images::cases()),
        ("insides", insides::cases()),
        ("logs", logs::cases()),
        ("networks", networks::cases()),
        ("plugins", plugins::cases()),
        ("stats", stats::cases()),
        ("swarm", swarm::cases()),
        ("system", system::cases()),
        ("volumes", volumes::cases()),
        ("watch", watch::cases()),
    ])
}
