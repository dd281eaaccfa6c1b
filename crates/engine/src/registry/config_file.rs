//! Docker's `config.json`: the logins in it, and changing one without touching anything else.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use base64::Engine as _;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{CredentialError, HelperName, RegistryAuth, RegistryHost, Secret, SecretKind};

const CAP: usize = 1024 * 1024;

/// The bytes of one `config.json`, wiped when dropped.
pub(super) struct ConfigFile {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

/// A JSON object with its order and the exact text of its values, which stay in the buffer they were read from.
#[derive(Default)]
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    fn get(&self, key: &str) -> Option<&'a RawValue> {
        // Of two values for one key, the last counts for Docker too.
        self.0.iter().rev().find(|(name, _)| name == key).map(|&(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Object<'de>, E> {
                Ok(Object::default())
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    identitytoken: Option<Zeroizing<String>>,
    registrytoken: Option<Zeroizing<String>>,
}

impl ConfigFile {
    /// Reads the file; one that is not there is an empty one.
    pub(super) fn read(path: &Path) -> Result<Self, CredentialError> {
        let failed = |source| CredentialError::File { verb: "read", path: path.to_owned(), source };
        // Grown once, so that no outgrown copy of it stays behind in memory.
        let mut bytes = Zeroizing::new(Vec::new());
        match std::fs::File::open(path) {
            Ok(file) => {
                let length = file.metadata().map_err(failed)?.len();
                bytes.reserve(usize::try_from(length).unwrap_or(CAP).min(CAP) + 2);
                file.take(CAP as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if bytes.len() > CAP {
            return Err(CredentialError::TooLarge { path: path.to_owned(), limit: CAP });
        }
        let file = Self { path: path.to_owned(), bytes };
        file.top()?;
        Ok(file)
    }

    /// The helper that keeps the login of this registry, or, without a registry, of all that have none of their own.
    pub(super) fn helper(&self, host: Option<&RegistryHost>) -> Result<Option<HelperName>, CredentialError> {
        let top = self.top()?;
        let own = match host {
            Some(host) => self.helpers(&top)?.into_iter().find(|(key, _)| names(key, host)).map(|(_, helper)| helper),
            None => None,
        };
        let store = match top.get("credsStore") {
            Some(value) => self.parse::<Option<String>>(value, "credsStore is not a text")?,
            None => None,
        };
        match own.or(store).filter(|name| !name.is_empty()) {
            Some(name) => match name.parse() {
                Ok(name) => Ok(Some(name)),
                Err(_) => Err(CredentialError::BadHelperName { path: self.path.clone() }),
            },
            None => Ok(None),
        }
    }

    /// The registries with a helper of their own.
    pub(super) fn own_helpers(&self) -> Result<Vec<RegistryHost>, CredentialError> {
        let helpers = self.helpers(&self.top()?)?;
        Ok(helpers.keys().filter_map(|key| RegistryHost::from_config_key(key)).collect())
    }

    /// The login of this registry that stands in the file itself.
    pub(super) fn login(&self, host: &RegistryHost) -> Result<Option<RegistryAuth>, CredentialError> {
        let auths = self.auths(&self.top()?)?;
        // The exact key first, as Docker looks for it, then other spellings of the same registry.
        let exact = auths.get(&host.config_key());
        let entries =
            exact.into_iter().chain(auths.0.iter().filter(|(key, _)| names(key, host)).map(|&(_, value)| value));
        for entry in entries {
            if let Some(login) = self.entry(host, entry)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// The registries that stand in the file, with or without a secret.
    pub(super) fn hosts(&self) -> Result<Vec<RegistryHost>, CredentialError> {
        let auths = self.auths(&self.top()?)?;
        Ok(auths.0.iter().filter_map(|(key, _)| RegistryHost::from_config_key(key)).collect())
    }

    /// Puts this login into the file, or, without one, takes all logins of the registry out; `marker` leaves an empty
    /// entry, by which Docker knows the registries whose logins are in a helper.
    ///
    /// Everything else keeps its text and its place.
    pub(super) fn replace(
        &self,
        host: &RegistryHost,
        login: Option<&RegistryAuth>,
        marker: bool,
    ) -> Result<(), CredentialError> {
        let top = self.top()?;
        let auths = self.auths(&top)?;
        let own = match login {
            Some(login) => Some(render_entry(login)),
            None => marker.then(|| Zeroizing::new("{}".to_owned())),
        };
        if own.is_none() && !auths.0.iter().any(|(key, _)| names(key, host)) {
            return Ok(());
        }
        let key = host.config_key();
        let kept =
            auths.0.iter().filter(|(other, _)| !names(other, host)).map(|(key, value)| (key.as_str(), value.get()));
        let auths =
            render_object(kept.chain(own.iter().map(|own| (key.as_str(), own.as_str()))), "\t", self.bytes.len());
        let mut fields: Vec<(&str, &str)> = Vec::new();
        let mut placed = false;
        for (name, value) in &top.0 {
            let is_auths = name == "auths";
            if !(is_auths && placed) {
                fields.push((name, if is_auths { &auths } else { value.get() }));
            }
            placed |= is_auths;
        }
        if !placed {
            fields.push(("auths", &auths));
        }
        write_atomically(&self.path, render_object(fields.into_iter(), "", self.bytes.len()).as_bytes())
    }

    fn top(&self) -> Result<Object<'_>, CredentialError> {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Object::default());
        }
        serde_json::from_slice(&self.bytes).map_err(|error| self.broken(&error))
    }

    fn auths<'a>(&self, top: &Object<'a>) -> Result<Object<'a>, CredentialError> {
        let parse =
            |value: &'a RawValue| serde_json::from_str(value.get()).map_err(|_| self.wrong("auths is not an object"));
        top.get("auths").map_or_else(|| Ok(Object::default()), parse)
    }

    fn helpers(&self, top: &Object<'_>) -> Result<BTreeMap<String, String>, CredentialError> {
        let Some(value) = top.get("credHelpers") else { return Ok(BTreeMap::new()) };
        let parsed: Option<_> = self.parse(value, "credHelpers is not an object of texts")?;
        Ok(parsed.unwrap_or_default())
    }

    fn parse<'a, T: Deserialize<'a>>(&self, value: &'a RawValue, what: &'static str) -> Result<T, CredentialError> {
        serde_json::from_str(value.get()).map_err(|_| self.wrong(what))
    }

    fn entry(&self, host: &RegistryHost, value: &RawValue) -> Result<Option<RegistryAuth>, CredentialError> {
        let wrong = || self.wrong("the login of a registry is not an object of texts");
        let entry = serde_json::from_str::<Option<Entry>>(value.get()).map_err(|_| wrong())?.unwrap_or_default();
        let secret = |mut text: Zeroizing<String>| Secret::new(std::mem::take(&mut *text));
        if let Some(token) = entry.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(RegistryAuth::identity_token(host.clone(), secret(token))));
        }
        if let Some(token) = entry.registrytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(RegistryAuth::registry_token(host.clone(), secret(token))));
        }
        if let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) {
            let broken = || self.wrong("the `auth` of a registry is not base64 of a name, a colon and a password");
            let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim());
            let decoded = Zeroizing::new(decoded.map_err(|_| broken())?);
            let text = std::str::from_utf8(&decoded).map_err(|_| broken())?;
            let (user, password) = text.split_once(':').ok_or_else(broken)?;
            // Docker pads short passwords with NULs.
            let password = Secret::new(password.trim_matches('\0').to_owned());
            return RegistryAuth::password(host.clone(), user, password).map(Some);
        }
        match (entry.username, entry.password) {
            (Some(user), Some(password)) if !user.is_empty() && !password.is_empty() => {
                RegistryAuth::password(host.clone(), &user, secret(password)).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn broken(&self, error: &serde_json::Error) -> CredentialError {
        // Not serde's own message: it quotes what it stumbled over.
        let what = match error.classify() {
            serde_json::error::Category::Eof => "the file ends too early",
            serde_json::error::Category::Data => "it is not a JSON object",
            _ => "it is not JSON",
        };
        CredentialError::Broken { path: self.path.clone(), line: error.line(), column: error.column(), what }
    }

    fn wrong(&self, what: &'static str) -> CredentialError {
        CredentialError::Broken { path: self.path.clone(), line: 0, column: 0, what }
    }
}

fn names(key: &str, host: &RegistryHost) -> bool {
    RegistryHost::from_config_key(key).as_ref() == Some(host)
}

fn render_entry(login: &RegistryAuth) -> Zeroizing<String> {
    let quoted = |text: &str| Zeroizing::new(serde_json::Value::from(text).to_string());
    let (name, text) = match login.kind() {
        SecretKind::Password(password) => {
            let pair = Zeroizing::new(format!("{}:{}", login.username(), password.expose()));
            ("auth", Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes())))
        }
        SecretKind::IdentityToken(token) => ("identitytoken", Zeroizing::new(token.expose().to_owned())),
        SecretKind::RegistryToken(token) => ("registrytoken", Zeroizing::new(token.expose().to_owned())),
    };
    Zeroizing::new(format!("{{\n\t\t\t\"{name}\": {}\n\t\t}}", *quoted(&text)))
}

fn render_object<'a>(
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    indent: &str,
    expected: usize,
) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(expected + 64 * 1024));
    text.push('{');
    let mut first = true;
    for (name, value) in fields {
        text.push_str(if first { "\n" } else { ",\n" });
        first = false;
        text.push_str(indent);
        text.push('\t');
        text.push_str(&serde_json::Value::from(name).to_string());
        text.push_str(": ");
        text.push_str(value);
    }
    if !first {
        text.push('\n');
        text.push_str(indent);
    }
    text.push('}');
    text
}

/// Writes for the owner alone, and so that whoever reads meanwhile sees the old or the new, never a part.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CredentialError> {
    // A link to a file kept elsewhere stays a link.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |source| CredentialError::File { verb: "write", path: path.clone(), source };
    let folder = path.parent().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    create_folder(folder).map_err(failed)?;
    let temporary = folder.join(format!(".config.json.berth-{}", std::process::id()));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // Left behind by a process of the same number that was killed.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}

fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Reads `bytes` in every way there is.
pub(super) fn fuzz(bytes: &[u8]) {
    let file = ConfigFile { path: PathBuf::new(), bytes: Zeroizing::new(bytes.to_vec()) };
    let _ = file.own_helpers();
    for host in file.hosts().unwrap_or_default() {
        let _ = file.helper(Some(&host));
        let _ = file.login(&host);
    }
}

#[cfg(test)]
#[path = "config_file_tests.rs"]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
