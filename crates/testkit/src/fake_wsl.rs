//! A fake `wsl.exe`, for what no Linux machine has and no real one can be made to show: distributions that are somebody
//! else's or vanish, a language that nobody here speaks, virtualization that is off.
//!
//! [`place`] puts it into a folder under its name, next to its script. Distributions are folders; what `--exec` runs
//! says the script: nothing but an echo, or the program itself, in namespaces of this kernel that are the machine of all
//! distributions (`Exec::Machine`, which takes root).

mod machine;
mod play;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use play::run;

const NAME: &str = "wsl.exe";
const BINARIES: [&str; 2] = ["fake-wsl", "examples/fake_wsl"];

/// What a fake `wsl.exe` does; by default all that a good one does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// It speaks German.
    pub german: bool,
    /// It writes UTF-16, whatever it is asked.
    pub utf16: bool,
    /// What calls end with that begin with this word, and what they say; nothing is done.
    pub refuses: Vec<Refusal>,
    /// Calls that never end, by their first word.
    pub hangs: Vec<String>,
    /// It is killed in the middle of an import: the distribution is registered, and is not whole.
    pub dies_importing: Option<String>,
    /// What runs in a distribution.
    pub exec: Exec,
}

/// A call that is refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Its first word, such as `--import`.
    pub call: String,
    /// The exit code.
    pub code: i32,
    /// The words.
    #[serde(default)]
    pub says: String,
}

/// What `--exec` does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exec {
    /// It says `began` as an error, and its input comes back until it ends.
    #[default]
    Echo,
    /// It says this as errors and ends.
    Ends(i32, String),
    /// Some program of the host, with what follows `--exec` behind its own arguments.
    Program(Vec<OsString>),
    /// The program itself.
    Machine,
}

/// One call of the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// What it was given.
    pub arguments: Vec<String>,
    /// It was asked for UTF-8.
    pub utf8: bool,
}

/// Puts a fake `wsl.exe` with this script into a folder, or gives the one there another script. Distributions stay.
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

/// Registers a distribution as another tool does it.
///
/// # Errors
/// When the folder cannot be written.
pub fn register(program: &Path, name: &str) -> io::Result<()> {
    play::State::of(program)?.register(name, &program.with_file_name(format!("of-{name}")))
}

/// Every call so far.
///
/// # Errors
/// When what it wrote down cannot be read.
pub fn calls(program: &Path) -> io::Result<Vec<Call>> {
    match std::fs::read_to_string(beside(program, "calls")) {
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

/// The program itself: of the two there may be, this crate's and the one built with the tests of `berth-wsl`, the newer.
fn binary() -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap_or(Path::new("/"));
    let built = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let newest =
        BINARIES.map(|name| folder.join(name)).into_iter().max_by_key(built).filter(|path| built(path).is_some());
    newest.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "the fake wsl.exe is not built: `cargo build -p berth-testkit`")
    })
}
