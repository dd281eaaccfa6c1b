//! What runs the appliance: `native` in namespaces of this kernel, `qemu` in a machine of its own.
//!
//! Both give a [`Guest`], which tells what happens in [`GuestEvent`]s and can be stopped and killed; what the supervisor
//! must know of their differences, [`Features`] says.

mod event;
pub(crate) mod native;
pub(crate) mod network;
pub(crate) mod qemu;
mod settings;

use std::sync::Arc;

use crate::appliance::Appliance;
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::socket::{EngineDial, OpenFiles, UnixEngine};
pub(crate) use event::{Condition, GuestEvent, ServiceState};
pub use settings::{Backend, EngineSettings, SettingsChange};

/// What a backend is like, for who would otherwise ask which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Features {
    /// Its containers' network is a namespace of this kernel, to which a way out is attached from here.
    pub(crate) network_from_outside: bool,
    /// It needs root.
    pub(crate) root: bool,
    /// The logs in the data folder that tell most when it does not start.
    pub(crate) logs: &'static [&'static str],
}

impl Backend {
    pub(crate) fn features(self) -> Features {
        match self {
            Self::Native => Features { network_from_outside: true, root: true, logs: &["containerd", "dockerd"] },
            Self::Qemu => Features { network_from_outside: false, root: false, logs: &["console"] },
        }
    }
}

/// A running guest.
#[derive(Debug)]
pub(crate) enum Guest {
    Native(native::Guest),
    Machine(qemu::Guest),
}

impl Guest {
    pub(crate) fn launch(
        paths: &EnginePaths,
        appliance: &Appliance,
        settings: &EngineSettings,
        with_network: bool,
        open_files: OpenFiles,
    ) -> Result<Self, Error> {
        match settings.backend {
            Backend::Native => native::Guest::launch(paths, appliance, with_network, open_files).map(Self::Native),
            Backend::Qemu => qemu::Guest::launch(paths, appliance, settings).map(Self::Machine),
        }
    }

    /// What it tells next; none when it is gone, with everything that ran in it.
    pub(crate) async fn next(&mut self) -> Option<GuestEvent> {
        match self {
            Self::Native(guest) => guest.next().await,
            Self::Machine(guest) => guest.next().await,
        }
    }

    /// Asks it to shut down. It also does so when this process ends.
    pub(crate) fn stop(&mut self) {
        match self {
            Self::Native(guest) => guest.stop(),
            Self::Machine(guest) => guest.stop(),
        }
    }

    /// Ends it without order.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Native(guest) => guest.kill(),
            Self::Machine(guest) => guest.kill(),
        }
    }

    /// How its dockerd is reached.
    pub(crate) fn dial(&self, paths: &EnginePaths) -> Arc<dyn EngineDial> {
        match self {
            Self::Native(_) => Arc::new(UnixEngine(paths.dockerd_socket())),
            Self::Machine(guest) => Arc::new(guest.dial()),
        }
    }
}
