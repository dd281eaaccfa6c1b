//! Programs that xtask starts.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::error::Error;

/// Runs a program with our own output, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(|source| Error::Spawn { command: describe(command), source })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: describe(command), status: status.to_string() })
}

/// How many of a failed program's last lines are remembered, and how many bytes of each.
const LAST_LINES: usize = 60;
const LINE: u64 = 2000;
/// How long the output of a program that has ended is waited for.
const LEFT_OPEN: Duration = Duration::from_secs(5);

/// Runs a program like [`run`], and where no person watches remembers its last lines for when it fails: whoever reads the end
/// of a long output alone then still learns why.
pub(crate) fn run_remembered(command: &mut Command) -> Result<(), Error> {
    // At a terminal a program shows colours and how far it is.
    if io::stdout().is_terminal() { run(command) } else { remember(command) }
}

fn remember(command: &mut Command) -> Result<(), Error> {
    let described = describe(command);
    let spawned = |source| Error::Spawn { command: described.clone(), source };
    let (reader, writer) = io::pipe().map_err(spawned)?;
    command.stdout(writer.try_clone().map_err(spawned)?).stderr(writer);
    let mut child = command.spawn().map_err(spawned)?;
    // The command keeps its ends of the pipe, and with them the pipe open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (done, passed) = mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(pass_on(reader)));
    let status = child.wait().map_err(spawned)?;
    // What it leaves running may hold the pipe for good.
    let lines = passed.recv_timeout(LEFT_OPEN).unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    Err(Error::FailedAfter { command: described, status: status.to_string(), lines })
}

/// Passes everything on until the end, and gives back the last lines of it.
fn pass_on(from: impl io::Read) -> Vec<String> {
    let mut from = BufReader::new(from);
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let mut line = Vec::new();
    while from.by_ref().take(LINE).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Nobody is left to be told if our own output is gone.
        let _ = io::stdout().write_all(&line);
        let _ = io::stdout().flush();
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    last.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_what_fails_are_remembered() {
        let script = "for i in $(seq 100); do echo line $i; done; echo why >&2; exit 3";
        let error = remember(Command::new("sh").args(["-c", script])).unwrap_err();
        let Error::FailedAfter { status, lines, .. } = error else { panic!("{error}") };
        assert!(status.contains('3'), "{status}");
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("why"));
        assert!(remember(Command::new("sh").args(["-c", "echo fine"])).is_ok());
    }
}
