//! Machines, real and fake, from their launch to their end.

mod fake;
mod real;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::canary::elf;
use super::{Accelerator, MachineEvent, MachineSpec, Program};

/// Only against hanging.
const LONG: Duration = Duration::from_secs(60);

/// Ends of a guest, in 32-bit code: halt for ever, reset the machine, power it off.
pub(super) const IDLE: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
pub(super) const RESET: &[u8] = &[0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xfa, 0xf4, 0xeb, 0xfd];
pub(super) const POWER_OFF: &[u8] =
    &[0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef, 0xfa, 0xf4, 0xeb, 0xfd];

/// A kernel that says `text` on the serial port, waiting for it before each byte, and then ends so.
pub(super) fn kernel_saying(text: &str, ending: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    for byte in text.bytes() {
        // mov dx, 0x3fd; in al, dx; test al, 0x20; jz; mov dx, 0x3f8; mov al, byte; out dx, al
        code.extend([0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0x66, 0xba, 0xf8, 0x03, 0xb0, byte, 0xee]);
    }
    code.extend(ending);
    elf(&code)
}

pub(super) fn kernel(ending: &[u8]) -> Vec<u8> {
    kernel_saying("hello\n", ending)
}

/// A machine all of whose files are in the folder.
pub(super) fn spec(folder: &Path, program: &Path) -> MachineSpec {
    use std::os::unix::fs::DirBuilderExt as _;
    let file = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let runtime = folder.join("run");
    if !runtime.exists() {
        std::fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
    }
    MachineSpec {
        program: Program { path: program.to_path_buf(), version: "0".to_owned(), sandbox: true },
        kernel: file("vmlinux", &kernel(IDLE)),
        initramfs: file("initramfs", &[0; 512]),
        os_image: file("os.erofs", &[0; 4096]),
        command_line: "console=ttyS0".to_owned(),
        data_disk: folder.join("data.raw"),
        data_disk_bytes: 64 << 20,
        memory_mib: 128,
        cpus: 1,
        runtime,
        console: folder.join("console.log"),
        accelerator: Accelerator::Tcg,
        shares: Vec::new(),
    }
}

/// The next event that `wanted` makes something of; the others are passed over.
async fn event<T>(events: &mut mpsc::Receiver<MachineEvent>, wanted: impl Fn(&MachineEvent) -> Option<T>) -> T {
    let found = timeout(LONG, async {
        loop {
            let event = events.recv().await.expect("the machine's events ended");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    });
    found.await.expect("an event that does not come")
}

/// All events to the end.
async fn rest(mut events: mpsc::Receiver<MachineEvent>) -> Vec<MachineEvent> {
    let mut all = Vec::new();
    let over = timeout(LONG, async {
        while let Some(event) = events.recv().await {
            all.push(event);
        }
    });
    over.await.expect("events without end");
    all
}

/// No process has to do with the folder.
pub(super) fn assert_no_process_of(folder: &Path) {
    let folder = folder.to_string_lossy();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&command_line);
        assert!(!command_line.contains(&*folder), "{:?} still runs: {command_line}", entry.file_name());
    }
}

/// Nothing of the machine is left: no process, no socket, and its disk is free.
async fn assert_gone(spec: &MachineSpec, pid: u32) {
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
    assert_eq!(std::fs::read_dir(&spec.runtime).unwrap().count(), 0, "the runtime folder is not empty");
    crate::backend::machine::DataDisk::open(&spec.data_disk, spec.data_disk_bytes).await.unwrap();
}
