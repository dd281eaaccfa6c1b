//! Systems on which Berth runs no QEMU: nothing there would end one together with its supervisor.

use super::machine::Guest;
use super::{Backend, EngineSettings};
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::slots::Choice;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tools;

#[derive(Debug, thiserror::Error)]
pub(crate) enum QemuError {}

#[expect(clippy::needless_pass_by_value, reason = "as where there is one")]
pub(crate) fn launch(
    _paths: &EnginePaths,
    _choice: &Choice,
    _settings: &EngineSettings,
    _tools: Tools,
) -> Result<Guest, Error> {
    Err(Backend::Qemu.refusal())
}
