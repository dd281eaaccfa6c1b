//! Programs that xtask starts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::Error;

/// Runs a program with our own output, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(|source| Error::Spawn { command: describe(command), source })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: describe(command), status: status.to_string() })
}

/// Runs a program and gives back what it wrote to stdout.
pub(crate) fn capture(command: &mut Command) -> Result<String, Error> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::FailedQuietly {
        command: describe(command),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// What a program wrote, whatever its exit code.
pub(crate) fn output(command: &mut Command) -> Result<Output, Error> {
    command.stdin(Stdio::null()).output().map_err(|source| Error::Spawn { command: describe(command), source })
}

/// Whether a program starts and ends well; says nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    output(command).is_ok_and(|output| output.status.success())
}

/// Becomes the program, so that signals and the exit code are its own. Returns only when that failed.
#[cfg(unix)]
pub(crate) fn become_program(command: &mut Command) -> Result<(), Error> {
    use std::os::unix::process::CommandExt as _;
    let source = command.exec();
    Err(Error::Spawn { command: describe(command), source })
}

/// Runs the program in the foreground until it ends.
#[cfg(not(unix))]
pub(crate) fn become_program(command: &mut Command) -> Result<(), Error> {
    run(command)
}

/// The command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Where a program is, on PATH or in the folders of system programs that PATH often leaves out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).find_map(|folder| find_in(&folder, program))
}

/// A program in one folder.
pub(crate) fn find_in(folder: &Path, program: &str) -> Option<PathBuf> {
    let candidate = folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    candidate.is_file().then_some(candidate)
}
