//! What can go wrong with registries and credentials.

use std::{io, path::PathBuf};

use super::{HelperName, RegistryHost};
use crate::reference::Digest;

/// Failure of a request to a registry. None of its texts holds a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection could be made.
    #[error("Could not connect to {host}. Check the address and that this computer is online")]
    Connect {
        /// Where it was tried.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server could not prove who it is.
    #[error("{host} has no certificate this computer trusts. If it has its own authority, add that to its settings")]
    Untrusted {
        /// Where it was tried.
        host: String,
        /// What is wrong with the certificate.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("{host} did not finish its answer within {seconds} s. Try again later")]
    Timeout {
        /// Who was asked.
        host: String,
        /// How long it was waited, in seconds.
        seconds: u64,
    },
    /// The exchange broke at the level of HTTP.
    #[error("The exchange with {host} broke")]
    Http {
        /// Who was asked.
        host: String,
        /// What broke.
        source: hyper::Error,
    },
    /// It wants a login and there is none.
    #[error("{host} wants a login. Log in to it and try again")]
    LoginNeeded {
        /// The registry.
        host: String,
    },
    /// The login was refused.
    #[error("{host} refused the login. Check name and password, and that it may read this repository")]
    LoginRefused {
        /// Who refused it: the registry or its token server.
        host: String,
    },
    /// The login does not reach this far.
    #[error("{host} does not allow this: {message}")]
    Denied {
        /// The registry.
        host: String,
        /// Its own words, bounded.
        message: String,
    },
    /// There is no such repository, tag or manifest.
    #[error("{host} knows no {what}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Too many requests.
    #[error("{host} allows no more requests for now{}", .retry_after.map(|s| format!("; try again in {s} s")).unwrap_or_default())]
    RateLimited {
        /// The registry.
        host: String,
        /// How long to wait, in seconds, where it said so.
        retry_after: Option<u32>,
    },
    /// Another refusal or failure.
    #[error("{host} answered {status}: {message}")]
    Api {
        /// The registry.
        host: String,
        /// HTTP status.
        status: u16,
        /// Its own words, bounded.
        message: String,
    },
    /// It wants the credentials to be sent to someone else.
    #[error("{host} asks for its login to be sent to {realm}, which is not its own. Nothing was sent")]
    RealmElsewhere {
        /// The registry.
        host: String,
        /// Where its challenge points.
        realm: String,
    },
    /// It sends its readers to an address that must not be followed.
    #[error("{host} points on to an address that must not be followed: {why}")]
    BadRedirect {
        /// The registry.
        host: String,
        /// Why not.
        why: &'static str,
    },
    /// What came is not what the digest stands for.
    #[error("{host} sent content that does not have the digest {expected}. It was thrown away")]
    WrongDigest {
        /// The registry.
        host: String,
        /// The digest it should have.
        expected: Digest,
    },
    /// The answer was larger than this client is willing to hold.
    #[error("The answer of {host} is larger than {limit} bytes: {what}")]
    TooLarge {
        /// The registry.
        host: String,
        /// What was being read.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer was not what the specification says.
    #[error("The answer of {host} could not be understood: {what}")]
    Malformed {
        /// The registry.
        host: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The image lives in another registry, or the reference is an id.
    #[error("`{reference}` is not in {host}")]
    OtherRegistry {
        /// The registry this client is for.
        host: String,
        /// What was asked for.
        reference: String,
    },
    /// The certificate of an authority could not be read.
    #[error("The certificate authority for {host} could not be read. It must be one or more certificates in PEM form")]
    BadAuthority {
        /// The registry it is for.
        host: String,
    },
}

impl RegistryError {
    /// A login may help.
    #[must_use]
    pub fn is_login(&self) -> bool {
        matches!(self, Self::LoginNeeded { .. } | Self::LoginRefused { .. })
    }

    /// There is no such thing in the registry.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Api { status, .. } => matches!(status, 502..=504),
            _ => matches!(
                self,
                Self::Connect { .. } | Self::Timeout { .. } | Self::Http { .. } | Self::RateLimited { .. }
            ),
        }
    }
}

/// Failure to read or keep a credential. None of its texts holds one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// There is no home folder to look for Docker's configuration in.
    #[error("There is no home folder to keep logins in. Set HOME or DOCKER_CONFIG")]
    NoHome,
    /// A file could not be read or written.
    #[error("Could not {verb} {}", path.display())]
    File {
        /// What was to be done.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Docker's configuration is larger than any real one.
    #[error("{} is larger than {limit} bytes. Move it away or repair it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// Docker's configuration is broken.
    #[error("{} cannot be read at line {line}, column {column}: {what}. Repair it and try again", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1; 0 where only an entry is wrong.
        line: usize,
        /// Where in the line.
        column: usize,
        /// What is wrong, never with what stands there.
        what: &'static str,
    },
    /// A name or a password that HTTP cannot carry.
    #[error("The {what} for {host} is empty or holds characters that a login cannot have")]
    Unusable {
        /// The registry.
        host: RegistryHost,
        /// `name` or `password`.
        what: &'static str,
    },
    /// The configured credential helper has no possible name.
    #[error("{} names a credential helper that cannot exist. Names have only a-z, 0-9, `-` and `_`", path.display())]
    BadHelperName {
        /// The file that names it.
        path: PathBuf,
    },
    /// The configured credential helper is not installed.
    #[error("docker-credential-{helper} is configured but not installed. Install it or take it out of config.json")]
    NoHelper {
        /// Its name.
        helper: HelperName,
    },
    /// The credential helper could not be run.
    #[error("docker-credential-{helper} could not be run")]
    HelperRun {
        /// Its name.
        helper: HelperName,
        /// What the system said.
        source: io::Error,
    },
    /// The credential helper did not end in time.
    #[error(
        "docker-credential-{helper} did not answer within {seconds} s. It may be waiting for a keychain to be unlocked"
    )]
    HelperTimeout {
        /// Its name.
        helper: HelperName,
        /// How long it was waited, in seconds.
        seconds: u64,
    },
    /// The credential helper failed.
    #[error("docker-credential-{helper} failed: {message}")]
    HelperFailed {
        /// Its name.
        helper: HelperName,
        /// Its own words, bounded and without the secret.
        message: String,
    },
    /// The credential helper answered with something else than a credential.
    #[error("docker-credential-{helper} answered with something that is not a login")]
    HelperAnswer {
        /// Its name.
        helper: HelperName,
    },
    /// The system's keychain cannot be used.
    #[error(
        "The system's keychain cannot be used. Unlock it, configure a credential helper, or keep the login in config.json"
    )]
    Keychain {
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system's keychain did not answer in time.
    #[error("The system's keychain did not answer within {seconds} s. Unlock it and try again")]
    KeychainTimeout {
        /// How long it was waited, in seconds.
        seconds: u64,
    },
}
