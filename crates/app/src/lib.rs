//! What Berth does, whoever asks: command bodies, the engines and their live view, sessions and streams,
//! operations. Knows no transport: `berth-serve` and the desktop shell both call [`App::dispatch`].

mod app;
mod arguments;
mod clock;
mod commands;
mod docker_context;
mod engines;
mod error;
mod log;
mod operations;
mod project;
mod queue;
mod router;
mod run_command;
mod session;
mod shell_quote;
mod streams;
mod world;

pub use app::{App, Config, Ctx, EngineChoice, StartError};
pub use arguments::Arguments;
pub use docker_context::{ContextNotes, EngineContext, leave_context, start_engine, stop_engine};
pub use error::{AppError, full_text};
pub use log::start_log;
pub use router::REQUEST_LIMIT;
pub use world::World;

pub use berth_engine::Endpoint;
pub use berth_engine::context::ContextWriteError;
pub use berth_wire as wire;
