//! What goes on inside a container: processes, changes, its whole file system.

use berth_engine::{ChangeKind, ContainerRef, Docker};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::harness::{Case, CaseContext, Outcome, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(processes),
        case!(processes_of_arguments),
        case!(hostile_arguments),
        case!(processes_of_nobody),
        case!(changes),
        case!(export),
        case!(export_of_nobody),
    ]
}

async fn processes(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("ps", &["sleep", "600"], json!({})).await;
    let list = docker.container_processes(&container, None).await.unwrap();
    let column = list.titles.iter().position(|title| title == "CMD" || title == "COMMAND").unwrap();
    assert_eq!(list.processes.len(), 1);
    assert_eq!(list.processes[0][column], "sleep 600");
    Outcome::Pass
}

async fn processes_of_arguments(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("ps", &["sleep", "600"], json!({})).await;
    let list = docker.container_processes(&container, Some("-eo pid,comm")).await.unwrap();
    assert_eq!(list.titles, ["PID", "COMMAND"]);
    assert_eq!(list.processes[0][1], "sleep");
    Outcome::Pass
}

/// What is no argument of `ps` is refused and never run.
async fn hostile_arguments(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("ps", &["sleep", "600"], json!({})).await;
    for arguments in ["-eo pid; touch /pwned", "$(touch /pwned)", "-eo pid\r\nX: y", "a&b=c#d", "--no-such"] {
        assert!(docker.container_processes(&container, Some(arguments)).await.is_err(), "{arguments}");
    }
    assert!(docker.container_path(&container, "/pwned").await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn processes_of_nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.container_processes(&nobody, None).await.unwrap_err().is_not_found());
    let off = cx.container("off", &["true"], json!({})).await;
    assert!(docker.container_processes(&off, None).await.is_err());
    Outcome::Pass
}

async fn changes(docker: Docker, cx: &CaseContext) -> Outcome {
    let script = "echo x > /tmp/new; echo x >> /etc/passwd; busybox rm /www/index.html";
    let container = cx.running("changes", &["sh", "-c", script], json!({})).await;
    docker.wait_container(&container).await.unwrap();
    let changes = docker.container_changes(&container).await.unwrap();
    let kind = |path: &str| changes.iter().find(|change| change.path == path).map(|change| change.kind);
    assert_eq!(kind("/tmp/new"), Some(ChangeKind::Added));
    assert_eq!(kind("/etc/passwd"), Some(ChangeKind::Modified));
    assert_eq!(kind("/www/index.html"), Some(ChangeKind::Deleted));
    assert_eq!(kind("/bin/busybox"), None);
    Outcome::Pass
}

async fn export(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("export", &["true"], json!({})).await;
    let bytes: Vec<u8> = docker.export_container(&container).map(|piece| piece.unwrap().to_vec()).concat().await;
    assert!(bytes.len() > 1_000_000 && bytes.len().is_multiple_of(512));
    assert!(bytes.windows(23).any(|window| window == b"hello from a berth test"));
    Outcome::Pass
}

async fn export_of_nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    let items: Vec<_> = docker.export_container(&nobody).collect().await;
    assert!(matches!(&items[..], [Err(error)] if error.is_not_found()), "{items:?}");
    Outcome::Pass
}
