//! Systems that do not tell of their clock's jumps: the guest's clock is set every few seconds in any case.

use std::io;

#[derive(Debug)]
pub(super) enum WallClock {}

impl WallClock {
    pub(super) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) async fn jumped(&self) {
        match *self {}
    }
}
