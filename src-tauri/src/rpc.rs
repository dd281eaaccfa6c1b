//! The one command of the web view.

use std::io::{self, Write};
use std::sync::Arc;

use berth_app::wire::{Code, RpcRequest, WireError};
use berth_app::{App, REQUEST_LIMIT};
use tauri::State;
use tauri::ipc::Response;

/// Carries one call to the command layer; the answer is already JSON.
#[tauri::command]
pub(crate) async fn rpc(app: State<'_, Arc<App>>, request: RpcRequest) -> Result<Response, WireError> {
    if !fits(&request) {
        return Err(WireError::new(Code::Invalid, format!("A call may be {REQUEST_LIMIT} bytes long and no longer")));
    }
    let app = app.inner().clone();
    let text = app.dispatch(request).await?;
    Ok(Response::new(text.to_string()))
}

/// Tauri hands a call over when it has read it, so its length is counted; nothing is written anywhere.
fn fits(request: &RpcRequest) -> bool {
    serde_json::to_writer(Room(REQUEST_LIMIT), request).is_ok()
}

/// Counts down what is written to it and refuses what is too much.
struct Room(usize);

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> RpcRequest {
        let client = "page".parse().unwrap();
        RpcRequest { cmd: "about".to_owned(), payload: serde_json::json!({ "text": text }), client, request_id: None }
    }

    #[test]
    fn a_call_that_is_too_large_is_refused() {
        let around = serde_json::to_string(&call("")).unwrap().len();
        assert!(fits(&call(&"x".repeat(REQUEST_LIMIT - around))));
        assert!(!fits(&call(&"x".repeat(REQUEST_LIMIT - around + 1))));
    }
}
