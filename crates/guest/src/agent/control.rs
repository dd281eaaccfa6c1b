//! Answers what the host asks on the control stream.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_mux::Responder;
use berth_mux::control::{DiskMetrics, FaultCode, HelloReply, MemoryMetrics, MetricsReply, Reply, Request};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use tokio::sync::mpsc;

use super::files::Waker;
use super::picture::Picture;
use crate::error::Error;

/// Version of the messages this program speaks; the appliance's manifest tells it to a host beforehand.
const PROTOCOL: u32 = 1;
const DATA: &str = "/var/lib/berth";
/// A clock that is off by less is left to itself.
const DRIFT: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct Answers {
    pub(super) picture: Arc<Mutex<Picture>>,
    /// Lines for PID 1.
    pub(super) commands: mpsc::Sender<String>,
    /// Who wakes watchers of shared files, one call at a time.
    pub(super) waker: Arc<Mutex<Waker>>,
    /// The kernel runs nothing but this engine.
    pub(super) has_machine: bool,
}

impl Answers {
    pub(super) async fn answer(self, request: Request, responder: Responder) {
        let outcome = match request {
            Request::Status => Ok(Reply::Status(self.picture.lock().unwrap_or_else(PoisonError::into_inner).status())),
            Request::Shutdown { grace_seconds } => {
                let line = format!("{{\"command\":\"stop\",\"grace_seconds\":{grace_seconds}}}\n");
                let sent = self.commands.send(line).await;
                sent.map(|()| Reply::Done).map_err(|_| Error::Machine("PID 1 does not listen".to_owned()))
            }
            Request::FilesChanged { paths } => {
                let waker = Arc::clone(&self.waker);
                blocking(move || wake(&waker, &paths)).await
            }
            // Others live with the same clock, memory and disks, and somebody else keeps them.
            Request::TimeSet { .. } | Request::Trim | Request::Reclaim | Request::Grow | Request::Metrics
                if !self.has_machine =>
            {
                Err(Error::Machine("the machine is not the engine's alone".to_owned()))
            }
            other => blocking(move || slowly(&other)).await,
        };
        // If it cannot be told, the session is over, and so is the question.
        let _ = match outcome {
            Ok(reply) => responder.reply(reply).await,
            Err(error) => responder.fail(FaultCode::Failed, error.to_string()).await,
        };
    }
}

async fn blocking(work: impl FnOnce() -> Result<Reply, Error> + Send + 'static) -> Result<Reply, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Machine(error.to_string())))
}

/// A share that nobody serves any more is waited for without end: by one call, and not by all that follow.
fn wake(waker: &Mutex<Waker>, paths: &[String]) -> Result<Reply, Error> {
    let mut waker = match waker.try_lock() {
        Ok(waker) => waker,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            return Err(Error::Machine("a shared folder has not answered since it was asked before".to_owned()));
        }
    };
    waker.wake(paths);
    Ok(Reply::Done)
}

fn slowly(request: &Request) -> Result<Reply, Error> {
    match request {
        Request::Hello { .. } => Ok(Reply::Hello(hello())),
        Request::TimeSet { seconds, nanoseconds } => set_time(*seconds, *nanoseconds).map(|()| Reply::Done),
        Request::Sync => {
            nix::unistd::sync();
            Ok(Reply::Done)
        }
        Request::Trim => trim().map(|freed_bytes| Reply::Trimmed { freed_bytes }),
        Request::Reclaim => reclaim().map(|()| Reply::Done),
        Request::Grow => grow().map(|()| Reply::Done),
        Request::Metrics => metrics().map(Reply::Metrics),
        Request::Status | Request::Shutdown { .. } | Request::FilesChanged { .. } => Ok(Reply::Done),
    }
}

fn hello() -> HelloReply {
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"');
    let trimmed = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    HelloReply {
        protocol: PROTOCOL,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        os: os.to_owned(),
        kernel: trimmed("/proc/sys/kernel/osrelease"),
        engine: None,
        boot_id: trimmed("/proc/sys/kernel/random/boot_id"),
    }
}

fn set_time(seconds: u64, nanoseconds: u32) -> Result<(), Error> {
    let wanted = Duration::new(seconds, nanoseconds.min(999_999_999));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if wanted.abs_diff(now) <= DRIFT {
        return Ok(());
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(wanted)).map_err(Error::system("setting the clock"))
}

/// `fstrim` says how much it was; the call behind it cannot be made without unsafe code.
pub(super) fn trim() -> Result<u64, Error> {
    let what = "giving unused blocks of the data disk back";
    let output = Command::new("/usr/sbin/fstrim")
        .args(["--verbose", DATA])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(what))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(Error::Machine(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    // `/data: 12.3 MiB (12345678 bytes) trimmed`
    let bytes = text.split('(').nth(1).and_then(|rest| rest.split(' ').next()).and_then(|digits| digits.parse().ok());
    bytes.ok_or_else(|| Error::Machine(format!("{what}: fstrim said {:?}", text.trim())))
}

/// Bytes of the data disk that are in use.
pub(super) fn disk_used() -> Result<u64, Error> {
    let disk = statvfs(DATA).map_err(Error::system("asking for the data disk"))?;
    Ok(disk.blocks().saturating_sub(disk.blocks_free()).saturating_mul(disk.fragment_size()))
}

pub(super) fn reclaim() -> Result<(), Error> {
    nix::unistd::sync();
    for (file, value) in [("/proc/sys/vm/drop_caches", "3"), ("/proc/sys/vm/compact_memory", "1")] {
        fs::write(file, value).map_err(Error::io("giving unused memory back"))?;
    }
    Ok(())
}

fn grow() -> Result<(), Error> {
    let what = "growing the data disk's file system";
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(Error::io(what))?;
    let disk = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let disk = fields.next()?;
        (fields.next()? == DATA).then_some(disk)
    });
    let disk = disk.ok_or_else(|| Error::Machine(format!("{what}: it is not mounted")))?;
    let output =
        Command::new("/usr/sbin/resize2fs").arg(disk).stdin(Stdio::null()).output().map_err(Error::io(what))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Machine(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

fn metrics() -> Result<MetricsReply, Error> {
    let memory = fs::read_to_string("/proc/meminfo").map_err(Error::io("asking for the memory"))?;
    let kib = |name: &str| -> u64 {
        let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    let disk = statvfs(DATA).map_err(Error::system("asking for the data disk"))?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    Ok(MetricsReply {
        memory: MemoryMetrics {
            total_bytes: kib("MemTotal").saturating_mul(1024),
            available_bytes: kib("MemAvailable").saturating_mul(1024),
            cached_bytes: kib("Cached").saturating_mul(1024),
        },
        disk: DiskMetrics { total_bytes: bytes(disk.blocks()), free_bytes: bytes(disk.blocks_available()) },
    })
}
