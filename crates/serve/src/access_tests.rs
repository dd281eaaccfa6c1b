use super::*;

const PORT: u16 = 4711;

fn access() -> Access {
    Access::new(PORT, Token("a".repeat(64)), Token("b".repeat(64)), Token("c".repeat(64)))
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (name.parse::<header::HeaderName>().unwrap(), value.parse::<header::HeaderValue>().unwrap())
        })
        .collect()
}

fn status(path: &str, pairs: &[(&str, &str)]) -> Option<StatusCode> {
    access().refuse(&Method::POST, path, &headers(pairs)).map(|response| response.status())
}

#[test]
fn only_our_own_names_are_answered_to() {
    let token = format!("Bearer {}", "a".repeat(64));
    for host in [
        "evil.test",
        "127.0.0.1",
        "127.0.0.1:4712",
        "localhost.evil.test:4711",
        "127.0.0.10:4711",
        "[::1]:4711",
        "127.0.0.1:4711.evil.test",
    ] {
        let refused = status("/rpc", &[("host", host), ("authorization", &token)]);
        assert_eq!(refused, Some(StatusCode::FORBIDDEN), "{host} must be refused");
    }
    assert_eq!(status("/rpc", &[("authorization", &token)]), Some(StatusCode::FORBIDDEN), "no host at all");
    for host in ["127.0.0.1:4711", "localhost:4711"] {
        assert_eq!(status("/rpc", &[("host", host), ("authorization", &token)]), None);
    }
}

#[test]
fn foreign_origins_are_refused_even_with_the_token() {
    let token = format!("Bearer {}", "a".repeat(64));
    for origin in [
        "http://evil.test",
        "null",
        "https://127.0.0.1:4711",
        "http://127.0.0.1:4712",
        "http://localhost:4711.evil.test",
    ] {
        let refused = status("/ws", &[("host", "127.0.0.1:4711"), ("origin", origin), ("authorization", &token)]);
        assert_eq!(refused, Some(StatusCode::FORBIDDEN), "{origin} must be refused");
    }
}

#[test]
fn a_call_needs_the_token_or_both_halves_of_a_session() {
    let host = ("host", "127.0.0.1:4711");
    let cookie = format!("other=1; berth-{PORT}={}", "b".repeat(64));
    let foreign = format!("berth-4712={}", "b".repeat(64));
    let (page, protocols) = ("c".repeat(64), format!("berth, page.{}", "c".repeat(64)));
    let refused = Some(StatusCode::UNAUTHORIZED);
    assert_eq!(status("/rpc", &[host]), refused);
    assert_eq!(status("/rpc", &[host, ("authorization", "Bearer wrong")]), refused);
    assert_eq!(status("/rpc", &[host, ("cookie", &cookie)]), refused, "a cookie goes to every port of this machine");
    assert_eq!(status("/rpc", &[host, ("x-berth-page", &page)]), refused);
    assert_eq!(status("/rpc", &[host, ("cookie", &foreign), ("x-berth-page", &page)]), refused);
    assert_eq!(status("/rpc", &[host, ("cookie", &cookie), ("x-berth-page", &page)]), None);
    assert_eq!(status("/ws", &[host, ("cookie", &cookie), ("sec-websocket-protocol", &protocols)]), None);
    assert_eq!(status("/new", &[host]), refused, "what is not known to be open is closed");
    let page_itself = access().refuse(&Method::GET, "/index.html", &headers(&[host]));
    assert!(page_itself.is_none(), "the page's files hold no secret");
}

#[test]
fn a_token_never_shows_itself() {
    assert!(!format!("{:?}", access()).contains("aaaa"));
}
