//! What is sent, and in which order: answers, then control, then the streams in turns.

use super::{
    CONTROL, Core, Goodbye, Urgent,
    entry::{Finish, Form},
};
use crate::wire::{
    batch::Batch,
    frame::{DATAGRAMS, Kind, MAX_PAYLOAD},
};

/// What a stream sends in its turn while others wait: 300 full streams take 5 MB until it is its turn again.
const TURN: usize = 16 * 1024;

impl Core {
    /// Takes frames out until `batch` has `limit` bytes, or little more. Every call lets at least one stream have its turn.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize) {
        if self.end.is_some() || self.goodbye != Goodbye::None {
            if self.goodbye == Goodbye::Wanted && self.end.is_none() {
                batch.small(Kind::Goaway, 0, 0, b"");
                self.goodbye = Goodbye::Sent;
            }
            return;
        }
        while batch.len() < limit
            && let Some(urgent) = self.urgent.pop_front()
        {
            match urgent {
                Urgent::Pong { .. } => self.pongs_waiting -= 1,
                Urgent::Ping { number } if self.heartbeat == Some(number) => self.heartbeat = None,
                _ => {}
            }
            encode(&urgent, batch);
        }
        while batch.len() < limit
            && let Some(stream) = self.returns.pop_front()
        {
            self.return_credit(stream, batch);
        }
        while batch.len() < limit && self.turn(CONTROL, MAX_PAYLOAD, batch) {}
        loop {
            let Some(stream) = self.ready.pop_front() else { return };
            let quantum = if self.ready.is_empty() { MAX_PAYLOAD } else { TURN };
            if let Some(entry) = self.streams.get_mut(&stream) {
                entry.sending.ready = false;
            }
            if self.turn(stream, quantum, batch) {
                self.schedule(stream);
            }
            if batch.len() >= limit {
                return;
            }
        }
    }

    /// Whether [`Self::fill`] would take anything out.
    pub(crate) fn has_output(&self) -> bool {
        if self.end.is_some() || self.goodbye != Goodbye::None {
            return self.end.is_none() && self.goodbye == Goodbye::Wanted;
        }
        let control = || self.streams.get(&CONTROL).is_some_and(super::entry::Entry::has_work);
        !self.urgent.is_empty() || !self.returns.is_empty() || !self.ready.is_empty() || control()
    }

    /// Puts a stream that has something to send at the end of the line.
    pub(super) fn schedule(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if !entry.has_work() {
            return;
        }
        if stream != CONTROL && !entry.sending.ready {
            entry.sending.ready = true;
            self.ready.push_back(stream);
        }
        self.driver_wanted = true;
    }

    fn return_credit(&mut self, stream: u32, batch: &mut Batch) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let receiving = &mut entry.receiving;
        receiving.returns = false;
        let more = std::mem::take(&mut receiving.unreturned);
        if more > 0 && !entry.reset && !receiving.finished {
            receiving.credit += more;
            batch.small(Kind::Window, 0, stream, &more.to_be_bytes());
        }
    }

    /// Lets a stream send up to `quantum` bytes. Says whether it sent anything.
    fn turn(&mut self, stream: u32, quantum: usize, batch: &mut Batch) -> bool {
        let Some(entry) = self.streams.get_mut(&stream).filter(|entry| entry.has_work()) else { return false };
        if entry.form == Form::Datagrams {
            let mut sent = 0;
            while sent < quantum
                && let Some(packet) = entry.packets.to_send.pop_front()
            {
                sent += packet.len().max(1);
                batch.payload(Kind::Dgram, stream, packet);
            }
            return true;
        }
        let sending = &mut entry.sending;
        let mut allowed = usize::try_from(sending.credit).unwrap_or(usize::MAX).min(quantum);
        while allowed > 0
            && let Some(bytes) = sending.queue.pop(allowed)
        {
            allowed -= bytes.len();
            sending.credit -= u32::try_from(bytes.len()).unwrap_or(sending.credit);
            batch.payload(Kind::Data, stream, bytes);
        }
        if sending.queue.len() <= self.config.send_buffer / 2 {
            self.wakes.extend(sending.waker.take());
        }
        if sending.queue.is_empty() && sending.finish == Finish::Wanted {
            sending.finish = Finish::Sent;
            batch.small(Kind::Fin, 0, stream, b"");
            if !entry.held && !entry.receiving.finished {
                // Whoever had it does not read on: the peer is told so, behind all that it was still to get.
                batch.small(Kind::Rst, 0, stream, b"");
                self.remove(stream);
            } else {
                self.settle(stream);
            }
        }
        true
    }
}

fn encode(urgent: &Urgent, batch: &mut Batch) {
    match urgent {
        Urgent::Open { stream, form, window, target } => {
            let flags = if *form == Form::Datagrams { DATAGRAMS } else { 0 };
            batch.small(Kind::Open, flags, *stream, &[&window.to_be_bytes(), target.as_slice()].concat());
        }
        Urgent::OpenOk { stream, window } => batch.small(Kind::OpenOk, 0, *stream, &window.to_be_bytes()),
        Urgent::OpenErr { stream, code, message } => {
            batch.small(Kind::OpenErr, 0, *stream, &[&code.to_be_bytes(), message.as_bytes()].concat());
        }
        Urgent::Rst { stream } => batch.small(Kind::Rst, 0, *stream, b""),
        Urgent::Ping { number } => batch.small(Kind::Ping, 0, 0, &number.to_be_bytes()),
        Urgent::Pong { number } => batch.small(Kind::Pong, 0, 0, &number.to_be_bytes()),
    }
}
