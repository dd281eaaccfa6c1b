//! The greeting of 32 bytes: `MAGIC(8) version(2) flags(2) nonce(16) cookie(4)`, big-endian.
//!
//! The last field is zero in the host's first greeting. The guest puts a number of its own there when it echoes, and the
//! host says it back to confirm: so the guest knows that a greeting is not a leftover of an older session.

use crate::Role;

pub(crate) const HELLO: usize = 32;
pub(crate) const VERSION: u16 = 1;
/// Both sides check every frame with CRC-32C.
pub(crate) const CHECKSUMS: u16 = 1;

/// No frame begins with this byte.
pub(crate) const FIRST: u8 = 0xB3;
const MAGIC: [u8; 7] = [FIRST, b'B', b'e', b'r', b't', b'h', b'M'];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Who sent it: a pipe that echoes is not taken for the peer.
    pub(crate) from: Role,
    pub(crate) version: u16,
    pub(crate) flags: u16,
    pub(crate) nonce: [u8; 16],
    pub(crate) cookie: [u8; 4],
}

const fn mark(role: Role) -> u8 {
    match role {
        Role::Host => b'h',
        Role::Guest => b'g',
    }
}

impl Hello {
    pub(crate) fn encode(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        let parts: [&[u8]; 6] = [
            &MAGIC,
            &[mark(self.from)],
            &self.version.to_be_bytes(),
            &self.flags.to_be_bytes(),
            &self.nonce,
            &self.cookie,
        ];
        for (place, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HELLO]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<7>()?;
        let ([who, v0, v1, f0, f1], rest) = rest.split_first_chunk::<5>()?;
        let (nonce, rest) = rest.split_first_chunk::<16>()?;
        let (cookie, _) = rest.split_first_chunk::<4>()?;
        let from = [Role::Host, Role::Guest].into_iter().find(|role| mark(*role) == *who)?;
        (*magic == MAGIC).then_some(Self {
            from,
            version: u16::from_be_bytes([*v0, *v1]),
            flags: u16::from_be_bytes([*f0, *f1]),
            nonce: *nonce,
            cookie: *cookie,
        })
    }

    /// Whether `bytes` could become a greeting with more of them.
    pub(crate) fn may_begin(bytes: &[u8]) -> bool {
        bytes.iter().zip(&MAGIC).all(|(byte, magic)| byte == magic)
            && bytes.get(MAGIC.len()).is_none_or(|who| [mark(Role::Host), mark(Role::Guest)].contains(who))
    }
}

/// What is found in bytes that come before the session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// That many bytes are of no use.
    Skip(usize),
    /// A greeting behind that many bytes of no use.
    Found(usize, Hello),
}

/// Looks for the first greeting. Behind what is to be skipped there may be the beginning of one.
pub(crate) fn scan(bytes: &[u8]) -> Scanned {
    let mut skipped = 0;
    loop {
        let rest = bytes.get(skipped..).unwrap_or_default();
        let Some(next) = rest.iter().position(|byte| *byte == FIRST) else { return Scanned::Skip(bytes.len()) };
        skipped += next;
        let rest = bytes.get(skipped..).unwrap_or_default();
        if Hello::may_begin(rest) {
            return match rest.first_chunk().map(Hello::decode) {
                None => Scanned::Skip(skipped),
                Some(Some(hello)) => Scanned::Found(skipped, hello),
                Some(None) => {
                    skipped += 1;
                    continue;
                }
            };
        }
        skipped += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello { from: Role::Guest, version: 1, flags: CHECKSUMS, nonce: *b"0123456789abcdef", cookie: [1, 2, 3, 4] }
    }

    #[test]
    fn the_greeting_on_the_wire_stays_what_it_is() {
        let bytes = hello().encode();
        assert_eq!(&bytes[..], b"\xB3BerthMg\0\x01\0\x010123456789abcdef\x01\x02\x03\x04");
        assert_eq!(Hello::decode(&bytes), Some(hello()));
    }

    #[test]
    fn a_greeting_is_found_in_garbage_however_it_is_cut() {
        let mut stream = b"\xB3\xB3Berth\0\0\xB3BerthMx".to_vec();
        let at = stream.len();
        stream.extend(hello().encode());
        stream.extend(b"frames");
        assert_eq!(scan(&stream), Scanned::Found(at, hello()));
        for end in 0..at + HELLO {
            let Scanned::Skip(skipped) = scan(&stream[..end]) else { panic!("found in {end} bytes") };
            assert!(skipped <= at && skipped <= end);
            assert_eq!(scan(&stream[skipped..]), Scanned::Found(at - skipped, hello()));
        }
    }
}
