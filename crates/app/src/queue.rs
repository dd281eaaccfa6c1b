//! Bounded queues between a producer and a session. The policy of each is its type.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_wire::{FrameBody, LogBatch, LogGap, LogLine};
use tokio::sync::Notify;

/// Lines kept for a reader that is slow.
const LINES: usize = 20_000;
/// Bytes kept for a reader that is slow.
const BYTES: usize = 4 * 1024 * 1024;
/// A reader that has not asked for this long is away; its producer stops reading upstream.
const AWAY: Duration = Duration::from_secs(2);
/// What a line costs beside its text: time, flags, quotes and commas.
const LINE_OVERHEAD: usize = 24;

/// Follow logs: when full, the oldest lines go and are accounted for as a gap.
#[derive(Debug)]
pub(crate) struct DropOldestWithGap {
    inner: Mutex<Inner>,
    taken: Notify,
}

#[derive(Debug)]
struct Inner {
    lines: VecDeque<LogLine>,
    bytes: usize,
    gap: Option<LogGap>,
    end: Option<FrameBody>,
    last_taken: Instant,
}

impl DropOldestWithGap {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                lines: VecDeque::new(),
                bytes: 0,
                gap: None,
                end: None,
                last_taken: Instant::now(),
            }),
            taken: Notify::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines, dropping the oldest ones when there is no room.
    pub(crate) fn push(&self, lines: impl IntoIterator<Item = LogLine>) {
        let mut inner = self.inner();
        for line in lines {
            inner.bytes += cost(&line);
            inner.lines.push_back(line);
            while inner.lines.len() > LINES || inner.bytes > BYTES {
                let Some(dropped) = inner.lines.pop_front() else { break };
                inner.bytes = inner.bytes.saturating_sub(cost(&dropped));
                let gap = inner.gap.get_or_insert(LogGap { lines: 0, bytes: 0, from: dropped.0, to: dropped.0 });
                gap.lines += 1;
                gap.bytes += dropped.2.len() as u64;
                gap.to = dropped.0;
            }
        }
    }

    /// Marks the end; what is queued is still delivered before it.
    pub(crate) fn finish(&self, end: FrameBody) {
        self.inner().end.get_or_insert(end);
    }

    /// Waits while nobody reads, so that a hidden page costs nothing upstream.
    pub(crate) async fn wait_for_reader(&self) {
        loop {
            let taken = self.taken.notified();
            if self.inner().last_taken.elapsed() < AWAY {
                return;
            }
            taken.await;
        }
    }

    /// The next piece of at most about `budget` bytes, and whether it was the last.
    pub(crate) fn take(&self, budget: usize) -> Option<(FrameBody, bool)> {
        let mut inner = self.inner();
        inner.last_taken = Instant::now();
        self.taken.notify_waiters();
        if let Some(gap) = inner.gap.take() {
            return Some((FrameBody::Gap(gap), false));
        }
        let mut lines = Vec::new();
        let mut spent = 0;
        while let Some(line) = inner.lines.front() {
            let cost = cost(line);
            if spent > 0 && spent + cost > budget {
                break;
            }
            spent += cost;
            inner.bytes = inner.bytes.saturating_sub(cost);
            lines.extend(inner.lines.pop_front());
        }
        if !lines.is_empty() {
            return Some((FrameBody::Log(LogBatch { lines }), false));
        }
        inner.end.take().map(|end| (end, true))
    }
}

fn cost(line: &LogLine) -> usize {
    line.2.len() + LINE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> LogLine {
        #[expect(clippy::cast_precision_loss, reason = "small test numbers")]
        LogLine(number as f64, 0, format!("line {number}"))
    }

    fn drain(queue: &DropOldestWithGap) -> (Vec<String>, u64, bool) {
        let (mut lines, mut dropped, mut ended) = (Vec::new(), 0, false);
        while let Some((body, last)) = queue.take(1000) {
            match body {
                FrameBody::Log(batch) => lines.extend(batch.lines.into_iter().map(|line| line.2)),
                FrameBody::Gap(gap) => dropped += gap.lines,
                _ => ended = last,
            }
        }
        (lines, dropped, ended)
    }

    #[test]
    fn what_is_delivered_and_what_is_dropped_add_up() {
        let queue = DropOldestWithGap::new();
        queue.push((0..LINES * 3).map(line));
        queue.finish(FrameBody::End);
        let (lines, dropped, ended) = drain(&queue);
        assert_eq!(lines.len() as u64 + dropped, (LINES * 3) as u64, "no line is unaccounted for");
        assert_eq!(lines.last().unwrap(), &format!("line {}", LINES * 3 - 1), "the newest survive");
        assert!(ended, "the end comes last");
    }

    #[test]
    fn a_gap_comes_before_the_lines_that_follow_it() {
        let queue = DropOldestWithGap::new();
        queue.push((0..=LINES).map(line));
        let Some((FrameBody::Gap(gap), _)) = queue.take(1) else { panic!("the gap comes first") };
        assert_eq!((gap.lines, gap.from, gap.to), (1, 0.0, 0.0));
    }

    #[test]
    fn bytes_are_bounded_whatever_the_line_length() {
        let queue = DropOldestWithGap::new();
        queue.push((0..1000).map(|_| LogLine(0.0, 0, "x".repeat(64 * 1024))));
        let (lines, dropped, _) = drain(&queue);
        assert!(lines.len() * 64 * 1024 <= BYTES);
        assert_eq!(lines.len() as u64 + dropped, 1000);
    }

    #[test]
    fn a_line_larger_than_the_budget_still_gets_through() {
        let queue = DropOldestWithGap::new();
        queue.push([LogLine(0.0, 0, "x".repeat(10_000))]);
        assert!(matches!(queue.take(10), Some((FrameBody::Log(batch), false)) if batch.lines.len() == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_comes_back_wakes_the_producer() {
        let queue = std::sync::Arc::new(DropOldestWithGap::new());
        queue.inner().last_taken = Instant::now() - AWAY * 2;
        let producer = tokio::spawn({
            let queue = queue.clone();
            async move { queue.wait_for_reader().await }
        });
        tokio::task::yield_now().await;
        assert!(!producer.is_finished(), "nobody reads: the producer waits");
        queue.take(1);
        producer.await.unwrap();
    }
}
