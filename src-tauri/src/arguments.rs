//! What the desktop program may be told.

use std::path::PathBuf;

use berth_app::{Endpoint, EngineChoice};
use clap::Parser;

/// Berth: containers on your desktop.
#[derive(Parser, Debug)]
#[command(name = "berth-desktop", version, about)]
pub(crate) struct Arguments {
    /// Data folder; the user's own when left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Engine that exists already: unix:///path/to.sock or tcp://host:port. Left out: the one Berth brings.
    #[arg(long, value_name = "URL")]
    engine: Option<Endpoint>,
    /// Do not start the engine Berth brings; the page offers to.
    #[arg(long, conflicts_with = "engine")]
    no_start: bool,
}

impl Arguments {
    pub(crate) fn engine_choice(&self) -> EngineChoice {
        self.engine.clone().map_or(EngineChoice::Bundled { start: !self.no_start }, EngineChoice::Adopted)
    }
}
