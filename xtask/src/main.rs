//! `cargo xtask`: every developer command. Set-up is part of `run` and `test`, so a fresh clone needs
//! nothing but Rust and Node.js.

mod appliance;
mod bench;
mod build;
mod crosscheck;
mod error;
mod fuzz;
mod out;
mod process;
mod run;
mod setup;
mod test;
mod tidy;
mod wire;
mod workspace;

use std::process::ExitCode;

use error::Error;
use workspace::Workspace;

const HELP: &str = "\
cargo xtask run [--serve] [--release] [--data DIR] [--engine URL]
    Sets up, builds and opens Berth: a window, or an address for a browser with --serve or without a display.
cargo xtask test [GROUP...]
    Sets up and runs the tests: fmt clippy gen tidy unit ui engine browser desktop.
cargo xtask gen [--check]
    Writes ui/src/wire from crates/wire, or says where they differ.
cargo xtask tidy
    Checks the rules of ARCHITECTURE.md: who may know whom, sizes, forbidden shapes.
cargo xtask appliance [--arch amd64|arm64] [--suite NAME] [--force] [--verify] [--tar]
    Builds what the engine runs from: tree, kernel, images. --verify builds the images again and compares, with --force
    from the packages on; --tar adds the archive for WSL.
cargo xtask crosscheck
    Checks that the crates that run everywhere compile for macOS and Windows. On Debian only.
cargo xtask bench [NAME] [ARGUMENT...]
    Runs a benchmark of tests/bench, or lists them.
cargo xtask fuzz [SECONDS] [TARGET...]
    Gives the decoders of outside bytes generated input, a minute each when nothing is said.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Error> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments),
    };
    if rest.iter().any(|argument| argument == "--help") && command != "bench" {
        out::line(HELP);
        return Ok(());
    }
    let workspace = Workspace::find()?;
    match command {
        "run" => run::run(&workspace, &run::Options::parse(rest)?),
        "test" => test::test(&workspace, &test::Group::parse(rest)?),
        "gen" => match flag(rest, "--check")? {
            true => wire::check(&workspace),
            false => wire::generate(&workspace),
        },
        "tidy" => flagless(rest).and_then(|()| tidy::tidy(&workspace)),
        "appliance" => appliance::command(&workspace, &appliance::Options::parse(rest)?),
        "crosscheck" => flagless(rest).and_then(|()| crosscheck::crosscheck(&workspace)),
        "bench" => bench::bench(&workspace, rest),
        "fuzz" => fuzz::fuzz(&workspace, rest),
        "help" | "--help" | "-h" => {
            out::line(HELP);
            Ok(())
        }
        other => Err(Error::Usage { problem: format!("there is no command `{other}`") }),
    }
}

/// Whether the only flag a command knows is there.
fn flag(arguments: &[String], known: &str) -> Result<bool, Error> {
    match arguments {
        [] => Ok(false),
        [argument] if argument == known => Ok(true),
        [other, ..] => Err(Error::Usage { problem: format!("only `{known}` is understood here, not `{other}`") }),
    }
}

fn flagless(arguments: &[String]) -> Result<(), Error> {
    match arguments.first() {
        None => Ok(()),
        Some(other) => Err(Error::Usage { problem: format!("nothing is understood here, so not `{other}` either") }),
    }
}
