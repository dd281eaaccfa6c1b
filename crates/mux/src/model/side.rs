//! One side: its session, and an application that opens, accepts, writes, reads and gives up streams.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use tokio::io::ReadBuf;

use super::{
    ledger::{Ledger, Nonce, Record, byte},
    random::Random,
    world::Faults,
};
use crate::{
    Config, End, OpenError, RefusalCode, Role, Target,
    core::{Broken, CONTROL, Core, Form},
    wire::{
        batch::Batch,
        frame::Seal,
        greeting::{Established, Greeting},
        intake::{Intake, Item},
    },
};

/// One end of one stream.
#[derive(Debug)]
struct Application {
    stream: u32,
    number: usize,
    /// 0 opened it, 1 accepted it.
    side: usize,
    is_open: bool,
    wrote: usize,
    shut: bool,
    read: usize,
    finished: bool,
}

struct Running {
    core: Core,
    batch: Batch,
    receives: Seal,
    nonce: Nonce,
    /// What leaves is read along, without the rest of the greeting.
    tap: Intake,
    sends: Seal,
    untapped: usize,
    control: [usize; 2],
}

enum Phase {
    Greeting(Box<Greeting>),
    Running(Box<Running>),
}

pub(super) struct Side {
    role: Role,
    config: Config,
    phase: Phase,
    intake: Intake,
    applications: Vec<Application>,
}

impl Side {
    pub(super) fn new(role: Role, config: Config, random: &mut Random, now: Duration) -> Self {
        let phase = greeting(role, &config, random, now);
        Self { role, config, phase, intake: Intake::default(), applications: Vec::new() }
    }

    /// Begins anew on the same pipe. What the old session had is lost.
    pub(super) fn restart(&mut self, end: End, random: &mut Random, now: Duration, ledger: &mut Ledger) {
        if let Phase::Running(running) = &mut self.phase {
            running.core.finish(end);
        }
        for application in 0..self.applications.len() {
            self.read(application, random, ledger);
        }
        ledger.totals.broken += self.applications.len();
        self.applications.clear();
        self.intake = Intake::default();
        self.phase = greeting(self.role, &self.config, random, now);
    }

    pub(super) fn session(&self) -> Option<Nonce> {
        match &self.phase {
            Phase::Greeting(_) => None,
            Phase::Running(running) => Some(running.nonce),
        }
    }

    pub(super) fn handle_time(&mut self, now: Duration) -> Result<(), End> {
        match &mut self.phase {
            Phase::Greeting(greeting) => {
                greeting.handle_time(now);
                Ok(())
            }
            Phase::Running(running) => running.core.handle_time(now),
        }
    }

    /// Up to `most` bytes for the pipe.
    pub(super) fn emit(&mut self, most: usize, ledger: &mut Ledger) -> Vec<u8> {
        match &mut self.phase {
            Phase::Greeting(greeting) => {
                let bytes = greeting.output().iter().copied().take(most).collect::<Vec<_>>();
                greeting.sent(bytes.len());
                bytes
            }
            Phase::Running(running) => running.emit(most, self.role, ledger),
        }
    }

    /// Takes bytes from the pipe, and says how many.
    pub(super) fn take(&mut self, bytes: &[u8], now: Duration, ledger: &mut Ledger) -> Result<usize, End> {
        self.digest(now, ledger)?;
        let count = self.intake.push(bytes);
        self.digest(now, ledger)?;
        Ok(count)
    }

    fn digest(&mut self, now: Duration, ledger: &mut Ledger) -> Result<(), End> {
        if let Phase::Greeting(greeting) = &mut self.phase
            && let Some(established) = greeting.receive(&mut self.intake).unwrap()
        {
            ledger.totals.sessions += 1;
            self.phase = Phase::Running(Box::new(Running::new(self.role, &self.config, &established, now)));
        }
        let Phase::Running(running) = &mut self.phase else { return Ok(()) };
        while running.core.may_receive() {
            let Some(item) = self.intake.next(running.receives)? else { break };
            running.core.receive(&item, now)?;
        }
        assert!(running.core.held_bytes() <= running.core.bound());
        Ok(())
    }

    pub(super) const fn streams(&self) -> usize {
        self.applications.len()
    }

    pub(super) fn open(&mut self, random: &mut Random, ledger: &mut Ledger) {
        let Phase::Running(running) = &mut self.phase else { return };
        let number = ledger.records.len();
        let Ok(stream) = running.core.open(Target::log(number.to_string()).encode(), Form::Bytes) else { return };
        let plan = [random.size(60_000) - 1, random.size(60_000) - 1];
        ledger.records.push(Record { session: running.nonce, plan, shut: [false; 2], given_up: [false; 2] });
        self.applications.push(Application::new(stream, number, 0));
    }

    pub(super) fn answer(&mut self, random: &mut Random, faults: Faults, ledger: &mut Ledger) {
        let Phase::Running(running) = &mut self.phase else { return };
        let Poll::Ready(Some(offer)) = running.core.poll_offer(Waker::noop()) else { return };
        let Target::Log { service } = Target::decode(&offer.target) else { panic!("{offer:?} was never opened") };
        let number: usize = service.parse().unwrap();
        assert_eq!(ledger.records[number].session, running.nonce, "a stream of another session was offered");
        if faults.give_up && random.one_in(8) {
            ledger.records[number].given_up[1] = true;
            running.core.release(offer.stream);
            return;
        }
        running.core.accept(offer.stream, Form::Bytes);
        self.applications.push(Application { is_open: true, ..Application::new(offer.stream, number, 1) });
    }

    /// Some stream does something.
    pub(super) fn act(&mut self, random: &mut Random, faults: Faults, ledger: &mut Ledger) {
        self.control(random);
        if self.applications.is_empty() {
            return;
        }
        let index = random.within(0..self.applications.len());
        if faults.give_up && random.one_in(60) {
            let application = self.applications.swap_remove(index);
            ledger.records[application.number].given_up[application.side] = true;
            ledger.totals.broken += 1;
            if let Phase::Running(running) = &mut self.phase {
                running.core.release(application.stream);
            }
            return;
        }
        if random.one_in(2) {
            self.write(index, random, ledger);
        } else {
            self.read(index, random, ledger);
        }
        self.settle(index, ledger);
    }

    /// Every stream goes on as far as it can.
    pub(super) fn act_all(&mut self, random: &mut Random, ledger: &mut Ledger) {
        for index in (0..self.applications.len()).rev() {
            self.write(index, random, ledger);
            self.read(index, random, ledger);
            self.settle(index, ledger);
        }
    }

    /// Lets go of a stream that is done in both directions.
    fn settle(&mut self, index: usize, ledger: &mut Ledger) {
        let Some(application) = self.applications.get(index) else { return };
        if application.shut && application.finished {
            let application = self.applications.swap_remove(index);
            ledger.totals.completed += 1;
            if let Phase::Running(running) = &mut self.phase {
                running.core.release(application.stream);
            }
        }
    }

    fn write(&mut self, index: usize, random: &mut Random, ledger: &mut Ledger) {
        let (Phase::Running(running), Some(application)) = (&mut self.phase, self.applications.get_mut(index)) else {
            return;
        };
        let record = &mut ledger.records[application.number];
        let (side, stream) = (application.side, application.stream);
        if !application.is_open {
            match running.core.poll_open(stream, Waker::noop()) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => application.is_open = true,
                Poll::Ready(Err(error)) => {
                    running.core.release(stream);
                    let is_full = matches!(error, OpenError::Refused { code: RefusalCode::Full, .. });
                    assert!(is_full || record.given_up[1] || running.core.end().is_some(), "refused: {error}");
                    ledger.totals.refused += 1;
                    self.applications.swap_remove(index);
                    return;
                }
            }
        }
        let rest = record.plan[side] - application.wrote;
        if rest > 0 {
            let count = random.size(rest.min(20_000));
            let bytes: Vec<u8> =
                (0..count).map(|place| byte(application.number, side, application.wrote + place)).collect();
            match running.core.poll_write(stream, Waker::noop(), &bytes) {
                Poll::Ready(Ok(count)) => application.wrote += count,
                Poll::Ready(Err(Broken)) => {
                    assert!(record.given_up[1 - side], "a write failed although the peer holds the stream");
                    application.wrote = record.plan[side];
                    application.shut = true;
                }
                Poll::Pending => {}
            }
        } else if !application.shut && random.one_in(3) {
            application.shut = true;
            record.shut[side] = running.core.shutdown(stream).is_ok();
            assert!(record.shut[side] || record.given_up[1 - side]);
        }
    }

    fn read(&mut self, index: usize, random: &mut Random, ledger: &mut Ledger) {
        let (Phase::Running(running), Some(application)) = (&mut self.phase, self.applications.get_mut(index)) else {
            return;
        };
        if !application.is_open || application.finished {
            return;
        }
        let record = &ledger.records[application.number];
        let (number, from) = (application.number, 1 - application.side);
        let mut place = vec![0; random.size(30_000)];
        let mut into = ReadBuf::new(&mut place);
        match running.core.poll_read(application.stream, Waker::noop(), &mut into) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                for byte_read in into.filled() {
                    assert_eq!(*byte_read, byte(number, from, application.read), "a wrong byte");
                    application.read += 1;
                }
                ledger.totals.bytes += into.filled().len();
                if into.filled().is_empty() {
                    assert!(record.shut[from], "an end that nobody sent");
                    assert_eq!(application.read, record.plan[from], "an end before the end");
                    application.finished = true;
                }
            }
            Poll::Ready(Err(Broken)) => {
                let has_reason = record.given_up[from] || running.core.end().is_some();
                assert!(has_reason, "a stream broke for no reason");
                application.finished = true;
            }
        }
    }

    /// A few bytes on the control stream, which are known as well.
    fn control(&mut self, random: &mut Random) {
        let Phase::Running(running) = &mut self.phase else { return };
        let [wrote, read] = &mut running.control;
        let (own, peer) = if self.role == Role::Host { (0, 1) } else { (1, 0) };
        if random.one_in(4) {
            let bytes: Vec<u8> = (0..random.size(5000)).map(|place| byte(0, own, *wrote + place)).collect();
            if let Poll::Ready(count) = running.core.poll_write(CONTROL, Waker::noop(), &bytes) {
                *wrote += count.unwrap();
            }
        }
        let mut place = [0; 3000];
        let mut into = ReadBuf::new(&mut place);
        if running.core.poll_read(CONTROL, Waker::noop(), &mut into).is_ready() {
            for found in into.filled() {
                assert_eq!(*found, byte(0, peer, *read), "a wrong byte on the control stream");
                *read += 1;
            }
        }
    }
}

impl Application {
    const fn new(stream: u32, number: usize, side: usize) -> Self {
        Self { stream, number, side, is_open: false, wrote: 0, shut: false, read: 0, finished: false }
    }
}

impl Running {
    fn new(role: Role, config: &Config, established: &Established, now: Duration) -> Self {
        let mut batch = Batch::new(established.sends, true);
        batch.raw(&established.unsent);
        Self {
            core: Core::new(role, config.clone(), established, now),
            batch,
            receives: established.receives,
            nonce: established.nonce,
            tap: Intake::default(),
            sends: established.sends,
            untapped: established.unsent.len(),
            control: [0; 2],
        }
    }

    fn emit(&mut self, most: usize, role: Role, ledger: &mut Ledger) -> Vec<u8> {
        if self.batch.is_empty() {
            self.core.fill(&mut self.batch, 8192);
        }
        let (slices, count) = self.batch.slices();
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
        self.batch.written(bytes.len());
        let skip = self.untapped.min(bytes.len());
        self.untapped -= skip;
        let mut rest = &bytes[skip..];
        while !rest.is_empty() {
            rest = &rest[self.tap.push(rest)..];
            while let Some(item) = self.tap.next(self.sends).unwrap() {
                let Item::Frame(header, payload) = item else { panic!("a greeting within the session") };
                ledger.sent(self.nonce, role, header, payload);
            }
        }
        bytes
    }
}

fn greeting(role: Role, config: &Config, random: &mut Random, now: Duration) -> Phase {
    Phase::Greeting(Box::new(Greeting::new(role, random.bytes(), config.checksums, config.greeting, now)))
}
