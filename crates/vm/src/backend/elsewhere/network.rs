//! Systems without network namespaces, which need no way out of one.

use std::io;

use super::native::Namespaces;
use crate::appliance::Appliance;

#[derive(Clone, Debug)]
pub(crate) enum WayOut {}

#[derive(Debug)]
pub(crate) enum Attached {}

impl WayOut {
    pub(crate) fn find(_appliance: &Appliance, _rootless: bool) -> Option<Self> {
        None
    }

    pub(crate) fn name(&self) -> &'static str {
        match *self {}
    }

    pub(crate) fn otherwise(&mut self, _why: &io::Error) -> Option<Self> {
        match *self {}
    }

    pub(crate) async fn attach(&self, _namespaces: &Namespaces) -> io::Result<Attached> {
        match *self {}
    }
}

impl Attached {
    pub(crate) async fn ended(&mut self) -> String {
        match *self {}
    }

    pub(crate) async fn detach(self) {
        match self {}
    }
}
