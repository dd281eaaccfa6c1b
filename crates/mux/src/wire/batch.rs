//! Frames on their way out: small things are gathered in one buffer, long payloads are handed on as they are.

use std::{collections::VecDeque, io::IoSlice, ops::Range};

use bytes::{Buf, Bytes};

use super::frame::{Header, Kind, Seal};

/// Payloads up to this are copied next to their header: a slice of its own costs more.
const SMALL: usize = 2048;

/// Slices that one write takes.
pub(crate) const SLICES: usize = 64;

#[derive(Debug)]
enum Part {
    Gathered(Range<usize>),
    Payload(Bytes),
}

/// Frames in the order in which they are written.
#[derive(Debug)]
pub(crate) struct Batch {
    seal: Seal,
    /// The pipe takes one slice at a time, so everything is gathered.
    gather_all: bool,
    gathered: Vec<u8>,
    parts: VecDeque<Part>,
    length: usize,
}

impl Batch {
    pub(crate) const fn new(seal: Seal, vectored: bool) -> Self {
        Self { seal, gather_all: !vectored, gathered: Vec::new(), parts: VecDeque::new(), length: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes that are no frame: the end of the greeting.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.gathered.len();
        self.gathered.extend_from_slice(bytes);
        self.length += bytes.len();
        match self.parts.back_mut() {
            Some(Part::Gathered(range)) => range.end = self.gathered.len(),
            _ => self.parts.push_back(Part::Gathered(start..self.gathered.len())),
        }
    }

    pub(crate) fn small(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let header = Header { flags, ..Header::new(kind, stream, payload) }.encode();
        self.raw(&header);
        self.raw(payload);
        self.raw(&self.seal.of(&header, payload));
    }

    pub(crate) fn payload(&mut self, kind: Kind, stream: u32, payload: Bytes) {
        if self.gather_all || payload.len() <= SMALL {
            return self.small(kind, 0, stream, &payload);
        }
        let header = Header::new(kind, stream, &payload).encode();
        let seal = self.seal.of(&header, &payload);
        self.raw(&header);
        self.length += payload.len();
        self.parts.push_back(Part::Payload(payload));
        self.raw(&seal);
    }

    /// What is to be written next.
    pub(crate) fn slices(&self) -> ([IoSlice<'_>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(match part {
                Part::Gathered(range) => self.gathered.get(range.clone()).unwrap_or_default(),
                Part::Payload(bytes) => bytes,
            });
            count += 1;
        }
        (slices, count)
    }

    /// That many bytes were written.
    pub(crate) fn written(&mut self, count: usize) {
        self.length = self.length.saturating_sub(count);
        let mut rest = count;
        while let Some(part) = self.parts.front_mut() {
            let length = match part {
                Part::Gathered(range) => range.len(),
                Part::Payload(bytes) => bytes.len(),
            };
            if length > rest {
                match part {
                    Part::Gathered(range) => range.start += rest,
                    Part::Payload(bytes) => bytes.advance(rest),
                }
                return;
            }
            rest -= length;
            self.parts.pop_front();
        }
        self.gathered.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(batch: &mut Batch, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !batch.is_empty() {
            let (slices, count) = batch.slices();
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            assert!(!bytes.is_empty());
            out.extend_from_slice(&bytes);
            batch.written(bytes.len());
        }
        out
    }

    #[test]
    fn the_bytes_are_the_same_in_slices_gathered_and_in_any_step() {
        let seal = Seal { tag: 3, checksums: true };
        let fill = |vectored| {
            let mut batch = Batch::new(seal, vectored);
            batch.raw(b"greeting");
            for index in 0..100_u32 {
                batch.small(Kind::Window, 0, index, &index.to_be_bytes());
                batch.payload(Kind::Data, index, Bytes::from(vec![7; 1 + usize::try_from(index).unwrap() * 100]));
            }
            batch
        };
        let all = drain(&mut fill(false), usize::MAX);
        for step in [1, 13, 5000, usize::MAX] {
            assert!(drain(&mut fill(true), step) == all);
        }
        let (_, count) = fill(false).slices();
        assert_eq!(count, 1);
    }
}
