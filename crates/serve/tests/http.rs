//! The server as a stranger meets it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use berth_app::wire::Host;
use berth_app::{App, Config, Endpoint, EngineChoice};
use berth_serve::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn serve() -> (String, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let engine = EngineChoice::Adopted(Endpoint::Unix(folder.path().join("no.sock")));
    let config = Config { host: Host::Browser, data: Some(folder.path().join("data")), engine };
    let (app, background) = App::start(config).unwrap();
    let server = Server::bind(app, 0).await.unwrap();
    let (address, token) = (server.url().replace("http://", ""), server.token().reveal().to_owned());
    tokio::spawn(async move {
        let _background = background;
        server.run(std::future::pending()).await
    });
    (address, token, folder)
}

async fn ask(address: &str, request: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

const ABOUT: &str = r#"{"cmd":"about","payload":{},"client":"test"}"#;

#[tokio::test]
async fn a_call_needs_token_host_origin_and_type() {
    let (address, token, _folder) = serve().await;
    let bearer = format!("Bearer {token}");
    let (host, auth, json) =
        (("Host", address.as_str()), ("Authorization", bearer.as_str()), ("Content-Type", "application/json"));
    let status = async |headers: &[(&str, &str)]| {
        ask(&address, "POST /rpc", headers, ABOUT).await.split(' ').nth(1).map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(status(&[host, auth, json]).await, "200");
    assert_eq!(status(&[host, json]).await, "401");
    assert_eq!(status(&[("Host", "evil.test"), auth, json]).await, "403");
    assert_eq!(status(&[host, auth, json, ("Origin", "http://evil.test")]).await, "403");
    assert_eq!(status(&[host, auth, json, ("Sec-Fetch-Site", "cross-site")]).await, "403");
    assert_eq!(status(&[host, auth, ("Content-Type", "text/plain")]).await, "400");
}

#[tokio::test]
async fn a_websocket_of_a_foreign_page_is_refused() {
    let (address, token, _folder) = serve().await;
    let bearer = format!("Bearer {token}");
    let upgrade = |origin: &'static str| {
        [
            ("Host", address.clone()),
            ("Authorization", bearer.clone()),
            ("Upgrade", "websocket".to_owned()),
            ("Connection", "Upgrade".to_owned()),
            ("Sec-WebSocket-Version", "13".to_owned()),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
            ("Origin", origin.to_owned()),
        ]
    };
    let headers = upgrade("http://evil.test");
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = ask(&address, "GET /ws?client=page", &headers, "").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn the_token_becomes_a_cookie_no_script_can_read() {
    let (address, token, _folder) = serve().await;
    let headers = [("Host", address.as_str()), ("Content-Type", "application/json")];
    let wrong = ask(&address, "POST /session", &headers, r#"{"token":"guess"}"#).await;
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    let right = ask(&address, "POST /session", &headers, &format!(r#"{{"token":"{token}"}}"#)).await;
    assert!(right.starts_with("HTTP/1.1 200"), "{right}");
    let cookie = right.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let (pair, _) = cookie.split_once(';').unwrap();
    let page = right.split('"').nth(3).unwrap();
    assert!(!right.contains(&token), "the token itself is kept nowhere");
    let call = [headers[0], headers[1], ("Cookie", pair)];
    assert!(ask(&address, "POST /rpc", &call, ABOUT).await.starts_with("HTTP/1.1 401"));
    let call = [headers[0], headers[1], ("Cookie", pair), ("X-Berth-Page", page)];
    assert!(ask(&address, "POST /rpc", &call, ABOUT).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn every_answer_carries_the_policy() {
    let (address, _token, _folder) = serve().await;
    for request in ["GET /", "GET /nowhere", "GET /../../etc/passwd", "POST /rpc"] {
        let answer = ask(&address, request, &[("Host", &address)], "").await.to_lowercase();
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{request}: {answer}");
        assert!(!answer.contains("root:"), "{request} must stay inside the page's folder");
    }
}

#[tokio::test]
async fn a_call_that_is_too_large_is_refused() {
    let (address, token, _folder) = serve().await;
    let bearer = format!("Bearer {token}");
    let headers = [("Host", address.as_str()), ("Authorization", &bearer), ("Content-Type", "application/json")];
    let answer = ask(&address, "POST /rpc", &headers, &"x".repeat(berth_app::REQUEST_LIMIT + 1)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{}", answer.lines().next().unwrap_or_default());
}
