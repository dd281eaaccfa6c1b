//! The one command of the web view.

use std::sync::Arc;

use berth_app::App;
use berth_app::wire::{RpcRequest, WireError};
use tauri::State;
use tauri::ipc::Response;

/// Carries one call to the command layer; the answer is already JSON.
#[tauri::command]
pub(crate) async fn rpc(app: State<'_, Arc<App>>, request: RpcRequest) -> Result<Response, WireError> {
    let app = app.inner().clone();
    let text = app.dispatch(request).await?;
    Ok(Response::new(text.to_string()))
}
