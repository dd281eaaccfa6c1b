//! Which container to inspect next. Knows no clock and does no IO.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::ContainerId;

/// Most ids that wait; beyond that a list is cheaper than their inspects.
const CROWD: usize = 10_000;

/// Places in flight that only events may take, so that a fresh list of thousands does not delay what happens now.
const KEPT_FOR_EVENTS: usize = 2;

/// Inspects that wait and that run.
///
/// At most one inspect per container runs, so results never overtake each other. The first event of a container is
/// looked into at once; those that follow within the debounce time after that are looked into together at its end.
#[derive(Debug)]
pub(crate) struct Queue {
    debounce: Duration,
    limit: usize,
    slots: HashMap<ContainerId, Slot>,
    urgent: VecDeque<ContainerId>,
    /// In order of time.
    delayed: VecDeque<(Instant, ContainerId)>,
    background: VecDeque<ContainerId>,
    in_flight: usize,
}

#[derive(Debug, Default)]
struct Slot {
    began: Option<Instant>,
    touched: Option<Instant>,
    running: bool,
    waiting: bool,
    /// An event came while the inspect ran, so that its result may be of before the event.
    again: bool,
    /// A list came while the inspect ran, so that its result may be older than the row.
    outdated: bool,
    failures: u32,
}

/// What to do with the result of an inspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is at least as new as the row.
    Apply,
    /// The row may be newer; another inspect follows.
    Discard,
}

impl Queue {
    pub(crate) fn new(debounce: Duration, limit: usize) -> Self {
        Self {
            debounce,
            limit: limit.max(1),
            slots: HashMap::new(),
            urgent: VecDeque::new(),
            delayed: VecDeque::new(),
            background: VecDeque::new(),
            in_flight: 0,
        }
    }

    /// Something happened to this container.
    pub(crate) fn touch(&mut self, id: ContainerId, now: Instant) {
        let slot = self.slots.entry(id).or_default();
        slot.touched = Some(now);
        if slot.running {
            slot.again = true;
            return;
        }
        if slot.waiting {
            return;
        }
        slot.waiting = true;
        match slot.began.map(|began| began + self.debounce).filter(|due| *due > now) {
            Some(due) => self.delay(id, due),
            None => self.urgent.push_back(id),
        }
    }

    fn delay(&mut self, id: ContainerId, due: Instant) {
        let place = self.delayed.partition_point(|(other, _)| *other <= due);
        self.delayed.insert(place, (due, id));
    }

    /// Replaces the background work: look at all of these when nothing else is to do, in this order. What runs or
    /// waits stays.
    pub(crate) fn relisted(&mut self, ids: &[ContainerId]) {
        for slot in self.slots.values_mut() {
            if slot.running {
                slot.again = true;
                slot.outdated = true;
            }
        }
        self.background = ids.iter().copied().collect();
        let known: HashSet<&ContainerId> = ids.iter().collect();
        self.slots.retain(|id, slot| slot.running || slot.waiting || known.contains(id));
    }

    /// The next container to inspect now, if there is one and room for it.
    pub(crate) fn next(&mut self, now: Instant) -> Option<ContainerId> {
        while self.delayed.front().is_some_and(|(due, _)| *due <= now) {
            self.urgent.extend(self.delayed.pop_front().map(|(_, id)| id));
        }
        if self.in_flight >= self.limit {
            return None;
        }
        let id = match self.urgent.pop_front() {
            Some(id) => id,
            None if self.in_flight < self.limit.saturating_sub(KEPT_FOR_EVENTS).max(1) => loop {
                let id = self.background.pop_front()?;
                // What an event already asks for needs no second look.
                if self.slots.get(&id).is_none_or(|slot| !slot.waiting && !slot.running) {
                    break id;
                }
            },
            None => return None,
        };
        self.in_flight += 1;
        let slot = self.slots.entry(id).or_default();
        slot.waiting = false;
        slot.running = true;
        slot.began = Some(now);
        Some(id)
    }

    /// When to ask [`Self::next`] again, if nothing else happens.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.in_flight >= self.limit { None } else { self.delayed.front().map(|(due, _)| *due) }
    }

    /// The inspect of this container ended with a row (`found`) or with the news that there is none.
    pub(crate) fn finished(&mut self, id: ContainerId, now: Instant, found: bool) -> Verdict {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(slot) = self.slots.get_mut(&id) else {
            return Verdict::Apply;
        };
        slot.running = false;
        slot.failures = 0;
        let outdated = std::mem::take(&mut slot.outdated);
        if std::mem::take(&mut slot.again) {
            self.touch(id, now);
        } else if !found {
            self.slots.remove(&id);
        }
        if outdated { Verdict::Discard } else { Verdict::Apply }
    }

    /// The inspect of this container failed. It is tried again after `pause`, a few times; false if that is over.
    pub(crate) fn failed(&mut self, id: ContainerId, now: Instant, pause: Duration) -> bool {
        const ATTEMPTS: u32 = 3;
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        slot.running = false;
        slot.outdated = false;
        slot.failures += 1;
        let again = std::mem::take(&mut slot.again);
        if slot.failures >= ATTEMPTS && !again {
            slot.failures = 0;
            return false;
        }
        slot.waiting = true;
        self.delay(id, now + pause);
        true
    }

    /// Too many containers wait: list instead.
    pub(crate) fn is_crowded(&self) -> bool {
        self.urgent.len() + self.delayed.len() > CROWD
    }

    /// Drops what waits because of events.
    pub(crate) fn clear(&mut self) {
        let waiting = self.urgent.drain(..).chain(self.delayed.drain(..).map(|(_, id)| id));
        for id in waiting {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.waiting = false;
            }
        }
    }

    /// Nothing happened to this container since `moment`, and nothing is being looked into.
    pub(crate) fn is_quiet_since(&self, id: &ContainerId, moment: Instant) -> bool {
        self.slots.get(id).is_none_or(|slot| {
            !slot.running && !slot.waiting && [slot.touched, slot.began].iter().flatten().all(|at| *at < moment)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_millis(30);

    fn id(number: u8) -> ContainerId {
        format!("{number:064x}").parse().unwrap()
    }

    fn queue() -> (Queue, Instant) {
        (Queue::new(DEBOUNCE, 8), Instant::now())
    }

    #[test]
    fn the_first_event_is_looked_into_at_once_and_the_rest_together() {
        let (mut queue, start) = queue();
        queue.touch(id(1), start);
        queue.touch(id(1), start);
        assert_eq!(queue.next(start), Some(id(1)));
        assert_eq!(queue.finished(id(1), start, true), Verdict::Apply);
        let soon = start + DEBOUNCE / 2;
        for _ in 0..9 {
            queue.touch(id(1), soon);
        }
        assert_eq!(queue.next(soon), None);
        let due = queue.next_due().unwrap();
        assert_eq!(due, start + DEBOUNCE);
        assert_eq!(queue.next(due), Some(id(1)));
        assert_eq!(queue.next(due), None, "nine events are one look");
        queue.finished(id(1), due, true);
        queue.touch(id(1), due + DEBOUNCE);
        assert_eq!(queue.next(due + DEBOUNCE), Some(id(1)), "after a quiet time it is at once again");
    }

    #[test]
    fn an_event_during_an_inspect_asks_for_another_one() {
        let (mut queue, start) = queue();
        queue.touch(id(1), start);
        queue.next(start);
        queue.touch(id(1), start);
        assert_eq!(queue.next(start), None, "never two at once");
        assert_eq!(queue.finished(id(1), start, true), Verdict::Apply);
        assert_eq!(queue.next(start + DEBOUNCE), Some(id(1)));
    }

    #[test]
    fn a_list_outdates_what_runs() {
        let (mut queue, start) = queue();
        queue.touch(id(1), start);
        queue.next(start);
        queue.relisted(&[id(1)]);
        assert_eq!(queue.finished(id(1), start, true), Verdict::Discard);
        assert_eq!(queue.next(start + DEBOUNCE), Some(id(1)));
        assert_eq!(queue.finished(id(1), start, true), Verdict::Apply);
    }

    #[test]
    fn nothing_is_remembered_of_what_is_gone() {
        let (mut queue, start) = queue();
        queue.touch(id(1), start);
        queue.next(start);
        assert_eq!(queue.finished(id(1), start, false), Verdict::Apply);
        assert!(queue.slots.is_empty());
        queue.touch(id(1), start);
        queue.next(start);
        queue.touch(id(1), start);
        assert_eq!(queue.finished(id(1), start, false), Verdict::Apply);
        assert_eq!(queue.next(start + DEBOUNCE), Some(id(1)), "an event came meanwhile, so it may be there now");
    }

    #[test]
    fn events_go_before_the_background_and_have_places_of_their_own() {
        let (mut queue, start) = queue();
        let ids: Vec<_> = (1..100).map(id).collect();
        queue.relisted(&ids);
        let running = std::iter::from_fn(|| queue.next(start)).count();
        assert_eq!(running, 6);
        queue.touch(id(200), start);
        assert_eq!(queue.next(start), Some(id(200)));
        queue.touch(id(201), start);
        queue.touch(id(202), start);
        assert_eq!(queue.next(start), Some(id(201)));
        assert_eq!(queue.next(start), None, "never more than eight");
        queue.finished(id(201), start, true);
        assert_eq!(queue.next(start), Some(id(202)));
    }

    #[test]
    fn failures_are_retried_a_few_times() {
        let (mut queue, mut now) = queue();
        queue.touch(id(1), now);
        let mut attempts = 0;
        while queue.next(now).is_some() {
            attempts += 1;
            queue.failed(id(1), now, Duration::from_secs(1));
            now += Duration::from_secs(1);
        }
        assert_eq!(attempts, 3);
        assert_eq!(queue.in_flight, 0);
    }

    #[test]
    fn a_crowd_is_told() {
        let (mut queue, start) = queue();
        for number in 0..=CROWD {
            queue.touch(format!("{number:064x}").parse().unwrap(), start);
        }
        assert!(queue.is_crowded());
        queue.clear();
        assert!(!queue.is_crowded() && queue.next(start).is_none());
    }

    #[test]
    fn quiet_means_neither_touched_nor_looked_at() {
        let (mut queue, start) = queue();
        let later = start + DEBOUNCE;
        queue.touch(id(1), start);
        assert!(!queue.is_quiet_since(&id(1), later), "it waits");
        queue.next(start);
        queue.finished(id(1), start, true);
        assert!(queue.is_quiet_since(&id(1), later));
        assert!(!queue.is_quiet_since(&id(1), start));
        assert!(queue.is_quiet_since(&id(2), start), "unknown is quiet");
    }
}
