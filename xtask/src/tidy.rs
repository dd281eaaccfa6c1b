//! `cargo xtask tidy`: the rules of the architecture that neither compiler nor clippy knows.

mod dependencies;
mod mask;
mod text;

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{build, out};

/// Something to change, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks the whole clone.
pub(crate) fn tidy(workspace: &Workspace) -> Result<(), Error> {
    let mut findings = dependencies::check(workspace)?;
    let files = sources(workspace.root())?;
    for path in &files {
        let content = std::fs::read(path).map_err(Error::file("read", path))?;
        let relative = path.strip_prefix(workspace.root()).unwrap_or(path).to_string_lossy().replace('\\', "/");
        findings.extend(text::check(&relative, &String::from_utf8_lossy(&content)));
    }
    findings.sort();
    for finding in &findings {
        out::line(finding.to_string());
    }
    if findings.is_empty() {
        out::line(format!("{} files and the dependencies between the crates are tidy", files.len()));
        return Ok(());
    }
    Err(Error::Untidy { count: findings.len() })
}

/// The files that people write. What is generated, downloaded or built is none of our business.
fn sources(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let skipped =
        ["target", "node_modules", "dist", ".git", "artifacts", "coverage", "test-results", ".svelte-kit", "gen"];
    let mut files = Vec::new();
    build::collect_files(root, &skipped, &mut files)?;
    files.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        text::EXTENSIONS.contains(&extension)
    });
    Ok(files)
}
