//! `wsl.exe`: found, run, and asked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use crate::error::Error;
use crate::text;

const NAME: &str = "wsl.exe";
/// What is kept of what it says.
const LIMIT: u64 = 256 << 10;
/// And what of that is shown.
const SAID: usize = 400;
/// A question starts WSL's service, and may find Windows busy with an update of it.
const QUESTION: Duration = Duration::from_secs(60);

/// A `wsl.exe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

/// What it said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code: a Linux program's own, from 0 to 255, or one of `wsl.exe`.
    pub code: i32,
    /// What it wrote, up to 256 KiB.
    pub text: String,
    /// What it wrote as errors, up to as much.
    pub errors: String,
}

impl Output {
    /// Its last words on one line, without what a terminal would obey.
    pub(crate) fn said(&self) -> String {
        let all = format!("{} {}", self.text.trim(), self.errors.trim());
        let words: Vec<&str> = all.split_whitespace().collect();
        let line: Vec<char> = words.join(" ").chars().filter(|character| !character.is_control()).collect();
        line.iter().skip(line.len().saturating_sub(SAID)).collect()
    }
}

impl Program {
    /// The one that comes with Windows, or another that is named.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn find(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.map_or_else(of_windows, Path::to_path_buf);
        if path.is_file() { Ok(Self { path }) } else { Err(Error::Missing { looked_in: path }) }
    }

    /// Whether it can have distributions of version 2 at all, as far as exit codes tell.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub async fn check(&self) -> Result<(), Error> {
        if self.run(["--version"], QUESTION).await?.code == 0 {
            return Ok(());
        }
        let status = self.run(["--status"], QUESTION).await?;
        match Error::refused("wsl --status", "", &status) {
            _ if status.code == 0 => Err(Error::Old),
            error @ Error::VirtualizationOff { .. } => Err(error),
            _ => Err(Error::NotInstalled { code: status.code }),
        }
    }

    /// The names of all distributions of this user, whoever made them.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub async fn names(&self) -> Result<Vec<String>, Error> {
        self.list(&["--list", "--quiet"]).await
    }

    /// The names of those that run.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub async fn running(&self) -> Result<Vec<String>, Error> {
        self.list(&["--list", "--quiet", "--running"]).await
    }

    async fn list(&self, question: &[&str]) -> Result<Vec<String>, Error> {
        let output = self.run(question, QUESTION).await?;
        if output.code != 0 {
            // That there is none is an error to it, told in words; what else is wrong shows here.
            self.check().await?;
            return Ok(Vec::new());
        }
        Ok(text::names(&output.text))
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// It cannot be run, or does not end in time; it is then ended.
    pub async fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        patience: Duration,
    ) -> Result<Output, Error> {
        let mut command = self.command(arguments);
        let what = words(&command);
        let spawn = |source| Error::Spawn { path: self.path.clone(), source };
        let mut child = command.stdin(Stdio::null()).spawn().map_err(spawn)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ended = async { tokio::join!(bounded(out), bounded(err), child.wait()) };
        let Ok((out, err, status)) = timeout(patience, ended).await else {
            return Err(Error::TimedOut { what, seconds: patience.as_secs() });
        };
        let status = status.map_err(spawn)?;
        let output = Output { code: status.code().unwrap_or(-1), text: text::decode(&out), errors: text::decode(&err) };
        tracing::debug!(what, output.code, said = output.said(), "wsl");
        Ok(output)
    }

    /// It with these arguments, not started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).env("WSL_UTF8", "1").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(windows)]
        {
            /// Else a console appears for a moment.
            const CREATE_NO_WINDOW: u32 = 0x0800_0000;
            command.creation_flags(CREATE_NO_WINDOW);
        }
        // A Ctrl-C at a terminal is for the supervisor, which then stops things in order.
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// What it was asked, for an error.
pub(crate) fn words(command: &Command) -> String {
    let command = command.as_std();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once("wsl".to_owned()).chain(words).take(6).collect::<Vec<_>>().join(" ")
}

fn of_windows() -> PathBuf {
    let windows = std::env::var_os("SystemRoot").map_or_else(|| PathBuf::from(r"C:\Windows"), PathBuf::from);
    windows.join("System32").join(NAME)
}

/// The beginning of it. The rest is read and dropped, so that it can end.
async fn bounded(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(from) = from {
        let mut beginning = from.take(LIMIT);
        let _ = beginning.read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut beginning.into_inner(), &mut tokio::io::sink()).await;
    }
    kept
}
