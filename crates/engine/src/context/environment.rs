//! The variables that the `docker` command reads.

use std::{env, ffi::OsString, fmt, path::PathBuf};

use crate::error::without_password;

/// `DOCKER_HOST` and its like. An empty variable counts as none, as for `docker`.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DockerEnvironment {
    /// `DOCKER_HOST`: an address that counts before every context.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`: the name of a context.
    pub context: Option<String>,
    /// `DOCKER_TLS`: TLS without a look at the engine's certificate.
    pub tls: bool,
    /// `DOCKER_TLS_VERIFY`: TLS. Any text means yes, even `0`.
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`: the folder of `ca.pem`, `cert.pem` and `key.pem`.
    pub cert_path: Option<PathBuf>,
    /// `DOCKER_CONFIG`: the folder of the configuration.
    pub config: Option<PathBuf>,
}

impl DockerEnvironment {
    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::from_variables(env::var_os)
    }

    /// Those that a function knows.
    pub fn from_variables(variable: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let value = |name| variable(name).filter(|value| !value.is_empty());
        // What is no Unicode is no address; it fails as one that cannot be understood, instead of being passed over.
        let text = |name| value(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            host: text("DOCKER_HOST"),
            context: text("DOCKER_CONTEXT"),
            tls: value("DOCKER_TLS").is_some(),
            tls_verify: value("DOCKER_TLS_VERIFY").is_some(),
            cert_path: value("DOCKER_CERT_PATH").map(PathBuf::from),
            config: value("DOCKER_CONFIG").map(PathBuf::from),
        }
    }
}

impl fmt::Debug for DockerEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerEnvironment")
            .field("host", &self.host.as_deref().map(without_password))
            .field("context", &self.context)
            .field("tls", &self.tls)
            .field("tls_verify", &self.tls_verify)
            .field("cert_path", &self.cert_path)
            .field("config", &self.config)
            .finish()
    }
}
