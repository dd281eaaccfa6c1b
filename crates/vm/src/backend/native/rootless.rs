//! The engine without root: what the system must have for it, looked for before anything is started, and what it lacks
//! said with the way to get it.

mod cgroup;
mod identities;
mod missing;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::program;
use crate::error::Error;
use crate::paths::EnginePaths;
pub(crate) use cgroup::{Delegated, NotDelegated};
pub(crate) use identities::Identities;
use identities::System;
pub use missing::Missing;

const PROBE_PATIENCE: Duration = Duration::from_secs(20);
/// Ids that images use as a rule: nobody is 65534.
const USUAL: u64 = 65_535;

/// What the engine is started with where it is not root who starts it; none for root.
///
/// # Errors
///
/// Something is missing that every engine without root needs, or the data was made by another user.
pub(crate) fn check(paths: &EnginePaths) -> Result<Option<Identities>, Missing> {
    missing::others_data(paths.data())?;
    if nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    Identities::find(&System::this(), paths.data()).map(Some)
}

#[derive(Deserialize)]
struct Probe {
    overlay: bool,
}

/// Makes the namespaces once, as the engine will, and says what will not be as usual.
///
/// # Errors
///
/// They cannot be made, and nothing that was looked for says why.
pub(crate) async fn probe(paths: &EnginePaths, identities: &Identities) -> Result<Vec<String>, Error> {
    let folder = paths.logs().join("probe");
    let mut command = tokio::process::Command::from(apart("probe", identities, &folder)?);
    command.kill_on_drop(true);
    let output = match timeout(PROBE_PATIENCE, command.output()).await {
        Ok(output) => output.map_err(Error::system("starting berth-guest"))?,
        Err(_) => return Err(Missing::refused("it takes too long".to_owned()).into()),
    };
    if !output.status.success() {
        return Err(Missing::refused(said(&output.stderr)).into());
    }
    let found: Probe =
        serde_json::from_slice(&output.stdout).map_err(|error| Error::Protocol(format!("the probe: {error}")))?;
    let mut notes = Vec::new();
    if !found.overlay {
        notes.push(
            "images take much more room and time: layers cannot be mounted over each other without root here (that takes Linux 5.11 \
             and a local file system)"
                .to_owned(),
        );
    }
    if identities.spare() < USUAL {
        notes.push(format!(
            "images with owners above {} cannot be unpacked: this user has no more ids in /etc/subuid and /etc/subgid",
            identities.spare()
        ));
    }
    Ok(notes)
}

/// Which limits do not hold, and why.
pub(crate) fn limits(taken: Result<&Delegated, &NotDelegated>) -> Option<String> {
    match taken.map(Delegated::missing) {
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => {
            Some(format!("limits on {} do not hold: the system does not pass them on to this user", missing.join(", ")))
        }
        Err(why) => Some(format!(
            "limits on memory, processors and processes do not hold, containers cannot be paused, and their statistics are this \
             computer's: {why}"
        )),
    }
}

/// The room that something takes, in which there may be files of the engine's users.
pub(crate) fn measure(identities: &Identities, path: &Path) -> Result<u64, Error> {
    let output = ask("measure", identities, path)?;
    serde_json::from_slice(&output).map_err(|error| Error::Protocol(format!("the room of {}: {error}", path.display())))
}

/// Removes something in which there may be files of the engine's users.
pub(crate) fn remove(identities: &Identities, path: &Path) -> Result<(), Error> {
    ask("remove", identities, path).map(drop)
}

fn ask(verb: &str, identities: &Identities, path: &Path) -> Result<Vec<u8>, Error> {
    let output = apart(verb, identities, path)?.output().map_err(Error::system("starting berth-guest"))?;
    if output.status.success() { Ok(output.stdout) } else { Err(Missing::refused(said(&output.stderr)).into()) }
}

fn apart(verb: &str, identities: &Identities, path: &Path) -> Result<Command, Error> {
    let mut command = Command::new(program()?);
    command.arg(verb).args(identities.arguments()).arg(path).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn said(stderr: &[u8]) -> String {
    const LIMIT: usize = 2000;
    let text = String::from_utf8_lossy(stderr.get(..LIMIT).unwrap_or(stderr));
    text.trim().trim_start_matches("berth-guest: ").to_owned()
}
