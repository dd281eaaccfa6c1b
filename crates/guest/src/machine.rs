//! PID 1 of a machine of its own, from the kernel's hand-over to the power button.

mod card;
mod dhcp;
mod disk;
mod durable;
mod last_engine;
mod root;
pub(crate) mod shares;
mod stage1;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{Pid, dup2_stdin, dup2_stdout, getpid};

pub(crate) use disk::check_format;
pub(crate) use stage1::{find_root, is_first_process};

use crate::config::{MACHINE_PROXY, Settings};
use crate::error::Error;
use crate::init::{self, Services};
use crate::protocol::{Event, emit};
use crate::reaper::Reaper;
use crate::service::{Name, Service};
use crate::{config, files, network};

/// This program, where stage 1 put it.
const PROGRAM: &str = "/run/berth/berth-guest";
const CGROUP: &str = "docker";
/// How long a machine that could tell nobody what went wrong stays on, for its console to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the machine to its end. It never returns well: the machine is off by then.
pub(crate) fn run() -> Result<ExitCode, Error> {
    if getpid() != Pid::from_raw(1) {
        return Err(Error::Usage("`vm-init` is started by `/init`, as PID 1".to_owned()));
    }
    let ended = serve();
    if let Err(error) = &ended {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "berth-guest: the machine cannot go on: {error}");
        std::thread::sleep(LAST_WORDS);
    }
    shares::let_go();
    disk::let_go();
    reboot(RebootMode::RB_POWER_OFF).map(|never| match never {}).map_err(Error::system("powering off"))
}

fn serve() -> Result<(), Error> {
    root::prepare()?;
    let unshared = shares::mount_all();
    let settings = Settings { cgroup: Some(CGROUP.to_owned()), proxy: MACHINE_PROXY };
    let (mut services, sender) = Services::new(settings)?;
    services.agent = Some(start_agent()?);
    for message in unshared {
        emit(&Event::Warning { message });
    }
    if let Err((stage, error)) = ready_for_services(&mut services) {
        emit(&Event::Failed { stage, cause: error.to_string() });
        // It stays: the host is to hear it, and to say when it is enough.
        services.failure = Some((stage, error.to_string()));
    }
    // From here on every child's end is heard here; before, each was waited for where it was started.
    let reaper = Reaper::start(sender.clone())?;
    init::listen(sender)?;
    init::keep(&mut services, &reaper);
    emit(&Event::Stopped);
    Ok(())
}

/// The agent has the other end of this process's standard input and output, and so has each one that follows it.
fn start_agent() -> Result<Service, Error> {
    let (own, agents) = UnixStream::pair().map_err(Error::io("making the agent's channel"))?;
    dup2_stdin(&own).and_then(|()| dup2_stdout(&own)).map_err(Error::system("making the agent's channel"))?;
    let mut agent = Service::with_channel(Name::Agent, PROGRAM, &["agent"], agents.into());
    agent.start()?;
    Ok(agent)
}

fn ready_for_services(services: &mut Services) -> Result<(), (&'static str, Error)> {
    emit(&Event::Stage { name: "disk" });
    if let Some(message) = disk::prepare().map_err(|error| ("disk", error))? {
        emit(&Event::Warning { message });
    }
    root::close().map_err(|error| ("services", error))?;
    emit(&Event::Stage { name: "services" });
    write_settings(&services.settings).map_err(|error| ("services", error))?;
    // It takes its time to start, in which the network is made ready.
    services.containerd.start().map_err(|error| ("services", error))?;
    if let Some(message) = card::prepare().map_err(|error| ("network", error))? {
        emit(&Event::Warning { message });
    }
    for message in network::prepare().map_err(|error| ("network", error))? {
        emit(&Event::Warning { message });
    }
    Ok(())
}

fn write_settings(settings: &Settings) -> Result<(), Error> {
    files::create_folder("/etc/docker".as_ref())?;
    files::create_folder("/etc/containerd".as_ref())?;
    files::write(config::DAEMON_JSON.as_ref(), &config::daemon(settings, true).to_string())?;
    files::write(config::CONTAINERD_TOML.as_ref(), &config::containerd())
}
