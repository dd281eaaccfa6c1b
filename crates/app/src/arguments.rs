//! The flags that say where Berth keeps its data and which engine it shows, for every program that has them.

use std::ffi::OsStr;
use std::path::PathBuf;

use berth_engine::{Endpoint, InvalidEndpoint};
use berth_wire::Host;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command};

use crate::app::{Config, EngineChoice};

/// Where Berth keeps its data and which engine it shows.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Data folder; the user's own when left out.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Engine that exists already: unix:///path/to.sock or tcp://host:port. Left out: the one Berth brings.
    #[arg(long, value_name = "URL", value_parser = EndpointParser)]
    engine: Option<Endpoint>,
    /// Do not start the engine Berth brings; the page offers to.
    #[arg(long, conflicts_with = "engine")]
    no_start: bool,
}

/// Says what is wrong with an address and does not repeat it: people paste addresses with a password in them.
#[derive(Clone)]
struct EndpointParser;

impl TypedValueParser for EndpointParser {
    type Value = Endpoint;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Endpoint, clap::Error> {
        let refused = |error: InvalidEndpoint| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("--engine: {error}\n")).with_cmd(command)
        };
        value.to_string_lossy().parse().map_err(refused)
    }
}

impl Arguments {
    /// What was asked for, for a page that `host` shows.
    pub fn config(self, host: Host) -> Config {
        let engine = self.engine.map_or(EngineChoice::Bundled { start: !self.no_start }, EngineChoice::Adopted);
        Config { host, data: self.data, engine }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn asked(flags: &[&str]) -> Option<Config> {
        let program = Program::try_parse_from(std::iter::once(&"berth").chain(flags)).ok()?;
        Some(program.arguments.config(Host::Browser))
    }

    #[test]
    fn the_flags_choose_one_engine() {
        let engine = |flags: &[&str]| asked(flags).map(|config| config.engine);
        assert_eq!(engine(&[]), Some(EngineChoice::Bundled { start: true }));
        assert_eq!(engine(&["--no-start"]), Some(EngineChoice::Bundled { start: false }));
        let socket = "unix:///run/docker.sock";
        assert_eq!(engine(&["--engine", socket]), Some(EngineChoice::Adopted(socket.parse().unwrap())));
        assert_eq!(engine(&["--engine", socket, "--no-start"]), None, "there is nothing to start");
        assert_eq!(engine(&["--engine", "ftp://host"]), None, "that is no engine");
    }

    #[test]
    fn an_address_that_is_refused_is_not_repeated() {
        for address in ["tcp://me:marker@host:2375", "marker://host"] {
            let text = Program::try_parse_from(["berth", "--engine", address]).unwrap_err().to_string();
            assert!(text.contains("--engine: ") && text.contains("ddress"), "{text}");
            assert_eq!(text.contains("marker"), address.starts_with("marker"), "{text}");
        }
    }

    #[test]
    fn the_data_folder_is_passed_on() {
        assert_eq!(asked(&["--data", "/d"]).and_then(|config| config.data), Some(PathBuf::from("/d")));
    }
}
