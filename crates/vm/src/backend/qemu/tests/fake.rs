//! What a real QEMU cannot be made to show.

use std::path::Path;
use std::time::Duration;

use berth_testkit::fake_qemu::{self, Agent, Crash, Ending, Event, Greeting, Script, Stage};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::{LONG, assert_gone, event, rest, spec};
use crate::backend::qemu::machine::Patience;
use crate::backend::qemu::{ExitCause, Machine, MachineEvent, MachineSpec, QemuError, QmpError};

const GENEROUS: Patience = Patience { greeting: LONG, command: LONG, quit: LONG, reap: LONG };
const SHORT: Duration = Duration::from_millis(300);

fn fake(folder: &Path, script: &Script) -> MachineSpec {
    spec(folder, &fake_qemu::place(folder, script).unwrap())
}

/// The process of the last start.
fn last_pid(spec: &MachineSpec) -> u32 {
    fake_qemu::starts(&spec.program.path).unwrap().last().unwrap().pid
}

fn happens(event: &str, data: serde_json::Value, status: Option<&str>) -> Event {
    Event { event: event.to_owned(), data, status: status.map(str::to_owned) }
}

#[tokio::test]
async fn a_start_is_slow_and_still_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script { greeting_delay: 500, console: vec!["Linux".to_owned()], ..Script::default() };
    let spec = fake(folder.path(), &script);
    let (machine, mut events) = Machine::launch_with(&spec, GENEROUS).await.unwrap();
    event(&mut events, |event| matches!(event, MachineEvent::KernelAlive).then_some(())).await;
    assert_eq!(machine.quit().await.unwrap().cause, ExitCause::Quit);
    assert_gone(&spec, machine.pid()).await;
}

#[tokio::test]
async fn what_does_not_greet_is_killed() {
    let silent = Patience { greeting: SHORT, ..GENEROUS };
    for (greeting, patience) in [
        (Greeting::Wrong, GENEROUS),
        (Greeting::Garbage, GENEROUS),
        (Greeting::Endless, GENEROUS),
        (Greeting::Silent, silent),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let spec = fake(folder.path(), &Script { greeting, ..Script::default() });
        let error = Machine::launch_with(&spec, patience).await.unwrap_err();
        match greeting {
            Greeting::Silent => assert!(matches!(error, QemuError::Silent { .. }), "{error}"),
            _ => assert!(matches!(error, QemuError::Greeting(QmpError::Greeting(_))), "{error}"),
        }
        if greeting != Greeting::Silent {
            assert_gone(&spec, last_pid(&spec)).await;
        }
    }
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_start_is_told_with_its_words() {
    for stage in [Stage::Start, Stage::Greeted, Stage::Negotiating, Stage::Continuing] {
        let folder = tempfile::tempdir().unwrap();
        let says = "qemu: could not do it".to_owned();
        let spec =
            fake(folder.path(), &Script { crash: Some(Crash { stage, code: Some(7), says }), ..Script::default() });
        let error = Machine::launch_with(&spec, GENEROUS).await.unwrap_err();
        let QemuError::Ended(exit) = &error else { panic!("{stage:?}: {error}") };
        assert_eq!(exit.status.unwrap().code(), Some(7));
        assert!(error.to_string().contains("could not do it"), "{stage:?}: {error}");
        assert_gone(&spec, last_pid(&spec)).await;
    }
}

#[tokio::test]
async fn a_crash_is_told_with_the_end_of_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let crash = Crash { stage: Stage::Running, code: None, says: "assertion failed".to_owned() };
    let console = (0..1000).map(|number| format!("line {number}")).collect();
    let spec = fake(folder.path(), &Script { crash: Some(crash), console, ..Script::default() });
    let (machine, events) = Machine::launch_with(&spec, GENEROUS).await.unwrap();
    let exit = timeout(LONG, machine.wait()).await.unwrap();
    assert_eq!((exit.cause, exit.console_tail.len()), (ExitCause::Failed, 200));
    assert_eq!(exit.console_tail.last().unwrap(), "line 999");
    assert!(exit.to_string().contains("SIGABRT") && exit.to_string().contains("assertion failed"), "{exit}");
    // Nobody took the events meanwhile: lines were left out, the end was not.
    let events = rest(events).await;
    assert!(events.len() < 1000);
    assert!(matches!(events.last(), Some(MachineEvent::Exited(_))));
    assert_eq!(std::fs::read_to_string(&spec.console).unwrap().lines().count(), 1000);
}

#[tokio::test]
async fn an_accelerator_that_gives_up_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let events = vec![happens("STOP", json!(null), Some("internal-error"))];
    let spec = fake(folder.path(), &Script { events, ..Script::default() });
    let (machine, mut events) = Machine::launch_with(&spec, GENEROUS).await.unwrap();
    event(&mut events, |event| matches!(event, MachineEvent::InternalError).then_some(())).await;
    assert_eq!(machine.run_state().await.unwrap(), "internal-error");
    assert_eq!(machine.kill().await.unwrap().cause, ExitCause::Killed);
    assert_gone(&spec, machine.pid()).await;
}

#[tokio::test]
async fn a_full_host_pauses_the_machine_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let data = json!({ "device": "", "node-name": "data", "operation": "write", "action": "stop", "nospace": true,
        "reason": "No space left on device" });
    let port = |open: bool, id: &str| happens("VSERPORT_CHANGE", json!({ "open": open, "id": id }), None);
    let events = vec![
        port(true, "agent-port"),
        port(true, "another"),
        happens("BLOCK_IO_ERROR", data, None),
        happens("STOP", json!(null), Some("io-error")),
        happens("GUEST_PANICKED", json!({ "action": "pause" }), None),
    ];
    let spec = fake(folder.path(), &Script { events, ..Script::default() });
    let (machine, mut events) = Machine::launch_with(&spec, GENEROUS).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(timeout(LONG, events.recv()).await.unwrap().unwrap());
    }
    assert!(matches!(&told[0], MachineEvent::Resumed), "{told:?}");
    assert!(matches!(&told[1], MachineEvent::AgentPort(true)), "{told:?}");
    assert!(matches!(&told[2], MachineEvent::DiskError { no_space: true, reason } if reason.contains("No space")));
    assert!(matches!(&told[3], MachineEvent::Paused { reason } if reason == "io-error"), "{told:?}");
    assert!(matches!(&told[4], MachineEvent::GuestPanicked), "{told:?}");
    machine.resume().await.unwrap();
    event(&mut events, |event| matches!(event, MachineEvent::Resumed).then_some(())).await;
    machine.quit().await.unwrap();
}

#[tokio::test]
async fn one_that_does_not_quit_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let deaf_to = ["quit", "stop"].map(str::to_owned).to_vec();
    let refuses = vec!["balloon".to_owned()];
    let spec = fake(folder.path(), &Script { deaf_to, refuses, ..Script::default() });
    let patience = Patience { quit: SHORT, ..GENEROUS };
    let (machine, events) = Machine::launch_with(&spec, patience).await.unwrap();
    let refused = machine.balloon(1).await.unwrap_err();
    assert!(matches!(refused, QemuError::Qmp(QmpError::Refused { command: "balloon", .. })), "{refused}");
    assert_eq!(machine.quit().await.unwrap().cause, ExitCause::Killed);
    assert!(matches!(rest(events).await.last(), Some(MachineEvent::Exited(_))));
    assert_gone(&spec, machine.pid()).await;

    let (machine, _events) =
        Machine::launch_with(&spec, Patience { command: Duration::from_secs(1), ..GENEROUS }).await.unwrap();
    let deaf = machine.pause().await.unwrap_err();
    assert!(matches!(deaf, QemuError::Qmp(QmpError::Deadline { command: "stop", .. })), "{deaf}");
}

#[tokio::test]
async fn one_that_cannot_be_asked_any_more_can_still_be_killed() {
    let folder = tempfile::tempdir().unwrap();
    let spec = fake(folder.path(), &Script { ending: Some(Ending::LosesControl), ..Script::default() });
    let (machine, mut events) = Machine::launch_with(&spec, GENEROUS).await.unwrap();
    event(&mut events, |event| matches!(event, MachineEvent::ControlLost { .. }).then_some(())).await;
    assert!(matches!(machine.pause().await, Err(QemuError::Qmp(QmpError::Closed(_)))));
    assert_eq!(machine.kill().await.unwrap().cause, ExitCause::Killed);
    assert_gone(&spec, machine.pid()).await;
}

#[tokio::test]
async fn a_guest_that_ends_ends_the_machine() {
    for (ending, cause) in [(Ending::PowerOff, ExitCause::PoweredOff), (Ending::Reset, ExitCause::Panicked)] {
        let folder = tempfile::tempdir().unwrap();
        let console = vec!["Kernel panic - not syncing: VFS: Unable to mount root fs".to_owned()];
        let spec = fake(folder.path(), &Script { ending: Some(ending), console, ..Script::default() });
        let (machine, _events) = Machine::launch_with(&spec, GENEROUS).await.unwrap();
        assert_eq!(timeout(LONG, machine.wait()).await.unwrap().cause, cause);
    }
}

#[tokio::test]
async fn an_agent_is_reached_through_its_port_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for agent in [Agent::Echo, Agent::Socket(path), Agent::Program(vec!["/bin/cat".into()])] {
        let spec = fake(folder.path(), &Script { agent: agent.clone(), ..Script::default() });
        let (machine, _events) = Machine::launch_with(&spec, GENEROUS).await.unwrap();
        for _ in 0..2 {
            let mut channel = machine.channel().await.unwrap();
            channel.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            if matches!(agent, Agent::Socket(_)) {
                let (mut peer, _) = listener.accept().await.unwrap();
                peer.read_exact(&mut answer).await.unwrap();
                peer.write_all(&answer).await.unwrap();
            }
            timeout(LONG, channel.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(&answer, b"hello");
        }
        machine.quit().await.unwrap();
    }
}
