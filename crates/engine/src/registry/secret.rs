//! Secrets that do not print, and the headers that carry them to the engine.

use std::{collections::BTreeMap, fmt};

use base64::Engine as _;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{CredentialError, RegistryHost};

/// Carries the login of one registry with a pull or a push.
pub const X_REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");
/// Carries the logins of all registries a build may pull from.
pub const X_REGISTRY_CONFIG: HeaderName = HeaderName::from_static("x-registry-config");

/// The name that credential helpers give to an identity token.
pub(super) const TOKEN_USER: &str = "<token>";

/// A password or a token: wiped from memory when dropped, printed as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text as a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Whoever asks for it sees to it that it goes nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a login is proved with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// A password or an access token used as one.
    Password(Secret),
    /// An identity token, which the token server exchanges for short-lived ones.
    IdentityToken(Secret),
    /// A token that goes to the registry as it is.
    RegistryToken(Secret),
}

impl SecretKind {
    pub(super) fn secret(&self) -> &Secret {
        match self {
            Self::Password(secret) | Self::IdentityToken(secret) | Self::RegistryToken(secret) => secret,
        }
    }
}

/// A login at one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryAuth {
    host: RegistryHost,
    username: String,
    kind: SecretKind,
}

impl RegistryAuth {
    /// A login with a name and a password.
    ///
    /// # Errors
    /// When the name is empty, longer than 1024 bytes or holds a colon or a control character, or the password is empty
    /// or holds a control character: HTTP could not carry them.
    pub fn password(host: RegistryHost, username: &str, password: Secret) -> Result<Self, CredentialError> {
        let usable = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !usable(username) || username.len() > 1024 || username.contains(':') {
            return Err(CredentialError::Unusable { host, what: "name" });
        }
        if !usable(password.expose()) {
            return Err(CredentialError::Unusable { host, what: "password" });
        }
        Ok(Self { host, username: username.to_owned(), kind: SecretKind::Password(password) })
    }

    /// A login with an identity token.
    #[must_use]
    pub fn identity_token(host: RegistryHost, token: Secret) -> Self {
        Self { host, username: TOKEN_USER.to_owned(), kind: SecretKind::IdentityToken(token) }
    }

    /// A login with a token that the registry takes as it is.
    #[must_use]
    pub fn registry_token(host: RegistryHost, token: Secret) -> Self {
        Self { host, username: String::new(), kind: SecretKind::RegistryToken(token) }
    }

    /// The registry it is for.
    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// The user's name; `<token>` with an identity token.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// What it is proved with.
    #[must_use]
    pub fn kind(&self) -> &SecretKind {
        &self.kind
    }

    /// The value of [`X_REGISTRY_AUTH`], marked so that nothing prints it.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        encode(&self.body())
    }

    fn body(&self) -> Body<'_> {
        let mut body = Body { serveraddress: self.host.config_key(), ..Body::default() };
        match &self.kind {
            SecretKind::Password(secret) => {
                body.username = Some(&self.username);
                body.password = Some(secret.expose());
            }
            SecretKind::IdentityToken(secret) => body.identitytoken = Some(secret.expose()),
            SecretKind::RegistryToken(secret) => body.registrytoken = Some(secret.expose()),
        }
        body
    }
}

/// The value of [`X_REGISTRY_CONFIG`] for these logins, marked so that nothing prints it.
#[must_use]
pub fn build_header(logins: &[RegistryAuth]) -> HeaderValue {
    encode(&logins.iter().map(|login| (login.host.config_key(), login.body())).collect::<BTreeMap<_, _>>())
}

#[derive(Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identitytoken: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registrytoken: Option<&'a str>,
    serveraddress: String,
}

fn encode<T: Serialize>(body: &T) -> HeaderValue {
    // Grown once, so that no outgrown copy of it stays behind in memory.
    let mut json = Zeroizing::new(Vec::with_capacity(16 * 1024));
    if serde_json::to_writer(&mut *json, body).is_err() {
        json.clear();
    }
    let text = Zeroizing::new(base64::engine::general_purpose::URL_SAFE.encode(&*json));
    sensitive(&text).unwrap_or_else(|| HeaderValue::from_static(""))
}

/// A header's value that is left out of `Debug` output and of HTTP/2's compression tables.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The value of an `Authorization` header with a name and a password.
pub(super) fn basic(username: &str, password: &Secret) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
    let text = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
    sensitive(&Zeroizing::new(format!("Basic {}", *text)))
}

/// The value of an `Authorization` header with a token.
pub(super) fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {}", token.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(value: &HeaderValue) -> serde_json::Value {
        assert!(value.is_sensitive());
        let bytes = base64::engine::general_purpose::URL_SAFE.decode(value.as_bytes()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn host(text: &str) -> RegistryHost {
        text.parse().unwrap()
    }

    #[test]
    fn headers_are_what_the_engine_reads() {
        let secret = || Secret::new("pä?>ss".into());
        let login = RegistryAuth::password(host("docker.io"), "me", secret()).unwrap();
        let address = "https://index.docker.io/v1/";
        let expected = serde_json::json!({"username": "me", "password": "pä?>ss", "serveraddress": address});
        assert_eq!(decode(&login.header()), expected);
        let token = RegistryAuth::identity_token(host("ghcr.io"), secret());
        assert_eq!(decode(&token.header()), serde_json::json!({"identitytoken": "pä?>ss", "serveraddress": "ghcr.io"}));
        let all = decode(&build_header(&[login, token]));
        assert_eq!(all[address]["password"], "pä?>ss");
        assert_eq!(all["ghcr.io"]["identitytoken"], "pä?>ss");
        assert_eq!(decode(&build_header(&[])), serde_json::json!({}));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let login = RegistryAuth::password(host("ghcr.io"), "me", Secret::new("marker".into())).unwrap();
        let header = login.header();
        let printed = format!("{login:?} {:?} {header:?} {:#?}", login.kind(), basic("me", login.kind().secret()));
        assert!(!printed.contains("marker") && printed.contains("***"), "{printed}");
        assert!(!printed.contains(header.to_str().unwrap()));
    }

    #[test]
    fn what_http_cannot_carry_is_refused() {
        for (name, password) in [("", "p"), ("a:b", "p"), ("a\n", "p"), ("a", ""), ("a", "marker\r\n")] {
            let error = RegistryAuth::password(host("ghcr.io"), name, Secret::new(password.into())).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("marker"));
        }
    }
}
