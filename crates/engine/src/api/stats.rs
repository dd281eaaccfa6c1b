//! What a container uses.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream::BoxStream};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{
    ContainerRef, Docker, Error,
    api::{containers::fused, model::nullable},
    decode::timestamp,
    http::{Call, Older},
    operation::Operation,
};

/// How to take a single sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// Two of them, a second apart, so that the answer holds what [`ContainerStats::cpu_percent`] needs.
    #[default]
    Pair,
    /// One at once, since API 1.41; an older engine takes two.
    Once,
}

/// Declares structs of numbers: missing, null, negative and nonsensical ones are 0.
macro_rules! counters {
    ($(
        $(#[$outer:meta])*
        $vis:vis struct $name:ident {
            $($(#[$inner:meta])* $field_vis:vis $field:ident,)*
        }
    )*) => {$(
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(default)]
        $vis struct $name {
            $($(#[$inner])* #[serde(deserialize_with = "counter")] $field_vis $field: u64,)*
        }
    )*};
}

fn counter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Counter;
    impl<'de> serde::de::Visitor<'de> for Counter {
        type Value = u64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number")
        }

        fn visit_u64<E>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_i64<E>(self, number: i64) -> Result<u64, E> {
            Ok(u64::try_from(number).unwrap_or(0))
        }

        fn visit_f64<E>(self, number: f64) -> Result<u64, E> {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
            Ok(number as u64)
        }

        fn visit_unit<E>(self) -> Result<u64, E> {
            Ok(0)
        }
    }
    deserializer.deserialize_any(Counter)
}

counters! {
    /// Times in which a container was held back because it had used up its share of the processors.
    pub struct Throttling {
        /// Periods that went by.
        pub periods,
        /// Periods in which it was held back.
        pub throttled_periods,
        /// How long it was held back, in nanoseconds.
        pub throttled_time,
    }

    /// What a container sent and received on one network.
    pub struct NetworkStats {
        /// Bytes received.
        pub rx_bytes,
        /// Packets received.
        pub rx_packets,
        /// Packets received that were damaged.
        pub rx_errors,
        /// Packets received that were dropped.
        pub rx_dropped,
        /// Bytes sent.
        pub tx_bytes,
        /// Packets sent.
        pub tx_packets,
        /// Packets that could not be sent.
        pub tx_errors,
        /// Packets to be sent that were dropped.
        pub tx_dropped,
    }

    /// Processes and threads of a container.
    pub struct PidsStats {
        /// How many there are.
        pub current,
        /// How many there may be, 0 for no limit.
        pub limit,
    }

    struct RawUsage {
        total_usage,
        usage_in_kernelmode,
        usage_in_usermode,
    }

    struct RawMemoryDetail {
        inactive_file,
        total_inactive_file,
    }
}

/// Time of processors that a container used since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Of all processors together, in nanoseconds.
    pub total: u64,
    /// What of that the kernel used for it, in nanoseconds.
    pub kernel: u64,
    /// What of that it used itself, in nanoseconds.
    pub user: u64,
    /// What everything on the engine's machine used and left idle, in nanoseconds; 0 where the engine does not tell.
    pub system: u64,
    /// Processors of the machine, 0 where the engine does not tell.
    pub online: u64,
    /// When it was held back.
    pub throttling: Throttling,
}

impl<'de> Deserialize<'de> for CpuStats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Processors {
            #[serde(deserialize_with = "nullable")]
            percpu_usage: Vec<serde::de::IgnoredAny>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Usage {
            #[serde(flatten)]
            times: RawUsage,
            #[serde(flatten)]
            processors: Processors,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            #[serde(deserialize_with = "nullable")]
            cpu_usage: Usage,
            #[serde(deserialize_with = "counter")]
            system_cpu_usage: u64,
            #[serde(deserialize_with = "counter")]
            online_cpus: u64,
            #[serde(deserialize_with = "nullable")]
            throttling_data: Throttling,
        }
        let raw = Raw::deserialize(deserializer)?;
        let times = raw.cpu_usage.times;
        // Engines of before API 1.27 only list what each of the processors did.
        let listed = raw.cpu_usage.processors.percpu_usage.len() as u64;
        Ok(Self {
            total: times.total_usage,
            kernel: times.usage_in_kernelmode,
            user: times.usage_in_usermode,
            system: raw.system_cpu_usage,
            online: if raw.online_cpus == 0 { listed } else { raw.online_cpus },
            throttling: raw.throttling_data,
        })
    }
}

/// Memory of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Bytes that count towards its limit, files in the cache among them.
    pub usage: u64,
    /// Bytes of files in the cache that nobody used lately, which the kernel takes back first.
    pub inactive_file: u64,
    /// Most bytes it may use: its own limit or all of the machine's memory; 0 where the engine does not tell.
    pub limit: u64,
}

impl MemoryStats {
    /// Bytes it could not do without: usage less what the kernel takes back first, as `docker stats` shows it.
    #[must_use]
    pub fn used(&self) -> u64 {
        if self.inactive_file < self.usage { self.usage - self.inactive_file } else { self.usage }
    }

    /// [`MemoryStats::used`] in hundredths of the limit; `None` where there is no limit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of hundred is not exact to the byte")]
    pub fn percent(&self) -> Option<f64> {
        (self.limit > 0).then(|| self.used() as f64 / self.limit as f64 * 100.0)
    }
}

impl<'de> Deserialize<'de> for MemoryStats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            #[serde(deserialize_with = "counter")]
            usage: u64,
            #[serde(deserialize_with = "counter")]
            limit: u64,
            #[serde(deserialize_with = "nullable")]
            stats: RawMemoryDetail,
        }
        let raw = Raw::deserialize(deserializer)?;
        // The first version of control groups has both names, and counts groups within the container only in the total.
        let detail = raw.stats;
        let inactive_file =
            if detail.total_inactive_file > 0 { detail.total_inactive_file } else { detail.inactive_file };
        Ok(Self { usage: raw.usage, inactive_file, limit: raw.limit })
    }
}

/// Bytes that a container read from and wrote to disks since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

impl<'de> Deserialize<'de> for BlockIo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entry {
            #[serde(deserialize_with = "nullable")]
            op: String,
            #[serde(deserialize_with = "counter")]
            value: u64,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            #[serde(deserialize_with = "nullable")]
            io_service_bytes_recursive: Vec<Entry>,
        }
        let entries = Raw::deserialize(deserializer)?.io_service_bytes_recursive;
        let sum = |word: &str| {
            let values = entries.iter().filter(|entry| entry.op.eq_ignore_ascii_case(word)).map(|entry| entry.value);
            values.fold(0_u64, u64::saturating_add)
        };
        Ok(Self { read: sum("read"), written: sum("write") })
    }
}

/// What a container uses, at one moment. API: `ContainerStats`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    /// When it was measured, in nanoseconds since the epoch by the engine's clock; `None` of a container that does not
    /// run.
    #[serde(deserialize_with = "nanos")]
    pub read: Option<i64>,
    /// When `precpu` was measured, likewise.
    #[serde(deserialize_with = "nanos")]
    pub preread: Option<i64>,
    /// Processors.
    #[serde(rename = "cpu_stats", deserialize_with = "nullable")]
    pub cpu: CpuStats,
    /// Processors at the time of the sample before; all 0 where there was none.
    #[serde(rename = "precpu_stats", deserialize_with = "nullable")]
    pub precpu: CpuStats,
    /// Memory.
    #[serde(rename = "memory_stats", deserialize_with = "nullable")]
    pub memory: MemoryStats,
    /// Disks.
    #[serde(rename = "blkio_stats", deserialize_with = "nullable")]
    pub block_io: BlockIo,
    /// Processes.
    #[serde(rename = "pids_stats", deserialize_with = "nullable")]
    pub pids: PidsStats,
    /// Networks by the name of their interface in the container; empty of one without a network of its own.
    #[serde(deserialize_with = "nullable")]
    pub networks: BTreeMap<String, NetworkStats>,
}

impl ContainerStats {
    /// Processors in use since `previous`, in hundredths of one processor: two of them that are busy are 200. Without
    /// `previous`, since the sample that the engine took before. `None` if there was none, if the container was started
    /// anew in between, and if no time went by.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of hundred is not exact to the nanosecond")]
    pub fn cpu_percent(&self, previous: Option<&Self>) -> Option<f64> {
        let (before, since) = match previous {
            Some(previous) => (previous.cpu, previous.read),
            None => (self.precpu, self.preread),
        };
        // All zero is "no sample", and not a container that used nothing yet.
        if before.total == 0 && before.system == 0 {
            return None;
        }
        let used = self.cpu.total.checked_sub(before.total)? as f64;
        let system = self.cpu.system.checked_sub(before.system).filter(|_| before.system > 0).unwrap_or(0);
        if system > 0 && self.cpu.online > 0 {
            return Some(used / system as f64 * self.cpu.online as f64 * 100.0);
        }
        let passed = self.read?.checked_sub(since?)?;
        (passed > 0).then(|| used / passed as f64 * 100.0)
    }

    /// All networks together.
    #[must_use]
    pub fn network(&self) -> NetworkStats {
        self.networks.values().fold(NetworkStats::default(), |sum, network| NetworkStats {
            rx_bytes: sum.rx_bytes.saturating_add(network.rx_bytes),
            rx_packets: sum.rx_packets.saturating_add(network.rx_packets),
            rx_errors: sum.rx_errors.saturating_add(network.rx_errors),
            rx_dropped: sum.rx_dropped.saturating_add(network.rx_dropped),
            tx_bytes: sum.tx_bytes.saturating_add(network.tx_bytes),
            tx_packets: sum.tx_packets.saturating_add(network.tx_packets),
            tx_errors: sum.tx_errors.saturating_add(network.tx_errors),
            tx_dropped: sum.tx_dropped.saturating_add(network.tx_dropped),
        })
    }
}

fn nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Value::deserialize(deserializer)?;
    let stamp = text.as_str().and_then(|text| timestamp::parse(text.as_bytes()));
    // Go's zero time is in the year 1.
    Ok(stamp.and_then(timestamp::Stamp::as_nanos).filter(|nanos| *nanos > 0))
}

impl Docker {
    /// What a container uses, about once a second until it is removed or, with some engines, ends. Each one costs the
    /// engine some milliseconds of processor time. Dropping the stream closes its connection. API: `ContainerStats`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// use futures_util::StreamExt as _;
    ///
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// # let container = running(&docker, "doc-stats").await?;
    /// let mut samples = docker.stream_stats(&container).take(2);
    /// let first = samples.next().await.ok_or("no sample")??;
    /// let second = samples.next().await.ok_or("no second sample")??;
    /// // In hundredths of one processor, from one sample to the next.
    /// println!("{:?} %, {} bytes", second.cpu_percent(Some(&first)), second.memory.used());
    /// # docker.kill_container(&container, None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream yields one error and then ends: [`Error::is_not_found`] if there is no such container, and whatever a
    /// call may fail with.
    pub fn stream_stats(&self, container: &ContainerRef) -> BoxStream<'static, Result<ContainerStats, Error>> {
        let call = Call::new(Operation::ContainerStats, [container.as_str()]).query("stream", "1");
        fused(self.values(call)).boxed()
    }

    /// What a container uses now. API: `ContainerStats`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; whatever a call may fail with.
    pub async fn container_stats(&self, container: &ContainerRef, how: Sampling) -> Result<ContainerStats, Error> {
        let mut call = Call::new(Operation::ContainerStats, [container.as_str()]).query("stream", "0");
        if how == Sampling::Once {
            call = call.query_since(41, Older::LeaveOut, "one-shot", "1");
        }
        match self.json(call).await {
            // Podman has nothing at all to say of a container that does not run.
            Err(Error::Decode { source, .. }) if source.is_eof() && source.column() == 0 => {
                Ok(ContainerStats::default())
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "what `json!` makes is passed as it is")]
    fn stats(value: Value) -> ContainerStats {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    #[test]
    fn reads_dockers_numbers() {
        let stats = stats(json!({
            "read": "2024-02-29T12:34:57.5Z", "preread": "2024-02-29T12:34:56.5Z", "name": "/x", "id": "y",
            "cpu_stats": {
                "cpu_usage": {"total_usage": 3_000, "usage_in_kernelmode": 1_000, "usage_in_usermode": 2_000},
                "system_cpu_usage": 20_000, "online_cpus": 4,
                "throttling_data": {"periods": 9, "throttled_periods": 3, "throttled_time": 7},
            },
            "precpu_stats": {"cpu_usage": {"total_usage": 1_000}, "system_cpu_usage": 10_000, "online_cpus": 4},
            "memory_stats": {"usage": 100, "limit": 400, "stats": {"inactive_file": 20, "anon": 1}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "read", "value": 5}, {"op": "Write", "value": 6},
                {"op": "Read", "value": 7}, {"op": "Total", "value": 99},
            ]},
            "pids_stats": {"current": 2, "limit": 18_446_744_073_709_551_615_u64},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        }));
        assert_eq!(stats.cpu_percent(None), Some(80.0));
        assert_eq!((stats.cpu.throttling.throttled_periods, stats.cpu.kernel), (3, 1_000));
        assert_eq!((stats.memory.used(), stats.memory.percent()), (80, Some(20.0)));
        assert_eq!(stats.block_io, BlockIo { read: 12, written: 6 });
        assert_eq!((stats.pids.current, stats.pids.limit), (2, u64::MAX));
        assert_eq!((stats.network().rx_bytes, stats.network().tx_bytes), (11, 22));
        assert_eq!(stats.read.unwrap() - stats.preread.unwrap(), 1_000_000_000);
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let memory = |detail: Value| stats(json!({"memory_stats": {"usage": 100, "stats": detail}})).memory;
        assert_eq!(memory(json!({"inactive_file": 5, "total_inactive_file": 30})).used(), 70, "the first");
        assert_eq!(memory(json!({"inactive_file": 30})).used(), 70, "the second");
        assert_eq!(memory(json!({"inactive_file": 300})).used(), 100, "nonsense");
        assert_eq!(memory(json!(null)).percent(), None);
    }

    #[test]
    fn missing_and_odd_numbers_are_nothing() {
        let empty = json!({
            "read": "0001-01-01T00:00:00Z", "preread": null, "cpu_stats": null, "precpu_stats": {}, "memory_stats": {},
            "blkio_stats": {"io_service_bytes_recursive": null}, "pids_stats": {}, "networks": null,
        });
        assert_eq!(stats(empty), ContainerStats::default());
        assert_eq!(ContainerStats::default().cpu_percent(None), None);
        let odd = stats(json!({
            "read": 7, "cpu_stats": {"cpu_usage": {"total_usage": -1, "percpu_usage": [1, 2]}, "online_cpus": 1.5e30},
            "memory_stats": {"usage": 1.9, "limit": -3},
        }));
        assert_eq!((odd.cpu.total, odd.cpu.online, odd.memory.usage, odd.memory.limit), (0, u64::MAX, 1, 0));
        assert_eq!(stats(json!({"cpu_stats": {"cpu_usage": {"percpu_usage": [1, 2]}}})).cpu.online, 2);
    }

    #[test]
    fn processors_are_compared_with_the_sample_before() {
        let at = |second: i64, total: u64, system: u64| ContainerStats {
            read: Some(second * 1_000_000_000),
            cpu: CpuStats { total, system, online: 2, ..CpuStats::default() },
            ..ContainerStats::default()
        };
        assert_eq!(at(2, 300, 2_000).cpu_percent(Some(&at(1, 100, 1_000))), Some(40.0));
        assert_eq!(at(2, 50, 2_000).cpu_percent(Some(&at(1, 100, 1_000))), None, "it was started anew");
        assert_eq!(at(2, 500_000_100, 0).cpu_percent(Some(&at(1, 100, 0))), Some(50.0), "by the clock");
        assert_eq!(at(1, 500, 0).cpu_percent(Some(&at(1, 100, 0))), None);
    }
}
