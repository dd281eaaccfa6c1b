//! Systems whose kernel has no namespaces to run the engine in.

pub(crate) mod rootless;

use super::{Backend, GuestEvent};
use crate::appliance::Appliance;
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::ports::NetworkNamespace;
use crate::socket::OpenFiles;
use rootless::Identities;

#[derive(Clone, Debug)]
pub(crate) enum Namespaces {}

#[derive(Debug)]
pub(crate) enum Guest {}

impl Guest {
    pub(crate) fn launch(
        _paths: &EnginePaths,
        _appliance: &Appliance,
        _identities: Option<&Identities>,
        _with_network: bool,
        _open_files: OpenFiles,
    ) -> Result<Self, Error> {
        Err(Backend::Native.refusal())
    }

    pub(crate) async fn next(&mut self) -> Option<GuestEvent> {
        match *self {}
    }

    pub(crate) fn stop(&mut self) {
        match *self {}
    }

    pub(crate) fn kill(&mut self) {
        match *self {}
    }

    pub(crate) fn namespaces(&self) -> Namespaces {
        match *self {}
    }

    pub(crate) fn enter_network(&self) -> std::io::Result<NetworkNamespace> {
        match *self {}
    }
}
