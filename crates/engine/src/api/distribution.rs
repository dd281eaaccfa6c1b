//! What a registry says of an image, asked by the engine.

use crate::{
    Docker, Error,
    http::{Call, SLOW},
    images::Descriptor,
    model::model,
    operation::Operation,
    reference::ImageReference,
    registry::{Platform, RegistryAuth, X_REGISTRY_AUTH},
};

use super::model::nullable;

model! {
    /// What a registry has under a name. API: `DistributionInspect`.
    pub struct DistributionInspect {
        /// The manifest, or the index of them.
        pub descriptor: Descriptor,
        /// What the image runs on.
        pub platforms: Vec<Platform>,
    }
}

impl Docker {
    /// Asks the registry of `image` for its digest and platforms, without fetching it. It may take 300 s, for registries
    /// are far. API: `DistributionInspect`, from 1.30 on.
    ///
    /// # Errors
    /// [`Error::is_permission_denied`] if the registry wants another login, which it also says of what it does not have;
    /// [`Error::Unsupported`] before 1.30; whatever a call may fail with.
    pub async fn inspect_distribution(
        &self,
        image: &ImageReference,
        login: Option<&RegistryAuth>,
    ) -> Result<DistributionInspect, Error> {
        let mut call = Call::new(Operation::DistributionInspect, [image.as_str()]).deadline(Some(SLOW));
        if let Some(login) = login {
            call = call.header(X_REGISTRY_AUTH, login.header());
        }
        self.json(call).await
    }
}
