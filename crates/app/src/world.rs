//! The world: engines, containers and operations, as every window sees them.
//!
//! Each row remembers the revision that last changed it, and what went is remembered for a while, so a
//! patch from any revision to now is a filter over what is: it can neither lose nor double a change, and
//! a slow window gets fewer, larger patches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_wire::{
    ContainerId, ContainerKey, ContainerRow, EngineId, EngineRow, OperationId, OperationPhase, OperationRow, WorldPatch,
};
use tokio::sync::watch;

/// Removals remembered; a page that is further behind gets everything anew.
const REMOVALS: usize = 20_000;
/// Finished operations kept for pages to show.
const OPERATIONS: usize = 200;

/// All rows and their revisions.
#[derive(Debug)]
pub struct World {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    engines: BTreeMap<EngineId, Stamped<EngineRow>>,
    containers: HashMap<ContainerKey, Stamped<ContainerRow>>,
    operations: BTreeMap<OperationId, Stamped<OperationRow>>,
    removed: VecDeque<(u64, Removed)>,
    /// Removals up to this revision are forgotten.
    forgotten: u64,
}

#[derive(Debug)]
struct Stamped<T> {
    revision: u64,
    row: T,
}

#[derive(Debug, Clone)]
enum Removed {
    Container(ContainerKey),
    Operation(OperationId),
}

/// One change of the world; everything done through it becomes visible at once.
#[derive(Debug)]
pub(crate) struct Edit<'world> {
    state: MutexGuard<'world, State>,
    next: u64,
    changed: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        // A page that outlived an earlier process must not have its revision taken for one of ours.
        let first = crate::clock::number_of_this_process();
        let state = State { revision: first, forgotten: first, ..State::default() };
        Self { state: Mutex::new(state), revision: watch::Sender::new(first) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says when the revision rises.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Changes the world in one step.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Edit<'_>)) {
        let state = self.state();
        let next = state.revision + 1;
        let mut edit = Edit { state, next, changed: false };
        change(&mut edit);
        if edit.changed {
            edit.state.revision = next;
            edit.state.trim();
            drop(edit);
            self.revision.send_replace(next);
        }
    }

    /// What changed since `revision`, or everything when it is absent, unknown or too old. `None`: nothing did.
    pub(crate) fn patch_since(&self, revision: Option<u64>) -> Option<WorldPatch> {
        let state = self.state();
        let since = revision.filter(|revision| (state.forgotten..=state.revision).contains(revision));
        if since == Some(state.revision) {
            return None;
        }
        let after = since.unwrap_or(0);
        let all = since.is_none();
        let mut patch = WorldPatch { revision: state.revision, reset: all, ..WorldPatch::default() };
        patch.engines = newer(state.engines.values(), after, all);
        patch.containers = newer(state.containers.values(), after, all);
        patch.operations = newer(state.operations.values(), after, all);
        if !all {
            for (_, removed) in state.removed.iter().rev().take_while(|(at, _)| *at > after) {
                match removed.clone() {
                    Removed::Container(key) => {
                        if !state.containers.contains_key(&key) {
                            patch.containers_removed.push(key);
                        }
                    }
                    Removed::Operation(id) => patch.operations_removed.push(id),
                }
            }
        }
        Some(patch)
    }

    /// The row of one container.
    pub fn container(&self, key: &ContainerKey) -> Option<ContainerRow> {
        self.state().containers.get(key).map(|stamped| stamped.row.clone())
    }

    /// The row of one engine.
    pub fn engine(&self, id: &EngineId) -> Option<EngineRow> {
        self.state().engines.get(id).map(|stamped| stamped.row.clone())
    }

    /// The row of one operation.
    pub fn operation(&self, id: OperationId) -> Option<OperationRow> {
        self.state().operations.get(&id).map(|stamped| stamped.row.clone())
    }
}

fn newer<'row, T: Clone + 'row>(rows: impl Iterator<Item = &'row Stamped<T>>, after: u64, all: bool) -> Vec<T> {
    rows.filter(|stamped| all || stamped.revision > after).map(|stamped| stamped.row.clone()).collect()
}

impl State {
    fn trim(&mut self) {
        while self.removed.len() > REMOVALS {
            if let Some((revision, _)) = self.removed.pop_front() {
                self.forgotten = revision;
            }
        }
    }
}

impl Edit<'_> {
    pub(crate) fn set_engine(&mut self, row: EngineRow) {
        if self.state.engines.get(&row.id).is_some_and(|stamped| stamped.row == row) {
            return;
        }
        self.changed = true;
        self.state.engines.insert(row.id.clone(), Stamped { revision: self.next, row });
    }

    pub(crate) fn set_container(&mut self, row: ContainerRow) {
        let key = ContainerKey { engine: row.engine.clone(), id: row.id.clone() };
        if self.state.containers.get(&key).is_some_and(|stamped| stamped.row == row) {
            return;
        }
        self.changed = true;
        self.state.containers.insert(key, Stamped { revision: self.next, row });
    }

    pub(crate) fn remove_container(&mut self, key: &ContainerKey) {
        if self.state.containers.remove(key).is_some() {
            self.changed = true;
            self.state.removed.push_back((self.next, Removed::Container(key.clone())));
        }
    }

    pub(crate) fn set_operation(&mut self, row: OperationRow) {
        self.changed = true;
        self.state.operations.insert(row.id, Stamped { revision: self.next, row });
        let finished: Vec<OperationId> = self
            .state
            .operations
            .values()
            .filter(|stamped| stamped.row.phase != OperationPhase::Running)
            .map(|stamped| stamped.row.id)
            .collect();
        let surplus = finished.len().saturating_sub(OPERATIONS);
        for id in finished.into_iter().take(surplus) {
            self.remove_operation(id);
        }
    }

    pub(crate) fn remove_operation(&mut self, id: OperationId) {
        if self.state.operations.remove(&id).is_some() {
            self.changed = true;
            self.state.removed.push_back((self.next, Removed::Operation(id)));
        }
    }

    /// Failed operations on the same container, or on the engine itself, are answered by a new one and go.
    pub(crate) fn supersede(&mut self, engine: &EngineId, container: Option<&ContainerId>) {
        let stale: Vec<OperationId> = self
            .state
            .operations
            .values()
            .filter(|stamped| {
                stamped.row.phase == OperationPhase::Failed
                    && stamped.row.engine == *engine
                    && stamped.row.container.as_ref() == container
            })
            .map(|stamped| stamped.row.id)
            .collect();
        for id in stale {
            self.remove_operation(id);
        }
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
