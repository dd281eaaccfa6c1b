//! Why there is no appliance.

use std::io;
use std::path::PathBuf;

use crate::error::Error;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplianceError {
    #[error("the appliance cannot be built: `{command}` is not installed; install it with `apt-get install {package}`")]
    MissingCommand { command: &'static str, package: &'static str },
    #[error(
        "this user cannot do it: packages are unpacked with their owners, which only root may; run it through `sudo -E`"
    )]
    NotRoot,
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("`{command}` failed:\n{output}")]
    CommandFailed { command: String, output: String },
    #[error(
        "no suite of assets/appliance/suites.txt could be installed; is the package archive reachable?{}",
        tried.iter().map(|(suite, why)| format!("\n{suite}: {why}")).collect::<String>()
    )]
    NoSuite { tried: Vec<(String, String)> },
    #[error("{what} lacks {}; a line of assets/appliance/{by} takes too much", missing.join(", "))]
    Incomplete { what: &'static str, missing: Vec<String>, by: &'static str },
    #[error("the archive describes no kernel `{package}`; does assets/appliance/kernel.txt name one that it has?")]
    NoKernel { package: String },
    #[error("the kernel {} cannot be used: {why}", path.display())]
    BadKernel { path: PathBuf, why: String },
    #[error(
        "the kernel {release} has no module {}; assets/appliance/modules.txt and boot-modules.txt ask for it",
        modules.join(", ")
    )]
    NoModules { release: String, modules: Vec<String> },
    #[error("{} is not what it has to be: {why}", path.display())]
    BadProgram { path: PathBuf, why: String },
    #[error("two builds from the same inputs differ in {}", files.join(", "))]
    NotReproducible { files: Vec<String> },
    #[error("{} is not what the builder of this version writes: {why}; run `cargo xtask appliance --force`", path.display())]
    BadRecord { path: PathBuf, why: String },
}

impl From<ApplianceError> for Error {
    fn from(source: ApplianceError) -> Self {
        Self::Appliance { source: Box::new(source) }
    }
}

/// Turns an I/O error into one that says what was being done.
pub(super) fn at(what: impl Into<String>) -> impl FnOnce(io::Error) -> ApplianceError {
    let what = what.into();
    move |source| ApplianceError::Io { what, source }
}
