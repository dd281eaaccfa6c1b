//! The QEMU of this machine, emulating, with kernels of a few instructions.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{IDLE, LONG, POWER_OFF, RESET, assert_gone, event, kernel_saying, rest, spec};
use crate::backend::machine::DiskError;
use crate::backend::qemu::{ExitCause, Machine, MachineEvent, MachineSpec, QemuError, QmpError, find_program};

async fn real(folder: &Path, text: &str, ending: &[u8]) -> MachineSpec {
    let mut spec = spec(folder, Path::new(""));
    spec.program = find_program(None).await.unwrap();
    std::fs::write(&spec.kernel, kernel_saying(text, ending)).unwrap();
    spec
}

fn said(wanted: &'static str) -> impl Fn(&MachineEvent) -> Option<()> {
    move |event| matches!(event, MachineEvent::ConsoleLine(line) if line == wanted).then_some(())
}

#[tokio::test]
async fn it_is_paused_resumed_asked_and_quit() {
    let folder = tempfile::tempdir().unwrap();
    let spec = real(folder.path(), "one\r\n\x1b[1mtwo\x1b[0m\n", IDLE).await;
    let (machine, mut events) = Machine::launch(&spec).await.unwrap();
    event(&mut events, |event| matches!(event, MachineEvent::KernelAlive).then_some(())).await;
    event(&mut events, said("one")).await;
    event(&mut events, said("two")).await;
    assert_eq!(machine.run_state().await.unwrap(), "running");

    machine.pause().await.unwrap();
    let paused = |event: &MachineEvent| match event {
        MachineEvent::Paused { reason } => Some(reason.clone()),
        _ => None,
    };
    assert_eq!(event(&mut events, paused).await, "paused");
    assert_eq!(machine.run_state().await.unwrap(), "paused");
    machine.resume().await.unwrap();
    event(&mut events, |event| matches!(event, MachineEvent::Resumed).then_some(())).await;

    // A guest without the balloon's driver keeps all its memory.
    machine.balloon(64 << 20).await.unwrap();
    machine.disk_resize(128 << 20).await.unwrap();
    assert_eq!(spec.data_disk.metadata().unwrap().len(), 128 << 20);
    let shrunk = machine.disk_resize(64 << 20).await.unwrap_err();
    assert!(matches!(shrunk, QemuError::WouldShrink { .. }), "{shrunk}");
    let impossible = machine.disk_resize(u64::MAX / 2).await.unwrap_err();
    assert!(matches!(impossible, QemuError::Qmp(QmpError::Refused { .. })), "{impossible}");
    machine.disk_resize(192 << 20).await.unwrap();

    let exit = machine.quit().await.unwrap();
    assert_eq!(exit.cause, ExitCause::Quit, "{exit:?}");
    assert_eq!(exit.console_tail, ["one", "two"]);
    assert!(matches!(rest(events).await.last(), Some(MachineEvent::Exited(exit)) if exit.cause == ExitCause::Quit));
    assert_eq!(std::fs::read_to_string(&spec.console).unwrap(), "one\r\n\x1b[1mtwo\x1b[0m\n");
    assert_gone(&spec, machine.pid()).await;
    // Asked again, it is still gone.
    assert_eq!(machine.quit().await.unwrap().cause, ExitCause::Quit);
    assert_eq!(machine.kill().await.unwrap().cause, ExitCause::Quit);
    assert!(matches!(machine.pause().await, Err(QemuError::Qmp(QmpError::Closed(_)))));
    assert!(matches!(machine.channel().await, Err(QemuError::Channel { .. })));
}

#[tokio::test]
async fn how_the_guest_ends_is_told() {
    let panic = "[    1.0] Kernel panic - not syncing: no init\n";
    let cases = [
        ("bye\n", POWER_OFF, ExitCause::PoweredOff, "the guest powered off"),
        ("bye\n", RESET, ExitCause::Reset, "the guest reset the machine"),
        (panic, RESET, ExitCause::Panicked, "not syncing: no init"),
    ];
    for (text, ending, cause, told) in cases {
        let folder = tempfile::tempdir().unwrap();
        let spec = real(folder.path(), text, ending).await;
        let (machine, events) = Machine::launch(&spec).await.unwrap();
        let exit = timeout(LONG, machine.wait()).await.unwrap();
        assert_eq!(exit.cause, cause, "{exit:?}");
        assert!(exit.to_string().contains(told), "{exit}");
        let events = rest(events).await;
        let panics = events.iter().filter(|event| matches!(event, MachineEvent::GuestPanicked)).count();
        let resets = events.iter().filter(|event| matches!(event, MachineEvent::Reset)).count();
        assert_eq!(
            (panics, resets),
            (usize::from(cause == ExitCause::Panicked), usize::from(cause == ExitCause::Reset))
        );
        assert_gone(&spec, machine.pid()).await;
    }
}

#[tokio::test]
async fn a_qemu_that_is_killed_is_noticed_and_its_disk_is_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = real(folder.path(), "up\n", IDLE).await;
    let (machine, mut events) = Machine::launch(&spec).await.unwrap();
    event(&mut events, said("up")).await;
    let second = Machine::launch(&spec).await.unwrap_err();
    assert!(matches!(second, QemuError::Disk(DiskError::DiskInUse { .. })), "{second}");

    kill(Pid::from_raw(machine.pid().cast_signed()), Signal::SIGKILL).unwrap();
    let exit = event(&mut events, |event| match event {
        MachineEvent::Exited(exit) => Some(exit.clone()),
        _ => None,
    });
    let exit = exit.await;
    assert_eq!(exit.cause, ExitCause::Failed);
    assert!(exit.to_string().contains("SIGKILL"), "{exit}");
    assert_eq!(exit.console_tail, ["up"]);
    assert_gone(&spec, machine.pid()).await;

    // Larger than the spec says, it stays so.
    std::fs::OpenOptions::new().write(true).open(&spec.data_disk).unwrap().set_len(128 << 20).unwrap();
    let (again, mut events) = Machine::launch(&spec).await.unwrap();
    event(&mut events, said("up")).await;
    let shrunk = again.disk_resize(96 << 20).await.unwrap_err();
    assert!(matches!(shrunk, QemuError::WouldShrink { bytes: 0x800_0000, .. }), "{shrunk}");
    assert_eq!(again.kill().await.unwrap().cause, ExitCause::Killed);
    assert_eq!(again.kill().await.unwrap().cause, ExitCause::Killed);
    assert_gone(&spec, again.pid()).await;
    let (dropped, _) = Machine::launch(&spec).await.unwrap();
    let (pid, mut exit) = (dropped.pid(), dropped.exit.clone());
    drop(dropped);
    timeout(LONG, exit.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_gone(&spec, pid).await;
}

#[tokio::test]
async fn paths_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join("a b,readonly=on,,c='\"$HOME\\n%s 設定 ü");
    std::fs::create_dir(&strange).unwrap();
    let spec = real(&strange, "here\n", POWER_OFF).await;
    let (machine, mut events) = Machine::launch(&spec).await.unwrap();
    event(&mut events, said("here")).await;
    assert_eq!(timeout(LONG, machine.wait()).await.unwrap().cause, ExitCause::PoweredOff);
    assert_gone(&spec, machine.pid()).await;
}

#[tokio::test]
async fn the_agents_socket_is_its_owners_and_can_be_connected_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = real(folder.path(), "up\n", IDLE).await;
    // Left by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(spec.runtime.join("agent.sock")).unwrap());
    let (machine, _events) = Machine::launch(&spec).await.unwrap();
    let mode = spec.runtime.join("agent.sock").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    for _ in 0..3 {
        let mut channel = machine.channel().await.unwrap();
        channel.write_all(b"nobody listens").await.unwrap();
    }
    let mut open = machine.channel().await.unwrap();
    machine.kill().await.unwrap();
    assert_eq!(timeout(LONG, open.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);

    let public = folder.path().join("public");
    std::fs::DirBuilder::new().mode(0o755).create(&public).unwrap();
    let mut spec = spec;
    spec.runtime = public;
    assert!(matches!(Machine::launch(&spec).await, Err(QemuError::BadPath { .. })));
}

#[tokio::test]
async fn what_qemu_refuses_is_told_in_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let spec = real(folder.path(), "", IDLE).await;
    std::fs::write(&spec.kernel, "no kernel at all").unwrap();
    let error = Machine::launch(&spec).await.unwrap_err();
    let QemuError::Ended(exit) = &error else { panic!("{error}") };
    assert_eq!(exit.cause, ExitCause::Failed);
    assert!(error.to_string().to_lowercase().contains("kernel"), "{error}");
    assert_eq!(std::fs::read_dir(&spec.runtime).unwrap().count(), 0);
}
