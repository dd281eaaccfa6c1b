//! Machines of macOS's, with a fake of its framework.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_mux::control::Request;
use tokio::sync::watch;

use super::guest::Habits;
use super::{Ground, Plan, hasty};
use crate::backend::Pace;
use crate::backend::qemu::Accelerator;
use crate::backend::vz::{
    AGENT_PORT, Asked, Configuration, Ended, MachineState, Patience, Started, Tools, VzApi, VzError, VzMachine,
};
use crate::status::State;

const IDENTIFIER: &[u8] = b"a machine of its own";

/// What the framework and the guest do; by default all that good ones do.
#[derive(Clone, Debug, Default)]
pub(super) struct Whims {
    /// Instead of starting.
    refusal: Option<fn() -> VzError>,
    /// It never answers a start.
    silent: bool,
    console: &'static str,
    /// The agent does not listen yet.
    absent: bool,
    /// The guest does not heed its power button.
    deaf: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FakeVz(Arc<Fake>);

#[derive(Debug, Default)]
struct Fake {
    whims: Mutex<Whims>,
    agent: Mutex<PathBuf>,
    state: Mutex<watch::Sender<MachineState>>,
    starts: Mutex<Vec<Configuration>>,
    asked: Mutex<Vec<&'static str>>,
}

#[derive(Debug)]
struct FakeMachine(FakeVz, watch::Sender<MachineState>);

impl FakeVz {
    fn new(whims: Whims) -> Self {
        Self(Arc::new(Fake { whims: Mutex::new(whims), ..Fake::default() }))
    }

    pub(super) fn tools(&self, agent: &Path, pace: fn(Accelerator) -> Pace) -> Tools {
        *self.0.agent.lock().unwrap() = agent.to_path_buf();
        let pace = pace(Accelerator::Hvf);
        let patience = Patience { start: pace.answer, command: pace.answer, button: pace.answer };
        Tools { api: Some(Arc::new(self.clone())), pace, patience }
    }

    pub(super) fn power_off(&self) {
        self.end(Ended::Stopped);
    }

    fn end(&self, how: Ended) {
        // The console ends with the machine.
        if let Some(last) = self.0.starts.lock().unwrap().last_mut() {
            last.console = std::fs::File::open("/dev/null").unwrap().into();
        }
        end(&self.0.state.lock().unwrap(), how);
    }

    fn whims(&self, change: impl FnOnce(&mut Whims)) -> Whims {
        let mut whims = self.0.whims.lock().unwrap();
        change(&mut whims);
        whims.clone()
    }

    fn say(&self, text: &str) {
        let starts = self.0.starts.lock().unwrap();
        let console = starts.last().unwrap().console.try_clone().unwrap();
        std::fs::File::from(console).write_all(text.as_bytes()).unwrap();
    }

    fn asked(&self, what: &str) -> usize {
        self.0.asked.lock().unwrap().iter().filter(|asked| **asked == what).count()
    }

    fn note(&self, what: &'static str) {
        self.0.asked.lock().unwrap().push(what);
    }

    fn starts(&self) -> usize {
        self.0.starts.lock().unwrap().len()
    }

    fn of_last<T>(&self, look: impl FnOnce(&Configuration) -> T) -> T {
        look(self.0.starts.lock().unwrap().last().unwrap())
    }
}

fn end(state: &watch::Sender<MachineState>, how: Ended) {
    state.send_modify(|state| {
        state.ended.get_or_insert(how);
    });
}

impl VzApi for FakeVz {
    fn identifier(&self, kept: Option<&[u8]>) -> Result<Vec<u8>, VzError> {
        Ok(kept.filter(|kept| kept.starts_with(IDENTIFIER)).unwrap_or(IDENTIFIER).to_vec())
    }

    fn start(&self, configuration: Configuration) -> Asked<'_, Started> {
        Box::pin(async move {
            let whims = self.whims(|_| {});
            if let Some(refusal) = whims.refusal {
                return Err(refusal());
            }
            if whims.silent {
                std::future::pending::<()>().await;
            }
            self.0.starts.lock().unwrap().push(configuration);
            let (tell, state) = watch::channel(MachineState::default());
            *self.0.state.lock().unwrap() = tell.clone();
            self.say(whims.console);
            Ok(Started { machine: Arc::new(FakeMachine(self.clone(), tell)), state })
        })
    }
}

impl VzMachine for FakeMachine {
    fn request_stop(&self) -> Asked<'_, ()> {
        self.0.note("button");
        if !self.0.whims(|_| {}).deaf {
            self.0.power_off();
        }
        Box::pin(async { Ok(()) })
    }

    fn kill(&self) -> Asked<'_, ()> {
        self.0.note("kill");
        self.0.power_off();
        Box::pin(async { Ok(()) })
    }

    fn connect(&self, port: u32) -> Asked<'_, std::os::fd::OwnedFd> {
        assert_eq!(port, AGENT_PORT);
        self.0.note("connect");
        Box::pin(async move {
            if self.0.whims(|_| {}).absent {
                return Err(VzError::Refused);
            }
            let agent = self.0.0.agent.lock().unwrap().clone();
            Ok(UnixStream::connect(agent).unwrap().into())
        })
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        end(&self.1, Ended::Stopped);
    }
}

fn plan(vz: &FakeVz) -> Plan {
    Plan { vz: Some(vz.clone()), ..Plan::default() }
}

#[tokio::test]
async fn it_starts_is_reached_and_stops_in_order_and_is_the_same_machine_each_time() {
    let vz = FakeVz::new(Whims::default());
    let mut ground = Ground::new(plan(&vz)).await;
    let status = ground.state(State::Ready).await;
    assert_eq!(status.accelerator.as_ref().unwrap().name, "Virtualization.framework");
    assert!(ground.ping().await);
    let (command_line, disks, address) = vz.of_last(|made| {
        (made.command_line.clone(), made.disks.clone(), (made.identifier.clone(), made.hardware_address))
    });
    for word in ["quiet", "console=hvc0", "berth.agent=1", "berth.vsock=1024", "berth.net=dhcp"] {
        assert!(command_line.split(' ').any(|found| found == word), "{word}: {command_line}");
    }
    let identifiers: Vec<_> = disks.iter().map(|disk| (disk.identifier, disk.read_only)).collect();
    assert_eq!(identifiers, [("berth-os", true), ("berth-data", false)]);
    assert_eq!((address.0.as_slice(), address.1[0] & 3), (IDENTIFIER, 2), "an address of one device's, not a maker's");
    ground.agent.asked(|request| matches!(request, Request::TimeSet { .. })).await;
    let (status, folder) = ground.end().await;
    assert_eq!(status.state, State::Stopping);
    assert_eq!((vz.asked("button"), vz.asked("kill")), (0, 0), "the guest turned itself off");
    let again = FakeVz::new(Whims::default());
    let mut ground = Ground::in_folder(folder, plan(&again)).await;
    ground.state(State::Ready).await;
    assert_eq!(again.of_last(|made| (made.identifier.clone(), made.hardware_address)), address);
    ground.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_not_made_is_told_with_what_to_do() {
    let invalid = || VzError::Invalid("The memory size is too small.".to_owned());
    let not_entitled = || VzError::NotEntitled;
    let cases = [(not_entitled as fn() -> VzError, "entitlement", "sign"), (invalid, "too small", "sizes")];
    for (refusal, cause, fix) in cases {
        let vz = FakeVz::new(Whims { refusal: Some(refusal), ..Whims::default() });
        let mut ground = Ground::new(plan(&vz)).await;
        let failure = ground.failure().await;
        assert!(failure.cause.contains(cause) && failure.fix.contains(fix), "{failure:?}");
        assert!(!failure.cause.contains(&failure.fix), "{failure:?}");
    }
    let vz = FakeVz::new(Whims { silent: true, ..Whims::default() });
    let mut ground = Ground::new(Plan { pace: hasty, ..plan(&vz) }).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("did not start the machine within"), "{failure:?}");
}

#[tokio::test]
async fn an_agent_that_does_not_listen_yet_is_tried_again() {
    let vz = FakeVz::new(Whims { absent: true, console: "berth-guest: hello\n", ..Whims::default() });
    let mut ground = Ground::new(plan(&vz)).await;
    ground.status(|status| status.stages.iter().any(|stage| stage.name == "kernel")).await;
    while vz.asked("connect") < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ground.status.borrow().state, State::Booting);
    vz.whims(|whims| whims.absent = false);
    ground.state(State::Ready).await;
    assert_eq!(vz.starts(), 1);
    ground.stop().await;
}

#[tokio::test]
async fn a_guest_that_turns_itself_off_and_a_machine_that_fails_are_started_again() {
    let vz = FakeVz::new(Whims { console: "last words\n", ..Whims::default() });
    let mut ground = Ground::new(plan(&vz)).await;
    let internal = "Internal Virtualization error. The virtual machine stopped unexpectedly.";
    for (how, word) in [(Ended::Stopped, "turned itself off"), (Ended::Failed(internal.to_owned()), internal)] {
        ground.state(State::Ready).await;
        vz.end(how);
        ground.status(|status| status.warnings.iter().any(|warning| warning.contains(word))).await;
    }
    ground.state(State::Ready).await;
    assert_eq!(vz.starts(), 3);
    assert!(std::fs::read_to_string(ground.paths.console_log()).unwrap().contains("last words"));
    ground.stop().await;
}

#[tokio::test]
async fn a_guest_that_hangs_is_asked_by_its_power_button_and_then_killed() {
    for deaf in [false, true] {
        let vz = FakeVz::new(Whims { deaf, ..Whims::default() });
        let habits = Habits { hangs: true, ..Habits::default() };
        let mut ground = Ground::new(Plan { habits, pace: hasty, ..plan(&vz) }).await;
        ground.state(State::Ready).await;
        ground.stop.send_replace(true);
        ground.agent.asked(|request| matches!(request, Request::Sync)).await;
        ground.stop().await;
        assert_eq!((vz.asked("button"), vz.asked("kill")), (1, usize::from(deaf)));
    }
}

#[tokio::test]
async fn a_kernel_of_which_there_is_no_sign_ends_the_start() {
    let vz = FakeVz::new(Whims { absent: true, ..Whims::default() });
    let mut ground = Ground::new(Plan { pace: hasty, ..plan(&vz) }).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("sign of life"), "{failure:?}");
    assert_eq!(vz.asked("kill"), 1);
}

#[tokio::test]
async fn a_kernel_that_gives_up_is_not_left_to_start_over() {
    let panic = "Kernel panic - not syncing: no init found\n";
    let vz = FakeVz::new(Whims { absent: true, console: panic, ..Whims::default() });
    let mut ground = Ground::new(plan(&vz)).await;
    let failure = ground.failure().await;
    assert!(failure.cause.contains("no init found"), "{failure:?}");
    assert_eq!((vz.starts(), vz.asked("kill")), (2, 2), "it may have been a moment's trouble");
}

#[tokio::test]
async fn what_macos_cannot_do_with_a_machine_is_refused_and_what_it_tells_is_shown() {
    let vz = FakeVz::new(Whims::default());
    let mut ground = Ground::new(plan(&vz)).await;
    ground.state(State::Ready).await;
    let upkeep = ground.upkeep.borrow().clone().unwrap();
    assert_eq!(upkeep.metrics().await.unwrap().memory_host_bytes, 0);
    upkeep.trim().await.unwrap();
    assert!(upkeep.reclaim().await.unwrap_err().to_string().contains("stop the engine"));
    assert!(upkeep.grow(5 << 30).await.unwrap_err().to_string().contains("start it with the new size"));
    let lost = Some("the interface is gone".to_owned());
    vz.0.state.lock().unwrap().send_modify(|state| state.network_lost = lost);
    ground.status(|status| status.warnings.iter().any(|warning| warning.contains("the interface is gone"))).await;
    ground.stop().await;
}
