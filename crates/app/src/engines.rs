//! The engines Berth knows, and the tasks that bring what they say into the world.

mod bundled;
mod inspect;
mod link;

use std::collections::HashMap;
use std::sync::Arc;

use berth_engine::{Docker, Endpoint, Store, WatchHandle, WatchOptions, watch};
use berth_vm::EnginePaths;
use berth_wire::{EngineId, EngineKind, InvalidId};
use tokio_util::task::AbortOnDropHandle;

use bundled::SupervisorView;
pub(crate) use bundled::{give_back_bundled, start_bundled, stop_bundled};
pub(crate) use inspect::inspect;

use crate::app::{App, EngineChoice};
use crate::error::AppError;

const BUNDLED: &str = "bundled";
const ADOPTED: &str = "adopted";

/// All engines by id.
#[derive(Debug)]
pub(crate) struct Engines {
    engines: HashMap<EngineId, Arc<Engine>>,
}

/// One engine.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) id: EngineId,
    pub(crate) name: String,
    pub(crate) kind: EngineKind,
    pub(crate) endpoint: Endpoint,
    pub(crate) docker: Docker,
    /// Where the bundled engine lives; `None` for one that was there before.
    pub(crate) paths: Option<EnginePaths>,
    /// Its live view.
    pub(crate) store: Store,
    pub(crate) watch: WatchHandle,
    pub(crate) supervisor: SupervisorView,
}

impl Engines {
    /// Needs a tokio runtime: the watch begins at once.
    pub(crate) fn new(choice: EngineChoice, paths: EnginePaths) -> Result<Self, InvalidId> {
        // To look on is not to use: a window that is open keeps no engine from going to sleep.
        let watched = match &choice {
            EngineChoice::Bundled { .. } => paths.watch_endpoint(),
            EngineChoice::Adopted(endpoint) => endpoint.clone(),
        };
        let (id, name, endpoint, paths) = match choice {
            EngineChoice::Bundled { .. } => {
                let endpoint = paths.endpoint();
                (BUNDLED, "Berth engine".to_owned(), endpoint, Some(paths))
            }
            EngineChoice::Adopted(endpoint) => (ADOPTED, adopted_name(&endpoint), endpoint, None),
        };
        let id: EngineId = id.parse()?;
        let docker = Docker::new(endpoint.clone());
        let (store, handle) = watch(Docker::new(watched), WatchOptions::default());
        let kind = if paths.is_some() { EngineKind::Bundled } else { EngineKind::Adopted };
        let engine = Engine {
            id: id.clone(),
            name,
            kind,
            endpoint,
            docker,
            paths,
            store,
            watch: handle,
            supervisor: SupervisorView::new(),
        };
        Ok(Self { engines: HashMap::from([(id, Arc::new(engine))]) })
    }

    pub(crate) fn get(&self, id: &EngineId) -> Result<Arc<Engine>, AppError> {
        self.engines.get(id).cloned().ok_or_else(|| AppError::UnknownEngine { id: id.to_string() })
    }

    pub(crate) fn bundled(&self) -> Option<Arc<Engine>> {
        self.engines.values().find(|engine| engine.kind == EngineKind::Bundled).cloned()
    }
}

impl Engine {
    /// Refuses for an engine that is not Berth's own.
    pub(crate) fn require_bundled(&self) -> Result<&EnginePaths, AppError> {
        self.paths.as_ref().ok_or_else(|| AppError::NotBundled { name: self.name.clone() })
    }
}

/// Begins to bring every engine into the world.
pub(crate) fn supervise(app: &Arc<App>) -> Vec<AbortOnDropHandle<()>> {
    app.engines
        .engines
        .values()
        .flat_map(|engine| {
            let world = tokio::spawn(link::project(app.clone(), engine.clone()));
            let supervisor = tokio::spawn(bundled::follow(engine.clone()));
            [AbortOnDropHandle::new(world), AbortOnDropHandle::new(supervisor)]
        })
        .collect()
}

fn adopted_name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => {
            path.file_name().map_or_else(|| "Engine".to_owned(), |name| name.to_string_lossy().into_owned())
        }
        Endpoint::NamedPipe(path) => path.rsplit('/').next().unwrap_or("Engine").to_owned(),
        Endpoint::Tcp { host, .. } | Endpoint::Tls { host, .. } | Endpoint::Ssh { host, .. } => host.clone(),
    }
}
