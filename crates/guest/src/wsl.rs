//! In a distribution of WSL, whose kernel and first process are Microsoft's.
//!
//! - `berth-guest wsl --stdio …` is what the host starts. It stays in the distribution: it carries bytes between its own
//!   standard input and output and the agent, and is the way out of the engine's network.
//! - `berth-guest wsl-outer …` makes the namespaces and waits outside them, as `native` does.
//! - `berth-guest wsl-init …` is PID 1 in there: it builds the root, and runs containerd, dockerd and the agent.
//! - `berth-guest wsl-data …` runs in the other distribution, whose disk has the data, and shares its folder.
//!
//! Standard output belongs to the mux. What there is to tell before an agent can, is told in lines on the standard error,
//! in the words that `native` tells its supervisor in.

mod carry;
mod data;
mod network;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;

use nix::unistd::{dup2_stdin, dup2_stdout, geteuid};

pub(crate) use data::run as share_data;

use crate::arguments::Options;
use crate::error::Error;
use crate::files::create_folder;
use crate::init::{self, Services};
use crate::outer;
use crate::protocol::{Event, emit};
use crate::reaper::Reaper;
use crate::service::{Name, Service};

/// Gone with the distribution. Below it, each engine has a folder of its own: one that still stops must not meet the next
/// one's host.
const RUNTIME: &str = "/run/berth";
const WAY: &str = "host.sock";
/// The same, where the engine sees it.
const AGENTS_WAY: &str = "/run/berth/host.sock";
/// This program, where `mounts` copies it.
const PROGRAM: &str = "/berth/berth-guest";
const LINE_LIMIT: u64 = 64 << 10;

/// `wsl --stdio --data FOLDER --cgroup NAME`: runs the engine until standard input ends, or somebody stops it.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let runtime = PathBuf::from(format!("{RUNTIME}/{}", std::process::id()));
    match start(arguments, &runtime) {
        Ok(mut engine) => {
            let status = engine.wait().map_err(Error::io("waiting for the engine"));
            let _ = fs::remove_dir_all(&runtime);
            Ok(ExitCode::from(u8::try_from(status?.code().unwrap_or(1)).unwrap_or(1)))
        }
        Err(error) => {
            tell(&Event::Failed { stage: stage_of(&error), cause: error.to_string() });
            Err(error)
        }
    }
}

fn stage_of(error: &Error) -> &'static str {
    if matches!(error, Error::Disk(_)) { "disk" } else { "start" }
}

fn start(arguments: &[String], runtime: &Path) -> Result<Child, Error> {
    let words = words(arguments, runtime)?;
    let (_, options) = Options::parse(&words)?;
    if !geteuid().is_root() {
        return Err(Error::Usage("`wsl` is started as root".to_owned()));
    }
    data::check(&options.data)?;
    create_folder(&options.runtime)?;
    fs::set_permissions(&options.runtime, fs::Permissions::from_mode(0o700))
        .map_err(Error::file("cannot protect", &options.runtime))?;

    let agent = carry::listen(&options.runtime.join(WAY))?;
    let mut engine = Command::new("/proc/self/exe")
        .arg("wsl-outer")
        .args(words.iter().skip(1))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::io("starting the engine"))?;
    // Its end asks the engine to stop.
    let input = engine.stdin.take();
    agent.carry(move || drop(input))?;
    if let Some(stdout) = engine.stdout.take() {
        let pid = engine.id();
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || relay(stdout, pid))
            .map_err(Error::io("starting a thread"))?;
    }
    Ok(engine)
}

/// The options of all that follows, in the words that `native` takes.
fn words(arguments: &[String], runtime: &Path) -> Result<Vec<String>, Error> {
    let runtime = runtime.to_string_lossy();
    let mut words: Vec<String> = ["native", "--root", "/", "--runtime", &runtime, "--dns", network::DNS]
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut arguments = arguments.iter();
    let mut stdio = false;
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--stdio" => stdio = true,
            "--data" | "--cgroup" => {
                let value = arguments.next().ok_or_else(|| Error::Usage(format!("{name} has no value")))?;
                words.extend([name.clone(), value.clone()]);
            }
            _ => return Err(Error::Usage(format!("{name} is not understood"))),
        }
    }
    if stdio { Ok(words) } else { Err(Error::Usage("`wsl` speaks over --stdio alone".to_owned())) }
}

/// Passes on what the engine tells before it has an agent, and gives it its way out once it has a network.
fn relay(stdout: ChildStdout, pid: u32) {
    let mut input = BufReader::new(stdout);
    let mut line = Vec::new();
    let mut way_out = None;
    loop {
        line.clear();
        match (&mut input).take(LINE_LIMIT).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if is_isolated(&line) {
            match network::attach(pid) {
                Ok(attached) => way_out = Some(attached),
                Err(error) => tell(&Event::Warning { message: error.to_string() }),
            }
        }
        let _ = std::io::stderr().write_all(&line);
    }
    // Whoever says goodbye to other machines while it stops has said it: PID 1 lets go of this pipe early, its parent at the end.
    drop(way_out);
}

fn is_isolated(line: &[u8]) -> bool {
    let event = serde_json::from_slice::<serde_json::Value>(line).ok();
    event.and_then(|event| Some(event.get("event")?.as_str()? == "isolated")).unwrap_or(false)
}

/// Tells the host, as long as no agent can.
fn tell(event: &Event<'_>) {
    let _ = std::io::stderr().write_all(&crate::protocol::line(event));
}

/// `wsl-outer`: as `native`, but for who is PID 1.
pub(crate) fn outer(arguments: &[String]) -> Result<ExitCode, Error> {
    let words = behind("native", arguments);
    let (_, options) = Options::parse(&words)?;
    outer::run_as("wsl-init", &words, &options)
}

fn behind(first: &str, arguments: &[String]) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(arguments.iter().cloned()).collect()
}

/// `wsl-init`: PID 1.
pub(crate) fn init(arguments: &[String]) -> Result<ExitCode, Error> {
    let (_, options) = Options::parse(&behind("init", arguments))?;
    match serve(&options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err((stage, error)) => {
            emit(&Event::Failed { stage, cause: error.to_string() });
            Err(error)
        }
    }
}

fn serve(options: &Options) -> Result<(), (&'static str, Error)> {
    let _lock = init::isolate(options)?;
    let services = |error| ("services", error);
    let (mut engine, sender) = Services::new(options.settings()).map_err(services)?;
    // The agent takes the place of both; the end of what was there before is still the order to stop.
    let input =
        std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::io("keeping the input")).map_err(services)?;
    engine.agent = Some(start_agent().map_err(services)?);
    emit(&Event::Stage { name: "services" });
    engine.containerd.start().map_err(services)?;
    let reaper = Reaper::start(sender.clone()).map_err(services)?;
    init::listen_to(fs::File::from(input), sender.clone()).map_err(services)?;
    init::listen(sender).map_err(services)?;
    init::keep(&mut engine, &reaper);
    emit(&Event::Stopped);
    Ok(())
}

/// As in a machine, the agent has the other end of this process's standard input and output, and so has each one that
/// follows it. The way to the host it finds by its path.
fn start_agent() -> Result<Service, Error> {
    let (own, agents) = UnixStream::pair().map_err(Error::io("making the agent's channel"))?;
    dup2_stdin(&own).and_then(|()| dup2_stdout(&own)).map_err(Error::system("making the agent's channel"))?;
    let mut agent = Service::with_channel(Name::Agent, PROGRAM, &["agent", "--host", AGENTS_WAY], agents.into());
    agent.start()?;
    Ok(agent)
}

#[cfg(test)]
mod tests {
    use super::{Options, is_isolated, words};

    fn parse(text: &str) -> Result<Vec<String>, crate::error::Error> {
        words(&text.split(' ').map(str::to_owned).collect::<Vec<_>>(), "/run/berth/7".as_ref())
    }

    #[test]
    fn the_host_says_where_the_data_is_and_what_the_cgroup_is_called() {
        let words = parse("--stdio --data /mnt/wsl/berth-data --cgroup berth-1").unwrap();
        let (_, options) = Options::parse(&words).unwrap();
        assert_eq!(options.data.to_str(), Some("/mnt/wsl/berth-data"));
        assert_eq!((options.root.to_str(), options.cgroup.as_str()), (Some("/"), "berth-1"));
        assert!(options.dns.is_some() && options.identities.is_none());
        assert!(parse("--data /d --cgroup c").is_err(), "over what else?");
        assert!(parse("--stdio --root /").is_err());
    }

    #[test]
    fn the_network_is_there_when_it_is_said() {
        assert!(is_isolated(b"{\"v\":1,\"event\":\"isolated\"}\n"));
        assert!(!is_isolated(b"{\"v\":1,\"event\":\"waiting\"}\n") && !is_isolated(b"nonsense") && !is_isolated(b"[]"));
    }
}
