//! One request to one origin: connecting, TLS, redirects, bounded answers.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::ServerName, pki_types::pem::PemObject as _,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{RegistryError, host::Origin};

const REDIRECTS: usize = 5;
const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

/// What to ask, of which origin.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) origin: Origin,
    /// Path and query.
    pub(super) target: String,
    pub(super) accept: Option<&'static str>,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) form: Option<Bytes>,
    pub(super) follow: bool,
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// It came from where the question went, not from where a redirect led.
    pub(super) same_origin: bool,
    host: String,
    body: Incoming,
}

/// Makes connections. One request each: a registry is asked seldom, and nothing of one request can reach another.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    tls: Arc<ClientConfig>,
}

impl Transport {
    /// Trusts the system's authorities, those of the browsers where the system has none, and this one.
    pub(super) fn new(host: &str, authority: Option<&[u8]>) -> Result<Self, RegistryError> {
        let bad = || RegistryError::BadAuthority { host: host.to_owned() };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if let Some(pem) = authority {
            let own = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| bad())?;
            if own.is_empty() {
                return Err(bad());
            }
            own.into_iter().try_for_each(|certificate| roots.add(certificate)).map_err(|_| bad())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut tls = config.map_err(|_| bad())?.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(tls) })
    }

    /// Whether a server speaks TLS here. One whose certificate is wrong does, and its error is the answer.
    pub(super) async fn speaks_tls(&self, origin: &Origin) -> Result<bool, RegistryError> {
        match self.tls(origin).await {
            Ok(_) => Ok(true),
            Err(RegistryError::Connect { source, .. }) if is_no_tls(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks, and follows redirects where that is wanted.
    ///
    /// `Authorization` goes to the first origin alone, and is gone for good once a redirect has led away from it.
    pub(super) async fn send(&self, mut ask: Ask) -> Result<Answer, RegistryError> {
        let first = ask.origin.clone();
        let mut left = false;
        for _ in 0..=REDIRECTS {
            let answer = self.send_once(&ask, !left).await?;
            let is_redirect = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !(is_redirect && ask.follow) {
                return Ok(answer);
            }
            let bad = |why| RegistryError::BadRedirect { host: first.authority(), why };
            let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let (origin, target) = resolve(&ask, location.ok_or_else(|| bad("it cannot be read"))?)
                .ok_or_else(|| bad("it cannot be read"))?;
            if ask.origin.https && !origin.https {
                return Err(bad("it is not encrypted"));
            }
            // A registry elsewhere has no business with what listens on this computer.
            if origin.is_loopback() && !first.is_loopback() {
                return Err(bad("it is on this computer"));
            }
            if origin != first {
                ask.authorization = None;
                left = true;
            }
            ask = Ask { origin, target, ..ask };
        }
        Err(RegistryError::BadRedirect { host: first.authority(), why: "it leads on and on" })
    }

    async fn send_once(&self, ask: &Ask, same_origin: bool) -> Result<Answer, RegistryError> {
        let host = ask.origin.authority();
        tracing::trace!(origin = %ask.origin, method = %ask.method, "asks a registry");
        let malformed = |_| RegistryError::Malformed { host: host.clone(), what: "an address in it" };
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.target.as_str())
            .header(header::HOST, host.as_str())
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(accept) = ask.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(value) = &ask.authorization {
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        if ask.form.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request.body(Full::new(ask.form.clone().unwrap_or_default())).map_err(malformed)?;
        let response = if ask.origin.https {
            exchange(self.tls(&ask.origin).await?, request).await
        } else {
            exchange(tcp(&ask.origin).await?, request).await
        };
        let response = response.map_err(|source| RegistryError::Http { host: host.clone(), source })?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, same_origin, host, body })
    }

    async fn tls(&self, origin: &Origin) -> Result<tokio_rustls::client::TlsStream<TcpStream>, RegistryError> {
        let host = origin.authority();
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|error| RegistryError::Connect { host: host.clone(), source: io::Error::other(error) })?;
        let stream = tcp(origin).await?;
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|source| match tls_error(&source) {
            Some(rustls::Error::InvalidCertificate(_)) => RegistryError::Untrusted { host, source },
            _ => RegistryError::Connect { host, source },
        })
    }
}

async fn tcp(origin: &Origin) -> Result<TcpStream, RegistryError> {
    TcpStream::connect((origin.host.as_str(), origin.port))
        .await
        .map_err(|source| RegistryError::Connect { host: origin.authority(), source })
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What came back on a TLS greeting was no TLS, as from a server that speaks plain HTTP.
fn is_no_tls(error: &io::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidMessage(_)))
        || matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_headers(100).max_buf_size(64 * 1024);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body, read or dropped: `sender` is gone by then.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender.send_request(request).await
}

/// Where a `Location` leads, seen from a request.
fn resolve(ask: &Ask, location: &str) -> Option<(Origin, String)> {
    let location = location.split('#').next()?;
    let target = |uri: &Uri| uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    if let Some(rest) = location.strip_prefix("//") {
        let uri: Uri = format!("{}://{rest}", if ask.origin.https { "https" } else { "http" }).parse().ok()?;
        return Some((Origin::of(&uri)?, target(&uri)));
    }
    if location.starts_with('/') {
        return Some((ask.origin.clone(), target(&location.parse().ok()?)));
    }
    if location.contains("://") {
        let uri: Uri = location.parse().ok()?;
        return Some((Origin::of(&uri)?, target(&uri)));
    }
    let path = ask.target.split('?').next()?;
    let (folder, _) = path.rsplit_once('/')?;
    Some((ask.origin.clone(), target(&format!("{folder}/{location}").parse().ok()?)))
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body, if it is no larger than this.
    pub(super) async fn body(mut self, what: &'static str, limit: usize) -> Result<Bytes, RegistryError> {
        let too_large = || RegistryError::TooLarge { host: self.host.clone(), what, limit };
        if self.body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| RegistryError::Http { host: self.host.clone(), source })?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > limit {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        let ask = Ask {
            method: Method::GET,
            origin: origin("https://r.example"),
            target: "/v2/a/blobs/x?y=z".to_owned(),
            accept: None,
            authorization: None,
            form: None,
            follow: true,
        };
        for (location, to, target) in [
            ("/b?c", "https://r.example", "/b?c"),
            ("b", "https://r.example", "/v2/a/blobs/b"),
            ("//cdn.example/b", "https://cdn.example", "/b"),
            ("https://cdn.example", "https://cdn.example", "/"),
            ("http://cdn.example:81/b?c#d", "http://cdn.example:81", "/b?c"),
        ] {
            assert_eq!(resolve(&ask, location), Some((origin(to), target.to_owned())), "{location}");
        }
        for bad in ["https://u:p@cdn.example/", "ftp://cdn.example/", "https:///x", "/a b", "//", "\u{e9}://x"] {
            assert_eq!(resolve(&ask, bad), None, "{bad}");
        }
    }
}
