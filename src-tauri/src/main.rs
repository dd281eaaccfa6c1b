//! Berth on the desktop: a window over the same command layer that `berth serve` shows in a browser.

#![cfg_attr(all(windows, not(debug_assertions)), windows_subsystem = "windows")]

mod rpc;
mod window;

use std::process::ExitCode;

use berth_app::wire::Host;
use berth_app::{App, Arguments};
use clap::Parser;

/// Berth: containers on your desktop.
#[derive(Parser, Debug)]
#[command(name = "berth-desktop", version, about)]
struct Program {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> ExitCode {
    let program = Program::parse();
    berth_app::start_log();

    let config = program.arguments.config(Host::Desktop);
    let (app, background) = match tauri::async_runtime::block_on(async { App::start(config) }) {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(%error, "Berth could not start");
            return ExitCode::FAILURE;
        }
    };
    let ran = tauri::Builder::default()
        .manage(app)
        .manage(background)
        .invoke_handler(tauri::generate_handler![rpc::rpc])
        .setup(|desktop| {
            window::open(desktop.handle())?;
            Ok(())
        })
        .run(tauri::generate_context!());
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "Berth could not open its window");
            ExitCode::FAILURE
        }
    }
}
