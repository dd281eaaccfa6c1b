//! What this side's holders of streams do.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::{
    CONTROL, Core, Ping, Urgent,
    entry::{Entry, Finish, Form, Stage, cost},
};
use crate::{
    Closed, OpenError, RefusalCode,
    wire::frame::{MAX_MESSAGE, MAX_PAYLOAD, MAX_TARGET},
};

/// The last number that a stream may have. It is never reached in practice, and never passed.
const LAST_STREAM: u32 = u32::MAX - 2;

/// A stream that cannot be used any more: the peer gave it up, or the session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// A stream that the peer wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) stream: u32,
    pub(crate) form: Form,
    pub(crate) target: Vec<u8>,
}

impl Core {
    pub(crate) fn open(&mut self, target: Vec<u8>, form: Form) -> Result<u32, OpenError> {
        if self.end.is_some() || self.next_stream >= LAST_STREAM {
            return Err(OpenError::Closed);
        }
        if target.len() > MAX_TARGET {
            return Err(OpenError::TooLong { length: target.len(), limit: MAX_TARGET });
        }
        if self.streams.len() > self.config.max_streams {
            return Err(OpenError::Full { limit: self.config.max_streams });
        }
        let stream = self.next_stream;
        self.next_stream += 2;
        let window = if form == Form::Bytes { self.first_window() } else { 0 };
        self.streams.insert(stream, Entry::opening(form, window));
        self.urgent.push_back(Urgent::Open { stream, form, window, target });
        self.driver_wanted = true;
        Ok(stream)
    }

    pub(crate) fn poll_open(&mut self, stream: u32, waker: &Waker) -> Poll<Result<(), OpenError>> {
        if self.end.is_some() {
            return Poll::Ready(Err(OpenError::Closed));
        }
        let Some(entry) = self.streams.get_mut(&stream) else { return Poll::Ready(Err(OpenError::Closed)) };
        match &mut entry.stage {
            Stage::Opening if entry.reset => {
                let message = "it gave the stream up".to_owned();
                Poll::Ready(Err(OpenError::Refused { code: RefusalCode::Failed, message }))
            }
            Stage::Opening => {
                entry.receiving.waker = Some(waker.clone());
                Poll::Pending
            }
            Stage::Refused { code, message } => Poll::Ready(Err(OpenError::Refused {
                code: RefusalCode::from_wire(*code),
                message: std::mem::take(message),
            })),
            Stage::Offered { .. } | Stage::Open => Poll::Ready(Ok(())),
        }
    }

    /// The next stream that the peer wants, `None` after the end.
    pub(crate) fn poll_offer(&mut self, waker: &Waker) -> Poll<Option<Offered>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        while let Some(stream) = self.offers.pop_front() {
            let Some(entry) = self.streams.get_mut(&stream) else { continue };
            let Stage::Offered { target } = &mut entry.stage else { continue };
            entry.held = true;
            return Poll::Ready(Some(Offered { stream, form: entry.form, target: std::mem::take(target) }));
        }
        self.offers_waker = Some(waker.clone());
        Poll::Pending
    }

    /// Nobody will ask for offers any more.
    pub(crate) fn stop_listening(&mut self) {
        self.deaf = true;
        while let Some(stream) = self.offers.pop_front() {
            self.refuse(stream, RefusalCode::NotAllowed, "this side takes no streams");
        }
    }

    pub(crate) fn accept(&mut self, stream: u32, form: Form) {
        let Some(entry) = self.streams.get(&stream) else { return };
        if self.end.is_some() || entry.reset || !matches!(entry.stage, Stage::Offered { .. }) {
            return;
        }
        if entry.form != form {
            let wanted = if form == Form::Bytes { "a stream of bytes" } else { "datagrams" };
            self.refuse(stream, RefusalCode::Unsupported, &format!("the target takes {wanted}"));
            return;
        }
        let window = if form == Form::Bytes { self.first_window() } else { 0 };
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.stage = Stage::Open;
            (entry.receiving.window, entry.receiving.credit) = (window, window);
        }
        self.urgent.push_back(Urgent::OpenOk { stream, window });
        self.driver_wanted = true;
    }

    pub(crate) fn refuse(&mut self, stream: u32, code: RefusalCode, message: &str) {
        let Some(entry) = self.streams.get(&stream) else { return };
        if matches!(entry.stage, Stage::Offered { .. }) && self.end.is_none() && !entry.reset {
            let mut message = message.to_owned();
            while message.len() > MAX_MESSAGE {
                message.pop();
            }
            self.urgent.push_back(Urgent::OpenErr { stream, code: code.to_wire(), message });
            self.driver_wanted = true;
        }
        self.remove(stream);
    }

    /// Moves received bytes into `into`. Nothing is moved at the end.
    pub(crate) fn poll_read(&mut self, stream: u32, waker: &Waker, into: &mut ReadBuf<'_>) -> Poll<Result<(), Broken>> {
        let Some(entry) = self.streams.get_mut(&stream) else { return Poll::Ready(Err(Broken)) };
        let count = entry.receiving.queue.read(into);
        if count > 0 {
            self.consumed(stream, count);
            return Poll::Ready(Ok(()));
        }
        if entry.receiving.finished || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if entry.reset {
            return Poll::Ready(Err(Broken));
        }
        register(&mut entry.receiving.waker, waker);
        Poll::Pending
    }

    /// Gives credit back once half of it is used up, and more of it to a reader that keeps up.
    pub(super) fn consumed(&mut self, stream: u32, count: usize) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let receiving = &mut entry.receiving;
        receiving.unreturned += u32::try_from(count).unwrap_or_default();
        if receiving.finished || entry.reset || receiving.unreturned < receiving.window.div_ceil(2) {
            return;
        }
        let (window, keeps_up) = (receiving.window, receiving.queue.len() <= receiving.window as usize / 4);
        let more = window.min(self.config.max_window.saturating_sub(window));
        let more = if keeps_up && entry.held && stream != CONTROL { self.grant(more) } else { 0 };
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let receiving = &mut entry.receiving;
        receiving.window += more;
        receiving.unreturned += more;
        if !receiving.returns {
            receiving.returns = true;
            self.returns.push_back(stream);
        }
        self.driver_wanted = true;
    }

    pub(crate) fn poll_write(&mut self, stream: u32, waker: &Waker, bytes: &[u8]) -> Poll<Result<usize, Broken>> {
        let Some(entry) = self.streams.get_mut(&stream) else { return Poll::Ready(Err(Broken)) };
        if entry.reset || entry.sending.finish != Finish::None || entry.form != Form::Bytes {
            return Poll::Ready(Err(Broken));
        }
        let room = self.config.send_buffer.saturating_sub(entry.sending.queue.len());
        if room == 0 && !bytes.is_empty() {
            register(&mut entry.sending.waker, waker);
            return Poll::Pending;
        }
        let taken = bytes.get(..room).unwrap_or(bytes);
        entry.sending.queue.push(taken);
        self.schedule(stream);
        Poll::Ready(Ok(taken.len()))
    }

    /// The end comes after what was written.
    pub(crate) fn shutdown(&mut self, stream: u32) -> Result<(), Broken> {
        let Some(entry) = self.streams.get_mut(&stream) else { return Err(Broken) };
        if entry.sending.finish == Finish::None {
            if entry.reset {
                return Err(Broken);
            }
            entry.sending.finish = Finish::Wanted;
            self.schedule(stream);
        }
        Ok(())
    }

    /// Nobody on this side has the stream any more.
    pub(crate) fn release(&mut self, stream: u32) {
        // The control stream lasts as long as the session.
        let Some(entry) = self.streams.get_mut(&stream).filter(|_| stream != CONTROL) else { return };
        if self.end.is_some() || entry.reset {
            return self.remove(stream);
        }
        match entry.stage {
            Stage::Offered { .. } => self.refuse(stream, RefusalCode::Refused, "nobody took it"),
            Stage::Refused { .. } => self.remove(stream),
            Stage::Opening => {
                let unsent = self.urgent.iter().position(|urgent| opens(urgent, stream));
                match unsent {
                    Some(index) => drop(self.urgent.remove(index)),
                    None => self.urgent.push_back(Urgent::Rst { stream }),
                }
                self.remove(stream);
            }
            Stage::Open => self.release_open(stream),
        }
        self.driver_wanted = true;
    }

    fn release_open(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.held = false;
        entry.receiving.queue.clear();
        let received_all = entry.receiving.finished;
        match entry.sending.finish {
            // The end is on its way; `turn` or `settle` do the rest.
            Finish::Wanted => {}
            Finish::Sent if received_all => self.remove(stream),
            Finish::None | Finish::Sent => {
                self.urgent.push_back(Urgent::Rst { stream });
                self.remove(stream);
            }
        }
    }

    /// Forgets a stream that is complete in both directions and that nobody has.
    pub(super) fn settle(&mut self, stream: u32) {
        let is_done = |entry: &Entry| !entry.held && entry.receiving.finished && entry.sending.finish == Finish::Sent;
        if self.streams.get(&stream).is_some_and(is_done) {
            self.remove(stream);
        }
    }

    /// Queues a datagram, or drops it if there are too many.
    pub(crate) fn send_datagram(&mut self, stream: u32, packet: &[u8]) -> Result<(), Closed> {
        let is_usable = |entry: &&mut Entry| entry.form == Form::Datagrams && !entry.reset;
        let entry = self.streams.get_mut(&stream).filter(is_usable).ok_or(Closed)?;
        if packet.len() <= MAX_PAYLOAD && entry.queue_packet(Bytes::copy_from_slice(packet)) {
            self.schedule(stream);
        }
        Ok(())
    }

    /// The next datagram, `None` after the end.
    pub(crate) fn poll_datagram(&mut self, stream: u32, waker: &Waker) -> Poll<Option<Bytes>> {
        let Some(entry) = self.streams.get_mut(&stream) else { return Poll::Ready(None) };
        if let Some(packet) = entry.packets.received.pop_front() {
            self.datagram_bytes = self.datagram_bytes.saturating_sub(cost(packet.len()));
            return Poll::Ready(Some(packet));
        }
        if entry.reset {
            return Poll::Ready(None);
        }
        register(&mut entry.receiving.waker, waker);
        Poll::Pending
    }

    pub(crate) fn start_ping(&mut self, now: Duration) -> Result<u64, Closed> {
        if self.end.is_some() {
            return Err(Closed);
        }
        let number = self.queue_ping();
        self.pings.push(Ping { number, sent: now, took: None, waker: None });
        Ok(number)
    }

    pub(crate) fn poll_ping(&mut self, number: u64, waker: &Waker) -> Poll<Result<Duration, Closed>> {
        if self.end.is_some() {
            return Poll::Ready(Err(Closed));
        }
        let Some(ping) = self.pings.iter_mut().find(|ping| ping.number == number) else {
            return Poll::Ready(Err(Closed));
        };
        if let Some(took) = ping.took {
            return Poll::Ready(Ok(took));
        }
        register(&mut ping.waker, waker);
        Poll::Pending
    }

    /// Nobody waits for that ping any more.
    pub(crate) fn forget_ping(&mut self, number: u64) {
        self.pings.retain(|ping| ping.number != number);
        self.urgent.retain(|urgent| *urgent != Urgent::Ping { number });
    }
}

fn opens(urgent: &Urgent, wanted: u32) -> bool {
    matches!(urgent, Urgent::Open { stream, .. } if *stream == wanted)
}

fn register(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(old) => old.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}
