//! What runs the appliance: `native` in namespaces of this kernel, `qemu` and `vz` in a machine of its own, `wsl` in a
//! distribution of Windows'.
//!
//! Each gives a [`Guest`], which tells what happens in [`GuestEvent`]s and can be stopped and killed; what the supervisor
//! must know of their differences, [`Features`] says.

mod event;
pub(crate) mod machine;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
pub(crate) mod native;
#[cfg(target_os = "linux")]
pub(crate) mod network;
mod pace;
#[cfg(target_os = "linux")]
pub(crate) mod qemu;
mod settings;
mod shares;
mod tools;
pub(crate) mod vz;
pub(crate) mod wsl;

// What only Linux has, as it is elsewhere: never there.
#[cfg(not(target_os = "linux"))]
#[path = "backend/elsewhere/memory.rs"]
mod memory;
#[cfg(not(target_os = "linux"))]
#[path = "backend/elsewhere/native.rs"]
pub(crate) mod native;
#[cfg(not(target_os = "linux"))]
#[path = "backend/elsewhere/network.rs"]
pub(crate) mod network;
#[cfg(not(target_os = "linux"))]
#[path = "backend/elsewhere/qemu.rs"]
pub(crate) mod qemu;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::paths::EnginePaths;
use crate::slots::Choice;
use crate::socket::{EngineDial, OpenFiles, UnixEngine};
pub(crate) use event::{Condition, GuestEvent, ServiceState};
pub(crate) use machine::{Upkeep, UpkeepError, disk_in_use};
pub use native::rootless::Missing;
pub(crate) use native::rootless::{self, Identities};
pub(crate) use pace::Pace;
pub use settings::{Backend, EngineSettings, SettingsChange};
pub(crate) use shares::{MOST as MOST_SHARES, words};
pub use shares::{Share, Shares};
pub(crate) use tools::Tools;

/// What a backend is like, for who would otherwise ask which one it is, or on what system it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// It runs without root, in a user namespace: root in its containers is the user who started it, and some things do not
    /// work (see the user guide).
    pub rootless: bool,
    /// Its containers' network is a namespace of this kernel, to which a way out is attached from here.
    pub network_from_outside: bool,
    /// It has memory, processors and a data disk of its own: their sizes can be chosen, what is used of them is told, and
    /// what is not used can be given back.
    pub machine: bool,
}

impl Backend {
    /// What it is like for this user.
    #[must_use]
    pub fn features(self) -> Features {
        match self {
            Self::Native => {
                let rootless = !nix::unistd::geteuid().is_root();
                Features { rootless, network_from_outside: true, machine: false }
            }
            Self::Qemu | Self::Vz => Features { rootless: false, network_from_outside: false, machine: true },
            // Its machine is that of all distributions, and its sizes are the user's to choose for all of them.
            Self::Wsl => Features { rootless: false, network_from_outside: false, machine: false },
        }
    }

    /// The logs in the data folder that tell most when it does not start.
    pub(crate) fn logs(self) -> &'static [&'static str] {
        match self {
            Self::Native => &["containerd", "dockerd"],
            Self::Qemu | Self::Vz => &["console"],
            // They are in the distribution with the data.
            Self::Wsl => &[],
        }
    }

    /// What may be expected of it before it has said what it runs on.
    pub(crate) fn pace(self) -> Pace {
        match self {
            Self::Native => Pace::NATIVE,
            Self::Qemu => Pace::EMULATED,
            Self::Vz => Pace::MACHINE,
            Self::Wsl => Pace::WSL,
        }
    }
}

/// A running guest.
#[derive(Debug)]
pub(crate) enum Guest {
    Native(native::Guest),
    Machine(machine::Guest),
    /// Held like a machine, and no machine of the engine's own.
    Wsl(machine::Guest),
}

impl Guest {
    pub(crate) fn launch(
        paths: &EnginePaths,
        choice: &Choice,
        settings: &EngineSettings,
        identities: Option<&Identities>,
        with_network: bool,
        open_files: OpenFiles,
        tools: &Tools,
    ) -> Result<Self, Error> {
        match settings.backend {
            Backend::Native => {
                native::Guest::launch(paths, &choice.appliance, identities, with_network, open_files).map(Self::Native)
            }
            Backend::Qemu => qemu::launch(paths, choice, settings, tools.qemu.clone()).map(Self::Machine),
            Backend::Vz => vz::launch(paths, choice, settings, &tools.vz).map(Self::Machine),
            Backend::Wsl => Ok(Self::Wsl(wsl::launch(paths, choice))),
        }
    }

    /// What it tells next; none when it is gone, with everything that ran in it.
    pub(crate) async fn next(&mut self) -> Option<GuestEvent> {
        match self {
            Self::Native(guest) => guest.next().await,
            Self::Machine(guest) | Self::Wsl(guest) => guest.next().await,
        }
    }

    /// Asks it to shut down. It also does so when this process ends.
    pub(crate) fn stop(&mut self) {
        match self {
            Self::Native(guest) => guest.stop(),
            Self::Machine(guest) | Self::Wsl(guest) => guest.stop(),
        }
    }

    /// Ends it without order.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Native(guest) => guest.kill(),
            Self::Machine(guest) | Self::Wsl(guest) => guest.kill(),
        }
    }

    /// What can be had done in it, where it is a machine.
    pub(crate) fn upkeep(&self) -> Option<Upkeep> {
        match self {
            Self::Native(_) | Self::Wsl(_) => None,
            Self::Machine(guest) => Some(guest.upkeep()),
        }
    }

    /// How its dockerd is reached.
    pub(crate) fn dial(&self, paths: &EnginePaths) -> Arc<dyn EngineDial> {
        match self {
            Self::Native(_) => Arc::new(UnixEngine(paths.dockerd_socket())),
            Self::Machine(guest) | Self::Wsl(guest) => Arc::new(guest.dial()),
        }
    }
}
