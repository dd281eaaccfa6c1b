//! Registries: whose images they hold, what a tag means today, and the credentials for them.
//!
//! [`Client`] reads from one registry over HTTP, [`CredentialStore`] keeps logins where Docker keeps them or in the
//! system's keychain, and [`RegistryAuth`] carries a login to the engine for pulls, pushes and builds.
//!
//! A registry is outside data and may be hostile. It gets a credential only for itself: see [`Client`].

pub mod challenge;
mod client;
mod config_file;
mod credentials;
mod error;
mod headers;
mod helper;
mod host;
mod keychain;
mod link;
mod model;
mod secret;
mod token;
mod transport;

pub use client::{AuthScheme, Client, ClientBuilder, Listing};
pub use credentials::{CredentialStore, Destination, Login, Place};
pub use error::{CredentialError, RegistryError};
pub use headers::RateLimit;
pub use helper::HelperName;
pub use host::RegistryHost;
pub use model::{Descriptor, ImageConfig, Manifest, ManifestKind, Platform};
pub use secret::{RegistryAuth, Secret, SecretKind, X_REGISTRY_AUTH, X_REGISTRY_CONFIG, build_header};

/// Reads a file of logins in every way there is.
pub(crate) fn fuzz_config_file(bytes: &[u8]) {
    config_file::fuzz(bytes);
}

/// Reads what a credential helper printed in every way there is.
pub(crate) fn fuzz_helper(bytes: &[u8]) {
    helper::fuzz(bytes);
}
