//! `berth-guest`: what runs beside the engine.
//!
//! In namespaces of the host's kernel:
//! - `berth-guest native …` makes the namespaces and waits outside them.
//! - `berth-guest init …` is PID 1 in there: it builds the root, starts containerd and dockerd and keeps them.
//! - Where that happens without root, in a user namespace, `berth-guest map` is what maps its ids, `berth-guest sockets`
//!   makes sockets in its network, and `berth-guest probe`, `measure` and `remove` do what takes its root.
//!
//! In a machine of its own:
//! - `/init` is the first process there is, in the initramfs: it finds the root and goes there.
//! - `berth-guest vm-init` is PID 1 in that root: it readies disk and network, and starts and keeps the services.
//! - `berth-guest agent` is one of them: it talks to the host.
//!
//! In a distribution of WSL: see `wsl`.
//!
//! In all of them, under the name `berth-docker-proxy` it publishes one port for dockerd.

mod agent;
mod apart;
mod arguments;
mod cgroups;
mod command_line;
mod config;
mod delegated;
mod error;
mod files;
mod http;
mod identities;
mod init;
mod logs;
mod machine;
mod mounts;
mod netlink;
mod network;
mod outer;
mod protocol;
mod proxy;
mod reaper;
mod rootlesskit;
mod service;
mod shutdown;
mod sockets;
mod wsl;

use std::process::ExitCode;

use crate::arguments::{Mode, Options};
use crate::error::Error;
use crate::identities::Identities;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();

    let result = if proxy::is_proxy(&name) {
        proxy::run(&rest)
    } else if machine::is_first_process(&name) {
        machine::find_root()
    } else {
        match rest.first().map(String::as_str) {
            Some("vm-init") => machine::run(),
            Some("agent") => agent::run(rest.get(1..).unwrap_or_default()),
            Some("map") => Identities::parse(rest.get(1..).unwrap_or_default()).and_then(|(ids, _)| ids.map_parent()),
            Some("probe") => apart::probe(rest.get(1..).unwrap_or_default()),
            Some("measure") => apart::measure(rest.get(1..).unwrap_or_default()),
            Some("remove") => apart::remove(rest.get(1..).unwrap_or_default()),
            Some("wsl") => wsl::run(rest.get(1..).unwrap_or_default()),
            Some("wsl-outer") => wsl::outer(rest.get(1..).unwrap_or_default()),
            Some("wsl-init") => wsl::init(rest.get(1..).unwrap_or_default()),
            Some("wsl-data") => wsl::share_data(rest.get(1..).unwrap_or_default()),
            Some("sockets") => sockets::run(rest.get(1..).unwrap_or_default()),
            _ => Options::parse(&rest).and_then(|(mode, options)| match mode {
                Mode::Native => outer::run(&rest, &options),
                Mode::Init => init::run(&options),
            }),
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &Error) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "berth-guest: {error}");
}
