//! Who has a port, on systems that do not tell it.

use std::fmt;
use std::net::SocketAddr;

#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

pub(crate) fn first_of_users() -> Option<u16> {
    None
}

pub(crate) fn of(_address: SocketAddr, _udp: bool) -> Option<Owner> {
    None
}
