//! `GET /ws?client=…`: the page's polls, one after the other, so that they cost no connection each.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use berth_app::wire::{ClientId, Code, Command, RpcRequest, WireError};
use serde::Deserialize;

use crate::Shared;
use crate::access::PROTOCOL;

/// Polls are small: a few acknowledgements.
const POLL_LIMIT: usize = 64 * 1024;

#[derive(Deserialize)]
pub(crate) struct Page {
    client: ClientId,
}

pub(crate) async fn open(
    State(shared): State<Shared>,
    Query(page): Query<Page>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(POLL_LIMIT)
        .max_frame_size(POLL_LIMIT)
        .on_upgrade(move |socket| converse(shared, page.client, socket))
}

async fn converse(shared: Shared, client: ClientId, mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let poll = match message {
            Message::Text(text) => text,
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Binary(_) => {
                let frame = CloseFrame { code: close_code::UNSUPPORTED, reason: "polls are text".into() };
                // The page is at fault and may be gone already.
                let _ = socket.send(Message::Close(Some(frame))).await;
                return;
            }
        };
        let Some(answer) = answer_or_gone(&shared, &client, poll, &mut socket).await else { return };
        if socket.send(Message::Text(Utf8Bytes::from(answer))).await.is_err() {
            return;
        }
    }
}

/// Answers a poll, or the one that replaces it while it waits; `None` when the page goes away meanwhile.
async fn answer_or_gone(
    shared: &Shared,
    client: &ClientId,
    mut poll: Utf8Bytes,
    socket: &mut WebSocket,
) -> Option<String> {
    loop {
        poll = {
            let mut waiting = std::pin::pin!(answer(shared, client, &poll));
            loop {
                tokio::select! {
                    answer = &mut waiting => return Some(answer),
                    message = socket.recv() => match message {
                        Some(Ok(Message::Text(newer))) => break newer,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        _ => return None,
                    },
                }
            }
        };
    }
}

async fn answer(shared: &Shared, client: &ClientId, poll: &str) -> String {
    let outcome = match serde_json::from_str(poll) {
        Ok(payload) => {
            let cmd = Command::session_poll.name().to_owned();
            shared.app.dispatch(RpcRequest { cmd, payload, client: client.clone(), request_id: None }).await
        }
        Err(error) => Err(WireError::new(Code::Invalid, "That is no poll").with_detail(error.to_string())),
    };
    match outcome {
        Ok(text) => format!("{{\"ok\":{text}}}"),
        Err(error) => serde_json::json!({ "error": error }).to_string(),
    }
}
