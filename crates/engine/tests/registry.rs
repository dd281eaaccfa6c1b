//! The registry client against registries that lie, steal, stall and never end.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use berth_engine::{
    reference::ImageReference,
    registry::{AuthScheme, Client, ClientBuilder, ManifestKind, RegistryAuth, RegistryError, RegistryHost, Secret},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

const MARKER: &str = "marker-4f1c";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

type Body = BoxBody<Bytes, Infallible>;
type Answer = Response<Body>;

/// What a registry was asked, as far as the tests look at it.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    target: String,
    authorization: Option<String>,
    body: String,
}

/// A registry on this computer that answers what a test wants.
struct Fake {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    async fn start(answer: impl Fn(u16, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                        let header = parts.headers.get("authorization");
                        let asked = Asked {
                            method: parts.method.to_string(),
                            target: parts.uri.to_string(),
                            authorization: header.map(|value| value.to_str().unwrap().to_owned()),
                            body: String::from_utf8_lossy(&body).into_owned(),
                        };
                        let answer = answer(port, &asked);
                        log.lock().unwrap().push(asked);
                        Ok::<_, Infallible>(answer)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { port, asked }
    }

    fn host(&self) -> RegistryHost {
        format!("127.0.0.1:{}", self.port).parse().unwrap()
    }

    fn login(&self) -> RegistryAuth {
        RegistryAuth::password(self.host(), "me", Secret::new(MARKER.to_owned())).unwrap()
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder(self.host()).login(self.login()).deadline(Duration::from_secs(20))
    }

    fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    fn image(&self, rest: &str) -> ImageReference {
        format!("127.0.0.1:{}/{rest}", self.port).parse().unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Whether it ever saw the password, in any spelling.
    fn saw_login(&self) -> bool {
        self.asked().iter().any(|asked| asked.authorization.is_some() || asked.body.contains(MARKER))
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(full(body)).unwrap()
}

fn challenge(text: &str) -> Answer {
    answer(401, &[("www-authenticate", text)], "")
}

fn sha256(text: &str) -> String {
    let digits: Vec<String> = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", digits.concat())
}

fn manifest_of(config: &str, digest: &str) -> String {
    let size = config.len();
    let media_type = "application/vnd.oci.image.config.v1+json";
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}},"layers":[]}}"#
    )
}

#[tokio::test]
async fn a_password_goes_to_the_registry_that_asks_for_it_and_not_where_it_redirects() {
    let thief = Fake::start(|_, _| challenge("Basic realm=x")).await;
    let target = format!("http://127.0.0.1:{}/steal", thief.port);
    let registry = Fake::start(move |_, asked| match &asked.authorization {
        None => challenge("Basic realm=x"),
        Some(_) => answer(307, &[("location", &target)], ""),
    })
    .await;
    let error = registry.client().manifest(&registry.image("a:1")).await.unwrap_err();
    assert!(error.is_login(), "{error:?}");
    assert!(registry.saw_login() && !thief.saw_login());
    assert_eq!(thief.asked().len(), 1, "what a redirect leads to may not ask for a login");
}

#[tokio::test]
async fn a_login_does_not_come_back_after_a_detour() {
    let detour = Fake::start(|_, asked| {
        let back = asked.target.trim_start_matches('/').to_owned();
        answer(302, &[("location", &format!("http://127.0.0.1:{back}/v2/stolen"))], "")
    })
    .await;
    let port = detour.port;
    let registry = Fake::start(move |own, asked| match (&asked.authorization, asked.target.as_str()) {
        (_, "/v2/stolen") => answer(200, &[], "{}"),
        (None, _) => challenge("Basic realm=x"),
        (Some(_), _) => answer(302, &[("location", &format!("http://127.0.0.1:{port}/{own}"))], ""),
    })
    .await;
    let _ = registry.client().tags(&registry.image("a"), 10).await;
    let last = registry.asked().pop().unwrap();
    assert_eq!((last.target.as_str(), last.authorization), ("/v2/stolen", None));
}

#[tokio::test]
async fn a_realm_elsewhere_gets_nothing_and_is_named() {
    for realm in [
        "https://evil.example/token",
        "http://evil.example/token",
        "https://u:p@127.0.0.1/token",
        "ftp://127.0.0.1/",
        "x",
    ] {
        let header = format!("Bearer realm=\"{realm}\",service=\"s\"");
        let registry = Fake::start(move |_, _| challenge(&header)).await;
        let error = registry.client().check_login().await.unwrap_err();
        assert!(matches!(error, RegistryError::RealmElsewhere { .. }), "{realm}: {error:?}");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        assert!(!realm.contains("evil") || error.to_string().contains("evil.example"), "{error}");
        assert!(!registry.saw_login());
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_for_each_scope() {
    let registry = Fake::start(|port, asked| match (&asked.authorization, asked.target.as_str()) {
        (_, target) if target.starts_with("/token") => answer(200, &[], r#"{"token":"short-lived","expires_in":300}"#),
        (Some(value), _) if value == "Bearer short-lived" => answer(200, &[], r#"{"name":"a","tags":["1","2"]}"#),
        _ => challenge(&format!("Bearer realm=\"http://127.0.0.1:{port}/token?x=y\",service=\"s p\"")),
    })
    .await;
    let client = registry.client();
    assert_eq!(client.ping().await.unwrap(), AuthScheme::Bearer);
    for _ in 0..3 {
        assert_eq!(client.tags(&registry.image("a/b"), 10).await.unwrap().items, ["1", "2"]);
    }
    let tokens: Vec<_> = registry.asked().into_iter().filter(|asked| asked.target.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].target, "/token?x=y&service=s%20p&scope=repository%3Aa%2Fb%3Apull&account=me");
    assert!(tokens[0].authorization.as_ref().unwrap().starts_with("Basic "));
    let others = registry.asked().into_iter().filter(|asked| !asked.target.starts_with("/token"));
    assert!(others.filter_map(|asked| asked.authorization).all(|value| value == "Bearer short-lived"));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_in_a_form() {
    let registry = Fake::start(|port, asked| match (&asked.authorization, asked.target.as_str()) {
        (_, "/token") => answer(200, &[], r#"{"access_token":"t"}"#),
        (Some(_), _) => answer(200, &[], "{}"),
        _ => challenge(&format!("Bearer realm=\"http://127.0.0.1:{port}/token\"")),
    })
    .await;
    let login = RegistryAuth::identity_token(registry.host(), Secret::new(format!("{MARKER}&x=1")));
    Client::builder(registry.host()).login(login).build().unwrap().check_login().await.unwrap();
    let token = registry.asked().into_iter().find(|asked| asked.target == "/token").unwrap();
    assert_eq!((token.method.as_str(), token.authorization), ("POST", None));
    assert!(
        token.body.ends_with(&format!("grant_type=refresh_token&refresh_token={MARKER}%26x%3D1")),
        "{}",
        token.body
    );
}

#[tokio::test]
async fn refusals_without_end_end() {
    let registry = Fake::start(|_, _| challenge("Basic realm=x")).await;
    let error = registry.client().check_login().await.unwrap_err();
    assert!(matches!(error, RegistryError::LoginRefused { .. }), "{error:?}");
    assert_eq!(registry.asked().len(), 2);
    let anonymous = Client::builder(registry.host()).build().unwrap();
    assert!(matches!(anonymous.check_login().await.unwrap_err(), RegistryError::LoginNeeded { .. }));

    let tokens = Fake::start(|port, asked| match asked.target.as_str() {
        target if target.starts_with("/token") => answer(200, &[], r#"{"token":"t"}"#),
        _ => challenge(&format!("Bearer realm=\"http://127.0.0.1:{port}/token\"")),
    })
    .await;
    assert!(tokens.client().check_login().await.unwrap_err().is_login());
    assert_eq!(tokens.asked().len(), 3);

    let unknown = Fake::start(|_, _| challenge("Negotiate")).await;
    assert!(matches!(unknown.client().check_login().await.unwrap_err(), RegistryError::Malformed { .. }));
    assert!(!unknown.saw_login());

    let refusing = Fake::start(|port, asked| match asked.target.as_str() {
        target if target.starts_with("/token") => answer(302, &[("location", "/elsewhere")], ""),
        _ => challenge(&format!("Bearer realm=\"http://127.0.0.1:{port}/token\"")),
    })
    .await;
    assert!(matches!(refusing.client().check_login().await.unwrap_err(), RegistryError::BadRedirect { .. }));
    assert_eq!(refusing.asked().len(), 2);
}

#[tokio::test]
async fn redirects_without_end_end() {
    let registry = Fake::start(|_, _| answer(302, &[("location", "/v2/again")], "")).await;
    let error = registry.client().check_login().await.unwrap_err();
    assert!(matches!(error, RegistryError::BadRedirect { .. }), "{error:?}");
    assert_eq!(registry.asked().len(), 6);
}

#[tokio::test]
async fn lists_without_end_end() {
    let same = Fake::start(|_, _| {
        answer(200, &[("link", "</v2/_catalog?n=100&last=a>; rel=next")], r#"{"repositories":["a"]}"#)
    })
    .await;
    let error = same.client().catalog(1000).await.unwrap_err();
    assert!(matches!(error, RegistryError::Malformed { .. }), "{error:?}");
    assert_eq!(same.asked().len(), 2);

    let count = Arc::new(Mutex::new(0));
    let rising = Fake::start(move |_, _| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let link = format!("</v2/_catalog?n=100&last={count}>; rel=next");
        answer(200, &[("link", &link)], r#"{"repositories":["a"]}"#)
    })
    .await;
    let listing = rising.client().catalog(3).await.unwrap();
    assert_eq!((listing.items.len(), listing.truncated), (3, true));
    assert!(rising.client().catalog(100_000).await.is_err());
    assert!(rising.asked().len() <= 203);
}

#[tokio::test]
async fn a_list_is_continued_in_its_own_place_only() {
    let thief = Fake::start(|_, _| answer(200, &[], r#"{"tags":[]}"#)).await;
    let link = format!("<http://127.0.0.1:{}/v2/a/tags/list?n=1>; rel=next", thief.port);
    let registry = Fake::start(move |_, _| answer(200, &[("link", &link)], r#"{"tags":["1"]}"#)).await;
    let error = registry.client().tags(&registry.image("a"), 10).await.unwrap_err();
    assert!(matches!(error, RegistryError::BadRedirect { .. }), "{error:?}");
    assert!(thief.asked().is_empty());
}

#[tokio::test]
async fn names_that_are_none_are_left_out() {
    let registry = Fake::start(|_, asked| match asked.target.split('?').next().unwrap() {
        "/v2/_catalog" => answer(200, &[], r#"{"repositories":["a/b","../x","A","a:1",7,null,"<b>","c"]}"#),
        "/v2/empty/tags/list" => answer(200, &[], r#"{"name":"empty","tags":null}"#),
        "/v2/odd/tags/list" => answer(200, &[], r#"{"tags":{}}"#),
        _ => answer(200, &[], r#"{"tags":["1.0","-x","a/b","\u202e","v_2",{}]}"#),
    })
    .await;
    let client = registry.client();
    let catalog = client.catalog(10).await.unwrap();
    assert_eq!((catalog.items, catalog.skipped), (vec!["a/b".to_owned(), "c".to_owned()], 6));
    assert_eq!(client.tags(&registry.image("a"), 10).await.unwrap().items, ["1.0", "v_2"]);
    assert!(client.tags(&registry.image("empty"), 10).await.unwrap().items.is_empty());
    assert!(client.tags(&registry.image("odd"), 10).await.is_err());
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let endless = Fake::start(|_, _| {
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        let body = StreamBody::new(stream::repeat(chunk).map(|chunk| Ok(Frame::data(chunk))));
        Response::new(BoxBody::new(body))
    })
    .await;
    let client = endless.client();
    let image = endless.image("a:1");
    for error in [client.manifest(&image).await.unwrap_err(), client.tags(&image, 10).await.unwrap_err()] {
        assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
    }

    let refusing = Fake::start(|_, _| answer(500, &[], vec![b'x'; 1024 * 1024])).await;
    let error = refusing.client().check_login().await.unwrap_err();
    assert!(matches!(error, RegistryError::Api { status: 500, .. }), "{error:?}");
}

#[tokio::test]
async fn a_slow_drip_runs_out_of_time() {
    let registry = Fake::start(|_, _| {
        let body = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
        });
        Response::new(BoxBody::new(StreamBody::new(Box::pin(body) as SyncStream)))
    })
    .await;
    let client = registry.builder().deadline(Duration::from_secs(1)).build().unwrap();
    let start = Instant::now();
    let error = client.manifest(&registry.image("a:1")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Timeout { seconds: 1, .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

type SyncStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync>>;

#[tokio::test]
async fn content_must_have_its_digest() {
    let config =
        r#"{"created":"2024-05-01T00:00:00Z","os":"linux","architecture":"amd64","config":{"Labels":{"a":"b"}}}"#;
    let manifest = manifest_of(config, &sha256(config));
    let lying = manifest_of(config, &sha256("something else"));
    let (digest, wrong) = (sha256(&manifest), sha256("wrong"));
    let (right, header) = (digest.clone(), wrong.clone());
    let registry = Fake::start(move |_, asked| {
        let content = ("content-type", MANIFEST);
        let target = asked.target.as_str();
        match target.strip_prefix("/v2/a/manifests/") {
            Some("header") => answer(200, &[content, ("docker-content-digest", &header)], manifest.clone()),
            Some("lying") => answer(200, &[content], lying.clone()),
            Some("nohead") if asked.method == "HEAD" => answer(405, &[], ""),
            Some("silent") if asked.method == "HEAD" => answer(200, &[], ""),
            Some("head") if asked.method == "HEAD" => answer(200, &[("docker-content-digest", &right)], ""),
            Some(_) => answer(200, &[content], manifest.clone()),
            None => answer(200, &[], config),
        }
    })
    .await;
    let client = registry.client();
    let image = |rest: &str| registry.image(rest);
    let is_wrong = |error: &RegistryError| matches!(error, RegistryError::WrongDigest { .. });
    assert!(is_wrong(&client.manifest(&image("a:header")).await.unwrap_err()));
    assert!(is_wrong(&client.manifest(&image(&format!("a@{wrong}"))).await.unwrap_err()));
    assert!(is_wrong(&client.manifest(&image(&format!("a@sha512:{}", "0".repeat(128)))).await.unwrap_err()));
    let lying = client.manifest(&image("a:lying")).await.unwrap();
    assert!(is_wrong(&client.config(&image("a:lying"), &lying).await.unwrap_err()));

    let good = client.manifest(&image(&format!("a:1@{digest}"))).await.unwrap();
    assert_eq!(good.digest.as_str(), digest);
    assert!(matches!(good.kind, ManifestKind::Image { .. }));
    let config = client.config(&image("a"), &good).await.unwrap();
    assert_eq!(config.labels()["a"], "b");
    assert_eq!(config.created.as_deref(), Some("2024-05-01T00:00:00Z"));
    for tag in ["nohead", "silent", "head"] {
        assert_eq!(client.digest(&image(&format!("a:{tag}"))).await.unwrap().as_str(), digest, "{tag}");
    }
}

#[tokio::test]
async fn limits_are_told() {
    let registry = Fake::start(|_, asked| match asked.method.as_str() {
        "HEAD" => answer(200, &[("ratelimit-remaining", "7;w=21600"), ("docker-content-digest", &sha256("x"))], ""),
        _ => answer(429, &[("retry-after", "17")], ""),
    })
    .await;
    let client = registry.client();
    assert_eq!(client.rate_limit(), None);
    client.digest(&registry.image("a:1")).await.unwrap();
    assert_eq!(client.rate_limit().map(|limit| (limit.remaining, limit.window)), Some((7, Some(21600))));
    let error = client.manifest(&registry.image("a:1")).await.unwrap_err();
    assert!(matches!(error, RegistryError::RateLimited { retry_after: Some(17), .. }), "{error:?}");
    assert!(error.is_retryable() && error.to_string().contains("17 s"));
}

#[tokio::test]
async fn images_of_other_registries_are_not_asked_for() {
    let registry = Fake::start(|_, _| answer(200, &[], "{}")).await;
    for other in ["alpine", "ghcr.io/a/b", "127.0.0.1/a", &"0".repeat(64)] {
        let error = registry.client().manifest(&other.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, RegistryError::OtherRegistry { .. }), "{other}");
    }
    let stranger = RegistryAuth::password("ghcr.io".parse().unwrap(), "me", Secret::new(MARKER.into())).unwrap();
    let client = Client::builder(registry.host()).login(stranger).build().unwrap();
    client.check_login().await.unwrap();
    assert!(!registry.saw_login());
}

#[tokio::test]
async fn other_hosts_are_never_asked_in_plain() {
    // An address of this computer that is not a loopback one is all it takes to be `another` host.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut start = [0; 64];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut start).await.unwrap_or(0);
            log.lock().unwrap().extend(&start[..read]);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        }
    });
    // Not a loopback address to the client, although the system sends it to itself.
    let host: RegistryHost = format!("0.0.0.0:{port}").parse().unwrap();
    let login = RegistryAuth::password(host.clone(), "me", Secret::new(MARKER.into())).unwrap();
    let strict = Client::builder(host.clone()).login(login.clone()).build().unwrap();
    let error = strict.check_login().await.unwrap_err();
    assert!(matches!(error, RegistryError::Connect { .. }), "{error:?}");
    assert!(!String::from_utf8_lossy(&seen.lock().unwrap()).contains("HTTP"));
    let chosen = Client::builder(host).login(login).allow_http(true).build().unwrap();
    assert!(chosen.check_login().await.is_err());
    assert!(String::from_utf8_lossy(&seen.lock().unwrap()).contains("GET /v2/"));
}

#[tokio::test]
async fn no_log_and_no_error_holds_the_login() {
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // The runtime of this test has one thread, so this catches what hyper and rustls say too.
    let _guard = tracing::subscriber::set_default(subscriber);
    let registry = Fake::start(|port, asked| match asked.target.as_str() {
        target if target.starts_with("/token") => answer(200, &[], format!("{{\"token\":\"{MARKER}-token\"}}")),
        _ => challenge(&format!("Bearer realm=\"http://127.0.0.1:{port}/token\"")),
    })
    .await;
    let client = registry.client();
    let error = client.check_login().await.unwrap_err();
    let text = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(text.contains("asks a registry"), "the log was captured");
    let basic = registry.asked().iter().filter_map(|asked| asked.authorization.clone()).collect::<Vec<_>>();
    assert_eq!(basic.len(), 2);
    let encoded = basic.iter().find_map(|value| value.strip_prefix("Basic ")).unwrap().to_owned();
    let said = format!("{text} {error} {error:?} {client:?} {:?}", registry.login());
    assert!(!said.contains(MARKER) && !said.contains(&encoded), "{said}");
}
