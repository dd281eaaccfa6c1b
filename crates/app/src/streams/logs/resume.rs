//! Going on with a log after a break: from where, and which of the lines that come again were seen.
//!
//! An engine keeps the lines of the two outputs in the order in which it got hold of them, which need not be that of their
//! times. A reader that goes on behind the newest line it saw can so miss an older one of the other output. This one goes
//! back by [`OVERLAP`] and drops what it has seen, however often the same line was written at the same time.
//!
//! It remembers the last [`REMEMBERED`] lines, 16 bytes each. Where more than these come again (more than 65,536 lines in
//! the last second, or since the moment to which the engine's clock was set back), what it no longer knows is shown a second
//! time and said to be: a line twice can be seen through, one that is missing cannot.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use berth_engine::LogBatch;

/// How far back a reader goes, in nanoseconds: more than lines of two outputs are ever out of order.
const OVERLAP: i64 = 1_000_000_000;
/// Lines that are remembered.
const REMEMBERED: usize = 65_536;

/// One line that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Seen {
    nanos: i64,
    /// Of the output and the text, by a hash that whoever writes the log cannot foresee.
    hash: u64,
}

/// What was seen of one log.
#[derive(Debug)]
pub(super) struct Resume {
    capacity: usize,
    hasher: RandomState,
    /// In the order in which the lines came, which is that in which the engine keeps them.
    seen: VecDeque<Seen>,
    /// The clock of the engine: the newest line, unless a later one is older by more than the overlap.
    clock: Option<i64>,
    /// The newest line that was seen and is not remembered.
    forgotten: Option<i64>,
    /// The first line of all. What is older and comes before any that is known is not of the part that was asked for.
    first: Option<i64>,
    /// How many lines were new so far.
    count: u64,
    again: Again,
}

/// What is expected to come again after a break.
#[derive(Debug, Default)]
struct Again {
    /// How often each line is still to come.
    lines: HashMap<Seen, u32>,
    /// Nothing that is known has come yet.
    at_start: bool,
    /// Lines up to here may be some that were forgotten.
    unknown_until: Option<i64>,
}

/// What is new of a batch.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) lines: LogBatch,
    /// From here on lines may come that were shown before.
    pub(super) may_repeat: bool,
}

impl Resume {
    pub(super) fn new() -> Self {
        Self::with_capacity(REMEMBERED)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            hasher: RandomState::new(),
            seen: VecDeque::new(),
            clock: None,
            forgotten: None,
            first: None,
            count: 0,
            again: Again::default(),
        }
    }

    /// How many lines were new so far.
    pub(super) fn seen(&self) -> u64 {
        self.count
    }

    /// Begins to read again. Gives from when on: lines of this time or later are wanted, all of them if there is none.
    pub(super) fn begin(&mut self) -> Option<i64> {
        let since = self.clock?.saturating_sub(OVERLAP);
        self.again = Again {
            lines: HashMap::new(),
            at_start: true,
            unknown_until: self.forgotten.filter(|forgotten| *forgotten >= since),
        };
        // Today's engines send everything that follows the first line of that time, be it older; engines of old look at each
        // line.
        let from_the_first = self.again.unknown_until.is_some();
        for seen in self.seen.iter().skip_while(|seen| !from_the_first && seen.nanos < since) {
            *self.again.lines.entry(*seen).or_default() += 1;
        }
        Some(since)
    }

    /// Takes out of a batch what was seen before a break.
    pub(super) fn sift(&mut self, batch: LogBatch) -> News {
        let mut news = News::default();
        for line in batch {
            // Nothing could be known again by a line without its time.
            if let Some(nanos) = line.nanos {
                let seen = Seen { nanos, hash: self.hasher.hash_one((line.stderr, &line.text)) };
                if self.again.takes(&seen) || self.precedes(nanos) {
                    continue;
                }
                if self.again.unknown_until.is_some_and(|until| nanos <= until) {
                    self.again.unknown_until = None;
                    news.may_repeat = true;
                }
                self.remember(seen);
            }
            self.count += 1;
            news.lines.push(line);
        }
        news
    }

    /// Of before the part of the log that was asked for in the beginning.
    fn precedes(&self, nanos: i64) -> bool {
        self.again.at_start && self.first.is_some_and(|first| nanos < first)
    }

    fn remember(&mut self, seen: Seen) {
        self.first.get_or_insert(seen.nanos);
        let is_ahead = |clock: i64| seen.nanos > clock || seen.nanos < clock.saturating_sub(OVERLAP);
        if self.clock.is_none_or(is_ahead) {
            self.clock = Some(seen.nanos);
        }
        if self.seen.len() >= self.capacity
            && let Some(forgotten) = self.seen.pop_front()
        {
            self.forgotten = self.forgotten.max(Some(forgotten.nanos));
        }
        self.seen.push_back(seen);
    }
}

impl Again {
    /// Whether it is one that was to come again; counts it off then.
    fn takes(&mut self, seen: &Seen) -> bool {
        let Some(count) = self.lines.get_mut(seen) else { return false };
        self.at_start = false;
        *count -= 1;
        if *count == 0 {
            self.lines.remove(seen);
        }
        true
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
