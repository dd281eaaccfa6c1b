//! Bytes that came in and are not used up: greetings and whole frames are taken out of it.

use super::{
    frame::{HEADER, Header, MAX_FRAME, SEAL, Seal},
    hello::{FIRST, HELLO, Hello, Scanned, scan},
};
use crate::ProtocolError;

const SIZE: usize = 256 * 1024;

/// What comes in during a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Frame(Header, &'a [u8]),
    Hello(Hello),
}

/// A buffer of fixed size. There is always room for the frame that has begun.
#[derive(Debug)]
pub(crate) struct Intake {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Intake {
    fn default() -> Self {
        Self { buffer: vec![0; SIZE].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Intake {
    /// Where the next bytes go. Empty only while frames are waiting to be taken.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < MAX_FRAME && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// That many bytes were put into [`Self::space`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// Puts as many of `bytes` in as there is room for.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let count = space.len().min(bytes.len());
        for (place, byte) in space.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.filled(count);
        count
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn take(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Discards up to the next greeting, and takes it out.
    pub(crate) fn next_hello(&mut self) -> Option<Hello> {
        match scan(self.waiting()) {
            Scanned::Skip(count) => {
                self.take(count);
                None
            }
            Scanned::Found(count, hello) => {
                // What follows its first byte is looked at again: this may be a greeting that was cut, with a whole one in it.
                self.take(count + 1);
                Some(hello)
            }
        }
    }

    /// Takes the rest of the greeting that was found last.
    pub(crate) fn take_hello(&mut self) {
        self.take(HELLO - 1);
    }

    /// The next whole frame or greeting.
    pub(crate) fn next(&mut self, seal: Seal) -> Result<Option<Item<'_>>, ProtocolError> {
        let waiting = self.buffer.get(self.start..self.end).unwrap_or_default();
        if waiting.first() == Some(&FIRST) {
            if !Hello::may_begin(waiting) {
                return Err(ProtocolError::UnknownType(FIRST));
            }
            let Some(bytes) = waiting.first_chunk::<HELLO>() else { return Ok(None) };
            self.start += HELLO;
            return Hello::decode(bytes).map(|hello| Some(Item::Hello(hello))).ok_or(ProtocolError::UnknownType(FIRST));
        }
        let Some((header_bytes, rest)) = waiting.split_first_chunk::<HEADER>() else { return Ok(None) };
        let header = Header::decode(*header_bytes)?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let Some(found) = rest.first_chunk::<SEAL>() else { return Ok(None) };
        if *found != seal.of(header_bytes, payload) {
            return Err(ProtocolError::Seal);
        }
        self.start += HEADER + length + SEAL;
        Ok(Some(Item::Frame(header, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Kind, MAX_PAYLOAD};

    const SEAL_HERE: Seal = Seal { tag: 0x0506_0708, checksums: true };

    fn frame(kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
        let header = Header::new(kind, stream, payload).encode();
        [&header[..], payload, &SEAL_HERE.of(&header, payload)].concat()
    }

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let long = vec![9; MAX_PAYLOAD];
        let frames = [frame(Kind::Data, 1, b"abc"), frame(Kind::Fin, 1, b""), frame(Kind::Data, 3, &long)];
        let stream: Vec<u8> = frames.iter().flatten().copied().cycle().take(frames.concat().len() * 9).collect();
        for size in [1, 2, 13, 4096, 65_600, usize::MAX] {
            let (mut intake, mut seen) = (Intake::default(), Vec::new());
            for mut piece in stream.chunks(size) {
                while !piece.is_empty() {
                    piece = &piece[intake.push(piece)..];
                    while let Some(item) = intake.next(SEAL_HERE).unwrap() {
                        let Item::Frame(header, payload) = item else { panic!("a greeting") };
                        seen.push((header.kind, header.stream, payload.len()));
                    }
                }
            }
            let one = [(Kind::Data, 1, 3), (Kind::Fin, 1, 0), (Kind::Data, 3, MAX_PAYLOAD)];
            assert_eq!(seen, one.repeat(9), "in pieces of {size}");
        }
    }

    #[test]
    fn a_frame_whose_end_was_lost_is_never_taken() {
        let whole = frame(Kind::Data, 1, b"what was to be sent");
        for cut in 1..whole.len() {
            let mut intake = Intake::default();
            intake.push(&whole[..cut]);
            assert_eq!(intake.next(SEAL_HERE), Ok(None));
            intake.push(&[0; 64]);
            assert!(intake.next(SEAL_HERE).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_greeting_between_frames_is_seen_and_half_of_one_is_none() {
        let hello = Hello { from: crate::Role::Host, version: 1, flags: 0, nonce: [7; 16], cookie: [0; 4] };
        let mut intake = Intake::default();
        intake.push(&frame(Kind::Fin, 1, b""));
        intake.push(&hello.encode());
        assert!(matches!(intake.next(SEAL_HERE), Ok(Some(Item::Frame(..)))));
        assert_eq!(intake.next(SEAL_HERE), Ok(Some(Item::Hello(hello))));
        intake.push(b"\xB3Ber");
        assert_eq!(intake.next(SEAL_HERE), Ok(None));
        intake.push(b"lin");
        assert_eq!(intake.next(SEAL_HERE), Err(ProtocolError::UnknownType(FIRST)));
    }
}
