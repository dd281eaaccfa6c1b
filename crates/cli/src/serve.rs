//! `berth serve`: Berth in a browser.

use std::io::Write as _;
use std::process::ExitCode;

use berth_app::wire::Host;
use berth_app::{App, Arguments};
use berth_serve::Server;
use clap::Args;

/// Shows Berth in a browser, on this machine alone.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    what: Arguments,
    /// Port on 127.0.0.1; a free one when left out.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Print one line of JSON, {"url":…,"token":…}, when ready.
    #[arg(long)]
    json: bool,
}

/// Runs until it is interrupted.
pub(crate) fn run(arguments: Serve) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&error),
    };
    let served = runtime.block_on(serve(arguments));
    // What still waits, for an engine to stop or for a name to be looked up, is not waited for.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(error.as_ref()),
    }
}

async fn serve(arguments: Serve) -> Result<(), Box<dyn std::error::Error>> {
    let (app, _background) = App::start(arguments.what.config(Host::Browser))?;
    let server = Server::bind(app, arguments.port).await?;
    announce(&server, arguments.json)?;
    server.run(interrupted()).await?;
    Ok(())
}

fn announce(server: &Server, json: bool) -> std::io::Result<()> {
    let (url, token) = (server.url(), server.token().reveal());
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "url": url, "token": token }))?;
    } else {
        writeln!(
            out,
            "Berth is at {url}/#t={token}\nThe link is for you alone. Ctrl-C ends the page, not the engine."
        )?;
    }
    out.flush()
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // Without a handler the default action ends the process anyway.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
