//! Logins, as the engine tries them.

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::{
    Docker, Error,
    http::Call,
    operation::Operation,
    registry::{RegistryAuth, Secret, SecretKind},
};

/// A login that a registry took. API: `SystemAuth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[non_exhaustive]
pub struct LoginAccepted {
    /// The engine's words, such as `Login Succeeded`; empty from engines that find none.
    pub status: String,
    /// What to log in with from now on in place of the password, if the registry gave one.
    #[serde(deserialize_with = "token")]
    pub identity_token: Option<Secret>,
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|token| !token.is_empty()).map(Secret::new))
}

#[derive(Default, Serialize)]
struct Body<'l> {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identitytoken: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registrytoken: Option<&'l str>,
    serveraddress: String,
}

fn body(login: &RegistryAuth) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut body = Body { serveraddress: login.host().config_key(), ..Body::default() };
    match login.kind() {
        SecretKind::Password(secret) => {
            body.username = Some(login.username());
            body.password = Some(secret.expose());
        }
        SecretKind::IdentityToken(secret) => body.identitytoken = Some(secret.expose()),
        SecretKind::RegistryToken(secret) => body.registrytoken = Some(secret.expose()),
    }
    // Large enough not to grow, which would leave copies behind.
    let mut json = Zeroizing::new(Vec::with_capacity(16 * 1024));
    serde_json::to_writer(&mut *json, &body)?;
    Ok(json)
}

/// Engines pass some refusals of registries on as failures of their own, told in words alone.
fn refusal(error: Error) -> Error {
    match error {
        Error::Api { status: 500, message, method, path } if message.contains("status: 401 Unauthorized") => {
            Error::Api { status: 401, message, method, path }
        }
        other => other,
    }
}

impl Docker {
    /// Has the engine try a login at its registry. The engine keeps nothing of it. API: `SystemAuth`.
    ///
    /// # Errors
    /// [`Error::is_permission_denied`] if the registry refuses it; [`Error::Api`] if the engine cannot reach the
    /// registry; whatever a call may fail with.
    pub async fn try_login(&self, login: &RegistryAuth) -> Result<LoginAccepted, Error> {
        let call = Call::new(Operation::SystemAuth, []);
        // As bytes: a call's JSON shows in its `Debug` output.
        let body = body(login).map_err(|source| Error::Encode { what: call.what(), source })?;
        let call = call.body("application/json", body.to_vec());
        let what = call.what();
        let answer = self.call(call).await.map_err(refusal)?;
        if answer.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(LoginAccepted::default());
        }
        serde_json::from_slice(&answer.body).map_err(|source| Error::Decode { what, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> RegistryAuth {
        RegistryAuth::password("docker.io".parse().unwrap(), "me", Secret::new("marker".into())).unwrap()
    }

    #[test]
    fn the_body_is_what_the_engine_reads_and_nothing_prints_it() {
        let body = body(&login()).unwrap();
        let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "username": "me", "password": "marker", "serveraddress": "https://index.docker.io/v1/"});
        assert_eq!(sent, expected);
        let call = Call::new(Operation::SystemAuth, []).body("application/json", body.to_vec());
        assert!(!format!("{call:?}").contains("marker"));
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let error = |message: &str| Error::Api {
            status: 500,
            message: message.into(),
            method: "POST".into(),
            path: "/auth".into(),
        };
        let words = "login attempt to http://127.0.0.1:1/v2/ failed with status: 401 Unauthorized";
        assert!(refusal(error(words)).is_permission_denied());
        assert!(!refusal(error("connection refused")).is_permission_denied());
    }

    #[test]
    fn answers_are_read_and_their_tokens_not_printed() {
        let read = |text: &str| serde_json::from_str::<LoginAccepted>(text).unwrap();
        let accepted = read(r#"{"Status":"Login Succeeded","IdentityToken":"marker"}"#);
        assert_eq!(accepted.identity_token.as_ref().unwrap().expose(), "marker");
        assert!(!format!("{accepted:?}").contains("marker"));
        assert_eq!(read(r#"{"Status":"x","IdentityToken":""}"#).identity_token, None);
        assert_eq!(read(r#"{"IdentityToken":null}"#), LoginAccepted::default());
    }
}
