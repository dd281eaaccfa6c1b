//! How two sides find a common beginning, whatever an older session left in the pipe.
//!
//! 1. The host sends a greeting with a fresh nonce.
//! 2. The guest echoes it with a cookie of its own.
//! 3. The host says the cookie back, and its frames follow. The guest discards all that comes before.
//!
//! Who got no answer repeats its greeting, and puts a whole frame of zeros before it: a peer that is still in an old
//! session, in the middle of a frame that was cut, gets to that frame's end, sees that it lacks the seal and begins anew. A
//! guest that has just come up greets with a nonce of zeros, upon which the host greets at once.

use std::time::Duration;

use super::{
    frame::{MAX_FRAME, Seal},
    hello::{CHECKSUMS, Hello, VERSION},
    intake::Intake,
};
use crate::Role;

const ANNOUNCEMENT: [u8; 16] = [0; 16];
const SLOWEST_REPEAT: Duration = Duration::from_secs(5);

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Established {
    pub(crate) nonce: [u8; 16],
    pub(crate) sends: Seal,
    pub(crate) receives: Seal,
    /// What is left to be sent before the first frame.
    pub(crate) unsent: Vec<u8>,
}

/// The peer speaks this other version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherVersion(pub(crate) u16);

#[derive(Debug)]
pub(crate) struct Greeting {
    role: Role,
    checksums: bool,
    /// The host's choice; the guest has none.
    nonce: [u8; 16],
    /// The guest's choice; the host has none.
    cookie: [u8; 4],
    /// The greeting of the host that the guest echoed last.
    echoed: Option<Hello>,
    /// Being written.
    output: Vec<u8>,
    written: usize,
    /// To be written after that. A newer one takes its place, so a flood of greetings fills nothing.
    next: Option<Hello>,
    repeat_after: Duration,
    repeat_at: Option<Duration>,
}

impl Greeting {
    /// `random` is the nonce of a host, and of a guest its first four bytes are the cookie.
    pub(crate) fn new(role: Role, random: [u8; 16], checksums: bool, repeat_after: Duration, now: Duration) -> Self {
        let [c0, c1, c2, c3, ..] = random;
        let (nonce, cookie) = match role {
            Role::Host => (random, [0; 4]),
            // Never zero, which is what a greeting without a cookie has.
            Role::Guest => (ANNOUNCEMENT, [c0, c1, c2, c3 | 1]),
        };
        let repeat_at = Some(now + repeat_after);
        let mut greeting = Self {
            role,
            checksums,
            nonce,
            cookie,
            echoed: None,
            output: Vec::new(),
            written: 0,
            next: None,
            repeat_after,
            repeat_at,
        };
        greeting.output.extend(greeting.first_hello().encode());
        greeting
    }

    fn first_hello(&self) -> Hello {
        let flags = if self.checksums { CHECKSUMS } else { 0 };
        Hello { from: self.role, version: VERSION, flags, nonce: self.nonce, cookie: [0; 4] }
    }

    /// What is to be written.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.get(self.written..).unwrap_or_default()
    }

    pub(crate) fn sent(&mut self, count: usize) {
        self.written += count;
        if self.output().is_empty() {
            self.written = 0;
            self.output.clear();
            if let Some(hello) = self.next.take() {
                self.output.extend(hello.encode());
            }
        }
    }

    fn send(&mut self, hello: Hello) {
        if self.output().is_empty() {
            self.output.extend(hello.encode());
        } else {
            self.next = Some(hello);
        }
    }

    /// When [`Self::handle_time`] is due.
    pub(crate) const fn deadline(&self) -> Option<Duration> {
        self.repeat_at
    }

    /// Repeats the greeting if it is time and the last one is written.
    pub(crate) fn handle_time(&mut self, now: Duration) {
        if self.repeat_at.is_none_or(|at| now < at) {
            return;
        }
        self.repeat_after = (self.repeat_after * 2).min(SLOWEST_REPEAT);
        self.repeat_at = Some(now + self.repeat_after);
        if self.output().is_empty() {
            self.output.resize(MAX_FRAME, 0);
            self.output.extend(self.first_hello().encode());
        }
    }

    /// Looks through what came in.
    pub(crate) fn receive(&mut self, intake: &mut Intake) -> Result<Option<Established>, OtherVersion> {
        while let Some(hello) = intake.next_hello() {
            if hello.from == self.role {
                continue;
            }
            let established = match self.role {
                Role::Host => self.as_host(hello)?,
                Role::Guest => self.as_guest(hello),
            };
            if established.is_some() {
                intake.take_hello();
                return Ok(established);
            }
        }
        Ok(None)
    }

    fn as_host(&mut self, hello: Hello) -> Result<Option<Established>, OtherVersion> {
        if hello.nonce == ANNOUNCEMENT {
            self.send(self.first_hello());
            return Ok(None);
        }
        if hello.nonce != self.nonce {
            return Ok(None);
        }
        if hello.version != VERSION {
            return Err(OtherVersion(hello.version));
        }
        self.next = None;
        let confirmation = Hello { from: Role::Host, ..hello };
        let mut unsent = self.output().to_vec();
        unsent.extend(confirmation.encode());
        Ok(Some(established(self.role, &confirmation, unsent)))
    }

    fn as_guest(&mut self, hello: Hello) -> Option<Established> {
        if self.echoed.is_some_and(|echoed| echoed.nonce == hello.nonce && self.cookie == hello.cookie) {
            return Some(established(self.role, &hello, self.output().to_vec()));
        }
        if hello.cookie != [0; 4] {
            return None;
        }
        let flags = if self.checksums { hello.flags & CHECKSUMS } else { 0 };
        let echo = Hello { from: Role::Guest, version: VERSION, flags, nonce: hello.nonce, cookie: self.cookie };
        if hello.version == VERSION {
            self.echoed = Some(echo);
        }
        self.send(echo);
        // From here on it is for the host to repeat: what is written now could follow the host's confirmation.
        self.repeat_at = None;
        None
    }
}

fn established(role: Role, confirmed: &Hello, unsent: Vec<u8>) -> Established {
    let [n0, n1, n2, n3, m0, m1, m2, m3, ..] = confirmed.nonce;
    let cookie = u32::from_be_bytes(confirmed.cookie);
    let checksums = confirmed.flags & CHECKSUMS != 0;
    let of_host = Seal { tag: u32::from_be_bytes([n0, n1, n2, n3]) ^ cookie, checksums };
    let of_guest = Seal { tag: u32::from_be_bytes([m0, m1, m2, m3]) ^ cookie, checksums };
    let (sends, receives) = match role {
        Role::Host => (of_host, of_guest),
        Role::Guest => (of_guest, of_host),
    };
    Established { nonce: confirmed.nonce, sends, receives, unsent }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;
    const REPEAT: Duration = Duration::from_millis(300);

    fn nonce(seed: u8) -> [u8; 16] {
        std::array::from_fn(|index| seed.wrapping_add(u8::try_from(index * 11).unwrap()))
    }

    struct Side {
        greeting: Greeting,
        intake: Intake,
        done: Option<Established>,
    }

    impl Side {
        fn new(role: Role, random: u8) -> Self {
            let greeting = Greeting::new(role, nonce(random), true, REPEAT, START);
            Self { greeting, intake: Intake::default(), done: None }
        }

        fn take(&mut self) -> Vec<u8> {
            let bytes = self
                .done
                .as_mut()
                .map_or_else(|| self.greeting.output().to_vec(), |done| std::mem::take(&mut done.unsent));
            if self.done.is_none() {
                self.greeting.sent(bytes.len());
            }
            bytes
        }

        fn give(&mut self, bytes: &[u8]) {
            let mut rest = bytes;
            while !rest.is_empty() {
                rest = &rest[self.intake.push(rest)..];
                if self.done.is_none() {
                    self.done = self.greeting.receive(&mut self.intake).unwrap();
                }
            }
        }
    }

    fn shake(host: &mut Side, guest: &mut Side) {
        for _ in 0..8 {
            let bytes = host.take();
            guest.give(&bytes);
            let bytes = guest.take();
            host.give(&bytes);
        }
        let (of_host, of_guest) = (host.done.clone().unwrap(), guest.done.clone().unwrap());
        assert_eq!(of_host.nonce, of_guest.nonce);
        assert_eq!(of_host.sends, of_guest.receives);
        assert_eq!(of_host.receives, of_guest.sends);
        assert_ne!(of_host.sends, of_host.receives);
    }

    #[test]
    fn two_sides_meet() {
        shake(&mut Side::new(Role::Host, 1), &mut Side::new(Role::Guest, 2));
    }

    #[test]
    fn a_stale_greeting_of_another_host_is_answered_and_not_believed() {
        let (mut old, mut host, mut guest) =
            (Side::new(Role::Host, 9), Side::new(Role::Host, 1), Side::new(Role::Guest, 2));
        guest.give(&old.take()[..20]);
        guest.give(&Side::new(Role::Host, 8).take());
        guest.give(b"a tail of old frames");
        assert_eq!(guest.done, None);
        shake(&mut host, &mut guest);
    }

    #[test]
    fn a_greeting_and_frames_in_stale_bytes_do_not_begin_a_session() {
        let mut guest = Side::new(Role::Guest, 2);
        let hello = Side::new(Role::Host, 9).take();
        let guessed = Hello { from: Role::Host, version: 1, flags: 0, nonce: [9; 16], cookie: [0xAA; 4] };
        guest.give(&[hello, guessed.encode().to_vec(), vec![9, 0, 0, 0]].concat());
        assert_eq!(guest.done, None, "who put these bytes into an upload cannot know the cookie");
    }

    #[test]
    fn a_pipe_that_echoes_is_not_the_peer() {
        for role in [Role::Host, Role::Guest] {
            let mut side = Side::new(role, 1);
            let own = side.take();
            side.give(&own);
            assert_eq!(side.done, None);
            assert_eq!(side.take(), b"");
        }
    }

    #[test]
    fn who_is_not_answered_repeats_behind_a_frame_of_zeros() {
        let (mut host, mut guest) = (Side::new(Role::Host, 1), Side::new(Role::Guest, 2));
        let lost = host.take();
        assert_eq!(host.take(), b"");
        host.greeting.handle_time(REPEAT);
        let again = host.take();
        assert!(again.ends_with(&lost) && again.len() == MAX_FRAME + lost.len());
        assert_eq!(host.greeting.deadline(), Some(REPEAT * 3));
        guest.give(&again);
        shake(&mut host, &mut guest);
    }

    #[test]
    fn a_host_greets_a_guest_that_has_just_come_up() {
        let (mut host, mut guest) = (Side::new(Role::Host, 1), Side::new(Role::Guest, 2));
        host.take();
        host.give(&guest.take());
        shake(&mut host, &mut guest);
    }

    #[test]
    fn checksums_need_both_sides_and_another_version_is_said() {
        let mut host = Greeting::new(Role::Host, [1; 16], true, REPEAT, START);
        let mut guest = Greeting::new(Role::Guest, [2; 16], false, REPEAT, START);
        let mut intake = Intake::default();
        intake.push(host.output());
        assert_eq!(guest.receive(&mut intake), Ok(None));
        guest.sent(32);
        let mut intake = Intake::default();
        intake.push(guest.output());
        let established = host.receive(&mut intake).unwrap().unwrap();
        assert!(!established.sends.checksums && !established.receives.checksums);

        let mut host = Greeting::new(Role::Host, [1; 16], true, REPEAT, START);
        let newer = Hello { from: Role::Guest, version: 2, flags: 0, nonce: [1; 16], cookie: [1; 4] };
        let mut intake = Intake::default();
        intake.push(&newer.encode());
        assert_eq!(host.receive(&mut intake), Err(OtherVersion(2)));
    }

    #[test]
    fn a_flood_of_greetings_fills_nothing() {
        let mut guest = Side::new(Role::Guest, 2);
        for random in 1..200 {
            guest.give(&Side::new(Role::Host, random).take());
        }
        assert_eq!(guest.greeting.output().len(), 32);
    }
}
