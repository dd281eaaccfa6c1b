//! Starts, losses, ends.

use std::time::Duration;

use berth_mux::control::{Event, Request, ServiceState};
use berth_testkit::fake_qemu::{Canary, Crash, Remote, Script, Stage, remote};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::sync::atomic::Ordering;

use super::guest::{Habits, happens, say};
use super::{Ground, Plan, hasty};
use crate::status::State;

#[tokio::test]
async fn it_starts_is_reached_and_stops_in_order() {
    let mut ground = Ground::new(Plan::default()).await;
    let status = ground.state(State::Ready).await;
    let names: Vec<_> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["preparing", "booting", "kernel", "services", "connecting"]);
    assert!(status.stages.iter().all(|stage| stage.milliseconds.is_some()), "{status:#?}");
    assert_eq!(status.versions.engine.as_deref(), Some("1.2.3"));
    assert_eq!(status.accelerator.as_ref().unwrap().name, "Hypervisor.framework");
    assert!(ground.ping().await);
    ground.agent.asked(|request| matches!(request, Request::TimeSet { .. })).await;
    let status = ground.stop().await;
    assert_eq!(status.state, State::Stopping);
}

/// The kernel is quiet: what an accelerator runs shows no other sign of life on the console.
#[tokio::test]
async fn a_machine_whose_console_is_silent_is_not_taken_for_one_that_hangs() {
    let mut ground = Ground::new(Plan { pace: hasty, ..Plan::default() }).await;
    ground.state(State::Ready).await;
    tokio::time::sleep(hasty(crate::backend::qemu::Accelerator::Hvf).kernel * 3).await;
    assert_eq!(ground.starts().len(), 1);
    assert_eq!(ground.status.borrow().state, State::Ready);
    ground.stop().await;
}

#[tokio::test]
async fn an_accelerator_that_breaks_on_the_machine_is_given_up_for_emulation() {
    let crashes = [Stage::Continuing, Stage::Running].map(|stage| Crash { stage, code: None, says: "no".to_owned() });
    for crash in crashes {
        let script = Script { crash: Some(crash), ..Script::default() };
        let mut ground = Ground::new(Plan { script, ..Plan::default() }).await;
        // The fake one breaks under emulation as well, and that is then told.
        let failure = ground.failure().await;
        let accelerators: Vec<_> =
            ground.starts().iter().map(|line| line.iter().any(|word| word.starts_with("tcg"))).collect();
        assert_eq!(accelerators, [false, true], "{failure:?}");
        assert!(failure.cause.contains("no"), "{failure:?}");
        assert!(ground.status.borrow().accelerator.as_ref().unwrap().why.contains("did not run the engine's machine"));
    }
    // Never a sign of a kernel.
    let habits = Habits { garbage: Some(Vec::new()), ..Habits::default() };
    let mut ground = Ground::new(Plan { habits, pace: quick, ..Plan::default() }).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("in time"), "{failure:?}");
    let accelerator = ground.status.borrow().accelerator.clone().unwrap();
    assert!(accelerator.name == "emulation" && accelerator.why.contains("sign of life"), "{accelerator:?}");
}

#[tokio::test]
async fn an_internal_error_while_it_starts_is_the_accelerators_and_later_the_machines() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    say(&remote(&ground.program), &happens("STOP", json!(null), "internal-error"));
    ground.status(|status| status.warnings.iter().any(|warning| warning.contains("starting again"))).await;
    ground.state(State::Ready).await;
    assert!(ground.starts().iter().all(|line| !line.iter().any(|word| word.starts_with("tcg"))), "it ran for long");
    ground.stop().await;
}

#[tokio::test]
async fn a_crash_is_a_new_start_and_too_many_are_the_end() {
    let script = Script { console: vec!["last words of the kernel".to_owned()], ..Script::default() };
    let mut ground = Ground::new(Plan { script, ..Plan::default() }).await;
    for run in 1..=4 {
        ground.status(|status| status.state == State::Ready).await;
        assert_eq!(ground.starts().len(), run);
        kill(Pid::from_raw(ground.qemu().cast_signed()), Signal::SIGKILL).unwrap();
        if run < 4 {
            ground.state(State::Degraded).await;
        }
    }
    let failure = ground.failure().await;
    assert!(failure.cause.contains("again and again") && failure.cause.contains("SIGKILL"), "{failure:?}");
    assert!(failure.log.iter().any(|line| line.contains("last words")), "{failure:?}");
}

#[tokio::test]
async fn a_session_that_is_lost_is_found_again_and_nothing_is_killed() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    for _ in 0..5 {
        let before = ground.agent.sessions.load(Ordering::SeqCst);
        ground.agent.opener().await.close();
        ground.state(State::Degraded).await;
        ground.state(State::Ready).await;
        assert!(ground.agent.sessions.load(Ordering::SeqCst) > before);
        assert!(ground.ping().await);
    }
    assert_eq!(ground.starts().len(), 1);
    ground.stop().await;
}

#[tokio::test]
async fn an_agent_that_stays_away_is_told_and_waited_for() {
    let mut ground = Ground::new(Plan { pace: hasty, ..Plan::default() }).await;
    ground.state(State::Ready).await;
    ground.agent.habits.send_modify(|habits| habits.garbage = Some(b"SSH-2.0 garbage".repeat(1000)));
    ground.agent.opener().await.close();
    let status = ground.status(|status| status.warnings.iter().any(|warning| warning.contains("asked 3 times"))).await;
    assert_eq!(status.state, State::Degraded);
    ground.agent.habits.send_modify(|habits| habits.garbage = None);
    ground.state(State::Ready).await;
    assert_eq!(ground.starts().len(), 1);
    ground.stop().await;
}

#[tokio::test]
async fn an_agent_of_another_version_ends_the_start_with_what_to_do() {
    let habits = Habits { protocol: 0, ..Habits::default() };
    let mut ground = Ground::new(Plan { habits, ..Plan::default() }).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("version 0") && failure.fix.contains("appliance"), "{failure:?}");
}

#[tokio::test]
async fn a_start_that_does_not_go_on_ends() {
    let never: [Habits; 3] = [
        Habits { mute: true, ..Habits::default() },
        Habits { garbage: Some(vec![0xa5; 100_000]), ..Habits::default() },
        Habits { never_ready: true, ..Habits::default() },
    ];
    for habits in never {
        // Emulated: nobody tries another accelerator.
        let script = Script { canary: Canary::Aborts, ..Script::default() };
        let mut ground = Ground::new(Plan { script, habits: habits.clone(), pace: quick, ..Plan::default() }).await;
        let failure = ground.failure().await;
        assert!(failure.cause.contains("in time"), "{habits:?}: {failure:?}");
    }
}

#[tokio::test]
async fn an_emulated_kernel_that_hangs_is_started_once_more() {
    let script = Script { canary: Canary::Aborts, ..Script::default() };
    let habits = Habits { mute: true, ..Habits::default() };
    let mut ground = Ground::new(Plan { script, habits, pace: hasty, ..Plan::default() }).await;
    while ground.starts().len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ground.agent.habits.send_modify(|habits| habits.mute = false);
    ground.state(State::Ready).await;
    assert_eq!(ground.starts().len(), 2);
    ground.stop().await;
}

/// Emulation's times are long.
fn quick(accelerator: crate::backend::qemu::Accelerator) -> crate::backend::Pace {
    accelerator.pace().faster(100)
}

#[tokio::test]
async fn what_the_guest_says_of_its_disk_is_passed_on_and_nothing_is_wiped() {
    let fails = Some(("disk".to_owned(), "the data disk holds something else than ext4".to_owned()));
    let mut ground = Ground::new(Plan { habits: Habits { fails, ..Habits::default() }, ..Plan::default() }).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("something else") && failure.fix.contains("nothing was changed"), "{failure:?}");
    assert!(ground.paths.data_disk().exists());
    // In order, although it never was ready.
    ground.agent.asked(|request| matches!(request, Request::Shutdown { .. })).await;
}

#[tokio::test]
async fn a_disk_that_is_not_ours_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("data/vm")).unwrap();
    std::fs::write(folder.path().join("data/vm/data.raw"), "cut").unwrap();
    let mut ground = Ground::in_folder(folder, Plan::default()).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("cut short") && failure.fix.contains("backup"), "{failure:?}");
    assert_eq!(std::fs::read(ground.paths.data_disk()).unwrap(), b"cut");
}

#[tokio::test]
async fn a_guest_that_hangs_while_it_stops_is_made_to_write_its_data_and_ended() {
    let habits = Habits { hangs: true, ..Habits::default() };
    let mut ground = Ground::new(Plan { habits, pace: hasty, ..Plan::default() }).await;
    ground.state(State::Ready).await;
    ground.stop.send_replace(true);
    ground.agent.asked(|request| matches!(request, Request::Shutdown { .. })).await;
    ground.agent.asked(|request| matches!(request, Request::Sync)).await;
    ground.stop().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_start_is_a_stop() {
    for delay in [0, 5, 20, 80, 300] {
        let ground = Ground::new(Plan::default()).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        ground.stop().await;
    }
}

#[tokio::test]
async fn a_full_host_pauses_it_until_there_is_room() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    let data = json!({ "node-name": "data", "operation": "write", "nospace": true, "reason": "No space left" });
    let qemu = remote(&ground.program);
    say(&qemu, &happens("BLOCK_IO_ERROR", data, "io-error"));
    say(&qemu, &happens("STOP", json!(null), "io-error"));
    let status = ground.state(State::Degraded).await;
    assert!(status.warnings[0].contains("full"), "{status:?}");
    // This machine has room, as it sees when it looks.
    ground.state(State::Ready).await;
    assert_eq!(ground.starts().len(), 1);
    ground.stop().await;
}

#[tokio::test]
async fn a_guest_may_say_as_much_as_it_likes() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    for number in 0..200 {
        let text = format!("{number} \u{1b}[2J{}", "x".repeat(100_000));
        ground.agent.tell.send(Event::Warning { message: text.clone() }).await.unwrap();
        ground.agent.tell.send(Event::Stage { name: text }).await.unwrap();
    }
    let last = |status: &crate::status::Status| status.warnings.iter().any(|warning| warning.starts_with("199 "));
    let status = ground.status(last).await;
    assert!(status.warnings.len() <= 20 && status.stages.len() <= 16);
    assert!(status.warnings.iter().all(|warning| warning.len() < 2000 && !warning.contains('\u{1b}')));
    let exited = |state| Event::Service { service: "dockerd".to_owned(), state, pid: None, detail: None };
    ground.agent.tell.send(exited(ServiceState::Exited)).await.unwrap();
    ground.status(|status| status.warnings[0].contains("dockerd ended")).await;
    ground.stop().await;
}

#[tokio::test]
async fn qemu_that_aborts_is_told_with_its_words() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    say(&remote(&ground.program), &Remote::Abort);
    ground.status(|status| status.warnings.iter().any(|warning| warning.contains("SIGABRT"))).await;
    ground.state(State::Ready).await;
    ground.stop().await;
}

#[tokio::test]
async fn it_can_be_asked_what_it_uses_and_to_give_back() {
    let mut ground = Ground::new(Plan::default()).await;
    ground.state(State::Ready).await;
    let upkeep = ground.upkeep.borrow().clone().unwrap();
    let metrics = upkeep.metrics().await.unwrap();
    assert_eq!(metrics.memory_total_bytes, 1 << 30);
    assert!(metrics.memory_host_bytes > 0, "{metrics:?}");
    upkeep.trim().await.unwrap();
    upkeep.reclaim().await.unwrap();
    upkeep.grow(5 << 30).await.unwrap();
    assert_eq!(ground.paths.data_disk().metadata().unwrap().len(), 5 << 30);
    assert!(upkeep.grow(1 << 30).await.unwrap_err().to_string().contains("never made smaller"));
    ground.stop().await;
    assert!(upkeep.metrics().await.is_err());
}
