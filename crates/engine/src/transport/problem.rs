//! What can go wrong on the way to an engine, beyond what the system says.

use std::{io, path::PathBuf};

/// Inside an [`io::Error`], so that every layer above passes it on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "Named pipes exist on Windows only; choose an engine with a `unix://`, `tcp://` or `ssh://` address on this machine"
    )]
    #[cfg_attr(windows, expect(dead_code, reason = "made where there are none"))]
    NoPipes,
    #[error(
        "This system has no unix sockets for Berth; choose an engine with an `npipe://`, `tcp://` or `ssh://` address"
    )]
    #[cfg_attr(unix, expect(dead_code, reason = "made where there are none"))]
    NoUnixSockets,
    #[error("The named pipe was busy for {seconds} s; the engine may be overloaded, try again in a moment")]
    #[cfg_attr(not(windows), expect(dead_code, reason = "made on Windows"))]
    PipeBusy { seconds: u64 },
    #[error("`{host}` has no address; check the spelling and the network's name server")]
    NoAddress { host: String },

    #[error(
        "The engine's certificate is not from an authority that is trusted here; give the `ca.pem` that belongs to the engine"
    )]
    Untrusted,
    #[error(
        "The engine's certificate is not for `{host}`{}; use an address that it names, or make a certificate that has this one as a subject alternative name",
        names(presented)
    )]
    WrongName { host: String, presented: Vec<String> },
    #[error("The engine's certificate has expired; renew it, or correct this machine's clock")]
    Expired,
    #[error("The engine's certificate is not valid yet; correct the clock of this machine or of the engine's")]
    NotYetValid,
    #[error("The engine's certificate cannot be accepted ({reason}); make a new one")]
    BadCertificate { reason: String },
    #[error("The engine asks for a client certificate; give the `cert.pem` and `key.pem` that its administrator made")]
    CertificateRequired,
    #[error(
        "The engine refused this client's certificate ({reason}); it may have expired or come from another authority than the engine's"
    )]
    CertificateRefused { reason: String },
    #[error("The engine does not speak TLS on this port; use `tcp://` without certificates, or the engine's TLS port")]
    NoTls,
    #[error("TLS with the engine failed: {reason}")]
    Tls { reason: String },
    #[error("{what} could not be read from {}: {reason}", path.display())]
    MaterialFile { what: &'static str, path: PathBuf, reason: String },
    #[error("{what} cannot be used: {reason}")]
    Material { what: &'static str, reason: String },
    #[error("This system has no trusted certificate authorities, and the address brings none; give a `ca.pem`")]
    NoAuthorities,

    #[error("The program `{program}` is not there; install OpenSSH's client, which `ssh://` addresses need")]
    NoSsh { program: String },
    #[error("The `ssh://` address is not one that `ssh` can be called with safely: {0}")]
    SshAddress(crate::InvalidEndpoint),
    #[error("{}", ssh_said(said, *advice))]
    Ssh { said: String, advice: Option<&'static str> },
}

impl Problem {
    /// As the system's errors come.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::new(self.kind(), self)
    }

    /// The problem in an error, if it is one of these.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NoPipes | Self::NoUnixSockets => io::ErrorKind::Unsupported,
            Self::PipeBusy { .. } => io::ErrorKind::TimedOut,
            Self::NoAddress { .. } | Self::NoSsh { .. } => io::ErrorKind::NotFound,
            Self::CertificateRequired | Self::CertificateRefused { .. } => io::ErrorKind::PermissionDenied,
            Self::Material { .. } | Self::MaterialFile { .. } | Self::SshAddress(_) | Self::NoAuthorities => {
                io::ErrorKind::InvalidInput
            }
            Self::Ssh { said, .. } if said.contains("Permission denied") => io::ErrorKind::PermissionDenied,
            Self::Ssh { .. } => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::InvalidData,
        }
    }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() { String::new() } else { format!(" but for {}", presented.join(", ")) }
}

fn ssh_said(said: &str, advice: Option<&str>) -> String {
    let said = if said.is_empty() { "ssh ended without a word".to_owned() } else { format!("ssh said: {said}") };
    match advice {
        Some(advice) => format!("{said}\n{advice}"),
        None => said,
    }
}
