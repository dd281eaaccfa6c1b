//! What the peer's frames do.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Core, DATAGRAM_BUDGET, MAX_CREDIT, MAX_URGENT, Urgent,
    entry::{Entry, Form, Stage, cost},
};
use crate::{
    End, ProtocolError, RefusalCode,
    core::DATAGRAM_QUEUE,
    wire::{
        frame::{DATAGRAMS, Header, Kind},
        hello::Hello,
        intake::Item,
    },
};

/// Pings of the peer that wait to be answered; more are not answered.
const MAX_PONGS: usize = 64;

impl Core {
    /// Whether the next item may be passed in. It may again once frames were taken out by [`Core::fill`].
    pub(crate) fn may_receive(&self) -> bool {
        self.urgent.len() < MAX_URGENT
    }

    /// Takes in a frame or a greeting.
    ///
    /// # Errors
    /// The end of the session.
    pub(crate) fn receive(&mut self, item: &Item<'_>, now: Duration) -> Result<(), End> {
        match item {
            Item::Hello(hello) => self.greeted(hello),
            Item::Frame(header, payload) => {
                self.liveness.heard(now);
                self.frame(*header, payload, now)
            }
        }
    }

    /// A greeting within the session: either a repetition that crossed the answer, or the peer has begun anew.
    fn greeted(&self, hello: &Hello) -> Result<(), End> {
        if hello.from == self.role {
            return Err(ProtocolError::UnknownType(crate::wire::hello::FIRST).into());
        }
        if hello.nonce == self.nonce { Ok(()) } else { Err(End::Replaced) }
    }

    fn frame(&mut self, header: Header, payload: &[u8], now: Duration) -> Result<(), End> {
        match header.kind {
            Kind::Ping => {
                if self.pongs_waiting < MAX_PONGS {
                    self.pongs_waiting += 1;
                    self.urgent.push_back(Urgent::Pong { number: number(payload) });
                }
            }
            Kind::Pong => self.ponged(number(payload), now),
            Kind::Goaway => {
                return Err(End::ClosedByPeer { message: String::from_utf8_lossy(payload).into_owned() });
            }
            Kind::Open => self.offered(header, payload)?,
            _ => self.on_stream(header, payload)?,
        }
        Ok(())
    }

    fn ponged(&mut self, number: u64, now: Duration) {
        if let Some(ping) = self.pings.iter_mut().find(|ping| ping.number == number && ping.took.is_none()) {
            ping.took = Some(now.saturating_sub(ping.sent));
            self.wakes.extend(ping.waker.take());
        }
    }

    fn offered(&mut self, header: Header, payload: &[u8]) -> Result<(), ProtocolError> {
        let Header { stream, flags, .. } = header;
        if self.is_own(stream) || stream <= self.peer_highest {
            return Err(misplaced(header));
        }
        self.peer_highest = stream;
        // The control stream is one of them and does not count.
        if self.deaf {
            let (code, message) = (RefusalCode::NotAllowed.to_wire(), "this side takes no streams".to_owned());
            self.urgent.push_back(Urgent::OpenErr { stream, code, message });
            return Ok(());
        }
        if self.streams.len() > self.config.max_streams || self.offers.len() >= self.config.backlog {
            let message = format!("there are already {} streams", self.streams.len() - 1);
            self.urgent.push_back(Urgent::OpenErr { stream, code: RefusalCode::Full.to_wire(), message });
            return Ok(());
        }
        let (window, target) = leading_u32(payload);
        if window > MAX_CREDIT {
            return Err(ProtocolError::Window { stream });
        }
        let form = if flags & DATAGRAMS == 0 { Form::Bytes } else { Form::Datagrams };
        self.streams.insert(stream, Entry::offered(form, window, target.to_vec()));
        self.offers.push_back(stream);
        self.wakes.extend(self.offers_waker.take());
        Ok(())
    }

    fn on_stream(&mut self, header: Header, payload: &[u8]) -> Result<(), ProtocolError> {
        let Header { kind, stream, .. } = header;
        let is_own = self.is_own(stream);
        let Some(entry) = self.streams.get_mut(&stream) else {
            // It was on its way when this side gave the stream up.
            return if self.was_opened(stream) { Ok(()) } else { Err(misplaced(header)) };
        };
        match kind {
            Kind::OpenOk | Kind::OpenErr => {
                if !is_own || !matches!(entry.stage, Stage::Opening) {
                    return Err(misplaced(header));
                }
                if kind == Kind::OpenOk {
                    let (credit, _) = leading_u32(payload);
                    if credit > MAX_CREDIT {
                        return Err(ProtocolError::Window { stream });
                    }
                    entry.sending.credit = credit;
                    entry.stage = Stage::Open;
                } else {
                    let (code, message) = payload.split_first_chunk().unwrap_or((&[0; 2], &[]));
                    let message = String::from_utf8_lossy(message).into_owned();
                    entry.stage = Stage::Refused { code: u16::from_be_bytes(*code), message };
                }
                self.wakes.extend(entry.receiving.waker.take());
                Ok(())
            }
            Kind::Rst => {
                self.reset_by_peer(stream);
                Ok(())
            }
            _ if !entry.is_open() => Err(misplaced(header)),
            // What crossed the reset of this side cannot come here: it was forgotten. After its own the peer sends nothing.
            _ if entry.reset => Err(misplaced(header)),
            Kind::Dgram if entry.form == Form::Datagrams => {
                self.packet(stream, payload);
                Ok(())
            }
            Kind::Data | Kind::Fin if entry.form != Form::Bytes || entry.receiving.finished => Err(misplaced(header)),
            Kind::Data => self.data(stream, payload),
            Kind::Fin => {
                entry.receiving.finished = true;
                self.wakes.extend(entry.receiving.waker.take());
                self.settle(stream);
                Ok(())
            }
            Kind::Window if entry.form == Form::Bytes => self.credited(stream, payload),
            _ => Err(misplaced(header)),
        }
    }

    fn data(&mut self, stream: u32, payload: &[u8]) -> Result<(), ProtocolError> {
        let Some(entry) = self.streams.get_mut(&stream) else { return Ok(()) };
        let receiving = &mut entry.receiving;
        let left = u32::try_from(payload.len()).ok().and_then(|length| receiving.credit.checked_sub(length));
        receiving.credit = left.ok_or(ProtocolError::Credit { stream })?;
        if entry.held {
            receiving.queue.push(payload);
            self.wakes.extend(receiving.waker.take());
        } else {
            // It still sends what was written before it was given up. A peer that writes before it reads must get through.
            self.consumed(stream, payload.len());
        }
        Ok(())
    }

    fn credited(&mut self, stream: u32, payload: &[u8]) -> Result<(), ProtocolError> {
        let Some(entry) = self.streams.get_mut(&stream) else { return Ok(()) };
        let (more, _) = leading_u32(payload);
        let credit = entry.sending.credit.checked_add(more).filter(|credit| *credit <= MAX_CREDIT);
        entry.sending.credit = credit.ok_or(ProtocolError::Window { stream })?;
        self.schedule(stream);
        Ok(())
    }

    fn packet(&mut self, stream: u32, payload: &[u8]) {
        let Some(entry) = self.streams.get_mut(&stream).filter(|entry| entry.held) else { return };
        let bytes = self.datagram_bytes + cost(payload.len());
        if entry.packets.received.len() < DATAGRAM_QUEUE && bytes <= DATAGRAM_BUDGET {
            entry.packets.received.push_back(Bytes::copy_from_slice(payload));
            self.datagram_bytes = bytes;
            self.wakes.extend(entry.receiving.waker.take());
        }
    }

    fn reset_by_peer(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.cut();
        self.wakes.extend(entry.receiving.waker.take());
        self.wakes.extend(entry.sending.waker.take());
        if !entry.held {
            self.offers.retain(|offer| *offer != stream);
            self.remove(stream);
        }
    }
}

const fn misplaced(header: Header) -> ProtocolError {
    ProtocolError::Stream { kind: header.kind as u8, stream: header.stream }
}

/// The decoder has checked that it is there.
fn leading_u32(payload: &[u8]) -> (u32, &[u8]) {
    payload.split_first_chunk().map_or((0, payload), |(bytes, rest)| (u32::from_be_bytes(*bytes), rest))
}

fn number(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
