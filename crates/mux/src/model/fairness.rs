//! Who gets its turn when.

use std::{collections::HashMap, task::Waker, time::Duration};

use tokio::io::ReadBuf;

use crate::{
    Config, Role,
    core::{CONTROL, Core, Form},
    wire::{
        batch::Batch,
        frame::{Header, Kind, Seal},
        greeting::Established,
        intake::{Intake, Item},
    },
};

const SEAL: Seal = Seal { tag: 1, checksums: false };
const NOW: Duration = Duration::ZERO;

fn core(config: Config) -> Core {
    let established = Established { nonce: [1; 16], sends: SEAL, receives: SEAL, unsent: Vec::new() };
    Core::new(Role::Host, config, &established, NOW)
}

/// Frames that the next batch holds.
fn frames(core: &mut Core, limit: usize) -> Vec<(Kind, u32, u32)> {
    let mut batch = Batch::new(SEAL, false);
    core.fill(&mut batch, limit);
    let (mut intake, mut frames) = (Intake::default(), Vec::new());
    let (slices, count) = batch.slices();
    for mut slice in slices[..count].iter().map(|slice| &slice[..]) {
        while !slice.is_empty() {
            slice = &slice[intake.push(slice)..];
            while let Some(Item::Frame(header, _)) = intake.next(SEAL).unwrap() {
                frames.push((header.kind, header.stream, header.length));
            }
        }
    }
    frames
}

fn receive(core: &mut Core, kind: Kind, stream: u32, payload: &[u8]) {
    core.receive(&Item::Frame(Header::new(kind, stream, payload), payload), NOW).unwrap();
}

fn open(core: &mut Core, credit: u32) -> u32 {
    let stream = core.open(b"{}".to_vec(), Form::Bytes).unwrap();
    receive(core, Kind::OpenOk, stream, &credit.to_be_bytes());
    stream
}

fn write(core: &mut Core, stream: u32, count: usize) {
    let _ = core.poll_write(stream, Waker::noop(), &vec![0; count]).map(Result::unwrap);
}

#[test]
fn among_full_streams_each_has_one_turn_in_every_round() {
    let mut core = core(Config::default());
    let streams: Vec<u32> = (0..300).map(|_| open(&mut core, 1 << 30)).collect();
    let mut last_turn: HashMap<u32, usize> = HashMap::new();
    let mut turns = 0;
    for _ in 0..200 {
        for stream in &streams {
            write(&mut core, *stream, 100_000);
        }
        let mut of_batch: Vec<u32> = frames(&mut core, 256 * 1024)
            .into_iter()
            .filter(|(kind, ..)| *kind == Kind::Data)
            .map(|(_, stream, _)| stream)
            .collect();
        // A turn may be several frames.
        of_batch.dedup();
        for stream in of_batch {
            turns += 1;
            let waited = turns - last_turn.insert(stream, turns).unwrap_or(turns);
            assert!(waited <= streams.len(), "stream {stream} waited for {waited} turns");
        }
    }
    assert_eq!(last_turn.len(), streams.len());
}

#[test]
fn one_load_does_not_hold_up_those_who_send_little() {
    let mut core = core(Config::default());
    let load = open(&mut core, 1 << 30);
    let others: Vec<u32> = (0..300).map(|_| open(&mut core, 1 << 30)).collect();
    write(&mut core, load, 256 * 1024);
    others.iter().for_each(|stream| write(&mut core, *stream, 50));
    let batch = frames(&mut core, 64 * 1024);
    let little: usize = batch.iter().filter(|(kind, stream, _)| *kind == Kind::Data && *stream != load).count();
    assert_eq!(little, 300, "all of them go with the first batch");
    let (.., length) = batch.iter().find(|(kind, stream, _)| *kind == Kind::Data && *stream == load).unwrap();
    assert!(*length <= 16 * 1024, "a load among others has short turns");
    let alone = frames(&mut core, 64 * 1024);
    assert!(alone.iter().any(|(.., length)| *length > 16 * 1024), "alone it has long ones: {alone:?}");
}

#[test]
fn answers_and_control_go_before_data_and_do_not_starve_it() {
    let mut core = core(Config::default());
    let load = open(&mut core, 1 << 30);
    frames(&mut core, 1 << 20);
    for _ in 0..5 {
        write(&mut core, load, 100_000);
        write(&mut core, CONTROL, 20_000);
        receive(&mut core, Kind::Ping, 0, &[0; 8]);
        let order: Vec<_> = frames(&mut core, 1000).into_iter().map(|(kind, stream, _)| (kind, stream)).collect();
        let mut once = order.clone();
        once.dedup();
        assert_eq!(once, [(Kind::Pong, 0), (Kind::Data, CONTROL), (Kind::Data, load)]);
    }
}

#[test]
fn a_reader_that_keeps_up_gets_more_credit_within_the_budget() {
    let config = Config { receive_budget: 2 * 1024 * 1024, ..Config::default() };
    let mut core = core(config);
    let (first, second) = (open(&mut core, 0), open(&mut core, 0));
    let mut granted = HashMap::from([(first, 0), (second, 0)]);
    for (kind, stream, _) in frames(&mut core, 1 << 20) {
        assert_eq!(kind, Kind::Open);
        assert!(granted.contains_key(&stream));
    }
    let mut place = vec![0; 64 * 1024];
    for _ in 0..400 {
        for stream in [first, second] {
            receive(&mut core, Kind::Data, stream, &[0; 30_000]);
            let mut into = ReadBuf::new(&mut place);
            assert!(core.poll_read(stream, Waker::noop(), &mut into).is_ready());
            *granted.get_mut(&stream).unwrap() += 30_000;
        }
        frames(&mut core, 1 << 20);
    }
    assert!(granted.values().all(|bytes| *bytes == 400 * 30_000), "{granted:?}");
    let window = |core: &mut Core, stream| {
        let mut sent = 0;
        while core.receive(&Item::Frame(Header::new(Kind::Data, stream, &[0; 1000]), &[0; 1000]), NOW).is_ok() {
            sent += 1000;
        }
        sent
    };
    let (first, second) = (window(&mut core, first), window(&mut core, second));
    assert!(first > 400_000 || second > 400_000, "nobody grew: {first}, {second}");
    assert!(first + second <= 2 * 1024 * 1024 + 2 * 16 * 1024, "more than the budget: {first}, {second}");
}

#[test]
fn a_stream_that_is_given_up_gives_its_credit_back_to_the_budget() {
    let config = Config { receive_budget: 300_000, ..Config::default() };
    let mut core = core(config);
    for _ in 0..50 {
        let stream = open(&mut core, 100);
        receive(&mut core, Kind::Data, stream, &[0; 65_000]);
        core.release(stream);
    }
    let stream = open(&mut core, 100);
    for _ in 0..4 {
        receive(&mut core, Kind::Data, stream, &[0; 65_000]);
    }
}
