//! What the fuzz targets call: each decoder of the peer's bytes with the rule that it keeps, and nothing that has an effect.
//!
//! A function panics where its rule is broken. `fuzz/` gives them generated input, the test below every kept input.

#![allow(clippy::panic, clippy::missing_panics_doc, reason = "a broken rule is to be found")]

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use tokio::io::ReadBuf;

use crate::{
    Config, Role, Target, control,
    core::{CONTROL, Core, Form},
    wire::{
        batch::Batch,
        frame::{DATAGRAMS, Header, Kind, Seal},
        greeting::{Established, Greeting},
        intake::Intake,
    },
};

/// A target: its name and its function.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: &[FuzzTarget] =
    &[("frames", frames), ("session", session), ("greeting", greeting), ("control_message", control_message)];

const NOW: Duration = Duration::from_secs(1);
const NONCE: [u8; 16] = [7; 16];

/// The size of the pieces that the input comes in is its first byte.
fn pieces(input: &[u8]) -> (usize, &[u8]) {
    input.split_first().map_or((1, input), |(size, rest)| (usize::from(*size).max(1), rest))
}

/// Any bytes in any chunking give the same session, which never holds more than it may.
pub fn frames(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let (size, rest) = pieces(rest);
    let role = if flags & 1 == 0 { Role::Host } else { Role::Guest };
    same_in_pieces(role, flags & 2 != 0, rest, size);
}

/// Any frames with a right seal in any chunking give the same session, which never holds more than it may. A frame is
/// written as its type, its flags, its stream in one byte, twice the length in two bytes; the payload is the next bytes, repeated.
pub fn session(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let (size, mut rest) = pieces(rest);
    let (role, seal) = (if flags & 1 == 0 { Role::Host } else { Role::Guest }, Seal { tag: 0, checksums: false });
    let mut stream = Vec::new();
    while let Some(([kind, frame_flags, number, high, low], after)) = rest.split_first_chunk() {
        let wanted = usize::from(u16::from_be_bytes([*high, *low])) * 2;
        let (seed, after) = after.split_at_checked(after.len().min(8)).unwrap_or_default();
        let payload: Vec<u8> =
            if seed.is_empty() { vec![0; wanted] } else { seed.iter().copied().cycle().take(wanted).collect() };
        // The type is set afterwards: it need not be one.
        let mut header = Header { stream: u32::from(*number), ..Header::new(Kind::Dgram, 0, &[]) }.encode();
        let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        for (place, byte) in header.iter_mut().zip([*kind, frame_flags & DATAGRAMS]) {
            *place = byte;
        }
        for (place, byte) in header.iter_mut().skip(8).zip(length) {
            *place = byte;
        }
        stream.extend(header);
        stream.extend(&payload);
        stream.extend(seal.of(&header, &payload));
        rest = after;
        if stream.len() > 4 * 1024 * 1024 {
            break;
        }
    }
    same_in_pieces(role, false, &stream, size);
}

fn same_in_pieces(role: Role, checksums: bool, bytes: &[u8], size: usize) {
    let whole = Play::new(role, checksums).run(bytes, usize::MAX);
    assert_eq!(Play::new(role, checksums).run(bytes, size), whole);
}

/// A session whose holders accept and read whatever there is.
struct Play {
    core: Core,
    intake: Intake,
    batch: Batch,
    seal: Seal,
    bytes: Vec<u32>,
    datagrams: Vec<u32>,
    transcript: Vec<u8>,
    items: usize,
}

impl Play {
    fn new(role: Role, checksums: bool) -> Self {
        let seal = Seal { tag: 0, checksums };
        let established = Established { nonce: NONCE, sends: seal, receives: seal, unsent: Vec::new() };
        let config = Config {
            max_streams: 8,
            backlog: 4,
            window: 40_000,
            max_window: 160_000,
            receive_budget: 100_000,
            send_buffer: 10_000,
            ..Config::default()
        };
        let mut core = Core::new(role, config, &established, NOW);
        let mut bytes = vec![CONTROL];
        bytes.extend((0..3).flat_map(|_| core.open(b"{}".to_vec(), Form::Bytes)));
        let datagrams = core.open(b"{}".to_vec(), Form::Datagrams).into_iter().collect();
        let batch = Batch::new(seal, true);
        Self { core, intake: Intake::default(), batch, seal, bytes, datagrams, transcript: Vec::new(), items: 0 }
    }

    fn run(mut self, input: &[u8], size: usize) -> (Vec<u8>, Option<String>) {
        for mut piece in input.chunks(size) {
            while !piece.is_empty() {
                let count = self.intake.push(piece);
                assert!(count > 0, "there is always room for the frame that has begun");
                piece = piece.get(count..).unwrap_or_default();
                if let Err(end) = self.take_in() {
                    self.core.finish(end.clone());
                    self.read_all();
                    assert!(!self.core.has_output());
                    return (self.transcript, Some(end.to_string()));
                }
            }
        }
        (self.transcript, None)
    }

    fn take_in(&mut self) -> Result<(), crate::End> {
        while let Some(item) = self.intake.next(self.seal)? {
            self.core.receive(&item, NOW)?;
            self.act();
            assert!(self.core.held_bytes() <= self.core.bound());
        }
        Ok(())
    }

    fn act(&mut self) {
        while let Poll::Ready(Some(offer)) = self.core.poll_offer(Waker::noop()) {
            let _ = Target::decode(&offer.target);
            self.core.accept(offer.stream, offer.form);
            match offer.form {
                Form::Bytes => self.bytes.push(offer.stream),
                Form::Datagrams => self.datagrams.push(offer.stream),
            }
            let _ = self.core.poll_write(offer.stream, Waker::noop(), &[1; 3000]);
            let _ = self.core.send_datagram(offer.stream, b"datagram");
        }
        self.items += 1;
        if self.items.is_multiple_of(3) {
            self.read_all();
        }
        if self.items.is_multiple_of(5) {
            self.core.fill(&mut self.batch, 20_000);
            self.batch.written(self.batch.len());
        }
    }

    fn read_all(&mut self) {
        let mut place = [0; 30_000];
        for stream in &self.bytes {
            let mut into = ReadBuf::new(&mut place);
            let outcome = self.core.poll_read(*stream, Waker::noop(), &mut into);
            self.transcript.push(match outcome {
                Poll::Pending => 0,
                Poll::Ready(Ok(())) => 1,
                Poll::Ready(Err(_)) => 2,
            });
            self.transcript.extend_from_slice(into.filled());
        }
        for stream in &self.datagrams {
            while let Poll::Ready(Some(packet)) = self.core.poll_datagram(*stream, Waker::noop()) {
                self.transcript.extend_from_slice(&packet);
            }
        }
    }
}

/// Any bytes in any chunking before a session give the same session or none.
pub fn greeting(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let (size, rest) = pieces(rest);
    let role = if flags & 1 == 0 { Role::Host } else { Role::Guest };
    let read = |size: usize| {
        let (mut greeting, mut intake) = (Greeting::new(role, NONCE, true, NOW, NOW), Intake::default());
        for mut piece in rest.chunks(size) {
            while !piece.is_empty() {
                let count = intake.push(piece);
                assert!(count > 0, "what is no greeting is discarded");
                piece = piece.get(count..).unwrap_or_default();
                match greeting.receive(&mut intake) {
                    Ok(None) => {}
                    Ok(Some(established)) => {
                        return Some((established.nonce, established.sends, established.receives));
                    }
                    Err(_) => return None,
                }
                assert!(greeting.output().len() <= 64);
            }
        }
        None
    };
    assert_eq!(read(size), read(usize::MAX));
}

/// Any message on the control stream is read, ignored or refused; what was read can be written again.
pub fn control_message(input: &[u8]) {
    control::fuzz_message(input);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_kept_input_keeps_the_rules() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().flatten().collect();
            assert!(!inputs.is_empty(), "{name} has no input to begin with");
            for input in inputs {
                target(&fs::read(input.path()).unwrap());
            }
        }
    }
}
