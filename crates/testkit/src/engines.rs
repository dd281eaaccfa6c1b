//! The engines that every case of the conformance tests runs against.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::daemon::Daemon;
use crate::image;
use crate::podman::PodmanEngine;
use crate::raw::{self, Raw};
use crate::real::{self, BundledEngine, OldEngine};

/// Why an engine could not be made ready for tests.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Engine(#[from] real::Error),
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error("the image for tests could not be loaded: {0}")]
    Load(#[from] raw::Error),
    #[error("starting it was given up: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

/// A kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// The one Berth brings.
    Bundled,
    /// Debian's dockerd 20.10, the oldest supported.
    Old,
    /// Podman behind Docker's API.
    Podman,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bundled, Self::Old, Self::Podman];

    /// How tests are named after it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::Old => "debian_20_10",
            Self::Podman => "podman",
        }
    }

    /// The environment variable that names the socket of one that is shared.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Bundled => "BERTH_TEST_ENGINE_BUNDLED",
            Self::Old => "BERTH_TEST_ENGINE_OLD",
            Self::Podman => "BERTH_TEST_ENGINE_PODMAN",
        }
    }

    /// The socket of one that is shared by this run of the tests.
    #[must_use]
    pub fn shared(self) -> Option<PathBuf> {
        std::env::var_os(self.variable()).filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug)]
enum Running {
    Bundled(BundledEngine),
    Daemon(Daemon),
    Old(OldEngine),
    Podman(PodmanEngine),
}

/// A real engine with the image `busybox:test`, gone when dropped.
#[derive(Debug)]
pub struct TestEngine {
    running: Running,
}

impl TestEngine {
    /// Starts one.
    ///
    /// # Errors
    /// When it is not installed, does not come up or refuses the image.
    pub async fn start(kind: EngineKind) -> Result<Self, Error> {
        Self::launch(kind, false).await
    }

    /// Starts one for a case that changes it as a whole. The bundled one comes without Berth around it, since dockerd
    /// takes part in no swarm while containers outlive it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn exclusive(kind: EngineKind) -> Result<Self, Error> {
        Self::launch(kind, true).await
    }

    async fn launch(kind: EngineKind, exclusive: bool) -> Result<Self, Error> {
        let running = tokio::task::spawn_blocking(move || {
            Ok::<_, Error>(match kind {
                EngineKind::Bundled if exclusive => Running::Daemon(Daemon::start()?),
                EngineKind::Bundled => Running::Bundled(BundledEngine::start()?),
                EngineKind::Old => Running::Old(OldEngine::isolated()?),
                EngineKind::Podman => Running::Podman(PodmanEngine::start()?),
            })
        })
        .await??;
        let engine = Self { running };
        Raw::new(&engine.socket()).import_image("busybox", "test", image::busybox()?).await?;
        Ok(engine)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match &self.running {
            Running::Bundled(engine) => Path::to_owned(engine.socket()),
            Running::Daemon(engine) => engine.socket(),
            Running::Old(engine) => engine.socket(),
            Running::Podman(engine) => engine.socket(),
        }
    }
}
