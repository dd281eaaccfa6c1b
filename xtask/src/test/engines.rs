//! The group engine: the engines that its cases share, and what came of it all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::Error;
use crate::workspace::{Profile, Workspace};
use crate::{out, process};

/// The run fails when fewer operations than there are were called against a real engine.
const EVERY_OPERATION: bool = true;

const OPERATIONS: &str = "crates/engine/operations.txt";

/// Engines that run until this is dropped.
#[derive(Debug)]
pub(super) struct Engines {
    child: Child,
    /// They end when it is closed.
    stdin: Option<ChildStdin>,
    variables: Vec<(String, String)>,
}

impl Engines {
    /// Starts them and waits until they are ready. The command holds their environment.
    pub(super) fn start(command: &mut Command) -> Result<Self, Error> {
        out::step("starting the engines that the cases share");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let described = process::describe(command);
        let mut child = spawned.map_err(|source| Error::Spawn { command: described.clone(), source })?;
        let mut engines = Self { stdin: child.stdin.take(), variables: Vec::new(), child };
        let Some(stdout) = engines.child.stdout.take() else { return Ok(engines) };
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match line.split_once('=') {
                Some((name, value)) => engines.variables.push((name.to_owned(), value.to_owned())),
                None if line == "ready" => return Ok(engines),
                None => {}
            }
        }
        let status = engines.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Err(Error::Failed { command: described, status })
    }

    pub(super) fn environment(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Where the cases write what they did.
#[derive(Debug)]
pub(super) struct Record {
    cases: PathBuf,
    operations: PathBuf,
}

impl Record {
    pub(super) fn new(workspace: &Workspace) -> Result<Self, Error> {
        let folder = workspace.target("xtask/engine");
        std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let record = Self { cases: folder.join("cases"), operations: folder.join("operations") };
        for file in [&record.cases, &record.operations] {
            std::fs::write(file, "").map_err(Error::file("empty", file))?;
        }
        Ok(record)
    }

    pub(super) fn environment(&self, command: &mut Command) {
        command.env("BERTH_CASES_FILE", &self.cases).env("BERTH_OPERATIONS_FILE", &self.operations);
    }

    /// Says what came of it. Fails when not every operation was called and all must be.
    pub(super) fn report(&self, workspace: &Workspace) -> Result<(), Error> {
        out::line(cases(&read(&self.cases)?));
        let known = workspace.path(OPERATIONS);
        let (text, missing) = coverage(&read(&known)?, &read(&self.operations)?);
        out::line(text);
        if EVERY_OPERATION && missing > 0 {
            let problem = format!("{missing} operations of the API were called against no real engine");
            return Err(Error::Malformed { path: known, problem });
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::file("read", path))
}

/// A table of the cases of every engine, and what is declared to differ.
fn cases(record: &str) -> String {
    let mut engines: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut differing = BTreeSet::new();
    for line in record.lines() {
        let mut fields = line.split('\t');
        let (Some(engine), Some(case), Some(word)) = (fields.next(), fields.next(), fields.next()) else { continue };
        *engines.entry(engine).or_default().entry(word).or_default() += 1;
        if word == "differs" {
            differing.insert(format!("  {engine} {case}: {}", fields.next().unwrap_or_default()));
        }
    }
    let mut text = format!("\n{:<16}{:>8}{:>8}{:>8}\n", "cases on", "passed", "differ", "failed");
    for (engine, counts) in &engines {
        let count = |word| counts.get(word).copied().unwrap_or_default();
        text.push_str(&format!("{engine:<16}{:>8}{:>8}{:>8}\n", count("pass"), count("differs"), count("fail")));
    }
    if !differing.is_empty() {
        text.push_str("Declared differences:\n");
        differing.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text
}

/// How much of the API was called, and how much was not.
fn coverage(known: &str, called: &str) -> (String, usize) {
    let known: Vec<&str> =
        known.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().nth(2)).collect();
    let called: BTreeSet<&str> = called.lines().collect();
    let missing: Vec<&str> = known.iter().copied().filter(|id| !called.contains(id)).collect();
    let count = known.len() - missing.len();
    let mut text = format!("Operations of API 1.51 called against a real engine: {count} of {}", known.len());
    if !missing.is_empty() {
        text.push_str(&format!("\nNot called: {}", missing.join(" ")));
    }
    (text, missing.len())
}

/// The program that runs the engines.
pub(super) fn program(workspace: &Workspace) -> PathBuf {
    workspace.binary("test-engines", Profile::Debug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_that_nobody_called_are_named() {
        let known = "# a comment\nGET /a/{id} ThingInspect 1.24\nGET /a ThingList 1.24\n";
        let (text, missing) = coverage(known, "ThingList\nThingList\nUnknown\n");
        assert_eq!(missing, 1);
        assert!(text.contains("1 of 2") && text.contains("Not called: ThingInspect"), "{text}");
        assert_eq!(coverage(known, "ThingList\nThingInspect\n").1, 0);
    }

    #[test]
    fn differences_are_listed_with_their_reason() {
        let text = cases("podman\tswarm::init\tdiffers\tno swarm\npodman\ta::b\tpass\t\nbundled\ta::b\tfail\t\n");
        assert!(text.contains("podman swarm::init: no swarm"), "{text}");
        let row = |engine| text.lines().find(|line| line.starts_with(engine)).map(str::split_whitespace);
        assert!(row("podman").is_some_and(|row| row.eq(["podman", "1", "1", "0"])), "{text}");
        assert!(row("bundled").is_some_and(|row| row.eq(["bundled", "0", "0", "1"])), "{text}");
    }
}
