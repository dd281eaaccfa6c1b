//! A registry that an engine itself reaches: a container on the engine's own network, of the program on this machine.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::raw::{self, Raw};
use crate::registry;

/// Name and password that a registry with logins lets in.
pub const LOGIN: (&str, &str) = ("me", "marker-password");
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuut9j0GMZ2KScR4ZS6uC.V6iEOHi0Zz5W";

/// Why there is no such registry.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the image could not be made: {0}. Run the tests through `cargo xtask test engine`")]
    Image(#[from] std::io::Error),
    #[error(transparent)]
    Engine(#[from] raw::Error),
    #[error("making the image was given up: {0}")]
    Stopped(#[from] tokio::task::JoinError),
    #[error("the registry does not run:\n{0}")]
    Ended(String),
}

/// Makes the image `registry:test` in the engine on `socket`, unless it is there.
///
/// # Errors
/// When `docker-registry` is not installed, or the engine refuses its image.
pub async fn import(socket: &Path) -> Result<(), Error> {
    let raw = Raw::new(socket);
    // One process at a time: Podman 4 imports everything as `latest` first, where a second import would take the first's.
    // Not beside the socket, whose folder is another's: it must be empty when its engine is gone.
    let name: String = socket.to_string_lossy().chars().map(|char| if char == '/' { '-' } else { char }).collect();
    let path = std::env::temp_dir().join(format!("berth-test-importing{name}"));
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    })
    .await??;
    if raw.get("/images/registry:test/json").await.is_err() {
        raw.import_image("registry", "test", root()?).await?;
    }
    drop(lock);
    Ok(())
}

/// A root file system with the program and its configurations in it, as an uncompressed tar archive.
fn root() -> std::io::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let config = "version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: /data}}\nhttp: {addr: 'x'}\n";
    let auth = "auth: {htpasswd: {realm: test, path: /htpasswd}}\n";
    std::fs::write(folder.path().join("open.yml"), config)?;
    std::fs::write(folder.path().join("closed.yml"), format!("{config}{auth}"))?;
    std::fs::write(folder.path().join("htpasswd"), format!("{}:{HASH}\n", LOGIN.0))?;
    let programs = folder.path().join("usr/bin");
    std::fs::create_dir_all(&programs)?;
    std::fs::copy(registry::found()?, programs.join("docker-registry"))?;
    let files = ["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"];
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "-h", "-c", "-C", "/"]).args(files).arg("-C").arg(folder.path()).arg(".");
    let output = command.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// What a container of it is created with: it listens on `host`, such as `127.0.0.1:5000`, of the engine's network, and
/// wants [`LOGIN`] if `login` says so.
#[must_use]
pub fn body(host: &str, login: bool) -> Value {
    let file = if login { "/closed.yml" } else { "/open.yml" };
    json!({
        "Image": "registry:test", "Cmd": ["/usr/bin/docker-registry", "serve", file],
        "Env": [format!("REGISTRY_HTTP_ADDR={host}")], "HostConfig": { "NetworkMode": "host" },
    })
}

/// Waits until a started container of it listens.
///
/// # Errors
/// When it ends instead; the error holds its log.
pub async fn listening(raw: &Raw, container: &str) -> Result<(), Error> {
    let path = format!("/containers/{container}/logs?stderr=1&stdout=1");
    loop {
        let answer = raw.send(hyper::Method::GET, &path, "text/plain", Vec::new()).await?;
        let log = String::from_utf8_lossy(&answer.body).into_owned();
        if log.contains("listening on") {
            return Ok(());
        }
        let state = raw.get(&format!("/containers/{container}/json")).await?;
        if state.pointer("/State/Status").and_then(Value::as_str) != Some("running") {
            return Err(Error::Ended(log));
        }
        tokio::task::yield_now().await;
    }
}
