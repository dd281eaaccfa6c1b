//! What an appliance is made from: the lists of `assets/appliance`, and for which processor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::error::{ApplianceError, at};

/// The recipe's files, in the order in which they enter the digest.
const FILES: [&str; 10] = [
    "boot-modules.txt",
    "keep.txt",
    "kernel.txt",
    "modules.txt",
    "packages.txt",
    "strip.txt",
    "suites.txt",
    "vm-keep.txt",
    "vm-strip.txt",
    "wsl.conf",
];
/// Goes into the digest: raise it when this code builds something else from the same recipe.
const BUILDER: &str = "3";

/// The processors there are appliances for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    pub(crate) fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "amd64" | "x86_64" => Some(Self::Amd64),
            "arm64" | "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's name, which is what a program finds in `std::env::consts::ARCH`.
    pub(super) fn rust(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    pub(super) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.rust())
    }

    pub(super) fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    /// What the kernel's file is called, and so what is in it.
    pub(super) fn kernel_file(self) -> &'static str {
        match self {
            Self::Amd64 => "vmlinux",
            Self::Arm64 => "Image",
        }
    }

    /// The first serial port of the machine it boots on.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}

#[derive(Debug)]
pub(super) struct Recipe {
    texts: BTreeMap<&'static str, String>,
    pub(super) architecture: Architecture,
    /// The only suite to try, instead of the recipe's.
    forced_suite: Option<String>,
}

impl Recipe {
    pub(super) fn read(
        folder: &Path,
        architecture: Architecture,
        forced_suite: Option<&str>,
    ) -> Result<Self, ApplianceError> {
        let mut texts = BTreeMap::new();
        for name in FILES {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).map_err(at(format!("reading {}", path.display())))?;
            texts.insert(name, text);
        }
        Ok(Self { texts, architecture, forced_suite: forced_suite.map(str::to_owned) })
    }

    /// A file as it is.
    pub(super) fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    /// The entries of one list: comments and blank lines are not entries.
    pub(super) fn entries(&self, name: &str) -> Vec<&str> {
        let lines = self.text(name).lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    pub(super) fn suites(&self) -> Vec<&str> {
        self.forced_suite.as_deref().map_or_else(|| self.entries("suites.txt"), |suite| vec![suite])
    }

    /// The package of the newest kernel.
    pub(super) fn kernel(&self) -> String {
        let name = self.entries("kernel.txt").first().copied().unwrap_or_default();
        name.replace("{architecture}", self.architecture.debian())
    }

    /// What the kernel is told in any case; who starts the machine adds keys of its own.
    pub(super) fn command_line(&self) -> String {
        // A panic ends the machine, and the supervisor sees it. Nothing but our own engine runs in this kernel, and
        // the host's mitigations guard the host. A fifth level of page tables is for more memory than any host has, and
        // costs an emulated start a tenth of its time.
        let pages = match self.architecture {
            Architecture::Amd64 => " no5lvl",
            Architecture::Arm64 => "",
        };
        format!("console={} quiet panic=-1 mitigations=off{pages}", self.architecture.console())
    }

    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("builder {BUILDER}\narchitecture {}\n", self.architecture.rust()));
        if let Some(suite) = &self.forced_suite {
            hash.update(format!("suite {suite}\n"));
        }
        for name in FILES {
            hash.update(format!("file {name}\n"));
            for entry in self.entries(name) {
                hash.update(format!("{entry}\n"));
            }
        }
        hexadecimal(&hash.finalize())
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `name` is what `pattern` describes, `*` standing for any text.
pub(super) fn wildcard(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(index, _)| index)
                .chain([rest.len()])
                .any(|index| rest.get(index..).is_some_and(|tail| wildcard(after, tail)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> Recipe {
        Recipe {
            texts: FILES.into_iter().map(|name| (name, text.to_owned())).collect(),
            architecture: Architecture::Amd64,
            forced_suite: None,
        }
    }

    #[test]
    fn comments_do_not_change_the_key() {
        let plain = recipe("one\ntwo\n").digest();
        assert_eq!(plain, recipe("# why\none\n\ntwo\n").digest());
        assert_ne!(plain, recipe("one\n").digest());
        assert_eq!(plain.len(), 64);
    }

    #[test]
    fn another_processor_or_suite_is_another_appliance() {
        let plain = recipe("one");
        let digest = plain.digest();
        let foreign = Recipe { architecture: Architecture::Arm64, ..recipe("one") };
        let forced = Recipe { forced_suite: Some("trixie".to_owned()), ..recipe("one") };
        assert_ne!(digest, foreign.digest());
        assert_ne!(digest, forced.digest());
        assert_eq!(forced.suites(), ["trixie"]);
        assert_eq!(plain.suites(), ["one"]);
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(wildcard("perl*", "perl5.42"));
        assert!(wildcard("rc*.d", "rc0.d"));
        assert!(wildcard("*", "x86_64-linux-gnu"));
        assert!(!wildcard("rc*.d", "rc.local"));
        assert!(!wildcard("ctr", "ctr2"));
    }
}
