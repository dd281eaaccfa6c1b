//! The main window.

use tauri::{AppHandle, Runtime, WebviewUrl, WebviewWindow, WebviewWindowBuilder};

/// Opens the main window. It never leaves Berth's own page.
pub(crate) fn open<R: Runtime>(desktop: &AppHandle<R>) -> tauri::Result<WebviewWindow<R>> {
    WebviewWindowBuilder::new(desktop, "main", WebviewUrl::default())
        .title("Berth")
        .inner_size(1280.0, 800.0)
        .min_inner_size(760.0, 480.0)
        .on_navigation(|url| {
            let own = matches!((url.scheme(), url.host_str()), ("tauri", Some("localhost")))
                || matches!((url.scheme(), url.host_str()), ("http" | "https", Some("tauri.localhost")));
            if !own {
                tracing::warn!(scheme = url.scheme(), "the page tried to leave Berth and was held back");
            }
            own
        })
        .build()
}
