//! The engine without root, of which there is none here.

use std::path::Path;

use crate::error::Error;
use crate::paths::EnginePaths;

/// What keeps the engine from running without root; here nothing does, for there is no such engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {}

#[derive(Clone, Debug)]
pub(crate) enum Identities {}

#[derive(Debug)]
pub(crate) enum Delegated {}

#[derive(Debug)]
pub(crate) struct NotDelegated;

impl Missing {
    /// What to do.
    #[must_use]
    pub fn fix(&self) -> String {
        match *self {}
    }
}

impl Identities {
    pub(crate) fn with_cgroup(self, _folder: &Path) -> Self {
        self
    }
}

impl Delegated {
    pub(crate) fn take(_paths: &EnginePaths) -> Result<Self, NotDelegated> {
        Err(NotDelegated)
    }

    pub(crate) fn engine(&self) -> &Path {
        match *self {}
    }
}

pub(crate) fn check(_paths: &EnginePaths) -> Result<Option<Identities>, Missing> {
    Ok(None)
}

pub(crate) async fn probe(_paths: &EnginePaths, identities: &Identities) -> Result<Vec<String>, Error> {
    match *identities {}
}

pub(crate) fn limits(_taken: Result<&Delegated, &NotDelegated>) -> Option<String> {
    None
}

pub(crate) fn measure(identities: &Identities, _path: &Path) -> Result<u64, Error> {
    match *identities {}
}

pub(crate) fn remove(identities: &Identities, _path: &Path) -> Result<(), Error> {
    match *identities {}
}
