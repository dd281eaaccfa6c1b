//! The application: what all windows share.

use std::path::PathBuf;
use std::sync::Arc;

use berth_engine::Endpoint;
use berth_store::Store;
use berth_vm::EnginePaths;
use berth_wire::{ClientId, Host};
use tokio_util::task::AbortOnDropHandle;

use crate::engines::Engines;
use crate::operations::Operations;
use crate::router::Requests;
use crate::session::{LEASE, Sessions};
use crate::world::World;

/// How this Berth was asked to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// What shows the page.
    pub host: Host,
    /// The data folder; the user's own when absent.
    pub data: Option<PathBuf>,
    /// Which engine to show.
    pub engine: EngineChoice,
}

/// Which engine to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// The one Berth brings.
    Bundled {
        /// Start it if it does not run.
        start: bool,
    },
    /// One that exists.
    Adopted(Endpoint),
}

/// Everything there is one of.
#[derive(Debug)]
pub struct App {
    pub(crate) host: Host,
    pub(crate) world: World,
    pub(crate) sessions: Sessions,
    pub(crate) operations: Operations,
    pub(crate) requests: Requests,
    pub(crate) engines: Engines,
    pub(crate) store: Store,
}

/// Who calls: handed to every command body.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub(crate) app: Arc<App>,
    pub(crate) client: ClientId,
}

/// Why Berth could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder is unusable.
    #[error(transparent)]
    Paths(#[from] berth_vm::Error),
    /// The database is unusable.
    #[error(transparent)]
    Store(#[from] berth_store::Error),
    /// The engine's name is unusable.
    #[error(transparent)]
    Engine(#[from] berth_wire::InvalidId),
}

/// Keeps the application's background work going; dropping it ends that work, not the engine.
#[derive(Debug)]
#[must_use]
pub struct Background {
    _sweeper: AbortOnDropHandle<()>,
    _engines: Vec<AbortOnDropHandle<()>>,
}

impl App {
    /// Opens the data folder and begins to watch the engine. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the data folder or the database in it cannot be used.
    pub fn start(config: Config) -> Result<(Arc<Self>, Background), StartError> {
        let paths = EnginePaths::new(config.data)?;
        let opened = Store::open(&paths.data().join("berth.sqlite"))?;
        if let Some(aside) = opened.set_aside {
            tracing::warn!(kept = %aside.display(), "the database was damaged; it was set aside and a new one begun");
        }
        let app = Arc::new(Self {
            host: config.host,
            world: World::new(),
            sessions: Sessions::new(),
            operations: Operations::default(),
            requests: Requests::default(),
            engines: Engines::new(config.engine.clone(), paths)?,
            store: opened.store,
        });
        let engines = crate::engines::supervise(&app);
        let sweeper = AbortOnDropHandle::new(tokio::spawn({
            let app = app.clone();
            async move {
                let mut interval = tokio::time::interval(LEASE / 3);
                loop {
                    interval.tick().await;
                    app.sessions.sweep();
                }
            }
        }));
        if config.engine == (EngineChoice::Bundled { start: true })
            && let Some(engine) = app.engines.bundled()
        {
            // Its fate is an operation of the world, where every page sees it.
            let _ = crate::engines::start_bundled(&app, &engine);
        }
        Ok((app, Background { _sweeper: sweeper, _engines: engines }))
    }

    /// The world, for shells that show it without a page.
    pub fn world(&self) -> &World {
        &self.world
    }
}

/// Runs blocking work of the store beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, berth_store::Error> + Send + 'static,
) -> Result<T, crate::AppError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(panic) => Err(crate::AppError::Internal { what: format!("the database's task: {panic}") }),
    }
}
