//! Bytes in order, in pieces that are handed on without a copy.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::ReadBuf;

use super::frame::MAX_PAYLOAD;

/// The smallest piece: many small writes share one.
const SMALLEST: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    pieces: VecDeque<BytesMut>,
    length: usize,
}

impl ByteQueue {
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        let mut rest = bytes;
        if let Some(last) = self.pieces.back_mut() {
            let room = last.capacity() - last.len();
            let (fits, more) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            last.extend_from_slice(fits);
            rest = more;
        }
        for piece in rest.chunks(MAX_PAYLOAD) {
            // The more is waiting, the more may come: pieces double, and no more than that is kept free.
            let room = self.length.clamp(SMALLEST, MAX_PAYLOAD).max(piece.len());
            let mut place = BytesMut::with_capacity(room);
            place.extend_from_slice(piece);
            self.pieces.push_back(place);
        }
    }

    /// The first bytes, as many as lie together, at most `limit`.
    pub(crate) fn pop(&mut self, limit: usize) -> Option<Bytes> {
        let first = self.pieces.front_mut()?;
        let bytes = if first.len() <= limit { self.pieces.pop_front()? } else { first.split_to(limit) };
        self.length -= bytes.len();
        Some(bytes.freeze())
    }

    /// Moves bytes out until `into` is full or there are none.
    pub(crate) fn read(&mut self, into: &mut ReadBuf<'_>) -> usize {
        let mut count = 0;
        while let Some(first) = self.pieces.front_mut() {
            let fits = first.len().min(into.remaining());
            into.put_slice(first.get(..fits).unwrap_or_default());
            count += fits;
            first.advance(fits);
            if !first.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        self.length -= count;
        count
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order_in_pushes_and_pops_of_any_size() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        for (push, pop) in [(1, 7), (1000, 65_536), (70_000, 3), (300_000, 16_384), (4096, 4096)] {
            let (mut queue, mut out, mut rest) = (ByteQueue::default(), Vec::new(), &bytes[..]);
            while !rest.is_empty() || !queue.is_empty() {
                let (now, later) = rest.split_at(push.min(rest.len()));
                queue.push(now);
                rest = later;
                if let Some(piece) = queue.pop(pop) {
                    assert!(piece.len() <= pop);
                    out.extend_from_slice(&piece);
                }
                let mut place = [0; 1500];
                let mut into = ReadBuf::new(&mut place);
                let count = queue.read(&mut into);
                assert_eq!(count, into.filled().len());
                out.extend_from_slice(into.filled());
            }
            assert_eq!(out, bytes);
            assert_eq!(queue.len(), 0);
        }
    }

    #[test]
    fn single_bytes_share_a_piece() {
        let mut queue = ByteQueue::default();
        for _ in 0..SMALLEST {
            queue.push(&[1]);
        }
        assert_eq!(queue.pieces.len(), 1);
    }
}
