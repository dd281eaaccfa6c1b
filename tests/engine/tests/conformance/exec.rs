//! Further processes in containers: their streams, terminals and exit codes.

use std::time::Duration;

use berth_engine::{
    ContainerRef, Docker, Error, ExecId, ExecOptions, OutputPiece, ProcessOutput, StdStream, TerminalSize,
};
use berth_testkit::engines::EngineKind;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(echo_with_half_close),
        case!(sixty_four_megabytes),
        case!(streams_are_apart),
        case!(without_input_it_ends),
        case!(terminal),
        case!(terminal_looks_like_frames),
        case!(size_from_the_start),
        case!(resize),
        case!(resize_nobody),
        case!(interrupt),
        case!(detach_keys),
        case!(exit_codes),
        case!(missing_program),
        case!(not_a_program),
        case!(killed),
        case!(detached),
        case!(environment),
        case!(odd_bytes),
        case!(user_and_folder),
        case!(privileged),
        case!(inspect_before_and_after),
        case!(starts_once),
        case!(nobody),
        case!(of_a_stopped_container),
        case!(of_a_frozen_container),
        case!(gone_with_its_container),
        case!(forty_at_once),
        case!(dropped_input_and_output),
    ]
}

pub(crate) async fn sleeper(cx: &CaseContext) -> ContainerRef {
    cx.running("box", &["sleep", "600"], json!({})).await
}

pub(crate) fn sh(script: &str) -> ExecOptions {
    ExecOptions::run(["sh", "-c", script])
}

/// All that was printed, to standard output and to standard error.
pub(crate) async fn read(output: ProcessOutput) -> (String, String) {
    let pieces: Vec<OutputPiece> =
        tokio::time::timeout(PATIENCE, output.map(|piece| piece.unwrap()).collect()).await.unwrap();
    let of = |stream| {
        let bytes: Vec<u8> = pieces.iter().filter(|p| p.stream == stream).flat_map(|p| p.bytes.to_vec()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (of(StdStream::Out), of(StdStream::Err))
}

/// Reads until `wanted` was printed.
pub(crate) async fn until(output: &mut ProcessOutput, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let piece =
            tokio::time::timeout(PATIENCE, output.next()).await.unwrap_or_else(|_| panic!("only {seen:?} came"));
        let piece = piece.unwrap_or_else(|| panic!("the output ended after {seen:?}")).unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece.bytes));
    }
    seen
}

async fn code(docker: &Docker, id: &ExecId) -> i64 {
    tokio::time::timeout(PATIENCE, docker.wait_exec(id)).await.unwrap().unwrap()
}

async fn run(docker: &Docker, container: &ContainerRef, options: &ExecOptions) -> (String, String, i64) {
    let session = docker.exec(container, options).await.unwrap();
    let (out, err) = read(session.streams.output).await;
    (out, err, code(docker, &session.id).await)
}

/// Podman knows its keys only if it reads them one by one: it has read the first when another exec came and went.
pub(crate) async fn one_by_one(docker: &Docker, container: &ContainerRef) {
    run(docker, container, &sh("true")).await;
}

async fn echo_with_half_close(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let session = docker.exec(&container, &sh("cat; echo end; echo err >&2").stdin(true)).await.unwrap();
    let (mut input, output) = (session.streams.input, session.streams.output);
    input.write_all(b"hello\n").await.unwrap();
    input.shutdown().await.unwrap();
    assert_eq!(
        read(output).await,
        ("hello\nend\n".into(), "err\n".into()),
        "what comes after the end of input is read"
    );
    assert_eq!(code(&docker, &session.id).await, 0);
    Outcome::Pass
}

async fn sixty_four_megabytes(docker: Docker, cx: &CaseContext) -> Outcome {
    const PIECE: usize = 64 * 1024;
    let container = sleeper(cx).await;
    let session = docker.exec(&container, &ExecOptions::run(["cat"]).stdin(true)).await.unwrap();
    let (mut input, mut output) = (session.streams.input, session.streams.output);
    let writer = tokio::spawn(async move {
        let (mut hash, mut state) = (Sha256::new(), 88_172_645_463_325_252_u64);
        let mut piece = vec![0; PIECE];
        for _ in 0..64 * 1024 * 1024 / PIECE {
            for word in piece.chunks_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            hash.update(&piece);
            input.write_all(&piece).await.unwrap();
        }
        input.shutdown().await.unwrap();
        hash.finalize()
    });
    let (mut hash, mut length) = (Sha256::new(), 0);
    while let Some(piece) = output.next().await {
        let piece = piece.unwrap();
        length += piece.bytes.len();
        hash.update(&piece.bytes);
    }
    assert_eq!(length, 64 * 1024 * 1024);
    assert_eq!(hash.finalize(), writer.await.unwrap());
    Outcome::Pass
}

async fn streams_are_apart(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done";
    let (out, err, code) = run(&docker, &container, &sh(script)).await;
    assert_eq!(out, "out 1\nout 2\nout 3\nout 4\nout 5\n");
    assert_eq!(err, "err 1\nerr 2\nerr 3\nerr 4\nerr 5\n");
    assert_eq!(code, 0);
    Outcome::Pass
}

/// A process that reads must find an end where no input was asked for.
async fn without_input_it_ends(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let (out, _, code) = run(&docker, &container, &sh("cat; echo end")).await;
    assert_eq!((out.as_str(), code), ("end\n", 0));
    Outcome::Pass
}

async fn terminal(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let session =
        docker.exec(&container, &sh("test -t 0 && test -t 1 && echo yes; echo err >&2").tty(true)).await.unwrap();
    assert!(session.streams.output.is_tty());
    let (out, err) = read(session.streams.output).await;
    assert_eq!((out.as_str(), err.as_str()), ("yes\r\nerr\r\n", ""));
    assert!(docker.inspect_exec(&session.id).await.unwrap().process.tty);
    Outcome::Pass
}

async fn terminal_looks_like_frames(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let (out, err, _) = run(&docker, &container, &sh(r"printf '\1\0\0\0\0\0\0\3abc\2'").tty(true)).await;
    assert_eq!((out.as_str(), err.as_str()), ("\u{1}\0\0\0\0\0\0\u{3}abc\u{2}", ""));
    Outcome::Pass
}

async fn size_from_the_start(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let script = "while read go; do busybox stty size; echo over; done";
    let options = sh(script).tty(true).stdin(true).size(TerminalSize { rows: 41, columns: 123 });
    let session = docker.exec(&container, &options).await.unwrap();
    let (mut input, mut output) = (session.streams.input, session.streams.output);
    for _ in 0..50 {
        input.write_all(b"go\n").await.unwrap();
        let said = until(&mut output, "over").await;
        if said.contains("41 123") {
            return Outcome::Pass;
        }
        // Podman sets it a moment after the program began.
        assert_eq!(cx.engine(), EngineKind::Podman, "{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the terminal never had its size");
}

async fn resize(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let options = sh("echo ready; while read go; do busybox stty size; done").tty(true).stdin(true);
    let session = docker.exec(&container, &options).await.unwrap();
    let (mut input, mut output) = (session.streams.input, session.streams.output);
    until(&mut output, "ready").await;
    for (rows, columns) in [(10, 20), (50, 200), (2, 30)] {
        docker.resize_exec(&session.id, TerminalSize { rows, columns }).await.unwrap();
        input.write_all(b"go\n").await.unwrap();
        until(&mut output, &format!("{rows} {columns}\r\n")).await;
    }
    input.write_all(&[4]).await.unwrap();
    read(output).await;
    assert_eq!(code(&docker, &session.id).await, 0, "Ctrl-D ends the input of a terminal");
    Outcome::Pass
}

async fn resize_nobody(docker: Docker, _cx: &CaseContext) -> Outcome {
    let nobody: ExecId = "0".repeat(64).parse().unwrap();
    assert!(docker.resize_exec(&nobody, TerminalSize { rows: 1, columns: 1 }).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn interrupt(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let options = sh("trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 1; done").tty(true).stdin(true);
    let session = docker.exec(&container, &options).await.unwrap();
    let (mut input, mut output) = (session.streams.input, session.streams.output);
    until(&mut output, "ready").await;
    input.write_all(&[3]).await.unwrap();
    until(&mut output, "caught").await;
    assert_eq!(code(&docker, &session.id).await, 7);
    Outcome::Pass
}

async fn detach_keys(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let options = sh("echo ready; sleep 4321").tty(true).stdin(true).detach_keys("ctrl-x,x");
    let session = docker.exec(&container, &options).await.unwrap();
    let (mut input, mut output) = (session.streams.input, session.streams.output);
    until(&mut output, "ready").await;
    input.write_all(&[0x18]).await.unwrap();
    one_by_one(&docker, &container).await;
    input.write_all(b"x").await.unwrap();
    let ended = tokio::time::timeout(PATIENCE / 4, output.for_each(|piece| async { drop(piece.unwrap()) })).await;
    assert!(ended.is_ok(), "the keys did not detach");
    // Not by its state: Docker says that it ended, with 126.
    let (processes, _, _) = run(&docker, &container, &sh("busybox ps -o args")).await;
    assert!(processes.contains("sleep 4321"), "it goes on without us: {processes}");
    Outcome::Pass
}

async fn exit_codes(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    for expected in [0, 1, 2, 126, 127, 137, 255] {
        let (_, _, code) = run(&docker, &container, &sh(&format!("exit {expected}"))).await;
        assert_eq!(code, expected);
    }
    Outcome::Pass
}

async fn missing_program(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let (out, err, code) = run(&docker, &container, &ExecOptions::run(["/no/such/program"])).await;
    assert!(format!("{out}{err}").contains("o such file"), "{out} {err}");
    assert_eq!(code, 127);
    Outcome::Pass
}

async fn not_a_program(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let (out, err, code) = run(&docker, &container, &ExecOptions::run(["/bin"])).await;
    assert!(format!("{out}{err}").to_lowercase().contains("denied"), "{out} {err}");
    assert_eq!(code, 126);
    Outcome::Pass
}

async fn killed(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let (_, _, code) = run(&docker, &container, &sh("kill -9 $$")).await;
    assert_eq!(code, 137);
    Outcome::Pass
}

async fn detached(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let id = docker.create_exec(&container, &sh("echo done > /tmp/mark; exit 3")).await.unwrap();
    docker.start_exec_detached(&id, false).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE / 4, docker.wait_exec(&id)).await;
    assert_eq!(run(&docker, &container, &sh("cat /tmp/mark")).await.0, "done\n");
    assert_eq!(ended.expect("it never ended").unwrap(), 3);
    Outcome::Pass
}

async fn environment(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let env = vec!["PLAIN=a".to_owned(), "EMPTY=".to_owned(), "EQUALS=a=b=c".to_owned()];
    let (out, _, _) = run(&docker, &container, &sh("echo \"$PLAIN,$EMPTY,$EQUALS\"").env(env)).await;
    assert_eq!(out, "a,,a=b=c\n");
    Outcome::Pass
}

/// Texts reach the process as they are: no shell, no format and no encoding on the way looks at them.
async fn odd_bytes(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let odd = "a'b\"c $(x) `y` %s %00 \\n\n\t\u{1b}]52;c;x\u{7} ü\u{202e}\u{1f600} <script>&amp;";
    let options = ExecOptions::run(["sh", "-c", "printf %s \"$1\"; printf %s \"$ODD\"", "-", odd]);
    let (out, _, _) = run(&docker, &container, &options.env(vec![format!("ODD={odd}")])).await;
    assert_eq!(out, format!("{odd}{odd}"));
    Outcome::Pass
}

async fn user_and_folder(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let options = sh("busybox id -u; busybox id -g; pwd").user("1234:99").working_dir("/tmp");
    assert_eq!(run(&docker, &container, &options).await.0, "1234\n99\n/tmp\n");
    Outcome::Pass
}

async fn privileged(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let script = "busybox grep CapEff /proc/self/status";
    let (plain, _, _) = run(&docker, &container, &sh(script)).await;
    let (more, _, _) = run(&docker, &container, &sh(script).privileged(true)).await;
    assert!(plain.contains("CapEff") && more > plain, "{plain} {more}");
    Outcome::Pass
}

async fn inspect_before_and_after(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let id =
        docker.create_exec(&container, &ExecOptions::run(["sh", "-c", "read x; exit 4"]).stdin(true)).await.unwrap();
    let state = docker.inspect_exec(&id).await.unwrap();
    assert!(!state.running);
    assert_eq!(state.container, container.as_str());
    assert_eq!((state.process.program.as_str(), state.process.arguments.len()), ("sh", 2));
    let mut streams = docker.start_exec(&id, false, None).await.unwrap();
    let mut state = docker.inspect_exec(&id).await.unwrap();
    while !(state.running && state.pid > 0) {
        state = docker.inspect_exec(&id).await.unwrap();
    }
    streams.input.write_all(b"\n").await.unwrap();
    read(streams.output).await;
    assert_eq!(code(&docker, &id).await, 4);
    Outcome::Pass
}

async fn starts_once(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let session = docker.exec(&container, &sh("sleep 600")).await.unwrap();
    while !docker.inspect_exec(&session.id).await.unwrap().running {}
    // Docker has agreed to the stream by then, so that it says so in there.
    let refused = match docker.start_exec(&session.id, false, None).await {
        Ok(streams) => format!("{:?}", read(streams.output).await),
        Err(refused) => refused.to_string(),
    };
    assert!(refused.contains("already running") || refused.contains("is \"running\""), "{refused}");
    Outcome::Pass
}

async fn nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.exec(&nobody, &sh("true")).await.unwrap_err().is_not_found());
    let id: ExecId = "0".repeat(64).parse().unwrap();
    assert!(docker.inspect_exec(&id).await.unwrap_err().is_not_found());
    assert!(docker.start_exec(&id, false, None).await.unwrap_err().is_not_found());
    assert!(docker.start_exec_detached(&id, false).await.unwrap_err().is_not_found());
    for bad in ["../../version", "", "a/b", "%2e%2e"] {
        assert!(matches!(bad.parse::<ExecId>(), Err(Error::InvalidReference { .. })));
    }
    Outcome::Pass
}

async fn of_a_stopped_container(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("off", &["true"], json!({})).await;
    let refused = docker.exec(&container, &sh("true")).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    Outcome::Pass
}

async fn of_a_frozen_container(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    docker.pause_container(&container).await.unwrap();
    let refused = docker.exec(&container, &sh("true")).await.map(drop);
    docker.unpause_container(&container).await.unwrap();
    assert!(refused.unwrap_err().is_conflict());
    Outcome::Pass
}

async fn gone_with_its_container(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let session = docker.exec(&container, &sh("echo ready; sleep 600")).await.unwrap();
    let mut output = session.streams.output;
    until(&mut output, "ready").await;
    cx.raw().delete(&format!("/containers/{container}?force=1")).await;
    while let Some(Ok(_)) = tokio::time::timeout(PATIENCE, output.next()).await.unwrap() {}
    assert!(docker.inspect_exec(&session.id).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn forty_at_once(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let (docker, container) = (&docker, &container);
    let all = futures_util::stream::iter(0..40).map(|number| async move {
        let (out, _, code) = run(docker, container, &sh(&format!("echo {number}; exit {number}"))).await;
        assert_eq!((out, code), (format!("{number}\n"), number));
    });
    all.buffer_unordered(10).collect::<Vec<()>>().await;
    Outcome::Pass
}

/// An input that is dropped closes nothing; both halves dropped leave the process to itself.
async fn dropped_input_and_output(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = sleeper(cx).await;
    let session = docker.exec(&container, &sh("sleep 0.2; echo late").stdin(true)).await.unwrap();
    drop(session.streams.input);
    assert_eq!(read(session.streams.output).await.0, "late\n");
    let session = docker.exec(&container, &sh("echo ready; sleep 600")).await.unwrap();
    let mut output = session.streams.output;
    until(&mut output, "ready").await;
    drop((session.streams.input, output));
    assert!(docker.inspect_exec(&session.id).await.unwrap().running);
    let listed: Value = docker.inspect_container_as(&container).await.unwrap();
    assert_eq!(listed["State"]["Running"], true);
    Outcome::Pass
}
