//! What Berth makes of an engine, from a process of its own: one that a test can run as another user, or put to sleep.
//!
//! `engine-probe reach SOCKET DATA` tells what becomes of a first call and of the engine's row.
//! `engine-probe follow SOCKET DATA CONTAINER LAST` reads a log up to a line, and tells what of it was shown and which
//! containers there are in the end; it says `reading` once it has begun.

#![allow(clippy::print_stdout, reason = "its answer")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_app::wire::EngineState;
use berth_engine::{Docker, Endpoint};
use berth_engine_tests::page::Page;
use serde_json::json;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["reach", socket, data] => reach(socket.as_ref(), data.into()).await,
        ["follow", socket, data, container, last] => follow(socket.as_ref(), data.into(), container, last).await,
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

async fn reach(socket: &Path, data: PathBuf) {
    let refused = Docker::new(Endpoint::Unix(socket.to_owned())).ping().await.err();
    let mut page = Page::open(socket, data).await;
    while page.engine.as_ref().is_none_or(|row| row.state == EngineState::Starting) {
        page.poll().await;
    }
    let told = json!({
        "denied": refused.as_ref().is_some_and(berth_engine::Error::is_permission_denied),
        "unreachable": refused.as_ref().is_some_and(berth_engine::Error::is_unreachable),
        "explanation": refused.as_ref().and_then(berth_engine::Error::explanation),
        "row": page.engine,
    });
    println!("{told}");
}

async fn follow(socket: &Path, data: PathBuf, container: &str, last: &str) {
    let mut page = Page::open(socket, data).await;
    page.open_log(container).await;
    while page.lines.is_empty() {
        page.poll().await;
    }
    println!("reading");
    while page.lines.last().is_none_or(|line| line.2 != last) && !page.ended {
        page.poll().await;
    }
    // What the world still has to say comes before a poll that says nothing.
    while page.poll().await {}
    let numbers: Vec<Option<u64>> = page.lines.iter().map(|line| line.2.parse().ok()).collect();
    let rising = numbers.iter().flatten().zip(numbers.iter().flatten().skip(1)).all(|(one, next)| one < next);
    let told = json!({
        "lines": page.lines.len(), "left_out": page.left_out, "rising": rising, "ended": page.ended, "notes": page.notes,
        "containers": page.containers.keys().collect::<Vec<_>>(),
    });
    println!("{told}");
}
