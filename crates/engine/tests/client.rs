//! The client against engines that answer as real ones do, and as broken ones do.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

mod support;

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use berth_engine::{
    ApiVersion, Changed, ContainerRef, Error, EventKind, Filters, ListContainers, LogBatch, LogOptions, RemoveContainer,
};
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use support::{Reply, Request, Server, answer, chunked, docker, no_such_container, ping, socket, soon, stream_head};
use tokio::sync::Notify;

fn web() -> ContainerRef {
    "web".parse().unwrap()
}

/// Serves a version that tells the kind of output, and the rest by the function.
fn modern(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> impl Fn(&Request) -> Reply + Send + Sync {
    move |request| if request.line == "GET /_ping" { ping("1.51") } else { handler(request) }
}

#[tokio::test]
async fn a_get_survives_an_idle_connection_that_closes() {
    let (_folder, path) = socket();
    let server = Server::start(&path, |request| match (request.connection, request.line.as_str()) {
        // The engine restarts just when the second request arrives.
        (0, "GET /version") => Reply::Close(Vec::new()),
        (0, _) => ping("1.41"),
        _ => support::json(&json!({ "Version": "20.10.24" })),
    });
    let docker = docker(&path);
    docker.ping().await.unwrap();
    assert_eq!(docker.version().await.unwrap().version, "20.10.24");
    assert_eq!(server.connections(), [0, 0, 1], "tried on the idle connection, then once on a fresh one");
}

#[tokio::test]
async fn a_get_that_fails_on_a_fresh_connection_is_not_repeated() {
    let (_folder, path) = socket();
    let server = Server::start(&path, |_| Reply::Close(Vec::new()));
    let error = docker(&path).ping().await.unwrap_err();
    assert!(error.is_unreachable() && error.is_retryable(), "{error:?}");
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_post_never_uses_an_idle_connection() {
    let (_folder, path) = socket();
    let server = Server::start(&path, modern(|_| Reply::Keep(answer(204, "", ""))));
    let docker = docker(&path);
    assert_eq!(docker.start_container(&web()).await.unwrap(), Changed::Yes);
    docker.kill_container(&web(), Some("SIGRTMIN+3")).await.unwrap();
    assert_eq!(server.connections(), [0, 1, 2]);
    assert_eq!(server.lines()[1..], ["POST /containers/web/start", "POST /containers/web/kill?signal=SIGRTMIN%2B3"]);
}

#[tokio::test]
async fn answers_map_to_errors() {
    let (_folder, path) = socket();
    let replies = [
        answer(503, "Content-Type: text/html\r\n", "<html>\n<h1>No server is available</h1></html>"),
        answer(409, "", r#"{"message":"Container web is not paused"}"#),
        answer(500, "", ""),
        answer(200, "", "<html>"),
        answer(301, "Location: /elsewhere\r\n", ""),
        answer(500, "", vec![b'x'; 5 << 20]),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{\"Id\":".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        [&b"HTTP/1.1 200 OK\r\n"[..], &b"X-A: aaaaaaaaaaaaaaaa\r\n".repeat(10_000)].concat(),
        b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(),
    ];
    let count = replies.len();
    let next = AtomicUsize::new(0);
    let _server =
        Server::start(&path, modern(move |_| Reply::Close(replies[next.fetch_add(1, Ordering::Relaxed)].clone())));
    let docker = docker(&path);
    let mut errors = Vec::new();
    for _ in 0..count {
        errors.push(docker.list_containers(&ListContainers::default()).await.unwrap_err());
    }
    let [html, conflict, empty, nonsense, redirect, large, cut, chunk, no_chunk, heads, ssh] =
        <[Error; 11]>::try_from(errors).unwrap();
    assert_eq!(html.to_string(), "<html> <h1>No server is available</h1></html>");
    assert!(html.is_retryable() && !html.is_unreachable());
    assert_eq!(conflict.to_string(), "Container web is not paused");
    assert!(conflict.is_conflict() && !conflict.is_retryable());
    assert_eq!(empty.to_string(), "The engine answered 500 without a reason");
    assert!(matches!(nonsense, Error::Decode { .. }), "{nonsense:?}");
    assert!(!nonsense.to_string().contains(&nonsense.source().unwrap().to_string()), "the cause is not repeated");
    assert!(matches!(redirect, Error::Api { status: 301, .. }), "{redirect:?}");
    assert!(matches!(large, Error::TooLarge { .. }), "{large:?}");
    assert!(cut.is_unreachable(), "half a list is no list: {cut:?}");
    for broken in [chunk, no_chunk, heads, ssh] {
        assert!(matches!(broken, Error::Http { .. }) && !broken.is_unreachable(), "{broken:?}");
    }
}

#[tokio::test]
async fn an_absent_engine_is_unreachable() {
    let (_folder, path) = socket();
    let error = docker(&path).info().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_unreachable(), "{error:?}");
    assert_eq!(error.to_string(), format!("Could not connect to the engine at unix://{}", path.display()));
    let error = docker(path.parent().unwrap()).ping().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "a folder is no socket: {error:?}");
}

#[tokio::test]
async fn negotiates_with_old_new_and_silent_engines() {
    let silent = |api: &'static str| {
        move |request: &Request| match request.line.as_str() {
            "GET /_ping" => Reply::Keep(answer(200, "", "OK")),
            _ => support::json(&json!({ "ApiVersion": api, "MinAPIVersion": "1.12" })),
        }
    };
    let (_folder, path) = socket();
    let docker = docker(&path);
    {
        let server = Server::start(&path, |_| ping("1.41"));
        assert_eq!(docker.negotiate().await.unwrap(), ApiVersion { major: 1, minor: 41 });
        docker.negotiate().await.unwrap();
        assert_eq!(server.lines().len(), 1, "asked once");
    }
    docker.forget_version();
    {
        let _server = Server::start(&path, silent("1.24"));
        assert_eq!(docker.negotiate().await.unwrap().to_string(), "1.24");
    }
    docker.forget_version();
    {
        let _server = Server::start(&path, silent("1.12"));
        let error = docker.list_containers(&ListContainers::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "The engine speaks API version 1.12, this client needs 1.24");
        assert!(!error.is_retryable());
    }
    {
        let _server = Server::start(&path, |_| ping("1.12"));
        assert!(matches!(docker.negotiate().await, Err(Error::UnsupportedApi { .. })));
    }
    for (oldest, expected) in [("1.44", Some(ApiVersion::NEWEST)), ("1.60", None)] {
        docker.forget_version();
        let _server = Server::start(&path, move |request| match request.line.as_str() {
            "GET /_ping" => ping("1.70"),
            _ => support::json(&json!({ "ApiVersion": "1.70", "MinAPIVersion": oldest })),
        });
        assert_eq!(docker.negotiate().await.ok(), expected);
    }
}

#[tokio::test]
async fn calls_have_the_form_of_the_api() {
    let (_folder, path) = socket();
    let id = "ab".repeat(32);
    let created = id.clone();
    let server = Server::start(
        &path,
        modern(move |request| match request.line.as_str() {
            "GET /containers/web/json" => support::json(&json!({ "Id": created, "Config": { "StopTimeout": 90 } })),
            "POST /containers/create?name=web" => support::json(&json!({ "Id": created, "Warnings": null })),
            "POST /containers/web/wait" => support::json(&json!({ "StatusCode": 137, "Error": null })),
            line if line.starts_with("GET /containers/json") => support::json(&json!([])),
            line if line.contains("/stop") => Reply::Keep(answer(304, "", "")),
            line if line.starts_with("POST /images") => {
                let text = "{\"status\":\"x\"}\r\n{\"errorDetail\":{},\"error\":\"no space left on device\"}";
                Reply::Keep(answer(200, "", text))
            }
            _ => Reply::Keep(answer(204, "", "")),
        }),
    );
    let docker = docker(&path);
    let filters = Filters::default().with("label", "a=b&c").with("label", "d");
    docker.list_containers(&ListContainers { all: true, limit: Some(3), filters, size: false }).await.unwrap();
    assert_eq!(docker.stop_container(&web(), None).await.unwrap(), Changed::Already);
    assert_eq!(docker.stop_container(&web(), Some(3)).await.unwrap(), Changed::Already);
    docker.remove_container(&web(), &RemoveContainer { force: true, volumes: true }).await.unwrap();
    assert_eq!(docker.create_container("web", &json!({ "Image": "busybox" })).await.unwrap().as_str(), id);
    assert_eq!(docker.wait_container(&web()).await.unwrap().status_code, 137);
    let error = docker.import_image("localhost:5000/busybox", b"tar".to_vec()).await.unwrap_err();
    assert!(matches!(error, Error::Stream(text) if text == "no space left on device"));
    assert!(matches!(docker.kill_container(&web(), Some("KILL&x=1")).await, Err(Error::InvalidReference { .. })));
    assert!(matches!(docker.create_container("../x", &json!({})).await, Err(Error::InvalidReference { .. })));
    assert_eq!(
        server.lines(),
        [
            "GET /_ping",
            "GET /containers/json?all=1&limit=3&filters=%7B%22label%22%3A%5B%22a%3Db%26c%22%2C%22d%22%5D%7D",
            "GET /containers/web/json",
            "POST /containers/web/stop",
            "POST /containers/web/stop?t=3",
            "DELETE /containers/web?force=1&v=1",
            "POST /containers/create?name=web",
            "POST /containers/web/wait",
            "POST /images/create?fromSrc=-&repo=localhost%3A5000%2Fbusybox&tag=latest",
        ]
    );
    assert_eq!(server.requests.lock().unwrap()[8].body, b"tar");
}

/// All lines, and the error that ended them.
async fn read(stream: impl Stream<Item = Result<LogBatch, Error>>) -> (Vec<String>, Option<Error>) {
    let mut stream = std::pin::pin!(stream);
    let mut lines = Vec::new();
    while let Some(batch) = soon(stream.next()).await {
        match batch {
            Ok(batch) => lines.extend(batch.into_iter().map(|line| line.text)),
            Err(error) => {
                assert!(soon(stream.next()).await.is_none(), "an error is the last item");
                return (lines, Some(error));
            }
        }
    }
    (lines, None)
}

#[tokio::test]
async fn output_is_raw_or_multiplexed_by_what_the_engine_says() {
    const FRAME: &[u8] = b"\x01\0\0\0\0\0\0\x03hi\n";
    const RAW: &[u8] = b"\x01\0\0\0\0\0\0\x03raw\r\n";
    for (api, header, tty, body, expected) in [
        ("1.51", "Content-Type: application/vnd.docker.multiplexed-stream\r\n", None, FRAME, "hi"),
        ("1.51", "Content-Type: application/vnd.docker.raw-stream\r\n", None, RAW, "\u{1}\0\0\0\0\0\0\u{3}raw"),
        ("1.51", "", Some(true), RAW, "\u{1}\0\0\0\0\0\0\u{3}raw"),
        ("1.51", "Content-Type: application/octet-stream\r\n", Some(false), FRAME, "hi"),
        // Before 1.42 engines call everything raw.
        ("1.41", "Content-Type: application/vnd.docker.raw-stream\r\n", Some(false), FRAME, "hi"),
        ("1.41", "", Some(true), RAW, "\u{1}\0\0\0\0\0\0\u{3}raw"),
    ] {
        let (_folder, path) = socket();
        let server = Server::start(&path, move |request| match request.line.as_str() {
            "GET /_ping" => ping(api),
            "GET /containers/web/json" => {
                support::json(&json!({ "Id": "ab".repeat(32), "Config": { "Tty": tty.unwrap() } }))
            }
            _ => Reply::Keep([stream_head(header), chunked(body), b"0\r\n\r\n".to_vec()].concat()),
        });
        let (lines, error) = read(docker(&path).container_logs(&web(), &LogOptions::default())).await;
        assert!(error.is_none(), "{api} {header} {error:?}");
        assert_eq!(lines, [expected], "{api} {header}");
        let inspected = server.lines().contains(&"GET /containers/web/json".to_owned());
        assert_eq!(inspected, tty.is_some(), "asked only where nothing else tells");
    }
}

#[tokio::test]
async fn a_log_that_breaks_off_says_so_after_its_lines() {
    for cut in 1..24 {
        let (_folder, path) = socket();
        let body = [&b"\x01\0\0\0\0\0\0\x06whole\n"[..], b"\x01\0\0\0\0\0\0\x06broken"].concat();
        let sent = body.len() - cut;
        let _server =
            Server::start(&path, modern(move |_| Reply::Close([stream_head(""), chunked(&body[..sent])].concat())));
        let options = LogOptions { tty: Some(false), ..LogOptions::default() };
        let (lines, error) = read(docker(&path).container_logs(&web(), &options)).await;
        assert_eq!(lines.len(), usize::from(cut <= 14), "cut {cut}");
        assert!(error.unwrap().is_unreachable(), "cut {cut}");
    }
}

#[tokio::test]
async fn a_missing_container_is_an_error_of_the_stream() {
    let (_folder, path) = socket();
    let _server = Server::start(&path, modern(|_| no_such_container()));
    let (lines, error) = read(docker(&path).container_logs(&web(), &LogOptions::default())).await;
    assert!(lines.is_empty() && error.unwrap().is_not_found());
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection() {
    let (_folder, path) = socket();
    let closed = Arc::new(Notify::new());
    let told = Arc::clone(&closed);
    let _server = Server::start(
        &path,
        modern(move |_| Reply::Hold([stream_head(""), chunked(b"line\n")].concat(), Arc::clone(&told))),
    );
    let options = LogOptions { follow: true, tty: Some(true), ..LogOptions::default() };
    let mut logs = docker(&path).container_logs(&web(), &options);
    assert_eq!(soon(logs.next()).await.unwrap().unwrap()[0].text, "line");
    drop(logs);
    soon(closed.notified()).await;
}

#[tokio::test]
async fn a_cancelled_call_closes_its_connection() {
    let (_folder, path) = socket();
    let (asked, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ask, told) = (Arc::clone(&asked), Arc::clone(&closed));
    let _server = Server::start(
        &path,
        modern(move |_| {
            ask.notify_one();
            Reply::Hold(Vec::new(), Arc::clone(&told))
        }),
    );
    let docker = docker(&path);
    tokio::select! {
        _ = docker.info() => panic!("there is no answer"),
        () = asked.notified() => {}
    }
    soon(closed.notified()).await;
}

#[tokio::test]
async fn events_are_read_and_their_end_is_checked() {
    for (body, count, broken) in [
        (&b"{\"Type\":\"network\",\"Action\":\"connect\"}\r\n\n{\"Type\":\"image\"}"[..], 2, false),
        (b"{\"Type\":\"network\"}\n{\"Type\":", 1, true),
        (b"<html>", 0, true),
    ] {
        let (_folder, path) = socket();
        let server = Server::start(
            &path,
            modern(move |_| Reply::Keep([stream_head(""), chunked(body), b"0\r\n\r\n".to_vec()].concat())),
        );
        let filters = Filters::default().with("type", "network");
        let events: Vec<_> = soon(docker(&path).events(Some(1_500_000_000), &filters).collect()).await;
        assert_eq!(events.iter().filter(|event| event.is_ok()).count(), count);
        assert_eq!(events.last().unwrap().is_err(), broken);
        if let Some(Ok(event)) = events.first() {
            assert_eq!(event.kind, EventKind::Network);
        }
        assert!(server.lines()[1].starts_with("GET /events?since=1.500000000&filters="), "{:?}", server.lines());
    }
}
