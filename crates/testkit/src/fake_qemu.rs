//! A fake QEMU, for what a real one cannot be made to show: a greeting that comes late or not at all, an end in the
//! middle of a start, an accelerator that gives up, a full host.
//!
//! [`place`] puts it into a folder under QEMU's name, next to its script: so it can be given as a program, or the
//! folder can be put into PATH. It speaks as much QMP as is asked of it on its standard input, which must be a socket
//! (`-chardev socket,id=qmp,fd=0`), its console is its standard output, and it makes the agent's socket.

mod guest;
mod play;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use play::run;

const NAME: &str = "qemu-system-x86_64";
const BINARIES: [&str; 2] = ["fake-qemu", "examples/fake_qemu"];

/// What a fake QEMU does; by default all that a good one does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// What it says after `QEMU emulator version`.
    pub version: Option<String>,
    /// It was built without seccomp.
    pub no_sandbox: bool,
    /// How it greets.
    pub greeting: Greeting,
    /// Milliseconds before it greets.
    pub greeting_delay: u64,
    /// Where it ends by itself, if anywhere.
    pub crash: Option<Crash>,
    /// Commands that it neither does nor answers.
    pub deaf_to: Vec<String>,
    /// Commands that it refuses.
    pub refuses: Vec<String>,
    /// What the guest prints when it runs.
    pub console: Vec<String>,
    /// Events, in this order, once the guest runs.
    pub events: Vec<Event>,
    /// How the guest ends after that, if it does.
    pub ending: Option<Ending>,
    /// Who speaks on the agent's port.
    pub agent: Agent,
    /// What a guest does that is to try an accelerator.
    pub canary: Canary,
    /// How the guest prints, crashes and ends is that of one whose system image is in this folder, where no agent comes
    /// to be; every other one is good.
    pub only_with: Option<PathBuf>,
    /// A socket that is made when the guest runs, on which a test says what happens next: see [`Remote`].
    pub remote: bool,
}

/// The first line on the control connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Greeting {
    /// As QEMU does it.
    #[default]
    Right,
    /// JSON, but another program's.
    Wrong,
    /// No JSON.
    Garbage,
    /// A line without end.
    Endless,
    /// Nothing at all.
    Silent,
}

/// A line of JSON on the socket that [`remote`] names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remote {
    /// An event.
    Event(Event),
    /// The guest ends.
    Ending(Ending),
    /// QEMU ends by SIGABRT.
    Abort,
}

/// Where the program takes [`Remote`] lines while its guest runs.
#[must_use]
pub fn remote(program: &Path) -> PathBuf {
    beside(program, "remote")
}

/// Where a fake QEMU ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Before it greets.
    Start,
    /// When it has greeted.
    Greeted,
    /// Instead of answering `qmp_capabilities`.
    Negotiating,
    /// Instead of answering `cont`.
    Continuing,
    /// When the guest runs and everything of the script is done.
    Running,
}

/// How a fake QEMU ends by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// Where.
    pub stage: Stage,
    /// With which exit code; without one, by SIGABRT.
    pub code: Option<i32>,
    /// What it says on its standard error.
    #[serde(default)]
    pub says: String,
}

/// An event of QMP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `STOP`, `BLOCK_IO_ERROR`, …
    pub event: String,
    /// What it carries.
    #[serde(default)]
    pub data: Value,
    /// What `query-status` says from now on.
    #[serde(default)]
    pub status: Option<String>,
}

/// How the guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It powers off.
    PowerOff,
    /// It resets the machine, as a kernel does that gave up.
    Reset,
    /// It goes on, but the control connection ends.
    LosesControl,
}

/// Who speaks on the agent's port. Each connection begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agent {
    /// Everything comes back.
    #[default]
    Echo,
    /// Whoever listens on this socket.
    Socket(PathBuf),
    /// A program, by its standard input and output.
    Program(Vec<OsString>),
}

/// What a guest does that is to try an accelerator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canary {
    /// It says its word and ends with its code.
    #[default]
    Sings,
    /// QEMU hits an assertion.
    Aborts,
    /// Nothing ever happens.
    Hangs,
}

/// One start of a fake QEMU.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Its process.
    pub pid: u32,
    /// What it was given.
    pub arguments: Vec<String>,
}

/// Puts a fake QEMU with this script into a folder, in place of the one before, and returns its path.
///
/// # Errors
/// When the folder cannot be written, or the program was not built.
pub fn place(folder: &Path, script: &Script) -> io::Result<PathBuf> {
    let program = folder.join(NAME);
    std::fs::write(beside(&program, "json"), serde_json::to_vec_pretty(script)?)?;
    match std::fs::remove_file(&program) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(binary()?, &program)?;
    Ok(program)
}

/// Every start of the program so far, the questions for its version aside.
///
/// # Errors
/// When what it wrote down cannot be read.
pub fn starts(program: &Path) -> io::Result<Vec<Start>> {
    match std::fs::read_to_string(beside(program, "starts")) {
        Ok(text) => Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn beside(program: &Path, extension: &str) -> PathBuf {
    let mut path = program.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

/// The program itself: of the two there may be, this crate's and the one built with the tests of `berth-vm`, the newer.
fn binary() -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap_or(Path::new("/"));
    let built = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let binary =
        BINARIES.map(|name| folder.join(name)).into_iter().max_by_key(built).filter(|path| built(path).is_some());
    let sources = changed()?;
    binary.filter(|path| built(path).is_some_and(|built| built >= sources)).ok_or_else(|| {
        let missing = "the fake QEMU is not built, or is older than its sources: `cargo build -p berth-testkit`";
        io::Error::new(io::ErrorKind::NotFound, missing)
    })
}

/// When its sources were changed last.
fn changed() -> io::Result<SystemTime> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fake_qemu");
    let mut last = folder.with_extension("rs").metadata()?.modified()?;
    for entry in std::fs::read_dir(folder)? {
        last = last.max(entry?.metadata()?.modified()?);
    }
    Ok(last)
}
