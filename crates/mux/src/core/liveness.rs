//! Whether the peer is still there.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// A ping is to be sent now.
    Ping,
    /// Nothing was heard for too long.
    Silent,
}

/// A silence counts only if the peer was asked in it: a machine that slept is not taken for a dead peer.
#[derive(Debug)]
pub(super) struct Liveness {
    heartbeat: Duration,
    silence: Duration,
    heard: Duration,
    pinged: Duration,
    /// The first ping since something was heard.
    asked: Option<Duration>,
}

impl Liveness {
    pub(super) const fn new(heartbeat: Duration, silence: Duration, now: Duration) -> Self {
        Self { heartbeat, silence, heard: now, pinged: now, asked: None }
    }

    /// A whole frame came.
    pub(super) const fn heard(&mut self, now: Duration) {
        self.heard = now;
        self.asked = None;
    }

    fn silent_at(&self) -> Option<Duration> {
        let answer_by = self.asked? + self.silence.saturating_sub(self.heartbeat);
        Some(answer_by.max(self.heard + self.silence))
    }

    pub(super) fn judge(&mut self, now: Duration) -> Verdict {
        if self.silent_at().is_some_and(|at| now >= at) {
            return Verdict::Silent;
        }
        if now < self.pinged + self.heartbeat {
            return Verdict::Fine;
        }
        self.pinged = now;
        self.asked.get_or_insert(now);
        Verdict::Ping
    }

    pub(super) fn deadline(&self) -> Duration {
        let ping_at = self.pinged + self.heartbeat;
        self.silent_at().map_or(ping_at, |silent| silent.min(ping_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn liveness() -> Liveness {
        Liveness::new(seconds(5), seconds(15), seconds(0))
    }

    #[test]
    fn a_silent_peer_is_found_after_the_silence() {
        let (mut liveness, mut seen) = (liveness(), Vec::new());
        while seen.last().is_none_or(|(_, verdict)| *verdict == Verdict::Ping) {
            let now = liveness.deadline();
            seen.push((now.as_secs(), liveness.judge(now)));
        }
        assert_eq!(seen, [(5, Verdict::Ping), (10, Verdict::Ping), (15, Verdict::Silent)]);
    }

    #[test]
    fn a_peer_that_is_heard_is_pinged_for_ever() {
        let mut liveness = liveness();
        for _ in 0..100 {
            let now = liveness.deadline();
            assert_eq!(liveness.judge(now), Verdict::Ping);
            liveness.heard(now);
        }
    }

    #[test]
    fn after_a_sleep_the_peer_is_asked_before_it_is_judged() {
        let mut liveness = liveness();
        assert_eq!(liveness.judge(seconds(28_800)), Verdict::Ping);
        assert_eq!(liveness.judge(seconds(28_809)), Verdict::Ping);
        assert_eq!(liveness.judge(seconds(28_810)), Verdict::Silent);
    }
}
