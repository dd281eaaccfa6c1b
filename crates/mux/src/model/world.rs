//! Two sides and the pipe between them.

use std::{collections::VecDeque, time::Duration};

use super::{ledger::Ledger, random::Random, side::Side};
use crate::{Config, End, Role};

/// What may go wrong in a schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    /// Streams are dropped, refused and taken back.
    pub(super) give_up: bool,
    /// How seldom a side begins anew on the same pipe, in the middle of whatever it was sending: one step in 20 times
    /// that many. Zero is never.
    pub(super) reconnect: usize,
    /// And what was in the pipe then is lost in part.
    pub(super) lose: bool,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    pub(super) completed: usize,
    pub(super) broken: usize,
    /// Because a side has as many streams as it may have.
    pub(super) refused: usize,
    pub(super) bytes: usize,
    /// Sessions that came about, counted on each side.
    pub(super) sessions: usize,
}

impl Totals {
    pub(super) const fn add(&mut self, more: &Self) {
        self.completed += more.completed;
        self.broken += more.broken;
        self.refused += more.refused;
        self.bytes += more.bytes;
        self.sessions += more.sessions;
    }
}

pub(super) struct World {
    random: Random,
    faults: Faults,
    sides: [Side; 2],
    /// Bytes on their way from each side to the other.
    lanes: [VecDeque<u8>; 2],
    /// What a lane holds before its writer has to wait.
    capacity: usize,
    now: Duration,
    ledger: Ledger,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random(seed);
        let now = Duration::ZERO;
        let sides = [Role::Host, Role::Guest].map(|role| {
            let window = [60, 600, 20_000, 100_000][random.within(0..4)];
            let config = Config {
                max_streams: random.within(2..12),
                backlog: random.within(1..12),
                window,
                max_window: window * 4,
                receive_budget: u64::from(window) * 5,
                send_buffer: random.size(30_000).max(60),
                checksums: random.one_in(2),
                ..Config::default()
            };
            Side::new(role, config, &mut random, now)
        });
        let capacity = random.size(100_000).max(40);
        Self { random, faults, sides, lanes: Default::default(), capacity, now, ledger: Ledger::default() }
    }

    pub(super) const fn totals(&self) -> Totals {
        self.ledger.totals
    }

    pub(super) fn play(&mut self, steps: usize) {
        for _ in 0..steps {
            let side = self.random.within(0..2);
            match self.random.within(0..20) {
                0..=1 => self.sides[side].open(&mut self.random, &mut self.ledger),
                2..=3 => self.sides[side].answer(&mut self.random, self.faults, &mut self.ledger),
                4..=9 => self.sides[side].act(&mut self.random, self.faults, &mut self.ledger),
                10..=13 => {
                    let most = self.random.size(70_000);
                    self.write(side, most);
                }
                14..=17 => {
                    let most = self.random.size(70_000);
                    self.deliver(side, most);
                }
                18 => self.advance(side),
                _ => self.reconnect(side),
            }
        }
    }

    /// No more faults and no new streams: everything that is open gets done, whatever happened before.
    pub(super) fn calm_down(&mut self) {
        let calm = Faults { give_up: false, reconnect: 0, lose: false };
        for _ in 0..50_000 {
            for side in [0, 1] {
                self.write(side, usize::MAX);
                self.deliver(side, usize::MAX);
                self.sides[side].answer(&mut self.random, calm, &mut self.ledger);
                self.sides[side].act_all(&mut self.random, &mut self.ledger);
            }
            if self.is_done() {
                return;
            }
            if !self.has_met() {
                self.advance(0);
                self.advance(1);
            }
        }
        panic!("something never got done: {:?} streams", self.sides.each_ref().map(Side::streams));
    }

    fn has_met(&self) -> bool {
        let [host, guest] = self.sides.each_ref().map(Side::session);
        host.is_some() && host == guest
    }

    fn is_done(&self) -> bool {
        self.has_met() && self.sides.iter().all(|side| side.streams() == 0)
    }

    fn write(&mut self, side: usize, most: usize) {
        let room = self.capacity.saturating_sub(self.lanes[side].len());
        let bytes = self.sides[side].emit(most.min(room), &mut self.ledger);
        self.lanes[side].extend(bytes);
    }

    fn deliver(&mut self, from: usize, most: usize) {
        let lane = &mut self.lanes[from];
        let piece: Vec<u8> = lane.iter().copied().take(most).collect();
        match self.sides[1 - from].take(&piece, self.now, &mut self.ledger) {
            Ok(count) => drop(lane.drain(..count)),
            Err(end) => {
                // What was read with it is lost, as in a driver that ends.
                lane.drain(..piece.len());
                self.check_end(&end);
                self.sides[1 - from].restart(end, &mut self.random, self.now, &mut self.ledger);
            }
        }
    }

    fn check_end(&self, end: &End) {
        assert!(self.faults.reconnect > 0, "a session ended in a pipe without faults: {end}");
    }

    fn advance(&mut self, side: usize) {
        self.now += Duration::from_millis(if self.faults.reconnect > 0 { 150 } else { 20 });
        if let Err(end) = self.sides[side].handle_time(self.now) {
            self.check_end(&end);
            self.sides[side].restart(end, &mut self.random, self.now, &mut self.ledger);
        }
    }

    fn reconnect(&mut self, side: usize) {
        // Mostly in traffic, sometimes in the greeting.
        let seldom = self.faults.reconnect * if self.has_met() { 1 } else { 4 };
        if seldom == 0 || !self.random.one_in(seldom) {
            return;
        }
        if self.faults.lose {
            for lane in &mut self.lanes {
                let keep = self.random.within(0..lane.len() + 1);
                lane.truncate(keep);
            }
        }
        self.sides[side].restart(End::Closed, &mut self.random, self.now, &mut self.ledger);
    }
}
