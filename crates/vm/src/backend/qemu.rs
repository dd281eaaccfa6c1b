//! Runs the appliance in a QEMU machine of its own: a kernel, its initramfs, a read-only system image and one data disk.
//!
//! The order of a start: [`find_program`], [`choose_accelerator`], [`Machine::launch`]. QEMU is driven over QMP and the
//! console over two socket pairs that it gets as its standard input and output, so that neither can be reached by
//! others nor be missed for a moment; the agent's port alone is a socket in the runtime folder, as it is connected
//! anew after every loss.

mod accelerator;
mod canary;
mod command_line;
mod error;
mod file_events;
mod guest;
mod leash;
mod machine;
mod memory;
mod process;
mod program;
mod qmp;
mod running;
mod shares;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use accelerator::{Accelerator, choose_accelerator, reject_accelerator};
pub(crate) use error::QemuError;
pub(crate) use guest::{Tools, launch};
pub(crate) use machine::{Exit, ExitCause, Machine, MachineEvent};
pub(crate) use program::{Program, find_program};
#[cfg(test)]
pub(crate) use qmp::QmpError;
pub(crate) use shares::ShareDevice;

/// Everything a machine is made of. All paths are absolute.
#[derive(Clone, Debug)]
pub(crate) struct MachineSpec {
    pub(crate) program: Program,
    /// An ELF kernel with a PVH entry.
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// The first disk, read-only, of serial `berth-os`.
    pub(crate) os_image: PathBuf,
    /// The kernel's.
    pub(crate) command_line: String,
    /// The second disk, of serial `berth-data`; created, or grown, when needed.
    pub(crate) data_disk: PathBuf,
    pub(crate) data_disk_bytes: u64,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// Where the agent's socket is made: short, and the owner's alone (0700).
    pub(crate) runtime: PathBuf,
    /// Where the console is written; the one before it is kept with `.1` appended.
    pub(crate) console: PathBuf,
    pub(crate) accelerator: Accelerator,
    /// Folders of this computer, each served by a process that listens already.
    pub(crate) shares: Vec<ShareDevice>,
}
