//! Whom to trust and who we are, before anything of it is read.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Certificates and a key for [`Endpoint::Tls`](crate::Endpoint::Tls).
///
/// Files are read anew for every connection, so that renewed certificates count at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TlsMaterial {
    /// The authorities whose certificates are trusted, and only they; without them those of the system.
    pub authorities: Option<Pem>,
    /// The certificate to show, with those that lead to its authority.
    pub certificate: Option<Pem>,
    /// The key of that certificate, in PKCS #1, PKCS #8 or SEC 1, without a password.
    pub key: Option<Pem>,
    /// Whether to believe whoever answers.
    pub verification: Verification,
}

impl TlsMaterial {
    /// What Docker keeps in a folder: those of `ca.pem`, `cert.pem` and `key.pem` that are there.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let file = |name: &str| {
            let path = folder.join(name);
            path.exists().then_some(Pem::File(path))
        };
        Self {
            authorities: file("ca.pem"),
            certificate: file("cert.pem"),
            key: file("key.pem"),
            verification: Verification::Full,
        }
    }

    /// There is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.authorities.is_none() && self.certificate.is_none() && self.key.is_none()
    }
}

/// Whether the engine has to prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verification {
    /// Its certificate has to be valid now, for its host, and from a trusted authority.
    #[default]
    Full,
    /// Anybody on the way may pose as the engine, read everything and change it. Only for whoever asked for it in so
    /// many words, as Docker's `--skip-tls-verify` does.
    SkippedAsAsked,
}

/// Text in PEM, or where it is.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// Here.
    Bytes(Arc<[u8]>),
}

impl Pem {
    /// PEM that is at hand.
    #[must_use]
    pub fn bytes(text: impl AsRef<[u8]>) -> Self {
        Self::Bytes(text.as_ref().into())
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({} of them)", bytes.len()),
        }
    }
}
