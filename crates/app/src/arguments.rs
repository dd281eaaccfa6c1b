//! The flags that say where Berth keeps its data and which engine it shows, for every program that has them.

use std::path::PathBuf;

use berth_engine::Endpoint;
use berth_wire::Host;
use clap::Args;

use crate::app::{Config, EngineChoice};

/// Where Berth keeps its data and which engine it shows.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Data folder; the user's own when left out.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Engine that exists already: unix:///path/to.sock or tcp://host:port. Left out: the one Berth brings.
    #[arg(long, value_name = "URL")]
    engine: Option<Endpoint>,
    /// Do not start the engine Berth brings; the page offers to.
    #[arg(long, conflicts_with = "engine")]
    no_start: bool,
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
    fn the_data_folder_is_passed_on() {
        assert_eq!(asked(&["--data", "/d"]).and_then(|config| config.data), Some(PathBuf::from("/d")));
    }
}
