//! The whole life of an engine in a machine, with a fake QEMU and an agent in this process.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod guest;
mod idle;
mod images;
mod life;
mod published;
mod vz;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_testkit::fake_qemu::{self, Agent as Port, Canary, Ending, Remote, Script};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::engine::{Engine, Given, Images};
use super::journal::Journal;
use crate::appliance::Appliance;
use crate::backend::qemu::{self, Accelerator};
use crate::backend::{Backend, EngineSettings, Pace, Shares, Tools, Upkeep};
use crate::error::Error;
use crate::paths::EnginePaths;
use crate::ports;
use crate::slots::Slots;
use crate::slots::tests::appliance;
use crate::socket::{EngineSocket, Gate, OpenFiles, Serving, Settings};
use crate::status::{Failure, State, Status};
use guest::{Agent, Habits};

/// Only a bound against hanging.
const LONG: Duration = Duration::from_secs(60);

async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("it takes for ever")
}

/// An engine that runs, with all that it needs.
struct Ground {
    folder: tempfile::TempDir,
    paths: EnginePaths,
    program: PathBuf,
    agent: Agent,
    status: watch::Receiver<Status>,
    upkeep: watch::Receiver<Option<Upkeep>>,
    stop: watch::Sender<bool>,
    wake: Arc<Notify>,
    running: JoinHandle<Result<(), Failure>>,
    serving: Serving,
}

/// What a test begins with.
struct Plan {
    script: Script,
    habits: Habits,
    hardware: Accelerator,
    pace: fn(Accelerator) -> Pace,
    idle_after: Option<Duration>,
    /// Instead of a fake QEMU.
    vz: Option<vz::FakeVz>,
    /// What is installed; by default something that is good.
    installed: Option<Result<Appliance, Error>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            script: Script { canary: Canary::Sings, ..Script::default() },
            habits: Habits::default(),
            // It has no device that would have to be opened.
            hardware: Accelerator::Hvf,
            pace: Accelerator::pace,
            idle_after: None,
            vz: None,
            installed: None,
        }
    }
}

/// Seconds become tenths: for what is waited for in vain.
fn hasty(accelerator: Accelerator) -> Pace {
    accelerator.pace().faster(20)
}

impl Ground {
    async fn new(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::in_folder(folder, plan).await
    }

    async fn in_folder(folder: tempfile::TempDir, plan: Plan) -> Self {
        let data = folder.path().join("data");
        let paths = EnginePaths::with_runtime(&data, Some(folder.path().to_path_buf())).unwrap();
        paths.create_data().unwrap();
        paths.create_runtime().unwrap();
        let port = folder.path().join("agent");
        let _ = std::fs::remove_file(&port);
        let script = Script { agent: Port::Socket(port.clone()), remote: true, ..plan.script };
        let program = fake_qemu::place(folder.path(), &script).unwrap();
        let power_off: Arc<dyn Fn() + Send + Sync> = match plan.vz.clone() {
            Some(vz) => Arc::new(move || vz.power_off()),
            None => {
                let remote = fake_qemu::remote(&program);
                Arc::new(move || guest::say(&remote, &Remote::Ending(Ending::PowerOff)))
            }
        };
        let agent = Agent::serve(&port, power_off, plan.habits);

        let gate = watch::Sender::new(Gate::Starting { stage: "preparing".to_owned() });
        let socket = EngineSocket::bind(paths.socket()).await.unwrap();
        let serving = socket.serve(gate.subscribe(), Settings::default()).unwrap();
        let journal = Journal::new(&paths);
        journal.enter(State::Preparing);
        let status = journal.subscribe();
        let (stop, stopping) = watch::channel(false);
        let (upkeep, hands) = watch::channel(None);
        let settings = EngineSettings {
            backend: if plan.vz.is_some() { Backend::Vz } else { Backend::Qemu },
            memory_mib: 512,
            cpus: 1,
            disk_gib: 4,
            idle_seconds: None,
            shares: Shares { home: false, folders: Vec::new() },
            file_events: true,
        };
        let wake = Arc::new(Notify::new());
        let usual = || Ok(appliance(&folder.path().join("appliance"), "usual", 1));
        let installed = plan.installed.unwrap_or_else(usual);
        let qemu = qemu::Tools { program: Some(program.clone()), hardware: plan.hardware, pace: plan.pace };
        let given = Given {
            identities: None,
            images: Images::new(Slots::open(&paths, true, installed)),
            settings,
            listener: Arc::new(ports::bind(&paths.ports_socket()).unwrap()),
            open_files: OpenFiles::raise(),
            tools: Tools { qemu, vz: plan.vz.map(|vz| vz.tools(&port, plan.pace)).unwrap_or_default() },
            activity: serving.activity(),
            idle_after: plan.idle_after,
            wake: Arc::clone(&wake),
        };
        let of_engine = paths.clone();
        let running = tokio::spawn(async move {
            let engine = Engine::new(&of_engine, &journal, &gate, given, stopping, upkeep);
            let outcome = engine.run().await;
            if let Err(failure) = &outcome {
                journal.fail(failure.clone());
            }
            outcome
        });
        Self { folder, paths, program, agent, status, upkeep: hands, stop, wake, running, serving }
    }

    /// Waits for a status like this.
    async fn status(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        let found = async { self.status.wait_for(|status| wanted(status)).await.ok().map(|status| status.clone()) };
        match tokio::time::timeout(LONG, found).await {
            Ok(Some(status)) => status,
            Ok(None) | Err(_) => panic!("it does not come to that: {:#?}", self.status.borrow()),
        }
    }

    async fn state(&mut self, state: State) -> Status {
        self.status(|status| status.state == state).await
    }

    async fn stop(self) -> Status {
        self.end().await.0
    }

    /// Stops it, and gives the folder with everything that is left of it.
    async fn end(mut self) -> (Status, tempfile::TempDir) {
        self.stop.send_replace(true);
        bounded(&mut self.running).await.unwrap().unwrap();
        let status = self.status.borrow().clone();
        self.nothing_is_left();
        self.serving.close().await;
        (status, self.folder)
    }

    /// The folder of one that has failed.
    async fn left(self) -> tempfile::TempDir {
        self.serving.close().await;
        self.folder
    }

    /// As if its supervisor were killed.
    async fn killed(mut self) -> tempfile::TempDir {
        self.running.abort();
        let _ = (&mut self.running).await;
        self.nothing_runs().await;
        self.serving.close().await;
        self.folder
    }

    async fn failure(&mut self) -> Failure {
        let failure = bounded(&mut self.running).await.unwrap().unwrap_err();
        self.nothing_is_left();
        failure
    }

    /// Its machine is on its way out, and gets there.
    async fn nothing_runs(&self) {
        let gone = async {
            while Path::new(&format!("/proc/{}/cmdline", self.qemu())).exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        bounded(gone).await;
    }

    /// No process of it runs, and nobody has the disk.
    fn nothing_is_left(&self) {
        for start in fake_qemu::starts(&self.program).unwrap() {
            let command_line = std::fs::read(format!("/proc/{}/cmdline", start.pid)).unwrap_or_default();
            let name = self.folder.path().to_string_lossy().into_owned();
            assert!(!String::from_utf8_lossy(&command_line).contains(&name), "process {} is left", start.pid);
        }
    }

    /// The starts of machines, canaries aside.
    fn starts(&self) -> Vec<Vec<String>> {
        let starts = fake_qemu::starts(&self.program).unwrap().into_iter().map(|start| start.arguments);
        starts.filter(|arguments| !arguments.iter().any(|word| word.starts_with("isa-debug-exit"))).collect()
    }

    fn qemu(&self) -> u32 {
        fake_qemu::starts(&self.program).unwrap().last().unwrap().pid
    }

    async fn ping(&self) -> bool {
        crate::ping::ping(self.paths.socket(), LONG).await
    }
}
