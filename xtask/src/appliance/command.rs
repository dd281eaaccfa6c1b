//! Running the system's tools: quiet when they work, with their last words when they do not.

use std::process::{Command, Output, Stdio};

use super::error::{ApplianceError, at};
use crate::process;

/// Lines of a failed command's output that are worth showing.
const LAST_WORDS: usize = 12;

/// The tools a build runs and the Debian packages that hold them.
const TOOLS: [(&str, &str); 9] = [
    ("apt-get", "apt"),
    ("cp", "coreutils"),
    ("depmod", "kmod"),
    ("dpkg-deb", "dpkg"),
    ("mkfs.erofs", "erofs-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

pub(super) fn require_tools() -> Result<(), ApplianceError> {
    for (command, package) in TOOLS {
        if process::find(command).is_none() {
            return Err(ApplianceError::MissingCommand { command, package });
        }
    }
    Ok(())
}

pub(super) fn is_root() -> Result<bool, ApplianceError> {
    let output = Command::new("id").arg("-u").output().map_err(at("asking who runs this (`id -u`)"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "0")
}

/// A tool by its name, also when it is in a folder that PATH leaves out.
pub(super) fn tool(name: &str) -> Command {
    let mut command = Command::new(process::find(name).unwrap_or_else(|| name.into()));
    // The order of sorted names and the language of messages are the same everywhere.
    command.env("LC_ALL", "C");
    command
}

/// Runs a command to its end and gives back what it wrote to stdout.
pub(super) fn run(command: &mut Command) -> Result<Vec<u8>, ApplianceError> {
    let output = output(command)?;
    if output.status.success() { Ok(output.stdout) } else { Err(failure(command, &output.stderr)) }
}

/// What a command wrote, whatever its exit code.
pub(super) fn output(command: &mut Command) -> Result<Output, ApplianceError> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().map_err(at(format!("starting {name}")))
}

pub(super) fn failure(command: &Command, stderr: &[u8]) -> ApplianceError {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    let output = lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n");
    let mut words = process::describe(command);
    // A list of a hundred packages says nothing about why.
    if let Some((cut, _)) = words.char_indices().nth(200) {
        words.truncate(cut);
        words.push('…');
    }
    ApplianceError::CommandFailed { command: words, output }
}
