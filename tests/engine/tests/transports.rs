//! The ways to an engine on another machine, with real programs at the other end: dockerd with `--tlsverify`, and sshd
//! with the `docker` command behind it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::{
    AttachContainer, ConnectOptions, ContainerRef, Docker, Endpoint, Error, EventKind, ExecOptions, Filters,
    ListContainers, LogOptions, Pem, ProcessOutput, TlsMaterial, Verification,
};
use berth_testkit::image;
use berth_testkit::raw::Raw;
use berth_testkit::real::OldEngine;
use berth_testkit::ssh::{Guest, Sshd};
use berth_testkit::tls_engine::{Authority, Identity, KeyForm, NAMES, TlsEngine};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// Generous, for two cores that do other work: it only says when to give up.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

/// The engine's own socket, with an image to make containers of.
async fn prepared(socket: &Path) -> Raw {
    let raw = Raw::new(socket);
    raw.import_image("busybox", "test", image::busybox().unwrap()).await.unwrap();
    raw
}

async fn container(raw: &Raw, command: &[&str], extra: Value) -> ContainerRef {
    let mut body = json!({ "Image": "busybox:test", "Cmd": command, "HostConfig": { "NetworkMode": "none" } });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let created = raw.post("/containers/create", &body).await.unwrap();
    created["Id"].as_str().unwrap().parse().unwrap()
}

async fn list(docker: &Docker) -> Result<usize, Error> {
    let all = ListContainers { all: true, ..ListContainers::default() };
    docker.list_containers(&all).await.map(|list| list.len())
}

async fn printed(output: ProcessOutput) -> String {
    let pieces: Vec<_> = soon(output.collect::<Vec<_>>()).await;
    pieces.into_iter().map(|piece| String::from_utf8(piece.unwrap().bytes.to_vec()).unwrap()).collect()
}

/// Ordinary calls, streams that stay open, and connections that stop being HTTP.
async fn every_kind_of_call(docker: &Docker, raw: &Raw) {
    docker.ping().await.unwrap();
    assert!(docker.version().await.unwrap().version.starts_with("20.10"));
    assert_eq!(list(docker).await.unwrap(), 0);

    let mut events = docker.events(Some(1), &Filters::default().with("type", "container"));
    let sleeper = container(raw, &["sleep", "600"], json!({})).await;
    let created = soon(events.next()).await.unwrap().unwrap();
    assert_eq!((created.kind.clone(), created.verb()), (EventKind::Container, "create"));
    docker.start_container(&sleeper).await.unwrap();
    let started = soon(events.next()).await.unwrap().unwrap();
    assert_eq!((started.verb(), started.id.as_str()), ("start", sleeper.as_str()), "the stream stays open");
    drop(events);

    let script = "echo one; sleep 1; echo two >&2; sleep 1; echo three";
    let writer = container(raw, &["sh", "-c", script], json!({})).await;
    docker.start_container(&writer).await.unwrap();
    let mut log = docker.container_logs(&writer, &LogOptions { follow: true, ..LogOptions::default() });
    let mut lines = Vec::new();
    while let Some(batch) = soon(log.next()).await {
        lines.extend(batch.unwrap().into_iter().map(|line| line.text));
    }
    assert_eq!(lines, ["one", "two", "three"]);

    let session = docker.exec(&sleeper, &ExecOptions::run(["sh", "-c", "cat; echo end"]).stdin(true)).await.unwrap();
    half_close(session.streams).await;
    assert_eq!(soon(docker.wait_exec(&session.id)).await.unwrap(), 0);

    let stdin = json!({ "OpenStdin": true, "StdinOnce": true, "AttachStdin": true });
    let reader = container(raw, &["sh", "-c", "cat; echo end"], stdin).await;
    let attached = docker.attach_container(&reader, &AttachContainer::all()).await.unwrap();
    docker.start_container(&reader).await.unwrap();
    half_close(attached).await;
    assert_eq!(list(docker).await.unwrap(), 3);
}

/// What was written comes back whole, and with it what follows the end of input.
async fn half_close(mut streams: berth_engine::Attached) {
    let text = "0123456789abcdef".repeat(16 * 1024);
    let written = text.clone();
    let writer = tokio::spawn(async move {
        streams.input.write_all(written.as_bytes()).await.unwrap();
        streams.input.shutdown().await.unwrap();
        streams.input
    });
    let seen = printed(streams.output).await;
    assert!(seen == text + "end\n", "{} bytes came back", seen.len());
    drop(writer.await.unwrap());
}

fn material(authority: &Authority, identity: Option<&Identity>) -> TlsMaterial {
    let mut material = TlsMaterial::default();
    material.authorities = Some(Pem::bytes(authority.certificate()));
    material.certificate = identity.map(|identity| Pem::bytes(&identity.certificate));
    material.key = identity.map(|identity| Pem::bytes(&identity.key));
    material
}

fn by_tls(engine: &TlsEngine, host: &str, material: TlsMaterial) -> Docker {
    let tls = Arc::new(material);
    Docker::new(Endpoint::Tls { host: host.to_owned(), port: engine.port(), tls })
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_carries_every_kind_of_call() {
    let authority = Authority::new("Berth test authority").unwrap();
    let engine = TlsEngine::start(&authority).unwrap();
    let raw = prepared(&engine.socket()).await;
    // From files, as `docker` has them.
    let folder = tempfile::tempdir().unwrap();
    authority.client().unwrap().write(folder.path(), &authority).unwrap();
    let docker = by_tls(&engine, "127.0.0.1", TlsMaterial::in_folder(folder.path()));
    every_kind_of_call(&docker, &raw).await;
    for counted in soon(join_all((0..5).map(|_| list(&docker)))).await {
        assert_eq!(counted.unwrap(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_takes_keys_in_every_form() {
    let authority = Authority::new("Berth test authority").unwrap();
    let engine = TlsEngine::start(&authority).unwrap();
    for (form, label) in [
        (KeyForm::RsaPkcs1, "BEGIN RSA PRIVATE KEY"),
        (KeyForm::RsaPkcs8, "BEGIN PRIVATE KEY"),
        (KeyForm::EcSec1, "BEGIN EC PRIVATE KEY"),
    ] {
        let client = authority.client_by_openssl(form).unwrap();
        assert!(client.key.contains(label), "{form:?} is what it says");
        let docker = by_tls(&engine, "127.0.0.1", material(&authority, Some(&client)));
        assert_eq!(list(&docker).await.unwrap(), 0, "{form:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_says_who_distrusts_whom() {
    let authority = Authority::new("Berth test authority").unwrap();
    let foreign = Authority::new("Another authority").unwrap();
    let engine = TlsEngine::start(&authority).unwrap();
    let client = authority.client().unwrap();
    let refused = async |host: &str, material: TlsMaterial| {
        let error = by_tls(&engine, host, material).ping().await.unwrap_err();
        let words = error.explanation().unwrap_or_else(|| panic!("nothing is explained: {error:?}"));
        assert!(!error.is_unreachable(), "it is there: {error:?}");
        (error.is_permission_denied(), words)
    };

    // More than once: what is refused after the handshake may come before or after the request was sent.
    for _ in 0..10 {
        let (denied, words) = refused("127.0.0.1", material(&authority, None)).await;
        assert!(denied && words.contains("asks for a client certificate"), "{words}");
        let stranger = foreign.client().unwrap();
        let (denied, words) = refused("127.0.0.1", material(&authority, Some(&stranger))).await;
        assert!(denied && words.contains("refused this client's certificate"), "{words}");
        let impostor = Authority::new("Berth test authority").unwrap().client().unwrap();
        let (denied, words) = refused("127.0.0.1", material(&authority, Some(&impostor))).await;
        assert!(denied && words.contains("refused this client's certificate"), "{words}");
    }

    let (denied, words) = refused("127.0.0.1", material(&foreign, Some(&client))).await;
    assert!(!denied && words.contains("not from an authority that is trusted here"), "{words}");
    let (denied, words) = refused("localhost", material(&authority, Some(&client))).await;
    assert!(!denied && words.contains("not for `localhost`"), "{words}");
    assert!(NAMES.iter().all(|name| words.contains(name)), "what it is for is said: {words}");

    let mut blind = material(&foreign, Some(&client));
    blind.verification = Verification::SkippedAsAsked;
    by_tls(&engine, "localhost", blind).ping().await.unwrap();
    // Both sides of TLS missing: the engine says so in plain HTTP.
    let plain = Docker::new(Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: engine.port() });
    let error = plain.ping().await.unwrap_err();
    assert!(error.to_string().contains("HTTPS server"), "{error:?}");
}

fn by_ssh(sshd: &Sshd, guest: Guest) -> Docker {
    let endpoint =
        Endpoint::Ssh { user: Some(sshd.user().to_owned()), host: "127.0.0.1".to_owned(), port: Some(sshd.port()) };
    Docker::with_options(endpoint, options(sshd, guest))
}

fn options(sshd: &Sshd, guest: Guest) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.ssh = sshd.client(guest);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_carries_every_kind_of_call() {
    let engine = OldEngine::start().unwrap();
    let raw = prepared(&engine.socket()).await;
    let sshd = Sshd::start(&engine.socket()).unwrap();
    let docker = by_ssh(&sshd, Guest::Welcome);
    every_kind_of_call(&docker, &raw).await;

    // Host, port and user from the configuration of `ssh`.
    let alias = Docker::with_options("ssh://engine".parse().unwrap(), options(&sshd, Guest::Welcome));
    for counted in soon(join_all((0..5).map(|_| list(&alias)))).await {
        assert_eq!(counted.unwrap(), 3);
    }

    drop((docker, alias));
    let gone = async {
        while !sshd.clients().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_that_dies_is_an_error_and_no_end() {
    let engine = OldEngine::start().unwrap();
    let raw = prepared(&engine.socket()).await;
    let sshd = Sshd::start(&engine.socket()).unwrap();
    let docker = by_ssh(&sshd, Guest::Welcome);
    let sleeper = container(&raw, &["sh", "-c", "echo line; sleep 600"], json!({})).await;
    docker.start_container(&sleeper).await.unwrap();

    let mut events = docker.events(Some(1), &Filters::default());
    soon(events.next()).await.unwrap().unwrap();
    let mut log = docker.container_logs(&sleeper, &LogOptions { follow: true, ..LogOptions::default() });
    soon(log.next()).await.unwrap().unwrap();
    let exec = ExecOptions::run(["sh", "-c", "echo begun; sleep 600"]);
    let mut output = docker.exec(&sleeper, &exec).await.unwrap().streams.output;
    soon(output.next()).await.unwrap().unwrap();

    for client in sshd.clients() {
        std::process::Command::new("kill").args(["-KILL", &client.to_string()]).status().unwrap();
    }
    let broken = soon(async {
        loop {
            if let Err(error) = events.next().await.expect("no event stream ends by itself") {
                return error;
            }
        }
    })
    .await;
    assert!(broken.is_unreachable() && broken.explanation().unwrap().starts_with("ssh said: "), "{broken:?}");
    let broken = soon(log.next()).await.expect("no log of a running container ends").unwrap_err();
    assert!(broken.is_unreachable(), "{broken:?}");
    let broken = soon(output.next()).await.expect("no output of a running process ends").unwrap_err();
    assert!(broken.is_unreachable(), "{broken:?}");
    assert_eq!(list(&docker).await.unwrap(), 1, "the next call starts another ssh");

    let mut events = docker.events(Some(1), &Filters::default());
    soon(events.next()).await.unwrap().unwrap();
    drop(sshd);
    let broken = soon(async {
        loop {
            if let Err(error) = events.next().await.expect("no event stream ends by itself") {
                return error;
            }
        }
    })
    .await;
    assert!(broken.is_unreachable() && broken.explanation().unwrap().starts_with("ssh said: "), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_that_is_refused_says_why() {
    let bare = Sshd::without_docker().unwrap();
    let nobody = Sshd::start(Path::new("/nonexistent/docker.sock")).unwrap();
    for (sshd, guest, denied, parts) in [
        (&bare, Guest::Stranger, true, ["Permission denied (publickey)", "load a key into the ssh agent"]),
        (&bare, Guest::FirstTime, false, ["Host key verification failed", "Connect once with `ssh`"]),
        (&bare, Guest::Welcome, false, ["docker: not found", "Install the `docker` command"]),
        (&nobody, Guest::Welcome, false, ["/nonexistent/docker.sock", "no such file or directory"]),
    ] {
        let docker = by_ssh(sshd, guest);
        let ordinary = docker.ping().await.unwrap_err();
        let streamed = soon(docker.events(None, &Filters::default()).next()).await.unwrap().unwrap_err();
        for error in [ordinary, streamed] {
            let words = error.explanation().unwrap_or_else(|| panic!("nothing is explained: {error:?}"));
            assert!(words.starts_with("ssh said: "), "{words}");
            assert!(parts.iter().all(|part| words.contains(part)), "{words}");
            assert_eq!(error.is_permission_denied(), denied, "{words}");
        }
    }
    // Bound and never listened on: it refuses for certain, while a server that is ending may still take a connection.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = silent.local_addr().unwrap().port();
    let endpoint = Endpoint::Ssh { user: None, host: "127.0.0.1".to_owned(), port: Some(port) };
    let error = Docker::with_options(endpoint, options(&nobody, Guest::Welcome)).ping().await.unwrap_err();
    assert!(error.is_unreachable() && error.explanation().unwrap().contains("Connection refused"), "{error:?}");
}
