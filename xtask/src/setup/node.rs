//! Node.js and npm, which build the interface and run the scripts.

use crate::error::Error;
use crate::process;
use crate::workspace::Workspace;

const LEAST: u32 = 20;

/// The Debian packages to install when there is no Node.js at all.
pub(super) fn missing() -> Vec<&'static str> {
    [("node", "nodejs"), ("npm", "npm")]
        .into_iter()
        .filter(|(program, _)| process::find(program).is_none())
        .map(|(_, package)| package)
        .collect()
}

/// Fails when Node.js is absent or too old for the interface's tools.
pub(super) fn check(workspace: &Workspace) -> Result<(), Error> {
    let missing = missing();
    if !missing.is_empty() {
        return Err(Error::LacksPackages {
            lacking: missing.join(" "),
            why: "it is not installed by itself here",
            fix: format!("install Node.js {LEAST} or newer with npm, and try again"),
        });
    }
    let version = process::capture(workspace.command("node").arg("--version"))?;
    match major(&version) {
        Some(found) if found >= LEAST => Ok(()),
        _ => Err(Error::OldNode { found: version.trim().to_owned(), least: LEAST }),
    }
}

fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v9.1.0"), Some(9));
        assert_eq!(major("nonsense"), None);
    }
}
