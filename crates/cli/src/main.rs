//! The `berth` command.

mod context;
mod engine;
mod serve;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Berth: containers on your desktop.
#[derive(Parser, Debug)]
#[command(name = "berth", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The engine Berth brings: start, stop, status, socket.
    #[command(subcommand)]
    Engine(engine::Engine),
    /// The context of the `docker` command that leads to that engine.
    #[command(subcommand)]
    Context(context::Context),
    /// Shows Berth in a browser, on this machine alone.
    Serve(serve::Serve),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    berth_app::start_log();
    match arguments.command {
        Command::Engine(command) => engine::run(command),
        Command::Context(command) => context::run(command),
        Command::Serve(command) => serve::run(command),
    }
}

/// Says what went wrong, with its causes, and gives the code for it.
pub(crate) fn fail(error: &dyn Error) -> ExitCode {
    // Nothing is left to be done if even standard error is gone.
    let _ = writeln!(std::io::stderr(), "berth: {}", berth_app::full_text(error));
    ExitCode::FAILURE
}
