//! Short-lived tokens from a registry's token server, kept for as long as they are valid.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    RegistryAuth, RegistryError, Secret, SecretKind,
    headers::rate_limited,
    host::Origin,
    secret,
    transport::{Ask, Transport},
};

const BODY_CAP: usize = 128 * 1024;
const CACHE_CAP: usize = 64;
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What a token without a lifetime lives, and the least that a lifetime counts.
const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(3600);

/// Tokens by their scope.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<String, (Secret, Instant)>>);

impl Cache {
    pub(super) fn get(&self, scope: &str) -> Option<Secret> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(scope).filter(|(_, until)| *until > Instant::now()).map(|(token, _)| token.clone())
    }

    pub(super) fn put(&self, scope: &str, token: &Token) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, (_, until)| *until > now);
        if tokens.len() >= CACHE_CAP {
            tokens.clear();
        }
        tokens.insert(scope.to_owned(), (token.token.clone(), now + token.valid));
    }

    pub(super) fn remove(&self, scope: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }
}

#[derive(Debug)]
pub(super) struct Token {
    pub(super) token: Secret,
    valid: Duration,
}

/// What a challenge says of the token server.
#[derive(Debug)]
pub(super) struct Realm<'a> {
    pub(super) realm: &'a str,
    pub(super) service: Option<&'a str>,
}

/// Asks the token server of a registry for a token.
///
/// Nothing is sent, not even without a login, when the realm is not the registry's own.
pub(super) async fn fetch(
    transport: &Transport,
    registry: &Origin,
    realm: &Realm<'_>,
    scope: &str,
    login: Option<&RegistryAuth>,
) -> Result<Token, RegistryError> {
    let host = registry.authority();
    let uri = realm.realm.parse::<Uri>().ok();
    let origin = uri.as_ref().and_then(Origin::of).filter(|origin| registry.trusts_realm(origin));
    let (Some(uri), Some(origin)) = (uri, origin) else {
        return Err(RegistryError::RealmElsewhere { host, realm: named(realm.realm) });
    };
    let realm_host = origin.authority();
    let mut ask = Ask {
        method: Method::GET,
        origin,
        target: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        accept: Some("application/json"),
        authorization: None,
        form: None,
        follow: false,
    };
    let mut query = String::new();
    let mut add = |name: &str, value: &str| {
        let joint = if query.is_empty() { "" } else { "&" };
        let _ = write!(query, "{joint}{name}={}", utf8_percent_encode(value, UNRESERVED));
    };
    add("service", realm.service.unwrap_or_default());
    if !scope.is_empty() {
        add("scope", scope);
    }
    match login.map(|login| (login, login.kind())) {
        Some((_, SecretKind::IdentityToken(token))) => {
            add("client_id", "berth");
            add("grant_type", "refresh_token");
            let token = Zeroizing::new(utf8_percent_encode(token.expose(), UNRESERVED).to_string());
            ask.method = Method::POST;
            ask.form = Some(format!("{query}&refresh_token={}", *token).into());
        }
        login => {
            if let Some((login, SecretKind::Password(password))) = login {
                add("account", login.username());
                ask.authorization = secret::basic(login.username(), password);
            }
            let joint = if ask.target.contains('?') { '&' } else { '?' };
            ask.target = format!("{}{joint}{query}", ask.target);
        }
    }
    let answer = transport.send(ask).await?;
    let status = answer.status.as_u16();
    match status {
        200 => {}
        400 | 401 | 403 if login.is_some() => return Err(RegistryError::LoginRefused { host: realm_host }),
        401 | 403 => return Err(RegistryError::LoginNeeded { host }),
        429 => return Err(rate_limited(&answer, realm_host)),
        300..=399 => {
            return Err(RegistryError::BadRedirect { host: realm_host, why: "a token server has to answer itself" });
        }
        _ => {
            let message = "it gave no token".to_owned();
            return Err(RegistryError::Api { host: realm_host, status, message });
        }
    }
    let body = Zeroizing::new(answer.body("a token", BODY_CAP).await?.to_vec());
    read(&body).ok_or(RegistryError::Malformed { host: realm_host, what: "it is not a token" })
}

fn read(body: &[u8]) -> Option<Token> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<Zeroizing<String>>,
        access_token: Option<Zeroizing<String>>,
        expires_in: Option<u64>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let mut token = body.token.filter(|token| !token.is_empty()).or(body.access_token)?;
    let token = Secret::new(std::mem::take(&mut *token));
    let fits = !token.expose().is_empty() && token.expose().bytes().all(|b| b.is_ascii_graphic());
    let claimed = Duration::from_secs(body.expires_in.unwrap_or(0));
    // A little less, so that it does not run out on its way.
    fits.then(|| Token { token, valid: claimed.clamp(LEAST, MOST).mul_f32(0.9) })
}

/// An address from outside as it can be shown: its host, or a short excerpt.
fn named(realm: &str) -> String {
    match realm.parse::<Uri>().ok().as_ref().and_then(Origin::of) {
        Some(origin) => origin.to_string(),
        None => realm.chars().filter(char::is_ascii_graphic).take(64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_both_spellings() {
        let token = |body: &str| read(body.as_bytes());
        assert_eq!(token(r#"{"token":"a"}"#).unwrap().token.expose(), "a");
        assert_eq!(token(r#"{"token":"","access_token":"b","expires_in":300}"#).unwrap().token.expose(), "b");
        assert_eq!(token(r#"{"access_token":"b","expires_in":300}"#).unwrap().valid, Duration::from_secs(270));
        assert_eq!(token(r#"{"token":"a","expires_in":18446744073709551615}"#).unwrap().valid, MOST.mul_f32(0.9));
        assert_eq!(token(r#"{"token":"a","expires_in":0}"#).unwrap().valid, LEAST.mul_f32(0.9));
        for bad in ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\r\nb"}"#, r#"{"token":7}"#] {
            assert!(token(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_cache_forgets_and_stays_small() {
        let cache = Cache::default();
        let valid = |valid| Token { token: Secret::new("t".into()), valid };
        cache.put("old", &valid(Duration::ZERO));
        assert!(cache.get("old").is_none());
        for number in 0..1000 {
            cache.put(&number.to_string(), &valid(LEAST));
        }
        assert!(cache.get("999").is_some());
        assert!(cache.0.lock().unwrap().len() <= CACHE_CAP);
        cache.remove("999");
        assert!(cache.get("999").is_none());
        assert!(!format!("{:?}", Cache::default()).contains("token"));
    }
}
