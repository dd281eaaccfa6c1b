//! Requests to an engine that pass by Berth's own client: to prepare what it cannot make yet, to clean up without
//! counting as a call of it, and to look with other eyes at what it did.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Text as the value of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("{what} was answered by {status}: {body}")]
    Refused { what: String, status: u16, body: String },
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// All of the body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Sends requests to one unix socket, a connection for each.
#[derive(Clone, Debug)]
pub struct Raw {
    socket: PathBuf,
}

impl Raw {
    /// For the engine that listens on `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// One exchange. `path` begins with `/` and holds its query, encoded.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> Result<Answer, Error> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "engine")
            .header("Content-Type", kind)
            .body(Full::new(body.into()))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok(Answer { status, body })
    }

    /// `GET` that must succeed, its JSON.
    ///
    /// # Errors
    /// When it is refused or there is no answer.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        let answer = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        Ok(accepted(&format!("GET {path}"), answer)?.json())
    }

    /// `POST` of JSON that must succeed, and its JSON.
    ///
    /// # Errors
    /// When it is refused or there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.send(Method::POST, path, "application/json", body).await?;
        Ok(accepted(&format!("POST {path}"), answer)?.json())
    }

    /// `DELETE`, whatever comes of it: what is gone already is no fault.
    pub async fn delete(&self, path: &str) {
        let _ = self.send(Method::DELETE, path, "application/json", Bytes::new()).await;
    }

    /// Makes an image of an uncompressed tar archive of a root file system.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub async fn import_image(&self, repository: &str, tag: &str, tar: impl Into<Bytes>) -> Result<(), Error> {
        let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
        let answer = self.send(Method::POST, &path, "application/x-tar", tar).await?;
        accepted("an import", answer)?;
        // Podman 4 imports everything as `latest`, whatever tag it was asked for.
        let made = self.get(&format!("/images/{repository}:{tag}/json")).await;
        if made.is_err() {
            self.post(&format!("/images/{repository}:latest/tag?repo={repository}&tag={tag}"), &Value::Null).await?;
            self.delete(&format!("/images/{repository}:latest")).await;
        }
        Ok(())
    }
}

fn accepted(what: &str, answer: Answer) -> Result<Answer, Error> {
    if (200..400).contains(&answer.status) {
        return Ok(answer);
    }
    let body = String::from_utf8_lossy(&answer.body).trim().to_owned();
    Err(Error::Refused { what: what.to_owned(), status: answer.status, body })
}
