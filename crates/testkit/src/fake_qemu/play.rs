//! The fake QEMU as a process: reads its script and plays it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::guest::{self, Options};
use super::{Canary, Crash, Ending, Event, Greeting, Remote, Script, Stage, Start, beside, remote};

const VERSION: &str = "7.2.22 (Fake 1:7.2)";
/// What the canary's debug port makes its exit code.
const CANARY_CODE: i32 = 85;
const LONG_LINE: usize = 1 << 20;

/// Plays the script next to the name it was called by.
///
/// # Errors
/// When there is no script, or a socket breaks that should not.
pub fn run() -> io::Result<()> {
    let mut arguments = std::env::args_os();
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let script: Script = serde_json::from_slice(&std::fs::read(beside(&program, "json"))?)?;
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has("-sandbox") && script.no_sandbox {
        eprintln!("{}: -sandbox support is not enabled in this QEMU binary", program.display());
        std::process::exit(1);
    }
    if has("-version") {
        return writeln!(io::stdout(), "QEMU emulator version {}", script.version.as_deref().unwrap_or(VERSION));
    }
    let mut starts = OpenOptions::new().append(true).create(true).open(beside(&program, "starts"))?;
    let start = Start { pid: std::process::id(), arguments: arguments.clone() };
    writeln!(starts, "{}", serde_json::to_string(&start)?)?;
    if arguments.iter().any(|argument| argument.starts_with("isa-debug-exit")) {
        return sing(script.canary);
    }
    let machine = Arc::new(Machine::new(script, Options::of(&arguments), &program)?);
    machine.crash_at(Stage::Start);
    if machine.script.only_with.is_none() {
        guest::serve_agent(machine.options.agent.as_deref(), &machine.script.agent)?;
    }
    if machine.script.remote {
        take_remote(&machine, &remote(&program))?;
    }
    machine.greet()?;
    machine.crash_at(Stage::Greeted);
    machine.serve()
}

/// Does what is said on the socket, line by line.
fn take_remote(machine: &Arc<Machine>, socket: &Path) -> io::Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    let machine = Arc::clone(machine);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let done = connection.and_then(|connection| {
                BufReader::new(connection).lines().try_for_each(|line| match serde_json::from_str(&line?)? {
                    Remote::Event(event) => machine.happen(&event),
                    Remote::Ending(ending) => machine.end(ending),
                    Remote::Abort => std::process::abort(),
                })
            });
            if let Err(error) = done {
                eprintln!("the remote: {error}");
            }
        }
    });
    Ok(())
}

fn sing(canary: Canary) -> io::Result<()> {
    match canary {
        Canary::Sings => {
            io::stdout().write_all(b"berth\n")?;
            std::process::exit(CANARY_CODE)
        }
        Canary::Aborts => {
            eprintln!("kvm_buf_set_msrs: assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.");
            std::process::abort()
        }
        Canary::Hangs => loop {
            std::thread::park();
        },
    }
}

struct Machine {
    script: Script,
    options: Options,
    control: UnixStream,
    /// One writer at a time; and what `query-status` says.
    state: Arc<Mutex<State>>,
}

struct State {
    output: UnixStream,
    status: String,
    /// Whether what happens once the guest runs has begun.
    ran: bool,
}

impl Machine {
    fn new(mut script: Script, options: Options, program: &Path) -> io::Result<Self> {
        let image = options.disks.first();
        if script.only_with.take_if(|folder| image.is_none_or(|image| !image.starts_with(folder))).is_some() {
            (script.console, script.crash, script.ending) = (Vec::new(), None, None);
        }
        let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        for disk in &options.disks {
            // As QEMU says it.
            if let Err(error) = File::open(disk) {
                eprintln!("{}: Could not open '{}': {error}", program.display(), disk.display());
                std::process::exit(1);
            }
        }
        let state = State { output: control.try_clone()?, status: "prelaunch".to_owned(), ran: false };
        Ok(Self { script, options, control, state: Arc::new(Mutex::new(state)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn crash_at(&self, stage: Stage) {
        let Some(Crash { stage: at, code, says }) = &self.script.crash else { return };
        if *at != stage {
            return;
        }
        if !says.is_empty() {
            eprintln!("{says}");
        }
        match code {
            Some(code) => std::process::exit(*code),
            None => std::process::abort(),
        }
    }

    fn greet(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(self.script.greeting_delay));
        let mut output = self.control.try_clone()?;
        match self.script.greeting {
            Greeting::Right => {
                let version = json!({ "qemu": { "major": 7, "minor": 2, "micro": 22 }, "package": "Fake" });
                say(&mut output, &json!({ "QMP": { "version": version, "capabilities": ["oob"] } }))
            }
            Greeting::Wrong => say(&mut output, &json!({ "jsonrpc": "2.0" })),
            Greeting::Garbage => output.write_all(b"220 ready, how may I help?\n"),
            // Whoever listens may hang up in the middle.
            Greeting::Endless => output.write_all(&vec![b'{'; LONG_LINE]).or(Ok(())),
            Greeting::Silent => Ok(()),
        }
    }

    fn serve(&self) -> io::Result<()> {
        for line in BufReader::new(self.control.try_clone()?).lines() {
            // A supervisor that is gone kills us by other means.
            let Ok(line) = line else { break };
            let command: Value = serde_json::from_str(&line)?;
            let name = command.get("execute").and_then(Value::as_str).unwrap_or_default();
            match name {
                "qmp_capabilities" => self.crash_at(Stage::Negotiating),
                "cont" => self.crash_at(Stage::Continuing),
                _ => {}
            }
            if self.script.deaf_to.iter().any(|deaf| deaf == name) {
                continue;
            }
            let id = command.get("id").cloned().unwrap_or_default();
            let arguments = command.get("arguments").cloned().unwrap_or_default();
            let answer = match self.answer(name, &arguments) {
                Ok(value) => json!({ "return": value, "id": id }),
                Err(why) => json!({ "error": { "class": "GenericError", "desc": why.to_string() }, "id": id }),
            };
            say(&mut self.state().output, &answer)?;
            match name {
                "quit" => self.shut_down("host-qmp-quit")?,
                "cont" if !std::mem::replace(&mut self.state().ran, true) => self.run_guest()?,
                _ => {}
            }
        }
        loop {
            std::thread::park();
        }
    }

    fn answer(&self, name: &str, arguments: &Value) -> io::Result<Value> {
        if self.script.refuses.iter().any(|refused| refused == name) {
            return Err(io::Error::other(format!("'{name}' is refused by the script")));
        }
        match name {
            "qmp_capabilities" | "quit" | "balloon" => {}
            "query-status" => return Ok(json!({ "status": self.state().status })),
            "query-balloon" => return Ok(json!({ "actual": 1 << 30 })),
            "cont" => self.change("RESUME", &Value::Null, "running")?,
            "stop" => self.change("STOP", &Value::Null, "paused")?,
            "block_resize" => {
                let size = arguments.get("size").and_then(Value::as_u64);
                match (size, self.options.disks.last()) {
                    (Some(size), Some(disk)) => OpenOptions::new().write(true).open(disk)?.set_len(size)?,
                    _ => return Err(io::Error::other("no size, or no disk")),
                }
            }
            _ => return Err(io::Error::other(format!("The command {name} has not been found"))),
        }
        Ok(json!({}))
    }

    fn change(&self, event: &str, data: &Value, status: &str) -> io::Result<()> {
        let mut state = self.state();
        state.status = status.to_owned();
        tell(&mut state.output, event, data)
    }

    fn run_guest(&self) -> io::Result<()> {
        let mut console = io::stdout();
        for line in &self.script.console {
            console.write_all(format!("{line}\r\n").as_bytes())?;
        }
        console.flush()?;
        for event in &self.script.events {
            self.happen(event)?;
        }
        self.crash_at(Stage::Running);
        self.script.ending.map_or(Ok(()), |ending| self.end(ending))
    }

    fn happen(&self, Event { event, data, status }: &Event) -> io::Result<()> {
        let status = status.clone().unwrap_or_else(|| self.state().status.clone());
        self.change(event, data, &status)
    }

    fn end(&self, ending: Ending) -> io::Result<()> {
        match ending {
            Ending::PowerOff => self.shut_down("guest-shutdown"),
            Ending::Reset => self.shut_down("guest-reset"),
            Ending::LosesControl => self.control.shutdown(std::net::Shutdown::Both),
        }
    }

    fn shut_down(&self, reason: &str) -> io::Result<()> {
        let guest = reason.starts_with("guest");
        tell(&mut self.state().output, "SHUTDOWN", &json!({ "guest": guest, "reason": reason }))?;
        if let Some(agent) = &self.options.agent {
            let _ = std::fs::remove_file(agent);
        }
        std::process::exit(0)
    }
}

fn tell(output: &mut UnixStream, event: &str, data: &Value) -> io::Result<()> {
    say(output, &json!({ "event": event, "data": data, "timestamp": { "seconds": 0, "microseconds": 0 } }))
}

fn say(output: &mut UnixStream, message: &Value) -> io::Result<()> {
    output.write_all(format!("{message}\r\n").as_bytes())
}
