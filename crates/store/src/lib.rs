//! What Berth remembers on disk: one SQLite file in the data folder, written by one connection.
//!
//! The file is Berth's alone and holds nothing that could not be lost: no secrets, no engine data. A file
//! that cannot be read is set aside and a new one begun, and the caller is told.

mod migrations;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};
use serde_json::{Map, Value};

/// Largest settings document in bytes; a larger one is refused.
pub const SETTINGS_LIMIT: usize = 128 * 1024;

/// Why something could not be remembered or recalled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder could not be made or the damaged file not be set aside.
    #[error("Could not prepare {path}: {source}")]
    Prepare {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("The database refused: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file was written by a newer Berth.
    #[error(
        "The database is of version {found}, this Berth knows up to {known}: update Berth, or use another data folder"
    )]
    Newer {
        /// Its version.
        found: i64,
        /// The newest version this Berth knows.
        known: i64,
    },
    /// The settings are too large or no JSON object.
    #[error("The settings are no JSON object of at most {SETTINGS_LIMIT} bytes")]
    Settings,
}

/// The open database. Cheap to clone; calls block for as long as SQLite needs.
#[derive(Clone, Debug)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

/// A store, and where the damaged file went if there was one.
#[derive(Debug)]
pub struct Opened {
    /// The store, ready for use.
    pub store: Store,
    /// The damaged file that was set aside.
    pub set_aside: Option<PathBuf>,
}

impl Store {
    /// Opens or makes the database at `path`; a damaged file is renamed and a new one begun.
    ///
    /// # Errors
    /// When the folder cannot be made, the file is of a newer Berth, or SQLite refuses.
    pub fn open(path: &Path) -> Result<Opened, Error> {
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|source| Error::Prepare { path: folder.to_owned(), source })?;
        }
        match Self::open_once(path) {
            Ok(store) => Ok(Opened { store, set_aside: None }),
            Err(Error::Database(error)) if is_damage(&error) => {
                let aside = set_aside(path)?;
                Ok(Opened { store: Self::open_once(path)?, set_aside: Some(aside) })
            }
            Err(error) => Err(error),
        }
    }

    /// A store that forgets everything when it is dropped.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn in_memory() -> Result<Self, Error> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn open_once(path: &Path) -> Result<Self, Error> {
        Self::prepare(Connection::open(path)?)
    }

    fn prepare(mut connection: Connection) -> Result<Self, Error> {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        migrations::apply(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings document; empty when nothing was ever written.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn settings(&self) -> Result<Value, Error> {
        read_settings(&self.connection())
    }

    /// Merges `changes` into the settings document. Fields that it does not name, such as those of a newer
    /// Berth, stay as they are.
    ///
    /// # Errors
    /// When `changes` is no object, the result too large, or SQLite refuses.
    pub fn merge_settings(&self, changes: &Value) -> Result<Value, Error> {
        let Value::Object(changes) = changes else { return Err(Error::Settings) };
        let connection = self.connection();
        let mut document = read_settings(&connection)?;
        let Value::Object(fields) = &mut document else { return Err(Error::Settings) };
        for (name, value) in changes {
            fields.insert(name.clone(), value.clone());
        }
        let text = document.to_string();
        if text.len() > SETTINGS_LIMIT {
            return Err(Error::Settings);
        }
        connection.execute(
            "insert into settings (id, document) values (1, ?1) on conflict (id) do update set document = ?1",
            [text],
        )?;
        Ok(document)
    }
}

fn read_settings(connection: &Connection) -> Result<Value, Error> {
    let text: Option<String> =
        connection.query_row("select document from settings where id = 1", [], |row| row.get(0)).optional()?;
    let document = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(document.unwrap_or_else(|| Value::Object(Map::new())))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt))
}

fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let mut number = 1;
    let aside = loop {
        let candidate = path.with_extension(format!("damaged-{number}"));
        if !candidate.exists() {
            break candidate;
        }
        number += 1;
    };
    std::fs::rename(path, &aside).map_err(|source| Error::Prepare { path: path.to_owned(), source })?;
    for ending in ["-wal", "-shm"] {
        let mut companion = path.as_os_str().to_owned();
        companion.push(ending);
        match std::fs::remove_file(&companion) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Prepare { path: companion.into(), source }),
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_survive_reopening_and_keep_unknown_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/berth.sqlite");
        let opened = Store::open(&path).unwrap();
        assert!(opened.set_aside.is_none());
        assert_eq!(opened.store.settings().unwrap(), json!({}));
        opened.store.merge_settings(&json!({"fromTheFuture": 1})).unwrap();
        opened.store.merge_settings(&json!({"theme": "dark"})).unwrap();
        drop(opened);
        let again = Store::open(&path).unwrap().store;
        assert_eq!(again.settings().unwrap(), json!({"fromTheFuture": 1, "theme": "dark"}));
    }

    #[test]
    fn a_damaged_file_is_set_aside_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.sqlite");
        std::fs::write(&path, b"this is no database, but perhaps somebody wants it back".repeat(40)).unwrap();
        let opened = Store::open(&path).unwrap();
        let aside = opened.set_aside.expect("the damaged file was kept");
        assert!(std::fs::read(aside).unwrap().starts_with(b"this is no database"));
        opened.store.merge_settings(&json!({"theme": "light"})).unwrap();
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 9_000).unwrap();
        drop(connection);
        assert!(matches!(Store::open(&path), Err(Error::Newer { found: 9_000, .. })));
    }

    #[test]
    fn settings_that_are_too_large_change_nothing() {
        let store = Store::in_memory().unwrap();
        store.merge_settings(&json!({"theme": "dark"})).unwrap();
        assert!(store.merge_settings(&json!({"layout": "x".repeat(SETTINGS_LIMIT)})).is_err());
        assert!(store.merge_settings(&json!([1])).is_err());
        assert_eq!(store.settings().unwrap(), json!({"theme": "dark"}));
    }
}
