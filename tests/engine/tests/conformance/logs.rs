//! Logs of containers.

use berth_engine::{ContainerRef, Docker, LogLine, LogOptions};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(multiplexed), case!(terminal), case!(tail), case!(since_is_to_the_nanosecond), case!(long_lines)]
}

const ALL: LogOptions = LogOptions {
    follow: true,
    tail: None,
    since: None,
    until: None,
    stdout: true,
    stderr: true,
    timestamps: true,
    tty: None,
};

const SCRIPT: &str = "echo to out; echo to err >&2; printf 'no newline'";

/// The whole log of a container that is about to end. Waits for the end first: engines of old close a log that is being
/// followed before they have written its last words.
async fn read_all(docker: &Docker, container: &ContainerRef, options: &LogOptions) -> Vec<LogLine> {
    docker.wait_container(container).await.unwrap();
    let stream = docker.container_logs(container, options);
    let batches: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect()).await.unwrap();
    batches.into_iter().flat_map(|batch| batch.unwrap()).collect()
}

async fn multiplexed(docker: Docker, cx: &CaseContext) -> Outcome {
    let plain = cx.running("plain", &["sh", "-c", SCRIPT], json!({})).await;
    let lines = read_all(&docker, &plain, &ALL).await;
    let of =
        |stderr| lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.as_str()).collect::<Vec<_>>();
    assert_eq!(of(false), ["to out", "no newline"]);
    assert_eq!(of(true), ["to err"]);
    assert!(lines.iter().all(|line| line.nanos.is_some_and(|nanos| nanos > 1_600_000_000_000_000_000)));
    Outcome::Pass
}

async fn terminal(docker: Docker, cx: &CaseContext) -> Outcome {
    let terminal = cx.running("terminal", &["sh", "-c", SCRIPT], json!({ "Tty": true })).await;
    let lines = read_all(&docker, &terminal, &ALL).await;
    let mut texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["no newline", "to err", "to out"], "a terminal's lines end in CR LF, which is taken off");
    Outcome::Pass
}

async fn tail(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("tail", &["seq", "100"], json!({})).await;
    let lines = read_all(&docker, &container, &LogOptions { tail: Some(2), ..ALL }).await;
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["99", "100"]);
    Outcome::Pass
}

/// From just after the last line on there is nothing: a reader that was cut off goes on without a line twice.
async fn since_is_to_the_nanosecond(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("since", &["seq", "10"], json!({})).await;
    let lines = read_all(&docker, &container, &ALL).await;
    let last = lines.iter().filter_map(|line| line.nanos).max().unwrap();
    let again = read_all(&docker, &container, &LogOptions { since: Some(last + 1), ..ALL }).await;
    assert_eq!(again, []);
    Outcome::Pass
}

async fn long_lines(docker: Docker, cx: &CaseContext) -> Outcome {
    let script = "head -c 40000 /dev/zero | busybox tr '\\0' a; echo; head -c 200000 /dev/zero | busybox tr '\\0' b; echo; echo end";
    let container = cx.running("long", &["sh", "-c", script], json!({})).await;
    let lines = read_all(&docker, &container, &ALL).await;
    let shape: Vec<_> = lines.iter().map(|line| (line.text.len(), line.cut)).collect();
    assert_eq!(shape, [(40_000, false), (berth_engine::LINE_CAP, true), (3, false)]);
    assert!(
        lines.iter().take(2).all(|line| {
            let first = line.text.chars().next();
            line.text.chars().all(|character| Some(character) == first)
        }),
        "no timestamp of a partial frame is left inside a line"
    );
    Outcome::Pass
}
