//! Systems without Virtualization.framework.

use std::sync::Arc;

use super::VzApi;
use crate::backend::Backend;
use crate::error::Error;

pub(super) fn of_this_system() -> Result<Arc<dyn VzApi>, Error> {
    Err(Backend::Vz.refusal())
}
