//! Gives memory and disk back while the machine has nothing to do. Files that were read stay in its memory until that is
//! needed for something else, which is never; the host has them in its own. Memory that programs no longer use stays the
//! machine's until the host takes it. Blocks of files that were removed stay the disk's until it is told that they are free.

use std::fs;
use std::time::Duration;

use berth_mux::control::Event;
use tokio::sync::mpsc;

use super::control::{disk_used, reclaim, trim};

/// Nothing tells that nothing happens.
const LOOK: Duration = Duration::from_secs(5);
const LOOKS: u32 = 2;
/// Of the processors' time: dockerd and its like are never quite still.
const STILL: f64 = 0.2;
/// Less is not worth the reading of it again.
const WORTH_KIB: u64 = 48 << 10;
const WORTH_DISK: u64 = 32 << 20;

/// Goes on for ever.
pub(super) async fn give_back(tell: mpsc::Sender<Event>) {
    let mut before = Processors::now();
    let mut quiet = 0_u32;
    let mut kept = 0;
    let mut least_free = u64::MAX;
    let mut disk = Disk::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = Processors::now();
        quiet = if now.busy_since(before) < STILL { quiet.saturating_add(1) } else { 0 };
        before = now;
        let memory = Memory::now();
        kept = kept.min(memory.cached_kib);
        least_free = least_free.min(memory.free_kib);
        let removed = disk_used().is_ok_and(|used| disk.removed(used) >= WORTH_DISK);
        if quiet < LOOKS {
            continue;
        }
        // What failed once is not tried again until there is more of it.
        if removed {
            let _ = tokio::task::spawn_blocking(trim).await;
            disk = Disk::default();
        }
        if memory.cached_kib.saturating_sub(kept) >= WORTH_KIB {
            let _ = tokio::task::spawn_blocking(reclaim).await;
            kept = Memory::now().cached_kib;
        }
        let free_kib = Memory::now().free_kib;
        // A host that is away is told when there is more.
        if free_kib.saturating_sub(least_free) >= WORTH_KIB && tell.try_send(Event::Freed).is_ok() {
            least_free = free_kib;
        }
    }
}

/// What the data disk holds.
#[derive(Debug, Default)]
struct Disk {
    /// The most it held since it was last told what is free.
    most: u64,
}

impl Disk {
    /// The bytes of it that were removed since, of the most there was.
    fn removed(&mut self, used: u64) -> u64 {
        self.most = self.most.max(used);
        self.most - used
    }
}

/// The processors' time since the start, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Processors {
    all: f64,
    idle: f64,
}

impl Processors {
    fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// `cpu user nice system idle iowait …`; who waits for a disk is not idle.
    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let times: Vec<f64> = line.split_whitespace().take(8).filter_map(|field| field.parse().ok()).collect();
        Self { all: times.iter().sum(), idle: times.get(3).copied().unwrap_or_default() }
    }

    /// The part of the time, from 0 to 1, for which they did something. What is not known counts as busy.
    fn busy_since(self, before: Self) -> f64 {
        let all = self.all - before.all;
        if all > 0.0 { 1.0 - (self.idle - before.idle) / all } else { 1.0 }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Memory {
    cached_kib: u64,
    free_kib: u64,
}

impl Memory {
    fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn parse(meminfo: &str) -> Self {
        let field = |name: &str| -> u64 {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        // What programs share is counted as cached, and is not to be had.
        let cached = field("Cached").saturating_add(field("Buffers")).saturating_add(field("SReclaimable"));
        Self { cached_kib: cached.saturating_sub(field("Shmem")), free_kib: field("MemFree") }
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, Memory, Processors};

    #[test]
    fn what_was_removed_is_counted_from_the_most_there_was() {
        let mut disk = Disk::default();
        assert_eq!(disk.removed(7), 0);
        assert_eq!(disk.removed(9), 0);
        assert_eq!(disk.removed(4), 5);
        assert_eq!(disk.removed(6), 3, "what was written since is not free");
    }

    #[test]
    fn the_kernels_words_are_understood_and_others_are_no_quiet() {
        let before = Processors::parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1\n");
        let after = Processors::parse("cpu  110 0 100 890 0 0 0 0 0 0\n");
        assert!((after.busy_since(before) - 0.1).abs() < 1e-9);
        let waiting = Processors::parse("cpu  100 0 100 800 100 0 0 0 0 0\n");
        assert!((waiting.busy_since(before) - 1.0).abs() < 1e-9);
        assert!((Processors::parse("").busy_since(Processors::default()) - 1.0).abs() < 1e-9);
        let text = "MemTotal: 9 kB\nMemFree: 3 kB\nBuffers: 1 kB\nCached: 10 kB\nShmem: 4 kB\nSReclaimable: 2 kB\n";
        assert_eq!(Memory::parse(text), Memory { cached_kib: 9, free_kib: 3 });
        assert_eq!(Memory::parse("nonsense"), Memory { cached_kib: 0, free_kib: 0 });
    }
}
