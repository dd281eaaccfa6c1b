//! How long to wait before the next attempt to reach an engine.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A refused unix socket costs nothing to try, so a restarting engine is looked for this often ...
const SHORT: Duration = Duration::from_millis(225);
/// ... for so long.
const SHORT_FOR: Duration = Duration::from_secs(60);

/// Waits that grow by half from one attempt to the next.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    step: Option<Duration>,
    waited: Duration,
}

impl Backoff {
    /// The next wait. `cheap` says that the attempt failed at once on this machine; `random` in 0..1 spreads waits of
    /// several clients by a fifth either way.
    pub(crate) fn next(&mut self, cheap: bool, random: f64) -> Duration {
        let mut step = self.step.map_or(FIRST, |step| step.mul_f64(1.5)).min(LONGEST);
        if cheap && self.waited < SHORT_FOR {
            step = step.min(SHORT);
        }
        self.step = Some(step);
        self.waited += step;
        step.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(cheap: bool, count: usize) -> Vec<u128> {
        let mut backoff = Backoff::default();
        (0..count).map(|_| backoff.next(cheap, 0.5).as_millis()).collect()
    }

    #[test]
    fn grows_to_five_seconds() {
        assert_eq!(waits(false, 4), [100, 150, 225, 337]);
        assert_eq!(waits(false, 30).last(), Some(&5_000));
    }

    #[test]
    fn a_refused_unix_socket_is_tried_often_for_a_minute() {
        let waits = waits(true, 400);
        let short: u128 = waits.iter().take_while(|ms| **ms <= 225).sum();
        assert!((59_000..61_000).contains(&short), "{short} ms of short waits");
        assert_eq!(waits.last(), Some(&5_000), "then it is left in peace");
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for random in [0.0, 0.999, 7.0] {
            let wait = Backoff::default().next(false, random);
            assert!((80..=120).contains(&wait.as_millis()), "{wait:?}");
        }
    }

    #[test]
    fn starts_over_after_a_reset() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.next(false, 0.5);
        }
        backoff.reset();
        assert_eq!(backoff.next(false, 0.5), FIRST);
    }
}
