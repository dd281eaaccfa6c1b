//! Docker's credential helpers: programs that keep logins in a keychain of their own.

use std::{collections::BTreeMap, fmt, path::PathBuf, process::Stdio, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};
use zeroize::Zeroizing;

use super::{CredentialError, RegistryAuth, RegistryHost, Secret, SecretKind, secret::TOKEN_USER};
use crate::Error;

const OUTPUT_CAP: usize = 256 * 1024;
const EXCERPT: usize = 200;

/// Where desktop programs keep helpers although sessions started by a click do not have them on their PATH.
#[cfg(target_os = "macos")]
const EXTRA_FOLDERS: &[&str] =
    &["/usr/local/bin", "/opt/homebrew/bin", "/Applications/Docker.app/Contents/Resources/bin"];
#[cfg(not(target_os = "macos"))]
const EXTRA_FOLDERS: &[&str] = &[];

/// Name of a credential helper, without `docker-credential-`: a-z, 0-9, `-` and `_`, at most 64 of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HelperName(String);

impl HelperName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HelperName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let admits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(admits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(text, "name of a credential helper"))
        }
    }
}

impl fmt::Display for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where helpers are looked for, and how long one may take.
#[derive(Clone, Debug)]
pub(super) struct Helpers {
    pub(super) folders: Vec<PathBuf>,
    pub(super) deadline: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: Zeroizing<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Put<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

impl Helpers {
    pub(super) fn from_env() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let extra = EXTRA_FOLDERS.iter().map(PathBuf::from);
        // A relative folder would let whoever chose the working directory choose the program.
        let folders = std::env::split_paths(&path).chain(extra).filter(|folder| folder.is_absolute()).collect();
        Self { folders, deadline: Duration::from_secs(10) }
    }

    pub(super) async fn get(
        &self,
        helper: &HelperName,
        host: &RegistryHost,
    ) -> Result<Option<RegistryAuth>, CredentialError> {
        let Some(output) = self.run(helper, "get", host.config_key().as_bytes(), None).await? else { return Ok(None) };
        let mut got: Got = parse(helper, &output)?;
        let secret = Secret::new(std::mem::take(&mut *got.secret));
        if secret.expose().is_empty() {
            return Ok(None);
        }
        if got.username == TOKEN_USER {
            return Ok(Some(RegistryAuth::identity_token(host.clone(), secret)));
        }
        RegistryAuth::password(host.clone(), &got.username, secret).map(Some)
    }

    pub(super) async fn store(&self, helper: &HelperName, login: &RegistryAuth) -> Result<(), CredentialError> {
        let secret = login.kind().secret();
        let server_url = login.host().config_key();
        let put = Put { server_url: &server_url, username: login.username(), secret: secret.expose() };
        // Grown once, so that no outgrown copy of it stays behind in memory.
        let mut input = Zeroizing::new(Vec::with_capacity(64 * 1024));
        serde_json::to_writer(&mut *input, &put)
            .map_err(|_| CredentialError::HelperAnswer { helper: helper.clone() })?;
        self.run(helper, "store", &input, Some(secret)).await.map(|_| ())
    }

    pub(super) async fn erase(&self, helper: &HelperName, host: &RegistryHost) -> Result<(), CredentialError> {
        self.run(helper, "erase", host.config_key().as_bytes(), None).await.map(|_| ())
    }

    /// The registries it has logins for, with the name of each.
    pub(super) async fn list(&self, helper: &HelperName) -> Result<BTreeMap<String, String>, CredentialError> {
        match self.run(helper, "list", b"", None).await? {
            Some(output) => Ok(parse::<Option<_>>(helper, &output)?.unwrap_or_default()),
            None => Ok(BTreeMap::new()),
        }
    }

    fn find(&self, helper: &HelperName) -> Option<PathBuf> {
        let name = format!("docker-credential-{helper}{}", std::env::consts::EXE_SUFFIX);
        self.folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file())
    }

    /// What the helper printed; `None` when it has no such login.
    async fn run(
        &self,
        helper: &HelperName,
        verb: &str,
        input: &[u8],
        secret: Option<&Secret>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        let program = self.find(helper).ok_or_else(|| CredentialError::NoHelper { helper: helper.clone() })?;
        let failed = |source| CredentialError::HelperRun { helper: helper.clone(), source };
        let mut command = Command::new(program);
        // The verb alone: every process of this computer can read the arguments of every other.
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        hide_window(&mut command);
        let exchange = async {
            let mut child = command.spawn().map_err(failed)?;
            let stdin = child.stdin.take();
            let stdout = child.stdout.take();
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A helper that fails need not have read anything; its exit status tells more than a broken pipe.
                    let _ = stdin.write_all(input).await;
                    let _ = stdin.shutdown().await;
                }
            };
            let read = async {
                let mut output = Zeroizing::new(Vec::with_capacity(64 * 1024));
                if let Some(stdout) = stdout {
                    stdout.take(OUTPUT_CAP as u64 + 1).read_to_end(&mut output).await.map_err(failed)?;
                }
                Ok(output)
            };
            let ((), output) = tokio::join!(write, read);
            let output = output?;
            if output.len() > OUTPUT_CAP {
                return Err(CredentialError::HelperAnswer { helper: helper.clone() });
            }
            let status = child.wait().await.map_err(failed)?;
            Ok((status.success(), output))
        };
        let Ok(ended) = tokio::time::timeout(self.deadline, exchange).await else {
            return Err(CredentialError::HelperTimeout { helper: helper.clone(), seconds: self.deadline.as_secs() });
        };
        let (success, output) = ended?;
        if success {
            return Ok(Some(output));
        }
        let said = Zeroizing::new(String::from_utf8_lossy(&output).into_owned());
        if is_absent(&said) {
            return Ok(None);
        }
        Err(CredentialError::HelperFailed { helper: helper.clone(), message: excerpt(&said, secret) })
    }
}

fn parse<'a, T: Deserialize<'a>>(helper: &HelperName, output: &'a [u8]) -> Result<T, CredentialError> {
    serde_json::from_slice(output).map_err(|_| CredentialError::HelperAnswer { helper: helper.clone() })
}

/// The protocol has no other sign for it than the words of the reference helpers.
fn is_absent(said: &str) -> bool {
    said.contains("credentials not found in native keychain")
        || said.contains("no credentials server URL")
        || said.contains("no credentials username")
}

/// The helper's own words, unless they could hold a secret.
fn excerpt(said: &str, secret: Option<&Secret>) -> String {
    let leaks = secret.is_some_and(|secret| repeats(said, secret.expose())) || said.contains("\"Secret\"");
    let words: String = said.trim().chars().filter(|c| !c.is_control()).take(EXCERPT).collect();
    if leaks || words.is_empty() { "it gave no reason".to_owned() } else { words }
}

/// Whether a part of the secret is in it. Helpers see it as JSON, where it need not look as it was typed.
fn repeats(said: &str, secret: &str) -> bool {
    let mut parts = secret.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| part.len() >= 4);
    said.contains(secret) || parts.any(|part| said.contains(part))
}

#[cfg(windows)]
fn hide_window(command: &mut Command) {
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;
    command.creation_flags(CREATE_NO_WINDOW);
}

#[cfg(not(windows))]
fn hide_window(_: &mut Command) {}

impl SecretKind {
    /// Helpers and keychains know passwords and identity tokens only.
    pub(super) fn fits_helpers(&self) -> bool {
        !matches!(self, Self::RegistryToken(_))
    }
}
/// Reads `output` in every way there is.
pub(super) fn fuzz(output: &[u8]) {
    let Ok(helper) = "fuzz".parse::<HelperName>() else { return };
    let _ = parse::<Got>(&helper, output);
    let _ = parse::<BTreeMap<String, String>>(&helper, output);
    let said = String::from_utf8_lossy(output);
    let _ = (is_absent(&said), excerpt(&said, None));
}
