//! Why a developer command stopped: what happened, why, and what to do about it.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{problem}")]
    Usage { problem: String },
    #[error("could not start `{command}`")]
    Spawn { command: String, source: io::Error },
    #[error("`{command}` failed ({status})")]
    Failed { command: String, status: String },
    /// With the last of what it said.
    #[error("`{command}` failed ({status})")]
    FailedAfter { command: String, status: String, lines: Vec<String> },
    #[error("`{command}` failed ({status}): {output}")]
    FailedQuietly { command: String, status: String, output: String },
    #[error("could not {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is missing, and {needed_for} needs it", path.display())]
    Missing { path: PathBuf, needed_for: String },
    #[error("{} has an unexpected shape: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
    #[error("this system lacks {lacking}, and {why}")]
    LacksPackages { lacking: String, why: &'static str, fix: String },
    #[error("Node.js {found} is too old: Berth needs version {least} or newer")]
    OldNode { found: String, least: u32 },
    #[error("no dockerd for the tests against an old engine: {why}")]
    NoOldEngine { why: String, fix: &'static str },
    #[error("the TypeScript in ui/src/wire does not match crates/wire: {}", differences.join(", "))]
    WireDiffers { differences: Vec<String> },
    #[error("{0}")]
    Wire(#[from] berth_wire::TypeScriptError),
    #[error("{count} {} to tidy", if *count == 1 { "thing" } else { "things" })]
    Untidy { count: usize },
    #[error("cargo could not describe the workspace")]
    Metadata(#[from] cargo_metadata::Error),
    #[error("the appliance could not be built")]
    Appliance { source: Box<dyn std::error::Error> },
    #[error("{step} did not work earlier in this run, and this needs it")]
    Prerequisite { step: &'static str },
    #[error("{} of {total} scripts failed", failed.len())]
    Scripts { failed: Vec<Error>, total: usize },
    #[error("{failed} of {total} groups failed")]
    Groups { failed: usize, total: usize },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// What a person can do about it, when there is something to say.
    pub(crate) fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Usage { .. } => "run `cargo xtask help` to see what there is".to_owned(),
            Self::Spawn { command, source } if source.kind() == io::ErrorKind::NotFound => {
                let program = command.split(' ').next().unwrap_or(command);
                format!("install `{program}`, or put it on PATH, and try again")
            }
            Self::Failed { command, .. } | Self::FailedAfter { command, .. } => {
                format!("its own words are above; run `{command}` alone to see it again")
            }
            Self::Missing { .. } => "restore it with `git checkout`, or write it if it is new".to_owned(),
            Self::LacksPackages { fix, .. } => fix.clone(),
            Self::OldNode { least, .. } => {
                format!("install Node.js {least} or newer, from nodejs.org or with a version manager, and try again")
            }
            Self::NoOldEngine { fix, .. } => (*fix).to_owned(),
            Self::WireDiffers { .. } => "run `cargo xtask gen` and commit what changed in ui/src/wire".to_owned(),
            Self::Untidy { .. } => "each line above says what to change; `cargo xtask tidy` checks again".to_owned(),
            Self::Metadata(_) => "run `cargo metadata --no-deps` to see what cargo says in full".to_owned(),
            Self::Prerequisite { .. } => "see the first failure above".to_owned(),
            _ => return None,
        })
    }

    /// The message with the reasons behind it, and what to do on a line of its own.
    pub(crate) fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let reason = error.to_string();
            if !text.ends_with(&reason) {
                text.push_str(": ");
                text.push_str(&reason);
            }
            cause = error.source();
        }
        if let Some(fix) = self.fix() {
            text.push_str("\n  fix: ");
            text.push_str(&fix);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_why_and_what_to_do() {
        let error = Error::Spawn { command: "npm ci".to_owned(), source: io::Error::from(io::ErrorKind::NotFound) };
        let report = error.report();
        assert!(report.starts_with("could not start `npm ci`: "), "what comes first: {report}");
        assert!(report.contains("fix: install `npm`"), "the fix names the program alone: {report}");
    }
}
