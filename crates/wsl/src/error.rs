//! Why `wsl.exe` did not do what was wanted.

use std::io;
use std::path::{Path, PathBuf};

use crate::program::Output;

const INSTALL: &str = "install it as administrator: `wsl --install --no-distribution`, then restart Windows";
const UPDATE: &str = "update it: `wsl --update`";
const VIRTUALIZATION: &str = "turn virtualization on in the computer's firmware (BIOS or UEFI), and in Windows the feature \
                              \"Virtual Machine Platform\": `wsl --install --no-distribution` as administrator";
const OTHER_NAME: &str = "it was left as it is; rename or remove it with the tool that made it, or use another data folder \
                          with --data";
const REGISTER: &str = "register it again: `wsl --import-in-place NAME FILE` with the two names above";
const FORGET: &str = "if it is nowhere else, begin with an empty engine: `berth engine reset --all`";
const AGAIN: &str = "start the engine again; if it stays so, restart Windows";
const REINSTALL: &str = "install Berth again";
const LOG: &str = "look at what it said, and start the engine again";
const MARK: &str = "restore it from a backup, or forget the engine: `berth engine reset --all`";

/// Why `wsl.exe` did not do what was wanted. Each text says what happened and ends with what to do, which
/// [`Error::fix`] gives apart.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error("the Windows Subsystem for Linux was not found ({}); {INSTALL}", looked_in.display())]
    Missing {
        /// Where it was looked for.
        looked_in: PathBuf,
    },
    /// The program is there and what it drives is not.
    #[error("the Windows Subsystem for Linux is not installed (`wsl --status` ended with {code}); {INSTALL}")]
    NotInstalled {
        /// Its exit code.
        code: i32,
    },
    /// It comes with Windows and knows no `--version`: it may have no version 2.
    #[error("this version of the Windows Subsystem for Linux is too old, or has WSL 1 only; {UPDATE}")]
    Old,
    /// There can be no machine.
    #[error(
        "Windows cannot start the machine of the Windows Subsystem for Linux: virtualization is off ({code}); {VIRTUALIZATION}"
    )]
    VirtualizationOff {
        /// Microsoft's name for it.
        code: &'static str,
    },
    /// A distribution of the name is there that Berth did not make.
    #[error("there is a distribution `{name}` that Berth did not make; {OTHER_NAME}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Somebody unregistered the distribution with the data, and its disk is still there.
    #[error("the distribution `{name}` is no longer registered, and its disk {} is still there; {REGISTER}", disk.display())]
    Unregistered {
        /// The name.
        name: String,
        /// Its disk.
        disk: PathBuf,
    },
    /// Somebody unregistered the distribution with the data, which removes its disk.
    #[error("the distribution `{name}` was unregistered, and its disk {} with all images, containers and volumes is gone; {FORGET}", disk.display())]
    DataGone {
        /// The name.
        name: String,
        /// Where its disk was.
        disk: PathBuf,
    },
    /// A distribution that was there a moment ago is not.
    #[error("the distribution `{name}` was unregistered; {AGAIN}")]
    Vanished {
        /// The name.
        name: String,
    },
    /// It takes for ever.
    #[error("`{what}` did not end within {seconds} s; {AGAIN}")]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It did not do it, for a reason of its own.
    #[error("`{what}` ended with {code}{}; {LOG}", also(said))]
    Refused {
        /// What was asked.
        what: String,
        /// Its exit code.
        code: i32,
        /// Its words, in the user's language.
        said: String,
    },
    /// It cannot be run.
    #[error("{} cannot be run: {source}; {AGAIN}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}; {AGAIN}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The system image is not what it has to be.
    #[error("the system image {} cannot be used: {why}; {REINSTALL}", path.display())]
    Archive {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What Berth wrote about its distributions cannot be understood.
    #[error("{} does not say which distributions are Berth's ({why}); {MARK}", path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Microsoft's names of errors, which are the same in every language and stand at the end of what `wsl.exe` says. They
/// only say more of what an exit code has said already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    VirtualizationOff(&'static str),
    NotInstalled,
    Old,
    NameTaken,
    Vanished,
}

const KNOWN: [(&str, Known); 10] = [
    ("HCS_E_HYPERV_NOT_INSTALLED", Known::VirtualizationOff("HCS_E_HYPERV_NOT_INSTALLED")),
    ("0x80370102", Known::VirtualizationOff("HCS_E_HYPERV_NOT_INSTALLED")),
    ("HCS_E_SERVICE_NOT_AVAILABLE", Known::VirtualizationOff("HCS_E_SERVICE_NOT_AVAILABLE")),
    ("0x80370114", Known::VirtualizationOff("HCS_E_SERVICE_NOT_AVAILABLE")),
    ("WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED", Known::NotInstalled),
    ("0x8007019e", Known::NotInstalled),
    // Its kernel is too old for version 2.
    ("0x800701bc", Known::Old),
    ("ERROR_ALREADY_EXISTS", Known::NameTaken),
    ("0x800700b7", Known::NameTaken),
    ("WSL_E_DISTRO_NOT_FOUND", Known::Vanished),
];

impl Error {
    /// What an exit code other than 0 means, of a call about a distribution.
    pub(crate) fn refused(what: &str, name: &str, output: &Output) -> Self {
        let said = output.said();
        match KNOWN.iter().find(|(word, _)| said.contains(word)).map(|(_, known)| *known) {
            Some(Known::VirtualizationOff(code)) => Self::VirtualizationOff { code },
            Some(Known::NotInstalled) => Self::NotInstalled { code: output.code },
            Some(Known::Old) => Self::Old,
            Some(Known::NameTaken) => Self::NameTaken { name: name.to_owned() },
            Some(Known::Vanished) => Self::Vanished { name: name.to_owned() },
            None => Self::Refused { what: what.to_owned(), code: output.code, said },
        }
    }

    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }

    /// What to do about it; the text ends with it.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::NotInstalled { .. } => INSTALL,
            Self::Old => UPDATE,
            Self::VirtualizationOff { .. } => VIRTUALIZATION,
            Self::NameTaken { .. } => OTHER_NAME,
            Self::Unregistered { .. } => REGISTER,
            Self::DataGone { .. } => FORGET,
            Self::Archive { .. } => REINSTALL,
            Self::Mark { .. } => MARK,
            Self::Refused { .. } => LOG,
            Self::Vanished { .. } | Self::TimedOut { .. } | Self::Spawn { .. } | Self::File { .. } => AGAIN,
        }
    }
}

fn also(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

#[cfg(test)]
mod tests {
    use super::{Error, Output};

    #[test]
    fn what_is_not_known_by_its_name_is_told_by_its_number() {
        let output = |errors: &str| Output { code: -1, text: String::new(), errors: errors.to_owned() };
        let of = |errors: &str| Error::refused("wsl --import", "berth", &output(errors));
        let off = of(
            "Der virtuelle Computer … Fehlercode: Wsl/Service/RegisterDistro/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED",
        );
        assert!(matches!(off, Error::VirtualizationOff { .. }), "{off}");
        assert!(matches!(of("WslRegisterDistribution failed: 0x8007019e"), Error::NotInstalled { .. }));
        assert!(matches!(of("x ERROR_ALREADY_EXISTS"), Error::NameTaken { .. }));
        let other = of("etwas anderes");
        assert!(matches!(&other, Error::Refused { code: -1, .. }), "{other}");
        assert!(other.to_string().ends_with(other.fix()));
    }
}
