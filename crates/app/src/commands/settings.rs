use berth_wire::{Settings, SettingsReadReq, SettingsWriteReq};
use serde_json::Value;

use crate::app::{Ctx, blocking};
use crate::error::AppError;

pub(crate) async fn settings_read(cx: Ctx, _request: SettingsReadReq) -> Result<Settings, AppError> {
    let store = cx.app.store.clone();
    Ok(understood(blocking(move || store.settings()).await?))
}

pub(crate) async fn settings_write(cx: Ctx, request: SettingsWriteReq) -> Result<Settings, AppError> {
    let changes =
        serde_json::to_value(request.settings).map_err(|error| AppError::Invalid { reason: error.to_string() })?;
    let store = cx.app.store.clone();
    Ok(understood(blocking(move || store.merge_settings(&changes)).await?))
}

/// A document of another Berth may hold values this one does not know; those fall back on the default.
fn understood(document: Value) -> Settings {
    serde_json::from_value(document).unwrap_or_default()
}
