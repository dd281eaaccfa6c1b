//! Engines for one run of the tests: `test-engines [bundled] [debian_20_10] [podman]`, all of them when none is named.
//! Prints the environment that leads to them, then `ready`; they end when standard input does.

use std::process::ExitCode;

use berth_testkit::engines::{EngineKind, TestEngine};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut starting = JoinSet::new();
    for kind in EngineKind::ALL.into_iter().filter(|kind| wanted.is_empty() || wanted.iter().any(|w| w == kind.name()))
    {
        starting.spawn(async move { (kind, TestEngine::start(kind).await) });
    }
    let mut engines = Vec::new();
    while let Some(started) = starting.join_next().await {
        match started {
            Ok((kind, Ok(engine))) => {
                say(&format!("{}={}", kind.variable(), engine.socket().display()));
                engines.push(engine);
            }
            Ok((kind, Err(error))) => {
                complain(&format!("{kind}: {error}"));
                return ExitCode::FAILURE;
            }
            Err(error) => {
                complain(&error.to_string());
                return ExitCode::FAILURE;
            }
        }
    }
    say("ready");
    // An interrupt reaches the whole group of processes; without a handler the engines would be left running.
    tokio::select! {
        () = until_closed() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let stopping: Vec<_> = engines.into_iter().map(|engine| std::thread::spawn(move || drop(engine))).collect();
    for thread in stopping {
        let _ = thread.join();
    }
    ExitCode::SUCCESS
}

async fn until_closed() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = closed.send(());
    });
    let _ = wait.await;
}

#[expect(clippy::print_stdout, reason = "its answer")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "its only way to complain")]
fn complain(line: &str) {
    eprintln!("test-engines: {line}");
}
