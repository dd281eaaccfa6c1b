//! Many streams over one byte pipe, between the supervisor on the host and the agent in the engine's machine.
//!
//! [`connect`] shakes hands over any pipe and gives a [`Session`]: streams of bytes with an end in each direction, datagrams,
//! and a control stream of requests and events. The pipe may be one that does not say when the peer has gone and come back,
//! as a serial port of a virtual machine: see `docs/decisions/005-mux.md`.
//!
//! The peer is not trusted: every length is bounded, what a session holds is bounded (see `core`), and nothing from it
//! panics.

#![warn(missing_docs)]

mod config;
pub mod control;
mod core;
mod datagrams;
mod driver;
mod error;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod model;
mod session;
mod shared;
mod stream;
mod target;
mod wire;

pub use config::Config;
pub use control::{Control, ControlError, ControlReceiver, ControlSender, Inbound, Responder};
pub use datagrams::Datagrams;
pub use driver::connect;
pub use error::{Closed, ConnectError, End, OpenError, ProtocolError, RefusalCode};
pub use session::{Ended, Incoming, Offer, Opener, Session};
pub use stream::Stream;
pub use target::Target;

/// Which side of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The supervisor: it begins sessions.
    Host,
    /// The agent.
    Guest,
}

/// Credit that every stream gets, however many there are.
pub const LEAN_WINDOW: u32 = 16 * 1024;
