//! A context of Berth's own: made, made the current one, and taken back, with everything else left as it is.
//!
//! What Berth made, it marks in the context's metadata, where `docker` keeps fields it does not know. A context without
//! the mark is somebody's and stays as it is.

mod error;
mod file;
mod text;

use std::path::PathBuf;

use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::error::ContextWriteError;
use self::{file::Turn, text::ObjectText};
use super::{
    ContextProblem, DEFAULT, DockerConfigFolder,
    read::{CONFIG_LIMIT, META_LIMIT, digest, is_name, read, shown},
};
use crate::Endpoint;

/// The mark in the metadata, and what is in it.
const MARK: &str = "Berth";
const ENGINE: &str = "Engine";
const PREVIOUS: &str = "Previous";
const CURRENT: &str = "currentContext";

/// How often a file that somebody else changes meanwhile is read again.
const TRIES: u32 = 8;

/// The context that leads to one of Berth's engines. All of it blocks on the file system.
#[derive(Clone, Debug)]
pub struct OwnContext {
    folder: DockerConfigFolder,
    name: String,
    engine: String,
}

/// What became of a context that was to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was none.
    Created,
    /// It led elsewhere.
    Updated,
    /// It was as it should be.
    Unchanged,
}

/// What became of a context that was to be the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeCurrent {
    /// It is now; before, it was this one, which is remembered.
    InsteadOf(String),
    /// It was already.
    Already,
}

/// What became of the context that was the current one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is the current one again.
    To(String),
    /// It no longer exists, so that the default one is.
    ToDefault {
        /// The one that is gone.
        gone: String,
    },
    /// The current one is not ours, so that nothing was to be done.
    NotCurrent,
    /// Ours is the current one, but Berth did not make it that: its owner's choice stays.
    NotRemembered,
    /// There is no context of this engine's.
    NotMade,
}

/// What there is of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnState {
    /// It exists and is this engine's.
    pub is_made: bool,
    /// `config.json` says that it is the current one.
    pub is_current: bool,
    /// The one that will be the current one again.
    pub previous: Option<String>,
}

/// A context's file, read.
struct Kept {
    bytes: Vec<u8>,
    meta: Value,
}

/// `config.json`, read.
struct Config {
    bytes: Option<Zeroizing<Vec<u8>>>,
    text: Zeroizing<String>,
    current: Option<String>,
}

impl OwnContext {
    /// The context of that name, for the engine of that id.
    ///
    /// # Errors
    ///
    /// Docker allows no such name.
    pub fn new(folder: DockerConfigFolder, name: &str, engine: &str) -> Result<Self, ContextWriteError> {
        if !is_name(name) {
            return Err(ContextWriteError::Name(shown(name)));
        }
        Ok(Self { folder, name: name.to_owned(), engine: engine.to_owned() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.file_of(&self.name)
    }

    /// The file that says which context is the current one.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    /// What there is of it.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a context of this name is somebody else's.
    pub fn state(&self) -> Result<OwnState, ContextWriteError> {
        let kept = self.kept()?;
        let is_made = kept.as_ref().is_some_and(|kept| self.is_this_engines(kept));
        let previous = kept.filter(|_| is_made).and_then(|kept| previous(&kept.meta)).map(named);
        let is_current = self.config()?.current.as_deref() == Some(self.name.as_str());
        Ok(OwnState { is_made, is_current, previous })
    }

    /// Sees to it that it is there and leads to the engine.
    ///
    /// # Errors
    ///
    /// A context of this name is somebody else's or cannot be read, or the folder cannot be written.
    pub fn write(&self, endpoint: &Endpoint, description: &str) -> Result<Written, ContextWriteError> {
        let host = address(endpoint)?;
        let _turn = Turn::take(self.folder.path())?;
        let Some(kept) = self.kept()? else {
            let description: String = description.chars().filter(|c| !c.is_control()).collect();
            let meta = json!({
                "Name": self.name,
                "Metadata": { "Description": description, MARK: { ENGINE: self.engine } },
                "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
            });
            if let Some(folder) = self.file().parent() {
                file::create_folder(folder)?;
            }
            self.put(None, &meta)?;
            return Ok(Written::Created);
        };
        let mut meta = kept.meta.clone();
        if let Some(mark) = mark_of(&mut meta) {
            mark.insert(ENGINE.to_owned(), json!(self.engine));
        }
        let endpoint = meta.get_mut("Endpoints").and_then(|endpoints| endpoints.get_mut("docker"));
        match endpoint.and_then(Value::as_object_mut) {
            Some(endpoint) => {
                endpoint.insert("Host".to_owned(), json!(host));
            }
            None => {
                if let Some(meta) = meta.as_object_mut() {
                    let endpoints = json!({ "docker": { "Host": host, "SkipTLSVerify": false } });
                    meta.insert("Endpoints".to_owned(), endpoints);
                }
            }
        }
        if meta == kept.meta {
            return Ok(Written::Unchanged);
        }
        self.put(Some(&kept.bytes), &meta)?;
        Ok(Written::Updated)
    }

    /// Makes it the one that `docker` uses, and remembers which one that was.
    ///
    /// # Errors
    ///
    /// It was not made, `config.json` cannot be read, or the folder cannot be written.
    pub fn make_current(&self) -> Result<MadeCurrent, ContextWriteError> {
        let _turn = Turn::take(self.folder.path())?;
        for _ in 0..TRIES {
            let mut kept = self.kept()?.ok_or_else(|| ContextWriteError::NotMade { name: self.name.clone() })?;
            let config = self.config()?;
            if config.current.as_deref() == Some(self.name.as_str()) {
                return Ok(MadeCurrent::Already);
            }
            // Before it is the current one: killed in between, it is remembered in vain, and not forgotten.
            let before = kept.meta.clone();
            if let Some(mark) = mark_of(&mut kept.meta) {
                mark.insert(PREVIOUS.to_owned(), json!(config.current));
            }
            if kept.meta != before {
                self.put(Some(&kept.bytes), &kept.meta)?;
            }
            let name = Value::from(self.name.as_str()).to_string();
            if self.put_config(&config, |config| config.with(CURRENT, &name))? {
                return Ok(MadeCurrent::InsteadOf(named(config.current)));
            }
        }
        Err(ContextWriteError::Changing(self.config_file()))
    }

    /// Makes the one current again that was before, if ours still is and Berth made it that.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn restore(&self) -> Result<Restored, ContextWriteError> {
        if !self.file().exists() {
            return Ok(Restored::NotMade);
        }
        let _turn = Turn::take(self.folder.path())?;
        match self.kept()? {
            Some(kept) if self.is_this_engines(&kept) => self.take_back(&kept),
            _ => Ok(Restored::NotMade),
        }
    }

    /// Removes it, after what was current before is current again. Says what became of that; `None` if there was no
    /// context to remove.
    ///
    /// # Errors
    ///
    /// A context of this name is somebody else's, or a file cannot be read or written.
    pub fn remove(&self) -> Result<Option<Restored>, ContextWriteError> {
        if !self.folder.path().exists() {
            return Ok(None);
        }
        let _turn = Turn::take(self.folder.path())?;
        let kept = self.kept()?;
        let mut restored = match &kept {
            Some(kept) => self.take_back(kept)?,
            None => Restored::NotMade,
        };
        // A current context that does not exist would make every call of `docker` fail.
        if matches!(restored, Restored::NotRemembered | Restored::NotMade) && self.change_current(None)? {
            restored = Restored::To(DEFAULT.to_owned());
        }
        if kept.is_none() {
            return Ok(None);
        }
        file::remove(&self.file())?;
        Ok(Some(restored))
    }

    fn take_back(&self, kept: &Kept) -> Result<Restored, ContextWriteError> {
        let mut outcome = Restored::NotCurrent;
        let remembered = previous(&kept.meta);
        if self.config()?.current.as_deref() == Some(self.name.as_str()) {
            let Some(previous) = &remembered else { return Ok(Restored::NotRemembered) };
            let gone = previous.as_deref().filter(|name| !self.exists(name));
            let changed = self.change_current(if gone.is_some() { None } else { previous.as_deref() })?;
            outcome = match gone {
                _ if !changed => Restored::NotCurrent,
                Some(gone) => Restored::ToDefault { gone: shown(gone) },
                None => Restored::To(named(previous.clone())),
            };
        }
        if remembered.is_some() {
            let mut meta = kept.meta.clone();
            if let Some(mark) = mark_of(&mut meta) {
                mark.remove(PREVIOUS);
            }
            self.put(Some(&kept.bytes), &meta)?;
        }
        Ok(outcome)
    }

    /// Makes another one current, or none, if ours is. Says whether it was.
    fn change_current(&self, to: Option<&str>) -> Result<bool, ContextWriteError> {
        for _ in 0..TRIES {
            let config = self.config()?;
            if config.current.as_deref() != Some(self.name.as_str()) {
                return Ok(false);
            }
            let changed = self.put_config(&config, |config| match to {
                Some(to) => config.with(CURRENT, &Value::from(to).to_string()),
                None => config.without(CURRENT),
            });
            if changed? {
                return Ok(true);
            }
        }
        Err(ContextWriteError::Changing(self.config_file()))
    }

    fn exists(&self, name: &str) -> bool {
        name.is_empty() || name == DEFAULT || is_name(name) && self.file_of(name).exists()
    }

    fn file_of(&self, name: &str) -> PathBuf {
        self.folder.path().join("contexts").join("meta").join(digest(name)).join("meta.json")
    }

    /// The context of this name, which has Berth's mark.
    fn kept(&self) -> Result<Option<Kept>, ContextWriteError> {
        let path = self.file();
        let Some(bytes) = read(&path, META_LIMIT)? else { return Ok(None) };
        let meta: Value = super::read::parse(&path, &bytes)?;
        if engine(&meta).is_none() || meta.get("Name").and_then(Value::as_str) != Some(self.name.as_str()) {
            return Err(ContextWriteError::Foreign { name: self.name.clone(), path });
        }
        Ok(Some(Kept { bytes, meta }))
    }

    fn is_this_engines(&self, kept: &Kept) -> bool {
        engine(&kept.meta) == Some(self.engine.as_str())
    }

    fn config(&self) -> Result<Config, ContextWriteError> {
        let path = self.config_file();
        let bytes = read(&path, CONFIG_LIMIT)?.map(Zeroizing::new);
        let malformed = |reason: &str| ContextProblem::Malformed { path: path.clone(), reason: reason.to_owned() };
        let text = bytes.as_ref().map(|bytes| bytes.to_vec()).unwrap_or_default();
        let text = Zeroizing::new(String::from_utf8(text).map_err(|_| malformed("it is not text"))?);
        // serde's own text may quote the file, which can hold passwords of registries.
        let object = ObjectText::parse(&text).map_err(|_| malformed("it is not a JSON object"))?;
        let current = object.get(CURRENT).map(serde_json::from_str::<Option<String>>);
        let current = current.transpose().map_err(|_| malformed("`currentContext` is not a text"))?.flatten();
        Ok(Config { bytes, text, current })
    }

    fn put_config(
        &self,
        config: &Config,
        change: impl FnOnce(&ObjectText<'_>) -> String,
    ) -> Result<bool, ContextWriteError> {
        let path = self.config_file();
        let malformed =
            |_| ContextProblem::Malformed { path: path.clone(), reason: "it is not a JSON object".to_owned() };
        let text = Zeroizing::new(change(&ObjectText::parse(&config.text).map_err(malformed)?));
        file::replace(&path, config.bytes.as_ref().map(|bytes| bytes.as_slice()), text.as_bytes())
    }

    fn put(&self, read: Option<&[u8]>, meta: &Value) -> Result<(), ContextWriteError> {
        let path = self.file();
        let is_put = file::replace(&path, read, meta.to_string().as_bytes())?;
        if is_put { Ok(()) } else { Err(ContextWriteError::Changing(path)) }
    }
}

fn address(endpoint: &Endpoint) -> Result<String, ContextWriteError> {
    let host = endpoint.to_string();
    let is_text = match endpoint {
        Endpoint::Unix(path) => path.to_str().is_some() && path.is_absolute(),
        Endpoint::NamedPipe(_) => true,
        // They have certificates or a login, and Berth's own engines are never there.
        Endpoint::Tcp { .. } | Endpoint::Tls { .. } | Endpoint::Ssh { .. } => false,
    };
    if is_text && !host.chars().any(char::is_control) { Ok(host) } else { Err(ContextWriteError::Address) }
}

fn engine(meta: &Value) -> Option<&str> {
    meta.get("Metadata")?.get(MARK)?.get(ENGINE)?.as_str()
}

fn mark_of(meta: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    meta.get_mut("Metadata")?.get_mut(MARK)?.as_object_mut()
}

/// What is remembered: a name, or that none was chosen.
fn previous(meta: &Value) -> Option<Option<String>> {
    match meta.get("Metadata")?.get(MARK)?.get(PREVIOUS)? {
        Value::Null => Some(None),
        Value::String(name) => Some(Some(name.clone())),
        _ => None,
    }
}

fn named(current: Option<String>) -> String {
    current.filter(|name| !name.is_empty()).map_or_else(|| DEFAULT.to_owned(), |name| shown(&name))
}

#[cfg(all(test, unix))]
#[path = "own/tests.rs"]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
