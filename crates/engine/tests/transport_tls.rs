//! TLS: who is believed, who is not, and whether the reason is said.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_engine::{ConnectOptions, Docker, Endpoint, Error, Pem, TlsMaterial, Verification, dial};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Each has a name of its own, as another one of the same name counts as a forgery.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Pem {
        Pem::bytes(self.0.pem())
    }

    /// A certificate and its key in PEM.
    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

struct Server {
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An engine that answers every request alike, and asks for a certificate if there is an authority for it.
async fn serve((certificate, key): (String, String), clients: Option<&Authority>, old: bool) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[_] = if old { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    request.push(byte);
                    if request.ends_with(b"\r\n\r\n") {
                        let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.47\r\nContent-Length: 2\r\n\r\n{}";
                        let _ = stream.write_all(answer.as_bytes()).await;
                        request.clear();
                    }
                }
                let _ = stream.write_all(b"bye").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    Server { port, task }
}

fn endpoint(server: &Server, host: &str, change: impl FnOnce(&mut TlsMaterial)) -> Endpoint {
    let mut material = TlsMaterial::default();
    change(&mut material);
    Endpoint::Tcp { host: host.to_owned(), port: server.port }.with_tls(material).unwrap()
}

async fn refusal(endpoint: Endpoint) -> (ErrorKind, String) {
    match tokio::time::timeout(Duration::from_secs(20), dial(&endpoint, &ConnectOptions::default())).await.unwrap() {
        Err(error @ Error::Connect { .. }) => {
            let explanation = error.explanation().unwrap();
            let Error::Connect { source, .. } = error else { unreachable!() };
            (source.kind(), explanation)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let authority = Authority::new();
    for old in [false, true] {
        let server = serve(authority.issue(&["localhost", "127.0.0.1"], |_| {}), Some(&authority), old).await;
        for host in ["localhost", "127.0.0.1"] {
            let (certificate, key) = authority.issue(&["client"], |_| {});
            let endpoint = endpoint(&server, host, |material| {
                material.authorities = Some(authority.pem());
                material.certificate = Some(Pem::bytes(certificate));
                material.key = Some(Pem::bytes(key));
            });
            let docker = Docker::connect(endpoint.clone()).await.unwrap();
            assert!(docker.endpoint().to_string().starts_with("https://"));
            let mut socket = dial(&endpoint, &ConnectOptions::default()).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut rest = String::new();
            socket.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "bye", "half-close leaves the other half open");
        }
    }
}

#[tokio::test]
async fn a_missing_certificate_is_a_failure_to_connect() {
    let authority = Authority::new();
    for old in [false, true] {
        let server = serve(authority.issue(&["localhost"], |_| {}), Some(&authority), old).await;
        let (kind, said) =
            refusal(endpoint(&server, "localhost", |material| material.authorities = Some(authority.pem()))).await;
        // TLS 1.2 has no alert of its own for it.
        assert!(said.contains("client certificate") || old, "{said}");
        assert!(kind == ErrorKind::PermissionDenied || old, "{said}");
    }
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused_by_the_engine() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = serve(authority.issue(&["localhost"], |_| {}), Some(&authority), false).await;
    let (certificate, key) = stranger.issue(&["client"], |_| {});
    let endpoint = endpoint(&server, "localhost", |material| {
        material.authorities = Some(authority.pem());
        material.certificate = Some(Pem::bytes(certificate));
        material.key = Some(Pem::bytes(key));
    });
    let error = Docker::connect(endpoint).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("CertificateRefused"), "{text}");
}

#[tokio::test]
async fn what_is_wrong_with_the_engine_is_said() {
    let authority = Authority::new();
    let trusting =
        |server: &Server, host: &str| endpoint(server, host, |material| material.authorities = Some(authority.pem()));
    let server = serve(authority.issue(&["elsewhere.example"], |_| {}), None, false).await;
    let (_, said) = refusal(trusting(&server, "localhost")).await;
    assert!(said.contains("not for `localhost` but for elsewhere.example"), "{said}");

    let past = |parameters: &mut CertificateParams| parameters.not_after = date_time_ymd(2020, 1, 1);
    let server = serve(authority.issue(&["localhost"], past), None, false).await;
    assert!(refusal(trusting(&server, "localhost")).await.1.contains("has expired"));

    let future = |parameters: &mut CertificateParams| parameters.not_before = date_time_ymd(2400, 1, 1);
    let server = serve(authority.issue(&["localhost"], future), None, false).await;
    assert!(refusal(trusting(&server, "localhost")).await.1.contains("not valid yet"));

    let server = serve(Authority::new().issue(&["localhost"], |_| {}), None, false).await;
    assert!(refusal(trusting(&server, "localhost")).await.1.contains("not from an authority"));
    let skipping = endpoint(&server, "localhost", |material| material.verification = Verification::SkippedAsAsked);
    Docker::connect(skipping).await.expect("who asks for no check gets none");
}

#[tokio::test]
async fn an_engine_without_tls_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // What an engine in Go says to a TLS greeting.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let server = Server { port, task };
    let authority = Authority::new();
    let (_, said) =
        refusal(endpoint(&server, "localhost", |material| material.authorities = Some(authority.pem()))).await;
    assert!(said.contains("does not speak TLS"), "{said}");
}

#[tokio::test]
async fn material_that_cannot_be_used_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = serve(authority.issue(&["localhost"], |_| {}), None, false).await;
    let (certificate, key) = authority.issue(&["client"], |_| {});
    let (_, foreign) = other.issue(&["client"], |_| {});
    let said = async |certificate: Option<&str>, key: Option<&str>| {
        let endpoint = endpoint(&server, "localhost", |material| {
            material.authorities = Some(authority.pem());
            material.certificate = certificate.map(Pem::bytes);
            material.key = key.map(Pem::bytes);
        });
        refusal(endpoint).await.1
    };
    assert!(said(Some(&certificate), None).await.contains("its key is missing"));
    assert!(said(None, Some(&key)).await.contains("its certificate is missing"));
    assert!(said(Some(&certificate), Some(&foreign)).await.contains("do not belong together"));
    assert!(said(Some("x"), Some(&key)).await.contains("no certificate in it"));
    let missing = endpoint(&server, "localhost", |material| material.authorities = Some(Pem::File("/none.pem".into())));
    assert!(refusal(missing).await.1.contains("/none.pem"));
}
