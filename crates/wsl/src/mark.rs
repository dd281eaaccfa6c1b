//! What Berth writes down about its distributions, beside their disks. A distribution that is not in here is somebody
//! else's, whatever its name.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) system: Option<Entry>,
    #[serde(default)]
    pub(crate) data: Option<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The image it was made from.
    pub(crate) image: String,
    /// It was made to its end.
    pub(crate) whole: bool,
}

impl Mark {
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::Mark { path: path.to_path_buf(), why };
        match fs::read(path) {
            Ok(text) => {
                let mark: Self = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
                if mark.version == VERSION { Ok(mark) } else { Err(bad(format!("its version is {}", mark.version))) }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self { version: VERSION, ..Self::default() }),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// Whole or not at all, and on the disk before what it tells of is begun.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::File {
            what: "write",
            path: path.to_path_buf(),
            source: error.into(),
        })?;
        let fresh = path.with_extension("json.new");
        fs::File::create(&fresh)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&fresh, path))
            .map_err(Error::file("write", path))
    }
}
