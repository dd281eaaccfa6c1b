//! Attaching to the main process of a container.

use berth_engine::{AttachContainer, Attached, ContainerRef, Docker, RemoveContainer, TerminalSize};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::exec::{one_by_one, read, until};
use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(before_the_start),
        case!(input_with_half_close),
        case!(terminal),
        case!(interrupt),
        case!(detach_keys),
        case!(only_standard_error),
        case!(what_came_before),
        case!(several_at_once),
        case!(nobody),
        case!(frozen),
        case!(made_anew_under_the_same_name),
        case!(much_output),
        case!(websocket_output),
        case!(websocket_input),
        case!(websocket_terminal),
        case!(websocket_nobody),
    ]
}

async fn attach(docker: &Docker, container: &ContainerRef) -> Attached {
    docker.attach_container(container, &AttachContainer::all()).await.unwrap()
}

/// Whoever attaches before the start misses nothing.
async fn before_the_start(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("early", &["sh", "-c", "echo out; echo err >&2; exit 3"], json!({})).await;
    let attached = docker.attach_container(&container, &AttachContainer::output()).await.unwrap();
    assert!(!attached.output.is_tty());
    docker.start_container(&container).await.unwrap();
    assert_eq!(read(attached.output).await, ("out\n".into(), "err\n".into()));
    assert_eq!(docker.wait_container(&container).await.unwrap().status_code, 3);
    Outcome::Pass
}

async fn input_with_half_close(docker: Docker, cx: &CaseContext) -> Outcome {
    let stdin = json!({ "OpenStdin": true, "StdinOnce": true, "AttachStdin": true });
    let container = cx.container("cat", &["sh", "-c", "cat; echo end"], stdin).await;
    let mut attached = attach(&docker, &container).await;
    docker.start_container(&container).await.unwrap();
    attached.input.write_all(b"hello\n").await.unwrap();
    attached.input.shutdown().await.unwrap();
    assert_eq!(read(attached.output).await.0, "hello\nend\n");
    assert_eq!(docker.wait_container(&container).await.unwrap().status_code, 0);
    Outcome::Pass
}

async fn shell(cx: &CaseContext, script: &str) -> ContainerRef {
    cx.container("shell", &["sh", "-c", script], json!({ "OpenStdin": true, "Tty": true })).await
}

async fn terminal(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = shell(cx, "echo ready; while read line; do echo got $line; busybox stty size; done").await;
    let mut attached = attach(&docker, &container).await;
    assert!(attached.output.is_tty());
    docker.start_container(&container).await.unwrap();
    until(&mut attached.output, "ready").await;
    docker.resize_container(&container, TerminalSize { rows: 33, columns: 99 }).await.unwrap();
    attached.input.write_all(b"one\n").await.unwrap();
    until(&mut attached.output, "got one\r\n33 99\r\n").await;
    Outcome::Pass
}

async fn interrupt(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = shell(cx, "trap 'exit 5' INT; echo ready; while :; do sleep 1; done").await;
    let mut attached = attach(&docker, &container).await;
    docker.start_container(&container).await.unwrap();
    until(&mut attached.output, "ready").await;
    attached.input.write_all(&[3]).await.unwrap();
    assert_eq!(docker.wait_container(&container).await.unwrap().status_code, 5);
    read(attached.output).await;
    Outcome::Pass
}

async fn detach_keys(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = shell(cx, "echo ready; sleep 600").await;
    let options = AttachContainer::all().detach_keys("ctrl-x,x".to_owned());
    let mut attached = docker.attach_container(&container, &options).await.unwrap();
    docker.start_container(&container).await.unwrap();
    until(&mut attached.output, "ready").await;
    attached.input.write_all(&[0x18]).await.unwrap();
    one_by_one(&docker, &container).await;
    attached.input.write_all(b"x").await.unwrap();
    let ended =
        tokio::time::timeout(PATIENCE / 4, attached.output.for_each(|piece| async { drop(piece.unwrap()) })).await;
    assert!(ended.is_ok(), "the keys did not detach");
    assert!(docker.inspect_container(&container).await.unwrap().state.status.is_alive());
    Outcome::Pass
}

async fn only_standard_error(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("err", &["sh", "-c", "echo out; echo err >&2"], json!({})).await;
    let options = AttachContainer::output().stdout(false);
    let attached = docker.attach_container(&container, &options).await.unwrap();
    docker.start_container(&container).await.unwrap();
    assert_eq!(read(attached.output).await, (String::new(), "err\n".into()));
    Outcome::Pass
}

async fn what_came_before(docker: Docker, cx: &CaseContext) -> Outcome {
    let container =
        cx.running("past", &["sh", "-c", "echo past; read x; echo now"], json!({ "OpenStdin": true })).await;
    // The first words are in the log once another one who attached has seen them.
    let mut attached = docker.attach_container(&container, &AttachContainer::all().logs(true)).await.unwrap();
    until(&mut attached.output, "past").await;
    let mut again = docker.attach_container(&container, &AttachContainer::all().logs(true)).await.unwrap();
    until(&mut again.output, "past").await;
    again.input.write_all(b"\n").await.unwrap();
    until(&mut again.output, "now").await;
    Outcome::Pass
}

async fn several_at_once(docker: Docker, cx: &CaseContext) -> Outcome {
    // Podman answers shortly before it is attached: whoever has seen "ready" is.
    let script = "trap 'busybox seq 1000; exit' USR1; while :; do echo ready; sleep 0.1 || sleep 1; done";
    let container = cx.container("many", &["sh", "-c", script], json!({})).await;
    let mut outputs = Vec::new();
    for _ in 0..5 {
        outputs.push(docker.attach_container(&container, &AttachContainer::output()).await.unwrap().output);
    }
    docker.start_container(&container).await.unwrap();
    for output in &mut outputs {
        until(output, "ready").await;
    }
    docker.kill_container(&container, Some("USR1")).await.unwrap();
    let expected: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    for output in outputs {
        assert_eq!(read(output).await.0.replace("ready\n", ""), expected);
    }
    Outcome::Pass
}

async fn nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    let refused = docker.attach_container(&nobody, &AttachContainer::all().tty(false)).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    assert!(docker.attach_container(&nobody, &AttachContainer::all()).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn frozen(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("frozen", &["sleep", "600"], json!({})).await;
    docker.pause_container(&container).await.unwrap();
    let refused = docker.attach_container(&container, &AttachContainer::all()).await.map(drop);
    docker.unpause_container(&container).await.unwrap();
    let refused = refused.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    Outcome::Pass
}

/// Another container under the same name may differ in its terminal; each is read as what it is.
async fn made_anew_under_the_same_name(docker: Docker, cx: &CaseContext) -> Outcome {
    let name: ContainerRef = cx.name("twice").parse().unwrap();
    for tty in [false, true, false] {
        let container = cx.container("twice", &["echo", "hello"], json!({ "Tty": tty })).await;
        let attached = docker.attach_container(&name, &AttachContainer::output()).await.unwrap();
        assert_eq!(attached.output.is_tty(), tty);
        docker.start_container(&name).await.unwrap();
        assert_eq!(read(attached.output).await.0, if tty { "hello\r\n" } else { "hello\n" });
        docker.remove_container(&container, &RemoveContainer::default().force(true)).await.unwrap();
    }
    Outcome::Pass
}

async fn much_output(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("much", &["head", "-c", "33554432", "/dev/zero"], json!({})).await;
    let attached = docker.attach_container(&container, &AttachContainer::output()).await.unwrap();
    docker.start_container(&container).await.unwrap();
    let length = attached.output.fold(0, |sum, piece| async move { sum + piece.unwrap().bytes.len() });
    assert_eq!(tokio::time::timeout(PATIENCE, length).await.unwrap(), 32 * 1024 * 1024);
    Outcome::Pass
}

async fn websocket_output(docker: Docker, cx: &CaseContext) -> Outcome {
    let container =
        cx.container("ws", &["sh", "-c", "echo out; echo err >&2; busybox seq 20000 | tail -n 1"], json!({})).await;
    let attached = docker.attach_container_websocket(&container, &AttachContainer::output()).await.unwrap();
    docker.start_container(&container).await.unwrap();
    let (seen, _) = read(attached.output).await;
    assert!(["out\n", "err\n", "20000\n"].iter().all(|line| seen.contains(line)), "{seen:?}");
    Outcome::Pass
}

async fn websocket_input(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("ws", &["cat"], json!({ "OpenStdin": true })).await;
    let mut attached = docker.attach_container_websocket(&container, &AttachContainer::all()).await.unwrap();
    for line in ["one\n", "two\n", &format!("{}\n", "x".repeat(60_000))] {
        attached.input.write_all(line.as_bytes()).await.unwrap();
        attached.input.flush().await.unwrap();
        let mut seen = String::new();
        while seen.len() < line.len() {
            seen.push_str(&String::from_utf8_lossy(&attached.output.next().await.unwrap().unwrap().bytes));
        }
        assert_eq!(seen, line);
    }
    attached.input.shutdown().await.unwrap();
    Outcome::Pass
}

async fn websocket_terminal(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = shell(cx, "echo ready; read line; echo got $line").await;
    let mut attached = docker.attach_container_websocket(&container, &AttachContainer::all()).await.unwrap();
    docker.start_container(&container).await.unwrap();
    until(&mut attached.output, "ready").await;
    attached.input.write_all(b"it\n").await.unwrap();
    attached.input.flush().await.unwrap();
    until(&mut attached.output, "got it").await;
    assert_eq!(docker.wait_container(&container).await.unwrap().status_code, 0);
    Outcome::Pass
}

async fn websocket_nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    let refused = docker.attach_container_websocket(&nobody, &AttachContainer::all()).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    Outcome::Pass
}
