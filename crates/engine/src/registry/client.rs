//! The client of one registry.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::OnceCell;

use super::{
    Descriptor, ImageConfig, Manifest, ManifestKind, RegistryAuth, RegistryError, RegistryHost, SecretKind,
    challenge::{self, Challenge},
    headers::{RateLimit, rate_limited, read_limit, reason},
    host::Origin,
    link, model, secret,
    token::{self, Cache, Realm},
    transport::{Answer, Ask, Transport},
};
use crate::reference::{Digest, ImageReference};

const BODY_CAP: usize = 4 * 1024 * 1024;
const ERROR_CAP: usize = 64 * 1024;
const PAGE: usize = 100;
const PAGES: usize = 200;

/// Client of one registry, for reading.
///
/// It asks what the distribution specification of the Open Container Initiative defines and Docker's registries answer:
/// which repositories and tags there are, what a tag means today, what a manifest and an image's configuration say.
///
/// A login goes to its own registry and to nobody else. A token server must be on the registry's host or below the same
/// registered domain, and encrypted; redirects are followed without the login and never away from encryption; lists are
/// continued at the same place only. Content is checked against its digest, every answer has a limit in size and time.
///
/// Plain HTTP is for registries on this computer, and for others only after [`ClientBuilder::allow_http`]. Proxies are not
/// supported: `HTTPS_PROXY` and its like are not read.
pub struct Client {
    host: RegistryHost,
    login: Option<RegistryAuth>,
    transport: Transport,
    may_be_plain: bool,
    deadline: Duration,
    origin: OnceCell<Origin>,
    tokens: Cache,
    rate_limit: Mutex<Option<RateLimit>>,
}

/// Options of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    host: RegistryHost,
    login: Option<RegistryAuth>,
    authority: Option<Vec<u8>>,
    allow_http: bool,
    deadline: Duration,
}

/// How a registry wants to be logged in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    /// Not at all, at least for asking which version it speaks.
    Open,
    /// With a name and a password in every request.
    Basic,
    /// With a token from a token server.
    Bearer,
}

/// A list that may have been cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What there is, in the registry's order.
    pub items: Vec<String>,
    /// There is more than was asked for.
    pub truncated: bool,
    /// How many entries were left out because they are no possible names.
    pub skipped: usize,
}

impl ClientBuilder {
    /// Uses this login. One for another registry is not used.
    #[must_use]
    pub fn login(mut self, login: RegistryAuth) -> Self {
        self.login = Some(login).filter(|login| *login.host() == self.host);
        self
    }

    /// Trusts this authority too: one or more certificates in PEM form.
    #[must_use]
    pub fn authority(mut self, pem: Vec<u8>) -> Self {
        self.authority = Some(pem);
        self
    }

    /// Falls back to plain HTTP, where anyone on the way can read the login, if the registry does not speak TLS.
    #[must_use]
    pub fn allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// The longest that one answer may take, with login and redirects; 30 s unless told otherwise.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn build(self) -> Result<Client, RegistryError> {
        let transport = Transport::new(self.host.as_str(), self.authority.as_deref())?;
        let is_local = self.host.origin(false).is_some_and(|origin| origin.is_loopback());
        Ok(Client {
            // Who brings an authority expects encryption.
            may_be_plain: self.allow_http || (is_local && self.authority.is_none()),
            host: self.host,
            login: self.login,
            transport,
            deadline: self.deadline,
            origin: OnceCell::new(),
            tokens: Cache::default(),
            rate_limit: Mutex::default(),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.host).field("login", &self.login).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of this registry.
    #[must_use]
    pub fn builder(host: RegistryHost) -> ClientBuilder {
        ClientBuilder { host, login: None, authority: None, allow_http: false, deadline: Duration::from_secs(30) }
    }

    /// The registry.
    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// What the registry last said of its limit on requests; `None` while it has not.
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateLimit> {
        *self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a registry, and how it wants to be logged in to. Sends no login.
    ///
    /// # Errors
    /// When it cannot be reached or is no registry.
    pub async fn ping(&self) -> Result<AuthScheme, RegistryError> {
        self.in_time(async {
            let answer = self.transport.send(self.ask(Method::GET, "/v2/", None).await?).await?;
            match answer.status.as_u16() {
                200 => Ok(AuthScheme::Open),
                401 => match choose(&answer) {
                    Some(Challenge::Bearer { .. }) => Ok(AuthScheme::Bearer),
                    Some(Challenge::Basic) => Ok(AuthScheme::Basic),
                    None => Err(self.malformed("it asks for a login in a way that is not known")),
                },
                404 => Err(self.malformed("it is no registry")),
                _ => Err(self.refusal(answer, "registry").await),
            }
        })
        .await
    }

    /// Whether the registry takes the login of this client.
    ///
    /// # Errors
    /// [`RegistryError::LoginRefused`] or [`RegistryError::LoginNeeded`] when it does not.
    pub async fn check_login(&self) -> Result<(), RegistryError> {
        self.fetch(Method::GET, "/v2/", "", None, "registry", ERROR_CAP).await.map(|_| ())
    }

    /// The repositories of the registry, at most so many. Docker Hub and others do not tell.
    ///
    /// # Errors
    /// When the registry refuses, or its pages lead elsewhere or have no end.
    pub async fn catalog(&self, limit: usize) -> Result<Listing, RegistryError> {
        let is_name = |name: &str| {
            format!("{}/{name}", self.host)
                .parse::<ImageReference>()
                .is_ok_and(|reference| reference.tag().is_none() && reference.digest().is_none())
        };
        self.list("/v2/_catalog", "registry:catalog:*", "list of repositories", "repositories", limit, is_name).await
    }

    /// The tags of an image's repository, at most so many.
    ///
    /// # Errors
    /// When there is no such repository, the registry refuses, or its pages lead elsewhere or have no end.
    pub async fn tags(&self, image: &ImageReference, limit: usize) -> Result<Listing, RegistryError> {
        let repository = self.repository(image)?;
        let path = format!("/v2/{repository}/tags/list");
        let is_tag =
            |tag: &str| format!("a:{tag}").parse::<ImageReference>().is_ok_and(|image| image.tag() == Some(tag));
        self.list(&path, &pull_scope(repository), image.as_str(), "tags", limit, is_tag).await
    }

    /// The manifest or index that a reference means today; without a tag, `latest`.
    ///
    /// # Errors
    /// When there is none, the registry refuses, or what comes does not have its digest.
    pub async fn manifest(&self, image: &ImageReference) -> Result<Manifest, RegistryError> {
        let repository = self.repository(image)?;
        let path = manifest_path(repository, image);
        let (answer, bytes) = self
            .fetch(Method::GET, &path, &pull_scope(repository), Some(model::ACCEPT), image.as_str(), BODY_CAP)
            .await?;
        let claimed = answer.header("docker-content-digest").map(str::parse::<Digest>).and_then(Result::ok);
        for expected in image.digest().into_iter().chain(&claimed) {
            self.verify(expected, &bytes)?;
        }
        let (media_type, kind) =
            model::parse(answer.header("content-type"), &bytes).map_err(|wrong| self.malformed(wrong.0))?;
        let digest = match image.digest().cloned().or(claimed) {
            Some(digest) => digest,
            None => self.sha256(&bytes)?,
        };
        Ok(Manifest { digest, media_type, bytes, kind })
    }

    /// The digest that a reference means today. Costs no pull where the registry counts them.
    ///
    /// # Errors
    /// When there is none or the registry refuses.
    pub async fn digest(&self, image: &ImageReference) -> Result<Digest, RegistryError> {
        if let Some(digest) = image.digest() {
            return Ok(digest.clone());
        }
        let repository = self.repository(image)?;
        let path = manifest_path(repository, image);
        let head =
            self.fetch(Method::HEAD, &path, &pull_scope(repository), Some(model::ACCEPT), image.as_str(), 0).await;
        match head {
            Ok((answer, _)) => {
                if let Some(Ok(digest)) = answer.header("docker-content-digest").map(str::parse) {
                    return Ok(digest);
                }
            }
            // Some registries do not know HEAD.
            Err(RegistryError::Api { status: 400 | 405 | 501, .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(self.manifest(image).await?.digest)
    }

    /// The configuration of the image that a manifest describes.
    ///
    /// # Errors
    /// When the manifest is an index, the registry refuses, or what comes does not have its digest.
    pub async fn config(&self, image: &ImageReference, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        let ManifestKind::Image { config, .. } = &manifest.kind else {
            return Err(self.malformed("an index has no configuration of its own"));
        };
        let bytes = self.blob(image, config).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.malformed("it is not the configuration of an image"))
    }

    async fn blob(&self, image: &ImageReference, blob: &Descriptor) -> Result<Bytes, RegistryError> {
        let repository = self.repository(image)?;
        let limit = usize::try_from(blob.size).unwrap_or(usize::MAX);
        if limit > BODY_CAP {
            let host = self.host.to_string();
            return Err(RegistryError::TooLarge { host, what: "the configuration of an image", limit: BODY_CAP });
        }
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        let (_, bytes) = self.fetch(Method::GET, &path, &pull_scope(repository), None, image.as_str(), limit).await?;
        self.verify(&blob.digest, &bytes)?;
        Ok(bytes)
    }

    async fn list(
        &self,
        path: &str,
        scope: &str,
        what: &str,
        field: &str,
        limit: usize,
        admits: impl Fn(&str) -> bool,
    ) -> Result<Listing, RegistryError> {
        let mut listing = Listing { items: Vec::new(), truncated: false, skipped: 0 };
        let mut query = format!("n={PAGE}");
        for _ in 0..PAGES {
            let target = format!("{path}?{query}");
            let (answer, body) = self.fetch(Method::GET, &target, scope, None, what, BODY_CAP).await?;
            let page: serde_json::Value =
                serde_json::from_slice(&body).map_err(|_| self.malformed("it is not a list"))?;
            let names = match page.get(field) {
                Some(serde_json::Value::Array(names)) => names.as_slice(),
                // So an empty repository is told.
                Some(serde_json::Value::Null) => &[],
                _ => return Err(self.malformed("it is not a list")),
            };
            for name in names {
                match name.as_str() {
                    _ if listing.items.len() >= limit => listing.truncated = true,
                    Some(name) if admits(name) => listing.items.push(name.to_owned()),
                    _ => listing.skipped += 1,
                }
            }
            let next = match answer.headers.get(header::LINK) {
                Some(link) => link::next_query(link.as_bytes(), self.origin().await?, path)
                    .map_err(|bad| RegistryError::BadRedirect { host: self.host.to_string(), why: bad.why() })?,
                None => None,
            };
            match next {
                None => return Ok(listing),
                Some(_) if listing.items.len() >= limit => {
                    listing.truncated = true;
                    return Ok(listing);
                }
                Some(next) if next == query || names.is_empty() => break,
                Some(next) => query = next,
            }
        }
        Err(self.malformed("its list has no end"))
    }

    /// Asks with the login where the registry wants one, and reads the answer.
    async fn fetch(
        &self,
        method: Method,
        target: &str,
        scope: &str,
        accept: Option<&'static str>,
        what: &str,
        limit: usize,
    ) -> Result<(Head, Bytes), RegistryError> {
        self.in_time(async {
            let mut authorization = self.known(scope);
            let mut answered = false;
            loop {
                let mut ask = self.ask(method.clone(), target, accept).await?;
                ask.authorization = authorization.take();
                let answer = self.transport.send(ask).await?;
                self.note_limit(&answer);
                // What a redirect led to may not ask for a login: it is not the registry.
                if answer.status == 401 && answer.same_origin && !answered {
                    answered = true;
                    authorization = Some(self.meet(&answer, scope).await?);
                    continue;
                }
                if !answer.status.is_success() {
                    return Err(self.refusal(answer, what).await);
                }
                let head = Head { headers: answer.headers.clone() };
                let body = if method == Method::HEAD { Bytes::new() } else { answer.body("content", limit).await? };
                return Ok((head, body));
            }
        })
        .await
    }

    /// What a request can say before it is asked: a token that is still valid.
    fn known(&self, scope: &str) -> Option<HeaderValue> {
        // Only after the origin is known is it known that the login goes where it belongs.
        self.origin.get()?;
        if let Some(SecretKind::RegistryToken(token)) = self.login.as_ref().map(RegistryAuth::kind) {
            return secret::bearer(token);
        }
        secret::bearer(&self.tokens.get(scope)?)
    }

    /// The answer to a challenge.
    async fn meet(&self, answer: &Answer, scope: &str) -> Result<HeaderValue, RegistryError> {
        self.tokens.remove(scope);
        let host = || self.host.to_string();
        let login = self.login.as_ref();
        let value = match (choose(answer), login.map(RegistryAuth::kind)) {
            (None, _) => return Err(self.malformed("it asks for a login in a way that is not known")),
            (_, Some(SecretKind::RegistryToken(token))) => secret::bearer(token),
            (Some(Challenge::Basic), Some(SecretKind::Password(password))) => {
                secret::basic(login.map(RegistryAuth::username).unwrap_or_default(), password)
            }
            (Some(Challenge::Basic), Some(SecretKind::IdentityToken(_))) => {
                return Err(RegistryError::LoginRefused { host: host() });
            }
            (Some(Challenge::Basic), None) => return Err(RegistryError::LoginNeeded { host: host() }),
            (Some(Challenge::Bearer { realm, service, .. }), _) => {
                let realm = Realm { realm: &realm, service: service.as_deref() };
                let token = token::fetch(&self.transport, self.origin().await?, &realm, scope, login).await?;
                self.tokens.put(scope, &token);
                secret::bearer(&token.token)
            }
        };
        value.ok_or(RegistryError::LoginRefused { host: host() })
    }

    async fn ask(&self, method: Method, target: &str, accept: Option<&'static str>) -> Result<Ask, RegistryError> {
        let origin = self.origin().await?.clone();
        Ok(Ask { method, origin, target: target.to_owned(), accept, authorization: None, form: None, follow: true })
    }

    /// Where the registry is, once it is known whether it speaks TLS.
    async fn origin(&self) -> Result<&Origin, RegistryError> {
        let find = || async {
            let origin = |https| self.host.origin(https).ok_or_else(|| self.malformed("its name is no address"));
            let encrypted = origin(true)?;
            if self.may_be_plain && !self.transport.speaks_tls(&encrypted).await? {
                return origin(false);
            }
            Ok(encrypted)
        };
        self.origin.get_or_try_init(find).await
    }

    async fn refusal(&self, answer: Answer, what: &str) -> RegistryError {
        let host = self.host.to_string();
        let status = answer.status.as_u16();
        let what = what.chars().take(256).collect();
        match status {
            401 if self.login.is_some() => return RegistryError::LoginRefused { host },
            401 => return RegistryError::LoginNeeded { host },
            404 => return RegistryError::NotFound { host, what },
            429 => return rate_limited(&answer, host),
            _ => {}
        }
        let body = answer.body("a refusal", ERROR_CAP).await.unwrap_or_default();
        let message = reason(&body).unwrap_or_else(|| "it gave no reason".to_owned());
        if status == 403 {
            RegistryError::Denied { host, message }
        } else {
            RegistryError::Api { host, status, message }
        }
    }

    fn note_limit(&self, answer: &Answer) {
        if let Some(limit) = read_limit(answer.header("ratelimit-remaining"), answer.header("ratelimit-limit")) {
            *self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
        tokio::time::timeout(self.deadline, work).await.unwrap_or_else(|_| {
            Err(RegistryError::Timeout { host: self.host.to_string(), seconds: self.deadline.as_secs() })
        })
    }

    fn repository<'a>(&self, image: &'a ImageReference) -> Result<&'a str, RegistryError> {
        match image.repository() {
            Some(repository) if RegistryHost::of(image).as_ref() == Some(&self.host) => Ok(repository),
            _ => {
                let reference = image.as_str().to_owned();
                Err(RegistryError::OtherRegistry { host: self.host.to_string(), reference })
            }
        }
    }

    fn verify(&self, expected: &Digest, bytes: &[u8]) -> Result<(), RegistryError> {
        let found = match expected.algorithm() {
            "sha256" => hex(&Sha256::digest(bytes)),
            _ => hex(&Sha512::digest(bytes)),
        };
        if found == expected.hex() {
            Ok(())
        } else {
            Err(RegistryError::WrongDigest { host: self.host.to_string(), expected: expected.clone() })
        }
    }

    fn sha256(&self, bytes: &[u8]) -> Result<Digest, RegistryError> {
        format!("sha256:{}", hex(&Sha256::digest(bytes))).parse().map_err(|_| self.malformed("it has no digest"))
    }

    fn malformed(&self, what: &'static str) -> RegistryError {
        RegistryError::Malformed { host: self.host.to_string(), what }
    }
}

/// The headers of an answer whose body was read.
struct Head {
    headers: http::HeaderMap,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The challenge to meet: a token before a password, so that the password is sent the least.
fn choose(answer: &Answer) -> Option<Challenge> {
    let headers = answer.headers.get_all(header::WWW_AUTHENTICATE).into_iter().take(8);
    let challenges: Vec<_> = headers.flat_map(|value| challenge::parse(value.as_bytes())).collect();
    let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(challenges.first()).cloned()
}

fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

fn manifest_path(repository: &str, image: &ImageReference) -> String {
    let reference = image.digest().map(Digest::as_str).or(image.tag()).unwrap_or("latest");
    format!("/v2/{repository}/manifests/{reference}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
