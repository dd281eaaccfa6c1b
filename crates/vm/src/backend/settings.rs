//! Which backend runs the engine of a data folder, and how large its machine is. Kept beside the data, so that every
//! start is like the first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory::memory_bytes;
use super::shares::Shares;
use crate::error::Error;
use crate::paths::EnginePaths;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 512..=1_048_576;
const DISK_GIB: std::ops::RangeInclusive<u64> = 4..=65_536;
const DEFAULT_DISK_GIB: u64 = 64;
/// Of a machine, which takes memory for as long as it runs.
const DEFAULT_IDLE_SECONDS: u64 = 15 * 60;
const IDLE_SECONDS: std::ops::RangeInclusive<u64> = 10..=365 * 24 * 3600;

/// What runs the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Namespaces of this machine's kernel.
    Native,
    /// A virtual machine of QEMU's.
    Qemu,
    /// A virtual machine of macOS's own.
    Vz,
    /// A distribution of the Windows Subsystem for Linux.
    Wsl,
}

impl Default for Backend {
    fn default() -> Self {
        if cfg!(target_os = "macos") {
            Self::Vz
        } else if cfg!(windows) {
            Self::Wsl
        } else {
            Self::Native
        }
    }
}

impl Backend {
    /// Its name, as in its JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Qemu => "qemu",
            Self::Vz => "vz",
            Self::Wsl => "wsl",
        }
    }

    const ALL: [Self; 4] = [Self::Native, Self::Qemu, Self::Vz, Self::Wsl];

    /// The one that runs machines on this system. Their disks are the same everywhere.
    pub(crate) fn of_machines() -> Self {
        if cfg!(target_os = "macos") { Self::Vz } else { Self::Qemu }
    }

    /// Whether this system can have it at all.
    pub(crate) fn check_system(self) -> Result<(), Error> {
        let has = match self {
            Self::Native | Self::Qemu => cfg!(target_os = "linux"),
            Self::Vz => cfg!(target_os = "macos"),
            Self::Wsl => cfg!(windows) || super::wsl::is_stood_in_for(),
        };
        if has { Ok(()) } else { Err(self.refusal()) }
    }

    /// Why there is none on this system.
    pub(crate) fn refusal(self) -> Error {
        let needs = match self {
            Self::Native | Self::Qemu => "Linux",
            Self::Vz => "macOS 13 or newer",
            Self::Wsl => "Windows",
        };
        Error::OtherSystem { backend: self.name(), needs, instead: Self::default().name() }
    }

    /// Whose data a folder holds that has none of this one's.
    fn owner_instead(self, paths: &EnginePaths) -> Option<(Self, PathBuf)> {
        if self.data(paths).is_some() {
            return None;
        }
        // Of two that share a disk the one that runs here.
        let others = [Self::Native, Self::of_machines(), Self::Wsl];
        others.into_iter().find_map(|other| Some((other, other.data(paths)?)))
    }

    /// What of this backend's data is in the folder, if anything.
    fn data(self, paths: &EnginePaths) -> Option<PathBuf> {
        let data = match self {
            Self::Native => paths.data().join("docker"),
            Self::Qemu | Self::Vz => paths.data_disk(),
            Self::Wsl => paths.distributions_file(),
        };
        data.exists().then_some(data)
    }
}

impl std::str::FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|backend| backend.name() == text).ok_or_else(|| {
            Error::BadSettings(format!(
                "`{text}` is no way to run the engine: there is `native`, `qemu`, `vz` and `wsl`"
            ))
        })
    }
}

/// How the engine of one data folder is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineSettings {
    /// What runs it.
    pub backend: Backend,
    /// A machine's memory.
    pub memory_mib: u32,
    /// Its processors.
    pub cpus: u32,
    /// The size of its data disk, which takes only the room that is used of it.
    pub disk_gib: u64,
    /// After how long without use it is stopped until it is used again; 0 for never, none for what is usual for the
    /// backend: never for the native one, a quarter of an hour for all others.
    pub idle_seconds: Option<u64>,
    /// Folders a machine sees.
    pub shares: Shares,
    /// What changes in them here wakes those in containers who watch files.
    pub file_events: bool,
}

impl Default for EngineSettings {
    /// A quarter of this machine's memory, from 2 to 8 GiB, and all of its processors.
    fn default() -> Self {
        let quarter = memory_bytes().unwrap_or(8 * GIB) / 4 / MIB;
        let cpus = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            backend: Backend::default(),
            memory_mib: u32::try_from(quarter).unwrap_or(u32::MAX).clamp(2048, 8192),
            cpus: u32::try_from(cpus).unwrap_or(2),
            disk_gib: DEFAULT_DISK_GIB,
            idle_seconds: None,
            shares: Shares::default(),
            file_events: true,
        }
    }
}

/// What is to be other than it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// What runs it.
    pub backend: Option<Backend>,
    /// A machine's memory.
    pub memory_mib: Option<u32>,
    /// Its processors.
    pub cpus: Option<u32>,
    /// The size of its data disk.
    pub disk_gib: Option<u64>,
    /// After how many seconds without use it is stopped; 0 for never.
    pub idle_seconds: Option<u64>,
    /// Folders a machine sees.
    pub shares: Option<Shares>,
    /// What changes in them here wakes those in containers who watch files.
    pub file_events: Option<bool>,
}

impl EngineSettings {
    /// What the data folder says, or the defaults.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or was not written by Berth.
    pub fn load(paths: &EnginePaths) -> Result<Self, Error> {
        let file = paths.settings_file();
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let file = file.display();
                Error::BadSettings(format!("{file} cannot be read ({error}); remove it to begin with the defaults"))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::file("read", &file)(error)),
        }
    }

    /// Changes what the next start does, and keeps it.
    ///
    /// # Errors
    ///
    /// A size cannot be, the data folder holds data of the other backend, or the file cannot be written.
    pub fn change(paths: &EnginePaths, change: SettingsChange) -> Result<Self, Error> {
        let before = Self::load(paths)?;
        let nothing = change == SettingsChange::default();
        let after = Self {
            backend: change.backend.unwrap_or(before.backend),
            memory_mib: change.memory_mib.unwrap_or(before.memory_mib),
            cpus: change.cpus.unwrap_or(before.cpus),
            disk_gib: change.disk_gib.unwrap_or(before.disk_gib),
            idle_seconds: change.idle_seconds.or(before.idle_seconds),
            shares: change.shares.unwrap_or_else(|| before.shares.clone()),
            file_events: change.file_events.unwrap_or(before.file_events),
        };
        after.check(paths)?;
        if after != before || !paths.settings_file().exists() && !nothing {
            paths.create_data()?;
            after.write(&paths.settings_file())?;
        }
        Ok(after)
    }

    fn check(&self, paths: &EnginePaths) -> Result<(), Error> {
        let bad = |text: String| Err(Error::BadSettings(text));
        self.backend.check_system()?;
        if let Some((made, theirs)) = self.backend.owner_instead(paths) {
            let (wanted, made) = (self.backend.name(), made.name());
            let theirs = theirs.display();
            return bad(format!(
                "this data folder was made by the backend `{made}`, whose data ({theirs}) the backend `{wanted}` does not \
                 see; start it with `--backend {made}`, or name another folder with --data"
            ));
        }
        if !MEMORY_MIB.contains(&self.memory_mib) {
            return bad(format!("{} MiB are no size for a machine's memory; from 512 on is", self.memory_mib));
        }
        if self.cpus == 0 || self.cpus > 255 {
            return bad(format!("a machine cannot have {} processors; from 1 to 255 it can", self.cpus));
        }
        if !DISK_GIB.contains(&self.disk_gib) {
            return bad(format!("{} GiB are no size for a data disk; from 4 to 65,536 are", self.disk_gib));
        }
        if let Some(seconds @ 1..) = self.idle_seconds
            && !IDLE_SECONDS.contains(&seconds)
        {
            return bad(format!(
                "{seconds} seconds are no time to wait for use; from 10 seconds to a year are, or `never`"
            ));
        }
        Ok(())
    }

    /// Keeps these in place of what there was.
    pub(crate) fn replace(&self, paths: &EnginePaths) -> Result<(), Error> {
        self.write(&paths.settings_file())
    }

    fn write(&self, file: &Path) -> Result<(), Error> {
        let fresh = file.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::BadSettings(error.to_string()))?;
        fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, file)).map_err(Error::file("write", file))
    }

    /// How long it runs without being used; for ever when none.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let seconds = self.idle_seconds.unwrap_or(match self.backend {
            Backend::Native => 0,
            Backend::Qemu | Backend::Vz | Backend::Wsl => DEFAULT_IDLE_SECONDS,
        });
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_gib.saturating_mul(GIB)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backend, EngineSettings, SettingsChange};
    use crate::paths::EnginePaths;

    #[test]
    fn what_was_chosen_once_holds_for_every_start() {
        let folder = tempfile::tempdir().unwrap();
        let paths = EnginePaths::with_runtime(&folder.path().join("data"), None).unwrap();
        assert_eq!(EngineSettings::load(&paths).unwrap(), EngineSettings::default());
        let change = SettingsChange {
            backend: Some(Backend::Qemu),
            cpus: Some(1),
            file_events: Some(false),
            ..SettingsChange::default()
        };
        let settings = EngineSettings::change(&paths, change).unwrap();
        assert_eq!((settings.backend, settings.cpus, settings.file_events), (Backend::Qemu, 1, false));
        assert_eq!(EngineSettings::change(&paths, SettingsChange::default()).unwrap(), settings);
        for bad in [
            SettingsChange { cpus: Some(0), ..SettingsChange::default() },
            SettingsChange { memory_mib: Some(1), ..SettingsChange::default() },
            SettingsChange { disk_gib: Some(1), ..SettingsChange::default() },
            SettingsChange { idle_seconds: Some(1), ..SettingsChange::default() },
        ] {
            assert!(EngineSettings::change(&paths, bad).is_err());
        }
        assert_eq!(EngineSettings::load(&paths).unwrap(), settings, "what was refused changed nothing");
        assert_eq!(settings.idle(), Some(Duration::from_secs(900)));
        let never = SettingsChange { idle_seconds: Some(0), ..SettingsChange::default() };
        assert_eq!(EngineSettings::change(&paths, never).unwrap().idle(), None);
        assert_eq!(EngineSettings::default().idle(), None, "not without a machine");
    }

    #[test]
    fn data_of_the_other_backend_is_not_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let paths = EnginePaths::with_runtime(folder.path(), None).unwrap();
        std::fs::create_dir(folder.path().join("docker")).unwrap();
        let change = SettingsChange { backend: Some(Backend::Qemu), ..SettingsChange::default() };
        let error = EngineSettings::change(&paths, change).unwrap_err().to_string();
        assert!(error.contains("--backend native"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_another_system_runs_is_refused_with_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let paths = EnginePaths::with_runtime(folder.path(), None).unwrap();
        for (name, needs) in [("vz", "macOS 13 or newer"), ("wsl", "Windows")] {
            let change = SettingsChange { backend: Some(name.parse().unwrap()), ..SettingsChange::default() };
            let error = EngineSettings::change(&paths, change).unwrap_err();
            assert!(matches!(error, crate::Error::OtherSystem { backend, .. } if backend == name), "{error}");
            assert!(error.to_string().contains(needs), "{error}");
        }
        assert!(!paths.settings_file().exists());
    }
}
