//! The engine's multiplexed output: eight bytes of header, then the payload, again and again.

/// Which stream of a container a piece of output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StdStream {
    /// Standard output; also echoed standard input, which the engine numbers 0.
    Out,
    /// Standard error.
    Err,
}

/// A piece of one frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePiece<'a> {
    /// The stream it belongs to.
    pub stream: StdStream,
    /// It is the first piece of its frame, hence the start of one message of the engine's log.
    pub start: bool,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Why a multiplexed stream cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header names a stream that does not exist.
    #[error("Unknown stream number {0}")]
    UnknownStream(u8),
    /// The stream ended inside a frame.
    #[error("The stream ended inside a frame")]
    Truncated,
    /// The engine reported an error in a frame of its own.
    #[error("{0}")]
    System(String),
}

/// Incremental decoder of the multiplexed format.
///
/// Payload is passed on as it arrives, so the length a header claims is only ever counted down and never allocated.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    header: [u8; 8],
    have: usize,
    remaining: u32,
    kind: Kind,
    start: bool,
    system: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Out,
    Err,
    System,
}

/// Longest system error kept, in bytes.
const SYSTEM_CAP: usize = 4_096;

impl FrameDecoder {
    /// Takes the next piece off the front of `input`; `None` once all of `input` is used up.
    ///
    /// # Errors
    /// [`FrameError::UnknownStream`] or [`FrameError::System`]; the stream cannot be read on after either.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<FramePiece<'a>>, FrameError> {
        loop {
            if self.remaining == 0 && !self.read_header(input)? {
                return Ok(None);
            }
            if self.remaining == 0 {
                continue;
            }
            let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
            if want == 0 {
                return Ok(None);
            }
            let (bytes, rest) = input.split_at(want);
            *input = rest;
            self.remaining -= u32::try_from(want).unwrap_or(self.remaining);
            let stream = match self.kind {
                Kind::Out => StdStream::Out,
                Kind::Err => StdStream::Err,
                Kind::System => {
                    self.collect_system(bytes)?;
                    continue;
                }
            };
            let start = std::mem::replace(&mut self.start, false);
            return Ok(Some(FramePiece { stream, start, bytes }));
        }
    }

    /// Tells the decoder that the stream ended.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if that was inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.have == 0 && self.remaining == 0 {
            Ok(())
        } else if self.kind == Kind::System && !self.system.is_empty() {
            Err(self.system_error())
        } else {
            Err(FrameError::Truncated)
        }
    }

    /// True once a header is complete.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, FrameError> {
        while let Some(slot) = self.header.get_mut(self.have) {
            let Some((byte, rest)) = input.split_first() else {
                return Ok(false);
            };
            *slot = *byte;
            *input = rest;
            self.have += 1;
        }
        self.have = 0;
        let [kind, _, _, _, a, b, c, d] = self.header;
        self.kind = match kind {
            0 | 1 => Kind::Out,
            2 => Kind::Err,
            3 => Kind::System,
            other => return Err(FrameError::UnknownStream(other)),
        };
        self.remaining = u32::from_be_bytes([a, b, c, d]);
        self.start = true;
        Ok(true)
    }

    fn collect_system(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let room = SYSTEM_CAP - self.system.len();
        self.system.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if self.remaining == 0 || self.system.len() == SYSTEM_CAP {
            return Err(self.system_error());
        }
        Ok(())
    }

    fn system_error(&self) -> FrameError {
        FrameError::System(String::from_utf8_lossy(&self.system).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0], &length[..], payload].concat()
    }

    /// Output and error text, with a mark where each message begins.
    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<u8>, usize, Result<(), FrameError>) {
        let (mut out, mut err, mut starts) = (Vec::new(), Vec::new(), 0);
        let mut decoder = FrameDecoder::default();
        for mut chunk in chunks {
            loop {
                match decoder.next(&mut chunk) {
                    Ok(Some(piece)) => {
                        starts += usize::from(piece.start);
                        if piece.stream == StdStream::Out { &mut out } else { &mut err }.extend(piece.bytes);
                    }
                    Ok(None) => break,
                    Err(error) => return (out, err, starts, Err(error)),
                }
            }
        }
        let end = decoder.finish();
        (out, err, starts, end)
    }

    #[test]
    fn reads_every_kind() {
        let input = [frame(1, b"a\n"), frame(2, b"b"), frame(1, b""), frame(0, b"c")].concat();
        assert_eq!(decode([&input[..]]), (b"a\nc".to_vec(), b"b".to_vec(), 3, Ok(())));
    }

    #[test]
    fn a_system_error_surfaces_whole() {
        let input = [frame(1, b"a"), frame(3, b"Error grabbing logs: EOF\n")].concat();
        let expected = FrameError::System("Error grabbing logs: EOF".into());
        assert_eq!(decode(input.chunks(1)).3, Err(expected.clone()));
        assert_eq!(decode([&input[..]]).3, Err(expected));
    }

    #[test]
    fn refuses_unknown_streams_and_truncation() {
        assert_eq!(decode([&frame(7, b"x")[..]]).3, Err(FrameError::UnknownStream(7)));
        for cut in 1..10 {
            assert_eq!(decode([&frame(1, b"xyz")[..cut]]).3, Err(FrameError::Truncated), "cut at {cut}");
        }
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        let input = [1, 0, 0, 0, 255, 255, 255, 255, b'x'];
        let (out, _, _, end) = decode([&input[..]]);
        assert_eq!((out, end), (b"x".to_vec(), Err(FrameError::Truncated)), "what came is passed on at once");
        let mut system = vec![3, 0, 0, 0, 255, 255, 255, 255];
        system.resize(1 << 20, b'x');
        let Err(FrameError::System(text)) = decode([&system[..]]).3 else { panic!("a system error") };
        assert_eq!(text.len(), SYSTEM_CAP);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(
            frames in prop::collection::vec((0_u8..3, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            tail in prop::collection::vec(any::<u8>(), 0..12),
            size in 1_usize..20,
        ) {
            let mut input: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            input.extend(tail);
            prop_assert_eq!(decode(input.chunks(size)), decode([&input[..]]));
        }
    }
}
