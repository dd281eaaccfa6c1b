//! `POST /rpc`: one call, one answer.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_app::wire::{Code, RpcRequest, WireError};

use crate::Shared;

pub(crate) async fn call(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    // A form on another site can post text, but not this type without asking first.
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
    if !is_json {
        return failure(WireError::new(Code::Invalid, "A call is application/json"));
    }
    let request: RpcRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let invalid = WireError::new(Code::Invalid, "That is no call").with_detail(error.to_string());
            return failure(invalid);
        }
    };
    match shared.app.dispatch(request).await {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response(),
        Err(error) => failure(error),
    }
}

fn failure(error: WireError) -> Response {
    let status = match error.code {
        Code::Invalid => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict => StatusCode::CONFLICT,
        Code::EnginePermission => StatusCode::FORBIDDEN,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::EngineUnreachable | Code::Engine => StatusCode::BAD_GATEWAY,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(error)).into_response()
}
