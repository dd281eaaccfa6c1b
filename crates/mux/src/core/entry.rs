//! What is known of one stream.

use std::{collections::VecDeque, task::Waker};

use bytes::Bytes;

use super::DATAGRAM_QUEUE;
use crate::wire::queue::ByteQueue;

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bytes,
    Datagrams,
}

/// How far the opening is.
#[derive(Debug)]
pub(super) enum Stage {
    /// This side asked for it.
    Opening,
    /// The peer refused.
    Refused {
        code: u16,
        message: String,
    },
    /// The peer asked for it, with this target.
    Offered {
        target: Vec<u8>,
    },
    Open,
}

/// What comes from the peer.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) queue: ByteQueue,
    /// Credit that the peer has at most.
    pub(super) window: u32,
    /// Credit that it has now.
    pub(super) credit: u32,
    /// Credit that it is to get back.
    pub(super) unreturned: u32,
    /// It is among those that give credit back.
    pub(super) returns: bool,
    /// The peer's last byte is here.
    pub(super) finished: bool,
    pub(super) waker: Option<Waker>,
}

/// How far the end of what this side sends is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    None,
    /// It comes after what waits.
    Wanted,
    Sent,
}

/// What goes to the peer.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) queue: ByteQueue,
    pub(super) credit: u32,
    pub(super) finish: Finish,
    /// It is among those that have something to send.
    pub(super) ready: bool,
    pub(super) waker: Option<Waker>,
}

/// Datagrams in both directions.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub(super) received: VecDeque<Bytes>,
    pub(super) to_send: VecDeque<Bytes>,
}

impl Packets {
    pub(super) fn received_bytes(&self) -> usize {
        self.received.iter().map(|packet| cost(packet.len())).sum()
    }
}

/// What one datagram takes of the budget.
pub(super) const fn cost(length: usize) -> usize {
    length + size_of::<Bytes>()
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) form: Form,
    pub(super) stage: Stage,
    /// Somebody on this side has it.
    pub(super) held: bool,
    /// The peer gave it up, or the session has ended.
    pub(super) reset: bool,
    pub(super) receiving: Receiving,
    pub(super) sending: Sending,
    pub(super) packets: Packets,
}

impl Entry {
    fn new(form: Form, stage: Stage, window: u32, credit: u32) -> Self {
        Self {
            form,
            stage,
            held: true,
            reset: false,
            receiving: Receiving {
                queue: ByteQueue::default(),
                window,
                credit: window,
                unreturned: 0,
                returns: false,
                finished: false,
                waker: None,
            },
            sending: Sending { queue: ByteQueue::default(), credit, finish: Finish::None, ready: false, waker: None },
            packets: Packets::default(),
        }
    }

    pub(super) fn open(form: Form, window: u32, credit: u32) -> Self {
        Self::new(form, Stage::Open, window, credit)
    }

    pub(super) fn opening(form: Form, window: u32) -> Self {
        Self::new(form, Stage::Opening, window, 0)
    }

    pub(super) fn offered(form: Form, credit: u32, target: Vec<u8>) -> Self {
        Self { held: false, ..Self::new(form, Stage::Offered { target }, 0, credit) }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether its turn would send anything.
    pub(super) fn has_work(&self) -> bool {
        let sending = &self.sending;
        let has_something = match self.form {
            Form::Bytes if sending.queue.is_empty() => sending.finish == Finish::Wanted,
            Form::Bytes => sending.credit > 0,
            Form::Datagrams => !self.packets.to_send.is_empty(),
        };
        has_something && self.is_open() && !self.reset
    }

    /// Nothing more goes out, and what came in counts only if it is complete.
    pub(super) fn cut(&mut self) {
        self.reset = true;
        self.sending.queue.clear();
        self.packets.to_send.clear();
        if !self.receiving.finished {
            self.receiving.queue.clear();
        }
    }

    /// Puts a datagram into the queue, unless it is full.
    pub(super) fn queue_packet(&mut self, packet: Bytes) -> bool {
        let fits = self.packets.to_send.len() < DATAGRAM_QUEUE;
        if fits {
            self.packets.to_send.push_back(packet);
        }
        fits
    }

    pub(super) fn held_bytes(&self) -> usize {
        let target = if let Stage::Offered { target } = &self.stage { target.len() } else { 0 };
        let refusal = if let Stage::Refused { message, .. } = &self.stage { message.len() } else { 0 };
        self.receiving.queue.len() + self.packets.received_bytes() + target + refusal + size_of::<Self>()
    }
}
