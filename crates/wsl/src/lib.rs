//! The engine's machine on Windows: two distributions of the Windows Subsystem for Linux, driven through `wsl.exe` alone.
//!
//! [`Program`] runs it and understands nothing that it says in words: it answers in the user's language. [`Distributions`]
//! sees to the two: one with the system image, replaced by every update, and one whose disk is the data, replaced by
//! nobody. [`Session`] is the guest program in one of them, whose standard input and output are the one pipe between
//! guest and host.
//!
//! `wsl --shutdown` is never called: it ends every distribution of the user's.

#![warn(missing_docs)]

mod archive;
mod distributions;
mod error;
mod mark;
pub mod paths;
#[cfg(windows)]
pub mod pipe;
mod program;
mod session;
mod text;

pub use distributions::{Distributions, Made, Place};
pub use error::Error;
pub use program::{Output, Program};
pub use session::{Channel, Gone, Heard, Session};
