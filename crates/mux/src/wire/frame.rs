//! Frames: a header of 12 bytes, the payload, and the seal of 4 bytes.
//!
//! Header, big-endian: `u8 type, u8 flags, u16 reserved, u32 stream, u32 length`. The seal is a number that only the two
//! ends of this session know of each other, mixed with the checksum where both want one. It is there for pipes that lose
//! the end of a frame when a side reconnects: whatever fills the gap then does not end with the seal.

use super::checksum::crc32c;
use crate::ProtocolError;

pub(crate) const HEADER: usize = 12;
pub(crate) const SEAL: usize = 4;
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;
/// The longest frame.
pub(crate) const MAX_FRAME: usize = HEADER + MAX_PAYLOAD + SEAL;
/// The longest target of a stream, as text.
pub(crate) const MAX_TARGET: usize = 4096;
/// The longest message of a refusal or a good-bye.
pub(crate) const MAX_MESSAGE: usize = 1024;

/// `OPEN` for datagrams.
pub(crate) const DATAGRAMS: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// `u32` credit for the other side, and the target.
    Open = 1,
    /// `u32` credit for the other side.
    OpenOk = 2,
    /// `u16` code and a message.
    OpenErr = 3,
    Data = 4,
    Fin = 5,
    Rst = 6,
    /// `u32` more credit.
    Window = 7,
    Dgram = 8,
    /// `u64`, to be sent back.
    Ping = 9,
    Pong = 10,
    /// A message.
    Goaway = 11,
}

/// Whether a type is for the session or for one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Session,
    Stream,
    /// The control stream, 0, as well.
    AnyStream,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Open,
        Self::OpenOk,
        Self::OpenErr,
        Self::Data,
        Self::Fin,
        Self::Rst,
        Self::Window,
        Self::Dgram,
        Self::Ping,
        Self::Pong,
        Self::Goaway,
    ];

    fn of(number: u8) -> Result<Self, ProtocolError> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number).ok_or(ProtocolError::UnknownType(number))
    }

    /// The shortest and the longest payload.
    const fn lengths(self) -> (usize, usize) {
        match self {
            Self::Open => (4, 4 + MAX_TARGET),
            Self::OpenOk | Self::Window => (4, 4),
            Self::OpenErr => (2, 2 + MAX_MESSAGE),
            Self::Data => (1, MAX_PAYLOAD),
            Self::Fin | Self::Rst => (0, 0),
            Self::Dgram => (0, MAX_PAYLOAD),
            Self::Ping | Self::Pong => (8, 8),
            Self::Goaway => (0, MAX_MESSAGE),
        }
    }

    const fn scope(self) -> Scope {
        match self {
            Self::Ping | Self::Pong | Self::Goaway => Scope::Session,
            Self::Data | Self::Window => Scope::AnyStream,
            _ => Scope::Stream,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) length: u32,
}

impl Header {
    /// The header of `payload`, which is never longer than a frame may be.
    pub(crate) fn new(kind: Kind, stream: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        debug_assert!(payload.len() <= kind.lengths().1, "{kind:?} of {length} bytes");
        Self { kind, flags: 0, stream, length }
    }

    pub(crate) fn encode(self) -> [u8; HEADER] {
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [self.kind as u8, self.flags, 0, 0, s0, s1, s2, s3, l0, l1, l2, l3]
    }

    /// Reads a header and checks all that can be checked without knowing the session.
    pub(crate) fn decode(bytes: [u8; HEADER]) -> Result<Self, ProtocolError> {
        let [number, flags, r0, r1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        let kind = Kind::of(number)?;
        let allowed = if kind == Kind::Open { DATAGRAMS } else { 0 };
        if flags & !allowed != 0 || r0 != 0 || r1 != 0 {
            return Err(ProtocolError::Reserved { kind: number });
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let (least, most) = kind.lengths();
        if !usize::try_from(length).is_ok_and(|length| (least..=most).contains(&length)) {
            return Err(ProtocolError::Length { kind: number, length });
        }
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let fits = match kind.scope() {
            Scope::Session => stream == 0,
            Scope::Stream => stream != 0,
            Scope::AnyStream => true,
        };
        if fits {
            Ok(Self { kind, flags, stream, length })
        } else {
            Err(ProtocolError::Stream { kind: number, stream })
        }
    }
}

/// What every frame of one direction of a session ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) tag: u32,
    pub(crate) checksums: bool,
}

impl Seal {
    pub(crate) fn of(self, header: &[u8], payload: &[u8]) -> [u8; SEAL] {
        let sum = if self.checksums { crc32c(header, payload) } else { 0 };
        (self.tag ^ sum).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_on_the_wire_stays_what_it_is() {
        let header = Header { kind: Kind::Open, flags: DATAGRAMS, stream: 0x0102_0304, length: 0x0A };
        assert_eq!(header.encode(), [1, 1, 0, 0, 1, 2, 3, 4, 0, 0, 0, 10]);
        assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn every_kind_comes_back_at_its_shortest_and_longest() {
        for kind in Kind::ALL {
            let stream = if kind.scope() == Scope::Session { 0 } else { 7 };
            let (least, most) = kind.lengths();
            assert!(most <= MAX_PAYLOAD);
            for length in [least, most] {
                let header = Header { kind, flags: 0, stream, length: u32::try_from(length).unwrap() };
                assert_eq!(Header::decode(header.encode()), Ok(header));
            }
            for length in
                [least.checked_sub(1), Some(most + 1), Some(usize::try_from(u32::MAX).unwrap())].into_iter().flatten()
            {
                let header = Header { kind, flags: 0, stream, length: u32::try_from(length).unwrap() };
                assert!(matches!(Header::decode(header.encode()), Err(ProtocolError::Length { .. })), "{header:?}");
            }
        }
    }

    #[test]
    fn what_no_peer_of_ours_sends_is_refused() {
        let data = [4, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1];
        let with = |index: usize, value: u8| {
            let mut bytes = data;
            bytes[index] = value;
            Header::decode(bytes)
        };
        assert!(with(1, 0).is_ok());
        assert_eq!(with(0, 0), Err(ProtocolError::UnknownType(0)));
        assert_eq!(with(0, 12), Err(ProtocolError::UnknownType(12)));
        for index in [1, 2, 3] {
            assert_eq!(with(index, 1), Err(ProtocolError::Reserved { kind: 4 }));
        }
        assert_eq!(
            Header::decode([5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(ProtocolError::Stream { kind: 5, stream: 0 })
        );
        assert_eq!(
            Header::decode([9, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8]),
            Err(ProtocolError::Stream { kind: 9, stream: 1 })
        );
    }

    #[test]
    fn a_seal_changes_with_the_tag_and_with_checksums_with_each_byte() {
        let plain = Seal { tag: 7, checksums: false };
        assert_eq!(plain.of(b"header", b"one"), plain.of(b"header", b"two"));
        assert_ne!(plain.of(b"", b""), Seal { tag: 8, ..plain }.of(b"", b""));
        let checked = Seal { tag: 7, checksums: true };
        assert_ne!(checked.of(b"header", b"one"), checked.of(b"header", b"two"));
        assert_ne!(checked.of(b"a", b"one"), checked.of(b"b", b"one"));
    }
}
