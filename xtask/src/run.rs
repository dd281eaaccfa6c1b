//! `cargo xtask run`: from a fresh clone to an open Berth.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Error;
use crate::setup::{self, Purpose};
use crate::workspace::{Profile, Workspace};
use crate::{appliance, build, out, process};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    serve: bool,
    profile: Profile,
    data: Option<PathBuf>,
    engine: Option<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Error> {
        let mut options = Self { serve: false, profile: Profile::Debug, data: None, engine: None };
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            let mut value = || {
                inline
                    .or_else(|| arguments.next())
                    .filter(|value| !value.is_empty())
                    .ok_or_else(|| Error::Usage { problem: format!("`{name}` needs a value") })
            };
            match name {
                "--serve" if inline.is_none() => options.serve = true,
                "--release" if inline.is_none() => options.profile = Profile::Release,
                "--data" => {
                    let folder = value()?;
                    let path = std::path::absolute(folder).map_err(Error::file("find", folder))?;
                    options.data = Some(path);
                }
                "--engine" => options.engine = Some(value()?.to_owned()),
                _ => return Err(Error::Usage { problem: format!("`run` does not know `{argument}`") }),
            }
        }
        Ok(options)
    }

    fn data_arguments(&self) -> Vec<OsString> {
        match &self.data {
            Some(folder) => vec!["--data".into(), folder.into()],
            None => Vec::new(),
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = self.data_arguments();
        if let Some(engine) = &self.engine {
            arguments.extend(["--engine".into(), engine.into()]);
        }
        arguments
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<(), Error> {
    let window = !options.serve && has_display();
    let bundled = options.engine.is_none();

    let mut purposes = vec![Purpose::Build, Purpose::Browser];
    if bundled {
        purposes.push(Purpose::Engine);
    }
    if window {
        purposes.push(Purpose::Desktop);
    }
    setup::ensure(workspace, &purposes)?;
    build::node_modules(workspace, "ui")?;
    build::ui(workspace)?;
    let appliance = if bundled { Some(appliance::ensure(workspace)?) } else { None };
    let mut packages = build::COMMAND.to_vec();
    if window {
        packages.push(build::DESKTOP);
    }
    build::programs(workspace, options.profile, &packages)?;

    let berth = workspace.binary("berth", options.profile);
    let command = |program: &PathBuf| {
        let mut command = workspace.command(program);
        if let Some(appliance) = &appliance {
            command.env("BERTH_APPLIANCE", appliance);
        }
        command
    };
    if bundled {
        out::step("starting the engine");
        let started = process::run(command(&berth).args(["engine", "start"]).args(options.data_arguments()));
        if let Err(error) = started {
            // The interface shows why and offers to try again, so it opens all the same.
            out::step(error.report());
        }
    }
    let mut shell = if window {
        command(&workspace.binary("berth-desktop", options.profile))
    } else {
        if !options.serve {
            out::step("there is no display: serving to a browser instead");
        }
        let mut serve = command(&berth);
        serve.arg("serve");
        serve
    };
    process::become_program(shell.args(options.arguments()))
}

/// Whether a window can be shown. Only Linux has machines without.
fn has_display() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_and_values_are_read() -> Result<(), Error> {
        let options = parse("--serve --data /tmp/x --engine=unix:///run/docker.sock")?;
        assert!(options.serve);
        assert_eq!(options.arguments(), ["--data", "/tmp/x", "--engine", "unix:///run/docker.sock"]);
        assert_eq!(options.data_arguments(), ["--data", "/tmp/x"], "the bundled engine takes no other engine");
        Ok(())
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse("--data").is_err(), "a value is missing");
        assert!(parse("--serve=yes").is_err(), "a flag has no value");
        assert!(parse("fast").is_err());
    }
}
