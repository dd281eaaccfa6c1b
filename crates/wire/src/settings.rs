//! What the user chose and Berth remembers.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The user's settings. Unknown fields of a newer Berth are left alone by the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Light, dark, or as the system says.
    pub theme: Theme,
    /// The sidebar shows icons alone.
    pub sidebar_collapsed: bool,
    /// Containers are grouped by Compose project.
    pub containers_grouped: bool,
    /// Width of the detail panel in pixels.
    pub detail_width: Option<u32>,
    /// The page's memory of columns, expansion and the like, one JSON text; all settings together take at most 128 KiB.
    pub layout: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            sidebar_collapsed: false,
            containers_grouped: true,
            detail_width: None,
            layout: None,
        }
    }
}

/// Light, dark, or as the system says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

/// Replaces the settings.
#[derive(Clone, Debug, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SettingsWriteReq {
    /// All of them.
    pub settings: Settings,
}
