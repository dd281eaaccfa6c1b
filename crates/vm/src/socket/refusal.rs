//! The answer of a socket without an engine: HTTP 503, as clients of the engine's API understand it.

use std::io;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Settings;

const HEAD_LIMIT: usize = 64 << 10;
/// The longest word that HTTP knows as a method is shorter.
const METHOD_LIMIT: usize = 24;
const LINGER_LIMIT: usize = 16 << 20;
const RETRY_AFTER: u32 = 5;

/// Why there is no engine, for the client to show.
#[derive(Debug)]
pub(super) struct Refusal {
    message: String,
}

impl Refusal {
    pub(super) fn new(message: String) -> Self {
        Self { message }
    }

    /// Answers the client's request, if it makes one. Who does not speak HTTP is closed without a word.
    pub(super) async fn tell(&self, client: &mut UnixStream, settings: Settings) {
        let Ok(Ok(Some(head))) = timeout(settings.head, read_head(client)).await else { return };
        let lingering = async {
            client.write_all(&self.answer(&head)).await?;
            client.shutdown().await?;
            drain(client).await
        };
        // It was told; whether it listened is its affair.
        let _ = timeout(settings.linger, lingering).await;
    }

    fn answer(&self, head: &[u8]) -> Vec<u8> {
        let body = json!({ "message": self.message }).to_string();
        let mut answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Retry-After: {RETRY_AFTER}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if !head.starts_with(b"HEAD ") {
            answer.extend_from_slice(body.as_bytes());
        }
        answer
    }
}

/// The head of a request, with whatever came along; none if this is no request.
async fn read_head(client: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let room = HEAD_LIMIT - head.len();
        if room == 0 || (&mut *client).take(room as u64).read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
        if !may_be_http(&head) {
            return Ok(None);
        }
        if head.windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(Some(head));
        }
    }
}

/// Whether these first bytes can be a request's: a method, a space, and then a target or nothing yet.
fn may_be_http(head: &[u8]) -> bool {
    let method = head.iter().take(METHOD_LIMIT).take_while(|byte| byte.is_ascii_uppercase()).count();
    match head.get(method) {
        None => method < METHOD_LIMIT,
        // `PRI` begins HTTP/2, which is answered in other words.
        Some(b' ') => {
            method > 0 && !head.starts_with(b"PRI ") && matches!(head.get(method + 1), None | Some(b'/' | b'*' | b'h'))
        }
        Some(_) => false,
    }
}

/// Reads what the client still sends, so that it reads the answer instead of finding its connection broken.
async fn drain(client: &mut UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = LINGER_LIMIT;
    while left > 0 {
        match client.read(&mut buffer).await? {
            0 => return Ok(()),
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{METHOD_LIMIT, Refusal, may_be_http};

    #[test]
    fn requests_are_told_from_everything_else_by_their_first_bytes() {
        for good in ["", "G", "GET", "GET ", "GET /_ping HTTP/1.1\r\n", "OPTIONS * HTTP/1.1", "POST http://x/ HTTP/1.1"]
        {
            assert!(may_be_http(good.as_bytes()), "{good:?}");
        }
        let long = "A".repeat(METHOD_LIMIT);
        for bad in [" ", "get / HTTP/1.1", "\u{16}\u{3}\u{1}", "GET\r\n", "GET  /", "PRI * HTTP/2.0", "GET1 /", &long] {
            assert!(!may_be_http(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_is_whole_and_a_head_has_none() {
        let refusal = Refusal::new("it is \"starting\"".to_owned());
        let text = String::from_utf8(refusal.answer(b"GET / HTTP/1.1\r\n\r\n")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"message":"it is \"starting\""}"#);
        assert!(
            head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        assert!(head.contains("Retry-After: ") && head.contains("Connection: close"), "{head}");
        let text = String::from_utf8(refusal.answer(b"HEAD / HTTP/1.1\r\n\r\n")).unwrap();
        assert!(text.ends_with("\r\n\r\n"), "{text}");
    }
}
