//! The one error that reaches a user interface.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::OperationId;

/// What happened, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct WireError {
    /// What the interface may branch on.
    pub code: Code,
    /// What happened, one sentence, for people.
    pub message: String,
    /// Why: the cause as the engine or the system words it. Hostile text; never markup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub detail: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub hint: Option<String>,
    /// The operation that failed, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub operation: Option<OperationId>,
}

/// Kinds of failure. A code exists only because the interface does something different for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request was malformed; a defect of the caller.
    Invalid,
    /// The thing is gone.
    NotFound,
    /// The thing is in a state that does not allow it; other verbs may help.
    Conflict,
    /// The engine does not answer; rows stay and are marked stale.
    EngineUnreachable,
    /// The engine's socket may not be opened by this user.
    EnginePermission,
    /// The engine refused or failed.
    Engine,
    /// The session's token is missing or wrong; the page asks for a new link.
    Unauthorized,
    /// A defect of Berth; the detail holds the id to look for in the log.
    Internal,
}

impl WireError {
    /// An error with a message alone.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, operation: None }
    }

    /// Adds why.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
