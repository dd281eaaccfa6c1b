//! The client and the live view behind everything that can go wrong between them and a real engine. Each test is named
//! after its case.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::time::Duration;

use berth_engine::{ContainerState, Docker, Endpoint, LogOptions};
use berth_testkit::daemon::Daemon;
use berth_testkit::fault::{ChunkEdit, Fault, Plan, Then};
use futures_util::StreamExt as _;
use ground::{Ground, PATIENCE, ids, impatient, is_live, is_lost, texts, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn case_01_engine_killed_while_listing() {
    let ground = Ground::new().await;
    ground.containers(20).await;
    let (store, handle) = ground.watch();
    until(&store, "live", |snapshot| is_live(snapshot) && snapshot.containers.len() == 20).await;
    // The connection breaks, and the next list stops in its middle.
    ground.proxy.set(Plan::response(Fault::Freeze(1000)).only("/containers/json"));
    ground.proxy.cut();
    ground.struck(1).await;
    ground.daemon.kill().unwrap();
    let lost = until(&store, "lost", is_lost).await;
    assert_eq!(lost.containers.len(), 20, "rows stay as they were last seen");
    ground.proxy.set(Plan::pass());
    ground.daemon.revive().unwrap();
    handle.retry_now();
    let back = until(&store, "live again", is_live).await;
    assert_eq!(back.containers.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_02_frozen_engine_with_a_live_socket() {
    let ground = Ground::new().await;
    ground.containers(3).await;
    let (store, _handle) = ground.watch();
    until(&store, "live", is_live).await;
    assert_eq!(ground.daemon.signal("dockerd", "STOP"), 1);
    let lost = until(&store, "lost", is_lost).await;
    assert_eq!(lost.containers.len(), 3);
    until(&store, "tried again", |snapshot| attempts(snapshot) >= 3).await;
    let open = ground.proxy.connections();
    assert!(open <= 4, "{open} connections to an engine that does not answer");
    assert_eq!(ground.daemon.signal("dockerd", "CONT"), 1);
    until(&store, "live again", is_live).await;
}

fn attempts(snapshot: &berth_engine::Snapshot) -> u32 {
    if let berth_engine::Link::Lost { attempts, .. } = &snapshot.link { *attempts } else { 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_03_restart_with_many_containers() {
    let ground = Ground::new().await;
    ground.containers(100).await;
    let (store, _handle) = ground.watch();
    until(&store, "live", |snapshot| is_live(snapshot) && snapshot.containers.len() == 100).await;
    ground.daemon.kill().unwrap();
    until(&store, "lost", is_lost).await;
    let before = ground.asked("/containers/json");
    ground.daemon.revive().unwrap();
    let back = until(&store, "live again", is_live).await;
    assert_eq!(back.containers.len(), 100);
    assert_eq!(ground.asked("/containers/json") - before, 1, "one list brings it all back");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_04_containerd_killed_under_dockerd() {
    let ground = Ground::new().await;
    let id = ground.container("victim", &["sleep", "600"], json!({})).await;
    assert_eq!(ground.daemon.signal("containerd", "STOP"), 1);
    let starting = tokio::spawn({
        let (docker, id) = (ground.docker.clone(), id.clone());
        async move { docker.start_container(&id).await }
    });
    ground.asking("/start").await;
    assert_eq!(ground.list().await.unwrap().len(), 1, "the list does not need containerd");
    assert_eq!(ground.daemon.signal("containerd", "KILL"), 1);
    let refused = tokio::time::timeout(PATIENCE, starting).await.unwrap().unwrap();
    if let Err(refused) = refused {
        assert!(!refused.to_string().is_empty() && !refused.is_unreachable(), "{refused}");
    }
    assert_eq!(ground.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_05_shim_killed() {
    let ground = Ground::new().await;
    let (store, _handle) = ground.watch();
    let id = ground.container("victim", &["sleep", "600"], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    let state = |wanted| {
        move |snapshot: &berth_engine::Snapshot| snapshot.containers.values().any(|container| container.state == wanted)
    };
    until(&store, "running", state(ContainerState::Running)).await;
    assert_eq!(ground.daemon.signal("containerd-shim", "KILL"), 1);
    until(&store, "exited", state(ContainerState::Exited)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_06_socket_removed_and_made_anew() {
    let ground = Ground::new().await;
    ground.containers(2).await;
    let direct = Docker::new(Endpoint::Unix(ground.daemon.socket()));
    let (store, _handle) = berth_engine::watch(direct, impatient());
    until(&store, "live", is_live).await;
    ground.daemon.kill().unwrap();
    let _ = std::fs::remove_file(ground.daemon.socket());
    until(&store, "lost", is_lost).await;
    ground.daemon.revive().unwrap();
    let back = until(&store, "live again", is_live).await;
    assert_eq!(back.containers.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_08_socket_path_is_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let circle = folder.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    for path in [folder.path().to_owned(), file, circle, folder.path().join("absent")] {
        let refused = Docker::new(Endpoint::Unix(path.clone())).ping().await.unwrap_err();
        assert!(refused.is_unreachable(), "{refused}");
        assert!(refused.to_string().contains(&*path.to_string_lossy()), "which socket is told: {refused}");
    }
}

/// A list that ends too early is an error and never a shorter list, wherever it ends.
#[tokio::test(flavor = "multi_thread")]
async fn case_09_cut_mid_json_body() {
    let ground = Ground::new().await;
    ground.containers(10).await;
    ground.docker.negotiate().await.unwrap();
    let (_, before) = ground.proxy.bytes();
    assert_eq!(ground.list().await.unwrap().len(), 10);
    let whole = ground.proxy.bytes().1 - before;
    for after in (0..whole - 1).step_by(97) {
        ground.proxy.set(Plan::response(Fault::cut(after)).only("/containers/json"));
        assert!(ground.list().await.is_err(), "cut after {after} of {whole} bytes");
    }
    // The view comes back by itself, and nobody saw anything else than none or all.
    ground.proxy.set(Plan::response(Fault::cut(whole / 2)).only("/containers/json").times(3));
    let (store, _handle) = ground.watch();
    let seen = until(&store, "listed", |snapshot| snapshot.listed).await;
    assert_eq!(seen.containers.len(), 10);
}

/// Every line once, wherever the log is cut and gone on with.
#[tokio::test(flavor = "multi_thread")]
async fn case_10_cut_anywhere_in_a_log() {
    let ground = Ground::new().await;
    // The engine keeps what both streams say at the same moment in the order in which it read it, which need not be that of
    // its timestamps.
    let id = ground
        .container(
            "log",
            &["sh", "-c", "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three; echo four"],
            json!({}),
        )
        .await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.wait_container(&id).await.unwrap();
    let options = LogOptions { timestamps: true, tty: Some(false), ..LogOptions::default() };
    ground.docker.negotiate().await.unwrap();
    let (_, before) = ground.proxy.bytes();
    let (whole, end) = ground.log(&id, &options).await;
    assert!(end.is_ok());
    let total = ground.proxy.bytes().1 - before;
    for after in 0..total {
        ground.proxy.set(Plan::response(Fault::cut(after)).only("/logs"));
        let (mut lines, end) = ground.log(&id, &options).await;
        assert!(end.is_err(), "cut after {after} of {total} bytes was taken for the end");
        ground.proxy.set(Plan::pass());
        let since = lines.iter().filter_map(|line| line.nanos).max().map(|last| last + 1);
        lines.extend(ground.log(&id, &LogOptions { since, ..options.clone() }).await.0);
        let mut all = whole.clone();
        all.sort_by_key(|line| line.nanos);
        lines.sort_by_key(|line| line.nanos);
        assert_eq!(lines, all, "cut after {after} of {total} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_11_one_byte_at_a_time() {
    let ground = Ground::new().await;
    ground.containers(20).await;
    let whole = ids(&ground.list().await.unwrap());
    ground.proxy.set(Plan::response(Fault::Split));
    assert_eq!(ids(&ground.list().await.unwrap()), whole);
    ground.proxy.set(Plan::response(Fault::Merge(1 << 20)).only("/logs"));
    let id = ground.container("log", &["seq", "500"], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.wait_container(&id).await.unwrap();
    let options = LogOptions::default();
    let merged = ground.log(&id, &options).await.0;
    ground.proxy.set(Plan::response(Fault::Split).only("/logs"));
    assert_eq!(ground.log(&id, &options).await.0, merged);
    assert_eq!(merged.len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_12_head_without_end() {
    let ground = Ground::new().await;
    ground.proxy.set(Plan::response(Fault::endless_head()).only("/info"));
    ground.docker.negotiate().await.unwrap();
    let refused = tokio::time::timeout(PATIENCE, ground.docker.info()).await.unwrap();
    assert!(refused.is_err());
    ground.proxy.set(Plan::pass());
    ground.docker.info().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn case_13_damaged_chunks() {
    let ground = Ground::new().await;
    ground.containers(10).await;
    ground.list().await.unwrap();
    let sizes = ["ffffffffffffffff", "fffffffffffffffff", "-1", "zz", "", "7fffffffffffffff"];
    let edits = sizes.into_iter().map(ChunkEdit::Size).chain([
        ChunkEdit::WithoutLineEnd,
        ChunkEdit::Missing,
        ChunkEdit::LastMissing,
        ChunkEdit::Twice,
    ]);
    for edit in edits {
        ground.proxy.set(Plan::response(Fault::Chunk(0, edit)).only("/containers/json"));
        // A size that promises more leaves the client waiting for it, which only its deadline ends.
        let answer = tokio::time::timeout(Duration::from_secs(2), ground.list()).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{edit:?} was taken for a list");
        assert!(ground.proxy.struck() > 0, "{edit:?} was not tried");
    }
    ground.proxy.set(Plan::pass());
    assert_eq!(ground.list().await.unwrap().len(), 10);
}

fn multiplexed(body: &[u8]) -> Fault {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: close\r\n\r\n";
    Fault::Answer([head.as_bytes(), body].concat().into(), Then::Close)
}

#[tokio::test(flavor = "multi_thread")]
async fn case_14_and_15_frames_that_lie() {
    let ground = Ground::new().await;
    let id = ground.container("log", &["true"], json!({})).await;
    let read = async |body: &[u8]| {
        ground.proxy.set(Plan::response(multiplexed(body)).only("/logs"));
        let (lines, end) = ground.log(&id, &LogOptions { tty: Some(false), ..LogOptions::default() }).await;
        (texts(&lines), end.err().map(|error| error.to_string()))
    };
    let before = ground::resident();
    let (lines, end) = read(b"\x01\0\0\0\xff\xff\xff\xffstart of four gibibytes\n").await;
    assert!(ground::resident() < before + 16 * 1024 * 1024, "a length is no reason to allocate");
    assert!(end.is_some(), "{lines:?}");
    let (lines, end) = read(b"\x01\0\0\0\0\0\0\x03ok\n\x03\0\0\0\0\0\0\x09disk gone").await;
    assert_eq!(lines, ["ok"]);
    assert!(end.unwrap().contains("disk gone"), "the engine's own error is told");
    let (lines, end) = read(b"\x01\0\0\0\0\0\0\x03ok\n\x07\0\0\0\0\0\0\x02??").await;
    assert_eq!(lines, ["ok"]);
    assert!(end.is_some(), "an unknown stream is an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_16_terminal_without_content_type() {
    let ground = Ground::new().await;
    let id = ground.container("terminal", &["echo", "hello"], json!({ "Tty": true })).await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.wait_container(&id).await.unwrap();
    ground.proxy.set(
        Plan::response(Fault::rewrite(|| |piece| ground::replace(piece, b"Content-Type", b"X-Was-Typed-")))
            .only("/logs"),
    );
    let (lines, end) = ground.log(&id, &LogOptions::default()).await;
    assert!(end.is_ok() && ground.proxy.struck() > 0);
    assert_eq!(texts(&lines), ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_17_made_anew_under_the_same_name_while_read() {
    let ground = Ground::new().await;
    let first = ground.container("web", &["sh", "-c", "echo first; exec sleep 600"], json!({})).await;
    ground.docker.start_container(&first).await.unwrap();
    let by_name = "web".parse().unwrap();
    let mut stream = ground.docker.container_logs(&by_name, &LogOptions { follow: true, ..LogOptions::default() });
    let batch = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(batch[0].text, "first");
    ground.raw.delete(&format!("/containers/{first}?force=1")).await;
    let second = ground.container("web", &["echo", "second"], json!({ "Tty": true })).await;
    ground.docker.start_container(&second).await.unwrap();
    let rest: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect()).await.unwrap();
    let rest: Vec<_> = rest.into_iter().filter_map(Result::ok).flatten().collect();
    assert!(rest.iter().all(|line| line.text != "second"), "a log is one container's: {rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_18_more_happened_than_the_engine_remembers() {
    let ground = Ground::new().await;
    let (store, _handle) = ground.watch();
    until(&store, "live", is_live).await;
    ground.proxy.swap("/nonexistent".as_ref());
    ground.proxy.cut();
    until(&store, "lost", is_lost).await;
    let made = ground.containers(200).await;
    for id in made.iter().step_by(2) {
        ground.raw.delete(&format!("/containers/{id}")).await;
    }
    ground.proxy.swap(&ground.daemon.socket());
    let back = until(&store, "live again", is_live).await;
    let mut seen: Vec<String> = back.containers.keys().map(ToString::to_string).collect();
    seen.sort();
    assert_eq!(seen, ids(&ground.list().await.unwrap()));
    assert_eq!(seen.len(), 100);
}

/// Events that never come are made up for by the list that checks the rows.
#[tokio::test(flavor = "multi_thread")]
async fn case_19_events_withheld() {
    let ground = Ground::new().await;
    // Past the head of the answer, so that the stream is open and tells nothing.
    ground.proxy.set(Plan::response(Fault::Freeze(400)).only("/events"));
    let options = berth_engine::WatchOptions { relist_every: Duration::from_millis(300), ..impatient() };
    let (store, _handle) = berth_engine::watch(ground.docker.clone(), options);
    until(&store, "live", is_live).await;
    let made = ground.containers(150).await;
    for id in made.iter().take(50) {
        ground.raw.delete(&format!("/containers/{id}")).await;
    }
    until(&store, "caught up", |snapshot| is_live(snapshot) && snapshot.containers.len() == 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_20_events_twice_and_late() {
    let ground = Ground::new().await;
    let doubled = Fault::rewrite(|| {
        let mut earlier = Vec::new();
        move |piece: Vec<u8>| {
            // A chunk of events comes again behind the next one.
            let is_chunk = piece.ends_with(b"\r\n") && !piece.starts_with(b"HTTP/");
            let mut out = piece.clone();
            out.extend(std::mem::replace(&mut earlier, if is_chunk { piece } else { Vec::new() }));
            out
        }
    });
    ground.proxy.set(Plan::response(doubled).only("/events"));
    let (store, _handle) = ground.watch();
    until(&store, "live", is_live).await;
    ground.churn().await;
    until(&store, "settled", |snapshot| ground::settled(snapshot, 10)).await;
}

/// The engine's clock is an hour ahead: nothing waits for it, and nothing is asked from the future.
#[tokio::test(flavor = "multi_thread")]
async fn case_21_clock_ahead() {
    let ground = Ground::new().await;
    let ahead = Fault::rewrite(|| |piece| ground::replace(piece, b"\"timeNano\":1", b"\"timeNano\":9"));
    ground.proxy.set(Plan::response(ahead).only("/events"));
    let (store, _handle) = ground.watch();
    until(&store, "live", is_live).await;
    ground.churn().await;
    until(&store, "settled", |snapshot| ground::settled(snapshot, 10)).await;
    ground.proxy.cut();
    until(&store, "lost or live", |snapshot| snapshot.listed).await;
    let id = ground.container("after", &["true"], json!({})).await;
    until(&store, "after", |snapshot| snapshot.containers.keys().any(|key| key.as_str() == id.as_str())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_23_disk_full_on_the_engine() {
    let ground = Ground::on(Daemon::with_space(64).unwrap()).await;
    let script = "busybox dd if=/dev/zero of=/fill bs=1M count=200; true";
    let id = ground.container("fill", &["sh", "-c", script], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.wait_container(&id).await.unwrap();
    let body = json!({ "Image": "busybox:test", "Cmd": ["true"] });
    let mut refused = None;
    for number in 0..50 {
        if let Err(error) = ground.docker.create_container(&format!("more-{number}"), &body).await {
            refused = Some(error.to_string());
            break;
        }
    }
    let refused = refused.expect("a full disk refuses at last");
    assert!(refused.contains("no space left"), "the engine's words are kept: {refused}");
    ground.docker.ping().await.unwrap();
    assert!(!ground.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn case_28_line_without_end() {
    let ground = Ground::new().await;
    let script = "head -c 50000000 /dev/zero | busybox tr '\\0' x";
    let id = ground.container("long", &["sh", "-c", script], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.wait_container(&id).await.unwrap();
    let before = ground::resident();
    let (lines, end) = ground.log(&id, &LogOptions::default()).await;
    end.unwrap();
    assert_eq!(
        lines.iter().map(|line| (line.text.len(), line.cut)).collect::<Vec<_>>(),
        [(berth_engine::LINE_CAP, true)]
    );
    assert!(ground::resident() < before + 32 * 1024 * 1024, "the line is not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_29_and_30_many_lines_of_many_containers() {
    let ground = Ground::new().await;
    let mut reading = tokio::task::JoinSet::new();
    for number in 0..10 {
        let id = ground.container(&format!("loud-{number}"), &["seq", "20000"], json!({})).await;
        ground.docker.start_container(&id).await.unwrap();
        let docker = ground.docker.clone();
        reading.spawn(async move {
            let options = LogOptions { follow: true, ..LogOptions::default() };
            let batches: Vec<_> = docker.container_logs(&id, &options).collect().await;
            batches.into_iter().flat_map(Result::unwrap).map(|line| line.text).collect::<Vec<_>>()
        });
    }
    let whole: Vec<String> = (1..=20_000).map(|number| number.to_string()).collect();
    while let Some(lines) = tokio::time::timeout(PATIENCE, reading.join_next()).await.unwrap() {
        assert!(lines.unwrap() == whole, "every line, in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_31_bytes_that_are_no_text() {
    let ground = Ground::new().await;
    let script = "printf '\\377\\376\\000a\\n\\357\\273\\277b\\n\\300\\200\\n'; echo end";
    let id = ground.container("binary", &["sh", "-c", script], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.wait_container(&id).await.unwrap();
    let (lines, end) = ground.log(&id, &LogOptions::default()).await;
    end.unwrap();
    let lines = texts(&lines);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].ends_with("\0a") && lines[1].ends_with('b') && lines[3] == "end", "{lines:?}");
}

/// Not of the list: what answers is no engine.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_answers_for_the_engine() {
    let ground = Ground::new().await;
    ground.proxy.set(Plan::response(Fault::gateway_error()).only("/info"));
    let refused = ground.docker.info().await.unwrap_err().to_string();
    assert!(refused.contains("503"), "{refused}");
    ground.proxy.set(Plan::pass());
    ground.docker.info().await.unwrap();
}
