//! TLS to an engine, as a rule with a certificate on both sides.

mod read;
mod unverified;

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{TlsMaterial, Verification, problem::Problem};

/// How long an engine that asked for a certificate and got none is given to complain.
const COMPLAINT: Duration = Duration::from_millis(500);

/// Speaks TLS on a connection.
pub(super) async fn connect(stream: TcpStream, host: &str, material: Arc<TlsMaterial>) -> io::Result<TlsSocket> {
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| Problem::Tls { reason: error.to_string() }.into_io())?;
    // Files may be on a network share that hangs.
    let prepared = tokio::task::spawn_blocking(move || prepare(&material)).await.map_err(io::Error::other)?;
    let (config, asked) = prepared.map_err(Problem::into_io)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| name_error(error, host, true, asked.load(Ordering::Relaxed)))?;
    let mut socket = TlsSocket { stream, host: host.to_owned(), nameless: asked.load(Ordering::Relaxed) };
    // With TLS 1.3 the engine says that it misses our certificate only after we have sent what we wanted. A moment's
    // patience makes that a failure to connect, instead of one of the first call.
    if socket.nameless
        && let Ok(early) = timeout(COMPLAINT, socket.read_u8()).await
    {
        return Err(match early {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Problem::CertificateRequired.into_io(),
            Err(error) => error,
            Ok(_) => Problem::Tls { reason: "the other side spoke first, which no engine does".to_owned() }.into_io(),
        });
    }
    Ok(socket)
}

/// The configuration, and a flag that tells later that the engine asked for a certificate that is not there.
fn prepare(material: &TlsMaterial) -> Result<(ClientConfig, Arc<AtomicBool>), Problem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let reason = |error: TlsError| Problem::Tls { reason: error.to_string() };
    let verifier: Arc<dyn ServerCertVerifier> = match material.verification {
        Verification::SkippedAsAsked => unverified::verifier(&provider),
        Verification::Full => {
            let roots = Arc::new(roots(material)?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| Problem::Tls { reason: error.to_string() })?
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(reason)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let asked = Arc::new(AtomicBool::new(false));
    let config = match client_certificate(material, &provider)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| Problem::Material {
            what: "The client's certificate",
            reason: match error {
                TlsError::InconsistentKeys(_) => "cert.pem and key.pem do not belong together".to_owned(),
                error => error.to_string(),
            },
        })?,
        None => builder.with_client_cert_resolver(Arc::new(NoCertificate { asked: Arc::clone(&asked) })),
    };
    Ok((config, asked))
}

fn roots(material: &TlsMaterial) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    let what = "The trusted authorities (ca.pem)";
    if let Some(pem) = &material.authorities {
        let given = read::certificates(what, pem)?;
        let count = given.len();
        let (added, _) = roots.add_parsable_certificates(given);
        return if added == 0 {
            Err(Problem::Material { what, reason: format!("none of its {count} certificates can be understood") })
        } else {
            Ok(roots)
        };
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some of the system's certificate authorities could not be read");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(Problem::NoAuthorities) } else { Ok(roots) }
}

type Identity = (Vec<CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

fn client_certificate(material: &TlsMaterial, provider: &CryptoProvider) -> Result<Option<Identity>, Problem> {
    let (certificate, key) = match (&material.certificate, &material.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(Problem::Material {
                what: "The client's certificate",
                reason: "its key is missing; add key.pem".to_owned(),
            });
        }
        (None, Some(_)) => {
            return Err(Problem::Material {
                what: "The client's key",
                reason: "its certificate is missing; add cert.pem".to_owned(),
            });
        }
    };
    let chain = read::certificates("The client's certificate (cert.pem)", certificate)?;
    let key = read::key(key)?;
    // Here the reason is known to be the key; later it would be TLS as a whole.
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| Problem::Material { what: read::KEY, reason: error.to_string() })?;
    Ok(Some((chain, key)))
}

/// Has no certificate, and remembers that one was asked for.
struct NoCertificate {
    asked: Arc<AtomicBool>,
}

impl fmt::Debug for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no certificate")
    }
}

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        // Without this the flag would never be set: nobody asks a resolver that says it has none.
        true
    }
}

/// A TLS connection whose errors say what they mean.
#[derive(Debug)]
pub(super) struct TlsSocket {
    stream: TlsStream<TcpStream>,
    host: String,
    /// The engine asked for a certificate and got none.
    nameless: bool,
}

impl AsyncRead for TlsSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        polled.map_err(|error| name_error(error, &self.host, false, self.nameless))
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        polled.map_err(|error| name_error(error, &self.host, false, self.nameless))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        polled.map_err(|error| name_error(error, &self.host, false, self.nameless))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        polled.map_err(|error| name_error(error, &self.host, false, self.nameless))
    }
}

/// Names what TLS complained about; other errors stay what they are.
fn name_error(error: io::Error, host: &str, in_handshake: bool, nameless: bool) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::AlertReceived(alert)) if nameless && misses_certificate(*alert) => {
            Problem::CertificateRequired.into_io()
        }
        Some(tls) => problem(tls, host).into_io(),
        // A plain HTTP server that reads a TLS greeting mostly hangs up.
        None if in_handshake && error.kind() == io::ErrorKind::UnexpectedEof => Problem::NoTls.into_io(),
        None => error,
    }
}

/// What engines say to somebody who was asked for a certificate and showed none. Only TLS 1.3 has a word of its own for
/// it, which Go used to do without: older engines complain of a bad one.
fn misses_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::AccessDenied
    )
}

fn problem(error: &TlsError, host: &str) -> Problem {
    use CertificateError as C;
    match error {
        TlsError::InvalidCertificate(error) => match error {
            C::UnknownIssuer | C::BadSignature => Problem::Untrusted,
            C::NotValidForName => Problem::WrongName { host: host.to_owned(), presented: Vec::new() },
            C::NotValidForNameContext { presented, .. } => {
                // They come from the other side, in Rust's notation.
                let presented = presented.iter().take(8).map(|name| shown(name)).collect();
                Problem::WrongName { host: host.to_owned(), presented }
            }
            C::Expired | C::ExpiredContext { .. } => Problem::Expired,
            C::NotValidYet | C::NotValidYetContext { .. } => Problem::NotYetValid,
            other => Problem::BadCertificate { reason: other.to_string() },
        },
        TlsError::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => Problem::CertificateRequired,
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            // A certificate that claims to be from the engine's own authority, and is not.
            | AlertDescription::DecryptError => Problem::CertificateRefused { reason: format!("{alert:?}") },
            alert => Problem::Tls { reason: format!("the engine broke off with {alert:?}") },
        },
        TlsError::InvalidMessage(_) => Problem::NoTls,
        other => Problem::Tls { reason: other.to_string() },
    }
}

/// `DnsName("x")` and `IpAddress(…)`, as rustls prints names, without the wrapping.
fn shown(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').chars().filter(|c| !c.is_control()).take(64).collect()
}
