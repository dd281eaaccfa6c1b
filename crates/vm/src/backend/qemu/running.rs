//! A QEMU machine as one among others.

use super::{Machine, memory};
use crate::backend::machine::{Doing, MachineError, RunningMachine};
use crate::socket::Duplex;

impl RunningMachine for Machine {
    fn channel(&self) -> Doing<'_, Result<Box<dyn Duplex>, MachineError>> {
        Box::pin(async { Ok(Box::new(Self::channel(self).await?) as Box<dyn Duplex>) })
    }

    fn over(&self) -> Doing<'_, ()> {
        Box::pin(async { drop(self.wait().await) })
    }

    fn quit(&self) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(Self::quit(self).await.map(drop)?) })
    }

    fn kill(&self) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async { Ok(Self::kill(self).await.map(drop)?) })
    }

    fn grow_disk(&self, bytes: u64) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async move { Ok(self.disk_resize(bytes).await?) })
    }

    fn take_memory(&self, available: u64) -> Doing<'_, Result<(), MachineError>> {
        Box::pin(async move { Ok(memory::take(self, available).await?) })
    }

    fn resident_bytes(&self) -> Option<u64> {
        Some(resident_bytes(self.pid()))
    }
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}
