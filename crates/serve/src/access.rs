//! Who may call: the token, and where the call comes from.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use berth_app::wire::{Code, WireError};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use crate::Shared;

/// A 256-bit secret of one run, as 64 hexadecimal digits. Its `Debug` hides it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The secret itself, to be shown to the user who started the server.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn is(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// Carries the page's secret in a call.
const PAGE_HEADER: &str = "x-berth-page";
/// Carries it in a WebSocket's list of protocols.
const PAGE_PROTOCOL: &str = "page.";
/// The protocol a WebSocket speaks.
pub(crate) const PROTOCOL: &str = "berth";

/// What is let in.
#[derive(Debug)]
pub(crate) struct Access {
    /// What the user was shown; opens everything.
    token: Token,
    /// Name of the cookie.
    cookie: String,
    /// Its value. A browser sends it to every port of this machine, so it is worth nothing without [`Self::page`].
    browser: Token,
    /// What the page keeps in its own storage, which no other port can read.
    page: Token,
    hosts: [String; 2],
    origins: [String; 2],
}

impl Access {
    pub(crate) fn new(port: u16, token: Token, browser: Token, page: Token) -> Self {
        let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let origins = hosts.clone().map(|host| format!("http://{host}"));
        // Cookies do not tell ports apart: another Berth on this machine has its own name.
        Self { token, cookie: format!("berth-{port}"), browser, page, hosts, origins }
    }

    fn refuse(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST);
        if !host.is_some_and(|host| self.hosts.iter().any(|allowed| allowed == host)) {
            return Some(forbidden("This address is not Berth's own", "Open the address that `berth serve` printed."));
        }
        if headers.contains_key(header::ORIGIN)
            && !text(header::ORIGIN).is_some_and(|origin| self.origins.iter().any(|allowed| allowed == origin))
        {
            return Some(forbidden("Another site may not call Berth", "Open Berth in a tab of its own."));
        }
        if matches!(text(header::HeaderName::from_static("sec-fetch-site")), Some("cross-site" | "same-site"))
            && (path == "/session" || is_protected(method, path))
        {
            return Some(forbidden("Another site may not call Berth", "Open Berth in a tab of its own."));
        }
        if is_protected(method, path) && !self.has_token(headers) {
            let error = WireError::new(Code::Unauthorized, "This page has no access to Berth, or no longer")
                .with_hint("Open the link that `berth serve` printed when it was started last.");
            return Some((StatusCode::UNAUTHORIZED, Json(error)).into_response());
        }
        None
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        if let Some(bearer) = bearer {
            return self.token.is(bearer);
        }
        self.has_page(headers) && self.has_cookie(headers)
    }

    /// In a header of its own, or among the protocols of a WebSocket, whose headers a page cannot choose.
    fn has_page(&self, headers: &HeaderMap) -> bool {
        let in_header = headers.get(PAGE_HEADER).and_then(|value| value.to_str().ok());
        let in_protocols = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|protocol| protocol.trim().strip_prefix(PAGE_PROTOCOL));
        in_header.or(in_protocols).is_some_and(|page| self.page.is(page))
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == self.cookie && self.browser.is(value))
    }
}

/// Everything but the page's own files and the exchange that begins a session.
fn is_protected(method: &Method, path: &str) -> bool {
    path != "/session" && (!matches!(*method, Method::GET | Method::HEAD) || path == "/ws")
}

fn forbidden(message: &str, hint: &str) -> Response {
    let error = WireError::new(Code::Unauthorized, message).with_hint(hint);
    (StatusCode::FORBIDDEN, Json(error)).into_response()
}

/// Refuses what does not come from Berth's own page or from who knows the token.
pub(crate) async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.refuse(request.method(), request.uri().path(), request.headers()) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    token: String,
}

/// Exchanges the token for a cookie that no script can read and a secret that no other port can read.
pub(crate) async fn begin(State(shared): State<Shared>, Json(begin): Json<Begin>) -> Response {
    let access = &shared.access;
    if !access.token.is(&begin.token) {
        let error = WireError::new(Code::Unauthorized, "That link is not valid, or no longer")
            .with_hint("Open the link that `berth serve` printed when it was started last.");
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", access.cookie, access.browser.reveal());
    let page = Json(serde_json::json!({ "page": access.page.reveal() }));
    (StatusCode::OK, [(header::SET_COOKIE, cookie)], page).into_response()
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
