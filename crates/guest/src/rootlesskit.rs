//! dockerd's mode without root was made for RootlessKit and asks it one question while it starts: who opens ports on the
//! host. The answer here is "nobody you have to call", so that dockerd runs its docker-proxy, which asks the supervisor.

use std::io::{Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::error::Error;
use crate::files::create_folder;

const STATE: &str = "/run/rootlesskit";
const SOCKET: &str = "/run/rootlesskit/api.sock";
const HEAD_LIMIT: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// What makes dockerd ask, and keeps it from folders of the host's root.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("ROOTLESSKIT_STATE_DIR", STATE),
    ("HOME", "/run"),
    ("XDG_CONFIG_HOME", "/etc"),
    ("XDG_DATA_HOME", "/var/lib"),
    ("XDG_RUNTIME_DIR", "/run"),
];

/// Answers for as long as this process lives.
pub(crate) fn serve() -> Result<(), Error> {
    create_folder(Path::new(STATE))?;
    let listener = UnixListener::bind(SOCKET).map_err(Error::file("cannot listen on", Path::new(SOCKET)))?;
    thread::Builder::new()
        .name("rootlesskit".to_owned())
        .spawn(move || {
            for connection in listener.incoming().flatten() {
                // Who asked and went away has no use for the answer.
                let _ = converse(connection);
            }
        })
        .map_err(Error::io("starting a thread"))?;
    Ok(())
}

fn converse(mut connection: UnixStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let head = head(&mut connection)?;
    connection.write_all(&answer(&head))
}

fn head(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while head.len() < HEAD_LIMIT && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = from.read(&mut piece)?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    Ok(head)
}

fn answer(head: &[u8]) -> Vec<u8> {
    let (status, body) = if head.starts_with(b"GET /v1/info ") {
        let version = concat!("berth-guest ", env!("CARGO_PKG_VERSION"));
        // Without a `portDriver`: dockerd then has nothing to ask for when it publishes a port.
        let body = json!({
            "apiVersion": "1.1.1", "version": version, "stateDir": STATE, "childPID": 1, "networkDriver": {"driver": "berth"},
        });
        ("200 OK", body)
    } else {
        ("404 Not Found", json!({"message": "this is Berth, which answers /v1/info alone"}))
    };
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{HEAD_LIMIT, answer, head};

    #[test]
    fn dockerd_is_told_that_nobody_else_opens_ports() {
        let said = String::from_utf8(answer(b"GET /v1/info HTTP/1.1\r\nHost: rootlesskit\r\n\r\n")).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(&format!("Content-Length: {}", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body.get("portDriver").is_none() && body["networkDriver"]["driver"].is_string());
        assert!(answer(b"POST /v1/ports HTTP/1.1\r\n\r\n").starts_with(b"HTTP/1.1 404"));
    }

    #[test]
    fn who_never_ends_his_question_is_not_listened_to_for_ever() {
        let endless = std::io::repeat(b'x');
        assert!(head(&mut std::io::Read::take(endless, 1 << 20)).unwrap().len() <= HEAD_LIMIT + 1024);
    }
}
