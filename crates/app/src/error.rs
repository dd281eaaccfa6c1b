//! The one error of the command layer, and the one place where it becomes a [`WireError`].

use berth_wire::{Code, WireError};

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The request does not fit the command.
    #[error("The request does not fit the command")]
    Invalid {
        /// What does not fit.
        reason: String,
    },
    /// There is no such command.
    #[error("There is no command {name:?}")]
    UnknownCommand {
        /// The name asked for.
        name: String,
    },
    /// Berth knows no such engine.
    #[error("There is no engine {id:?}")]
    UnknownEngine {
        /// The id asked for.
        id: String,
    },
    /// There is no such stream or operation.
    #[error("{what} is no longer there")]
    Gone {
        /// What is gone.
        what: &'static str,
    },
    /// The engine is not Berth's to start or stop.
    #[error("{name} is not run by Berth, so Berth cannot start or stop it")]
    NotBundled {
        /// The engine's name.
        name: String,
    },
    /// A bound was reached.
    #[error("Too many {what} are open")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
    },
    /// The engine refused or failed.
    #[error("{what}")]
    Engine {
        /// What was tried.
        what: String,
        /// What came of it.
        source: berth_engine::Error,
    },
    /// The bundled engine could not be started or stopped.
    #[error("{0}")]
    Vm(#[from] berth_vm::Error),
    /// A defect of Berth's own.
    #[error("Something went wrong inside Berth")]
    Internal {
        /// What, for the log.
        what: String,
    },
    /// Berth's own database refused.
    #[error("The settings could not be read or saved")]
    Store(#[from] berth_store::Error),
}

impl From<AppError> for WireError {
    fn from(error: AppError) -> Self {
        let message = error.to_string();
        match error {
            AppError::Invalid { reason } => Self::new(Code::Invalid, message).with_detail(reason),
            AppError::UnknownCommand { .. } => Self::new(Code::Invalid, message),
            AppError::UnknownEngine { .. } | AppError::Gone { .. } => Self::new(Code::NotFound, message),
            AppError::NotBundled { .. } => Self::new(Code::Conflict, message)
                .with_hint("Start or stop it with the tool that brought it, such as systemctl."),
            AppError::TooMany { .. } => {
                Self::new(Code::Conflict, message).with_hint("Close some pages or tabs that you do not need.")
            }
            AppError::Engine { source, .. } => engine_error(message, &source),
            AppError::Internal { what } => Self::new(Code::Internal, message).with_detail(what),
            AppError::Vm(berth_vm::Error::NeedsRoot) => {
                Self::new(Code::EnginePermission, "This engine belongs to root")
                    .with_hint("Run Berth as root, or show an engine that runs already with --engine URL.")
            }
            AppError::Vm(berth_vm::Error::Rootless(missing)) => {
                Self::new(Code::EnginePermission, "The engine cannot run without root here")
                    .with_detail(missing.to_string())
                    .with_hint(missing.fix())
            }
            AppError::Store(berth_store::Error::Settings) => {
                Self::new(Code::Invalid, "The settings are too large to be saved")
            }
            AppError::Vm(berth_vm::Error::Failed(failure)) => engine_failure(&failure),
            AppError::Vm(source) => {
                Self::new(Code::Engine, "The engine could not be started or stopped").with_detail(full_text(&source))
            }
            AppError::Store(source) => Self::new(Code::Internal, message)
                .with_detail(source.to_string())
                .with_hint("Check that the data folder can be written and has room."),
        }
    }
}

/// Why the bundled engine did not start.
pub(crate) fn engine_failure(failure: &berth_vm::Failure) -> WireError {
    let error = WireError::new(Code::Engine, format!("The engine failed while {}: {}", failure.stage, failure.cause))
        .with_hint(failure.fix.clone());
    if failure.log.is_empty() { error } else { error.with_detail(failure.log.join("\n")) }
}

/// An engine's error under a sentence that says what was tried.
pub(crate) fn engine_error(message: impl Into<String>, source: &berth_engine::Error) -> WireError {
    let detail = full_text(source);
    let (code, hint) = if source.is_not_found() {
        (Code::NotFound, Some("It may have been removed meanwhile."))
    } else if source.is_conflict() {
        (Code::Conflict, None)
    } else if source.is_permission_denied() {
        (
            Code::EnginePermission,
            Some("Run Berth as a user who may open the engine's socket, for example a member of the docker group."),
        )
    } else if source.is_unreachable() {
        (Code::EngineUnreachable, Some("Check that the engine runs and that its address is right."))
    } else {
        (Code::Engine, None)
    };
    let error = WireError::new(code, message).with_detail(detail);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// An error with its causes, which our errors leave out of their own text.
#[must_use]
pub fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
