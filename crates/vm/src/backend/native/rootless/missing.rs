//! What an engine without root can lack, and how to get it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What keeps the engine from running without root. Each text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// The kernel was built without them.
    #[error("the engine needs user namespaces to run without root, and this kernel has none; {}", self.fix())]
    UserNamespaces,
    /// The kernel has them and is told not to make any.
    #[error(
        "the engine needs user namespaces to run without root, and this system is set not to make them ({name} is {value}); {}",
        self.fix()
    )]
    Forbidden {
        /// The setting.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// This process and all it starts may never get more rights.
    #[error("this process may not start programs that have more rights than it (no_new_privs), and mapping ids takes one; {}", self.fix())]
    NoNewPrivileges,
    /// The program that maps ids is not installed.
    #[error("`{name}` is missing, which maps the ids of an engine without root; {}", self.fix())]
    Program {
        /// Its name.
        name: &'static str,
    },
    /// It is installed and has not the rights it needs.
    #[error("{} cannot map ids: {why}; {}", path.display(), self.fix())]
    Powerless {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The system has set no ids aside for this user.
    #[error("{file} sets no ids aside for {user}, and the users in containers need some; {}", self.fix())]
    Range {
        /// The file that says nothing.
        file: &'static str,
        /// The user.
        user: String,
        /// Ids that nobody has so far: the first of them.
        free: u32,
    },
    /// Files there cannot belong to other ids.
    #[error("{} is on another computer ({kind}), where files cannot belong to the ids of an engine without root; {}", path.display(), self.fix())]
    NetworkFolder {
        /// The data folder.
        path: PathBuf,
        /// The kind of its file system.
        kind: &'static str,
    },
    /// The engine of the folder is somebody else's.
    #[error("the data in {} belongs to user {owner}, whose engine it is; {}", path.display(), self.fix())]
    OthersData {
        /// The folder.
        path: PathBuf,
        /// The number of its owner.
        owner: u32,
    },
    /// AppArmor takes all rights from whoever makes one.
    #[error("AppArmor keeps programs without a profile from using user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1): {why}; {}", self.fix())]
    AppArmor {
        /// What was seen.
        why: String,
        /// The program that needs a profile.
        program: PathBuf,
    },
    /// Everything seems to be there.
    #[error("a user namespace like the engine's could not be made: {why}; {}", self.fix())]
    Refused {
        /// What was seen.
        why: String,
    },
}

impl Missing {
    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        const OTHERWISE: &str = "or start the engine as root, or in a machine of its own (`--backend qemu`)";
        match self {
            Self::UserNamespaces => {
                "use a kernel with CONFIG_USER_NS, start the engine as root, or in a machine of its own (`--backend qemu`)"
                    .to_owned()
            }
            Self::Forbidden { name, wanted, .. } => format!(
                "as root: `sysctl -w {name}={wanted}`, and the same line without `sysctl -w` in a file of /etc/sysctl.d to keep it, \
                 {OTHERWISE}"
            ),
            Self::NoNewPrivileges => format!("start Berth from an ordinary session, {OTHERWISE}"),
            Self::Program { .. } => format!(
                "install the package `uidmap` (Debian, Ubuntu), `shadow-utils` (Fedora) or `shadow` (Arch), {OTHERWISE}"
            ),
            Self::Powerless { path, .. } => format!(
                "install the package it comes with again, or as root: `chmod u+s {}` on a file system that is not mounted with nosuid",
                path.display()
            ),
            Self::Range { user, free, .. } => {
                let last = free.saturating_add(65_535);
                format!("as root: `usermod --add-subuids {free}-{last} --add-subgids {free}-{last} {user}`, {OTHERWISE}")
            }
            Self::NetworkFolder { .. } => "name a folder on a disk of this computer with --data".to_owned(),
            Self::OthersData { owner: 0, .. } => {
                "start it as root (`sudo berth engine …`), or name another folder with --data".to_owned()
            }
            Self::OthersData { .. } => "start it as that user, or name another folder with --data".to_owned(),
            Self::AppArmor { program, .. } => format!(
                "as root, put `abi <abi/4.0>, profile berth-guest {} flags=(unconfined) {{ userns, }}` into /etc/apparmor.d/berth-guest \
                 and load it with `apparmor_parser -r /etc/apparmor.d/berth-guest`, {OTHERWISE}",
                program.display()
            ),
            Self::Refused { .. } => format!("look whether a container or a security module forbids it, {OTHERWISE}"),
        }
    }

    /// Why it was refused, as far as it can be told.
    pub(super) fn refused(why: String) -> Self {
        let restricted = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
        match (restricted.as_deref().map(str::trim), super::program()) {
            (Ok("1"), Ok(program)) => Self::AppArmor { why, program },
            _ => Self::Refused { why },
        }
    }
}

/// Refuses data that the engine of another user made: its files belong to other ids.
pub(super) fn others_data(data: &Path) -> Result<(), Missing> {
    let path = data.join("docker");
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.uid() != nix::unistd::geteuid().as_raw() => {
            Err(Missing::OthersData { path, owner: metadata.uid() })
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let owner = fs::symlink_metadata(data).map_or(0, |metadata| metadata.uid());
            Err(Missing::OthersData { path: data.to_path_buf(), owner })
        }
        _ => Ok(()),
    }
}

/// The kind of a file system that is on another computer.
pub(super) fn network_kind(path: &Path) -> Option<&'static str> {
    // The numbers are the kernel's, and have no names in the libraries.
    const KINDS: [(u32, &str); 6] = [
        (0x6969, "NFS"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x517b, "SMB"),
        (0x5346_414f, "AFS"),
        (0x0102_1997, "9P"),
    ];
    let existing = path.ancestors().find(|path| path.exists())?;
    let kind = rustix::fs::statfs(existing).ok()?.f_type;
    let kind = u32::try_from(kind & 0xffff_ffff).ok()?;
    KINDS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}
