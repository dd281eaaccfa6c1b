//! The system's keychain: Keychain on macOS, Credential Manager on Windows, the Secret Service on Linux.

use std::{io, time::Duration};

use zeroize::Zeroizing;

use super::{CredentialError, RegistryAuth, RegistryHost, Secret, SecretKind};

const SERVICE: &str = "Berth registry login";

/// Long enough for someone to type the password that unlocks it.
const DEADLINE: Duration = Duration::from_secs(60);

/// The login of one registry; `None` when there is none.
pub(super) async fn get(host: &RegistryHost) -> Result<Option<RegistryAuth>, CredentialError> {
    let host = host.clone();
    let found = ask(&host, |entry| match entry.get_password() {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(keyring::Error::NoEntry) => Ok(None),
        Err(error) => Err(error),
    });
    let Some(text) = found.await? else { return Ok(None) };
    Ok(decode(&host, &text))
}

pub(super) async fn store(login: &RegistryAuth) -> Result<(), CredentialError> {
    let text = encode(login);
    ask(login.host(), move |entry| entry.set_password(&text)).await
}

/// Whether there was one.
pub(super) async fn erase(host: &RegistryHost) -> Result<bool, CredentialError> {
    ask(host, |entry| match entry.delete_credential() {
        Ok(()) => Ok(true),
        Err(keyring::Error::NoEntry) => Ok(false),
        Err(error) => Err(error),
    })
    .await
}

async fn ask<T: Send + 'static>(
    host: &RegistryHost,
    question: impl FnOnce(keyring::Entry) -> Result<T, keyring::Error> + Send + 'static,
) -> Result<T, CredentialError> {
    let account = host.config_key();
    // Its calls block, for as long as the system shows its question to the user.
    let answer = tokio::task::spawn_blocking(move || keyring::Entry::new(SERVICE, &account).and_then(question));
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(answer)) => answer.map_err(|error| failed(error.to_string())),
        Ok(Err(_)) => Err(failed("the question to it broke off".to_owned())),
        Err(_) => Err(CredentialError::KeychainTimeout { seconds: DEADLINE.as_secs() }),
    }
}

/// As text alone: one of the library's errors holds the bytes of the secret.
fn failed(said: String) -> CredentialError {
    CredentialError::Keychain { source: Box::new(io::Error::other(said)) }
}

/// One line with the kind and the name, then the secret as it is.
fn encode(login: &RegistryAuth) -> Zeroizing<String> {
    let kind = match login.kind() {
        SecretKind::Password(_) => "password",
        SecretKind::IdentityToken(_) => "identity-token",
        SecretKind::RegistryToken(_) => "registry-token",
    };
    Zeroizing::new(format!("{kind} {}\n{}", login.username(), login.kind().secret().expose()))
}

fn decode(host: &RegistryHost, text: &str) -> Option<RegistryAuth> {
    let (head, secret) = text.split_once('\n')?;
    let (kind, username) = head.split_once(' ')?;
    let secret = Secret::new(secret.to_owned());
    match kind {
        "password" => RegistryAuth::password(host.clone(), username, secret).ok(),
        "identity-token" => Some(RegistryAuth::identity_token(host.clone(), secret)),
        "registry-token" => Some(RegistryAuth::registry_token(host.clone(), secret)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let host: RegistryHost = "ghcr.io".parse().unwrap();
        let secret = || Secret::new("a b:c\\".to_owned());
        for login in [
            RegistryAuth::password(host.clone(), "me too", secret()).unwrap(),
            RegistryAuth::identity_token(host.clone(), secret()),
            RegistryAuth::registry_token(host.clone(), secret()),
        ] {
            assert_eq!(decode(&host, &encode(&login)), Some(login));
        }
        for bad in ["", "password", "password me", "other me\nx", "password \nx"] {
            assert_eq!(decode(&host, bad), None, "{bad}");
        }
    }
}
