//! The model: two sides over a pipe that splits, merges, delays, cuts and keeps stale bytes, in thousands of schedules.
//!
//! Every schedule is a seed. What holds in all of them: bytes of a stream arrive complete and in order up to its end, or the
//! stream is broken for a reason; nothing of another session is ever accepted; nobody sends more than it has credit for;
//! what a side holds stays in its bound; and when the pipe is left in peace, everything gets done.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod fairness;
mod ledger;
mod random;
mod side;
mod world;

use self::world::{Faults, World};

const CALM: Faults = Faults { give_up: false, reconnect: 0, lose: false };

fn run(seeds: std::ops::Range<u64>, faults: Faults, steps: usize) -> world::Totals {
    let mut totals = world::Totals::default();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, faults);
            world.play(steps);
            world.calm_down();
            world.totals()
        });
        totals.add(&outcome.unwrap_or_else(|_| panic!("the schedule of seed {seed} broke a rule")));
    }
    totals
}

#[test]
fn all_streams_get_through_a_pipe_that_only_splits_and_delays() {
    let totals = run(0..1500, CALM, 300);
    assert!(totals.completed > 10_000 && totals.bytes > 10_000_000, "{totals:?}");
    assert_eq!((totals.broken, totals.sessions), (0, 2 * 1500), "{totals:?}");
}

#[test]
fn streams_that_are_given_up_break_and_others_do_not() {
    let totals = run(10_000..11_500, Faults { give_up: true, ..CALM }, 300);
    assert!(totals.completed > 3000 && totals.broken > 1000, "{totals:?}");
    assert_eq!(totals.sessions, 2 * 1500, "{totals:?}");
}

#[test]
fn a_pipe_without_ends_that_is_reconnected_in_traffic_gives_no_stale_byte() {
    let totals = run(20_000..21_000, Faults { reconnect: 12, give_up: true, lose: false }, 900);
    assert!(totals.completed > 1000 && totals.broken > 1000 && totals.sessions > 4000, "{totals:?}");
}

#[test]
fn a_pipe_that_loses_bytes_when_it_is_reconnected_gives_no_wrong_byte() {
    let totals = run(30_000..31_000, Faults { reconnect: 12, give_up: true, lose: true }, 900);
    assert!(totals.completed > 1000 && totals.broken > 1000 && totals.sessions > 4000, "{totals:?}");
}

#[test]
fn a_hundred_reconnects_in_one_traffic() {
    let totals = run(40_000..40_004, Faults { reconnect: 20, give_up: false, lose: true }, 400_000);
    assert!(totals.sessions > 4 * 2 * 100, "{totals:?}");
}
