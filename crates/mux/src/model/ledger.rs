//! What really happened, as nobody in the model but the tests can know it.

use std::collections::HashMap;

use super::world::Totals;
use crate::{
    Role,
    wire::frame::{Header, Kind},
};

pub(super) type Nonce = [u8; 16];

/// One stream: what each side (opener, acceptor) wants to send, and did.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) session: Nonce,
    pub(super) plan: [usize; 2],
    pub(super) shut: [bool; 2],
    pub(super) given_up: [bool; 2],
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) records: Vec<Record>,
    /// What a role may still send on a stream of a session.
    credit: HashMap<(Nonce, u32, Role), i64>,
    pub(super) totals: Totals,
}

/// The byte that a side of a stream sends at a place.
pub(super) fn byte(number: usize, side: usize, place: usize) -> u8 {
    let mixed = number.wrapping_mul(31) ^ side.wrapping_mul(97) ^ place.wrapping_mul(7) ^ (place >> 8);
    u8::try_from(mixed & 0xFF).unwrap()
}

const fn other(role: Role) -> Role {
    match role {
        Role::Host => Role::Guest,
        Role::Guest => Role::Host,
    }
}

impl Ledger {
    /// Checks a frame as it leaves its sender against all credit that the receiver ever sent.
    pub(super) fn sent(&mut self, session: Nonce, from: Role, header: Header, payload: &[u8]) {
        let stream = header.stream;
        let amount = || i64::from(u32::from_be_bytes(*payload.first_chunk().unwrap()));
        match header.kind {
            Kind::Open | Kind::OpenOk | Kind::Window => {
                *self.credit.entry((session, stream, other(from))).or_insert_with(|| first(stream)) += amount();
            }
            Kind::Data => {
                let credit = self.credit.entry((session, stream, from)).or_insert_with(|| first(stream));
                *credit -= i64::from(header.length);
                assert!(*credit >= 0, "{from:?} sent more on stream {stream} than it had credit for");
            }
            _ => {}
        }
    }
}

const fn first(stream: u32) -> i64 {
    if stream == 0 { 256 * 1024 } else { 0 }
}
