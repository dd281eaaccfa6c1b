//! The fake engine as a program, for benches and browser tests: `fake-engine --socket PATH [--containers N]
//! [--running N] [--log-rate LINES_PER_SECOND]`.

use std::path::PathBuf;

use berth_testkit::fake::{FakeContainer, FakeEngine};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    socket: PathBuf,
    /// Containers to have.
    #[arg(long, default_value_t = 10)]
    containers: u32,
    /// How many of them run.
    #[arg(long, default_value_t = 5)]
    running: u32,
    /// Lines a second of every followed log.
    #[arg(long, default_value_t = 0)]
    log_rate: u32,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let engine = FakeEngine::listen(&arguments.socket)?;
    engine.behave(|behaviour| behaviour.log_rate = arguments.log_rate);
    for number in 0..arguments.containers {
        engine.add(FakeContainer {
            name: format!("service-{number:04}"),
            running: number < arguments.running,
            project: (number % 3 == 0).then(|| format!("project-{:02}", number / 30)),
        });
    }
    tokio::signal::ctrl_c().await
}
