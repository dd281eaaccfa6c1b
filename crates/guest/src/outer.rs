//! The process outside: it makes the namespaces, starts PID 1 in them, and is what the supervisor waits for.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::arguments::Options;
use crate::error::Error;
use crate::identities::Identities;
use crate::protocol::{Event, emit};
use crate::{cgroups, delegated};

/// Runs the guest to its end and relays its exit code.
///
/// The supervisor holds the other end of stdin. PID 1 has a pipe of its own from here, so that the end of the
/// supervisor, the end of this process and a SIGTERM are all the same to it: the end of its input.
pub(crate) fn run(arguments: &[String], options: &Options) -> Result<ExitCode, Error> {
    run_as("init", arguments, options)
}

/// The same, where this program is PID 1 under another name.
pub(crate) fn run_as(inner: &str, arguments: &[String], options: &Options) -> Result<ExitCode, Error> {
    let before = match apart(options) {
        Ok(before) => before,
        Err(error) => {
            emit(&Event::Failed { stage: "namespaces", cause: error.to_string() });
            return Err(error);
        }
    };

    let child = Command::new("/proc/self/exe")
        .arg(inner)
        .args(arguments.iter().skip(1))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(Error::io("PID 1 cannot be started"));
    if let Some(before) = &before {
        // The engine's cgroup is PID 1's alone, and could not be removed with this process in it.
        delegated::go(before)?;
    }
    let code = relay(&mut child?);
    // Everything in the pid namespace is dead once its PID 1 is, so the cgroups are empty now.
    // One that was left to a user cannot be seen from here since PID 1 has changed the root: the supervisor removes it.
    if options.delegated.is_none() {
        cgroups::remove(&options.cgroup);
    }
    code
}

/// Leaves the host's namespaces; says in which cgroup this process was, if it is in the engine's now.
fn apart(options: &Options) -> Result<Option<PathBuf>, Error> {
    let before = options.delegated.as_deref().map(delegated::enter).transpose()?;
    options.identities.as_ref().map_or(Ok(()), Identities::enter)?;
    namespaces()?;
    Ok(before)
}

fn namespaces() -> Result<(), Error> {
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET,
    )
    .map_err(Error::system("new namespaces cannot be made"))
}

fn relay(child: &mut Child) -> Result<ExitCode, Error> {
    // Blocked only now: a child inherits the mask, and nothing in the guest may start with these blocked.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block().map_err(Error::system("signals cannot be blocked"))?;
    let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(Error::system("signals cannot be read"))?;
    let stdin = std::io::stdin();
    let mut to_child = child.stdin.take();

    loop {
        if let Some(status) = child.try_wait().map_err(Error::io("PID 1 cannot be waited for"))? {
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)));
        }
        let mut sources = vec![PollFd::new(signal_fd.as_fd(), PollFlags::POLLIN)];
        if to_child.is_some() {
            sources.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(source) => return Err(Error::System { what: "waiting for PID 1".to_owned(), source }),
        }
        let input = sources.get(1).and_then(PollFd::any).unwrap_or(false);
        while let Ok(Some(signal)) = signal_fd.read_signal() {
            if i32::try_from(signal.ssi_signo) != Ok(Signal::SIGCHLD as i32) {
                to_child = None;
            }
        }
        if input {
            to_child = to_child.and_then(pump);
        }
    }
}

/// Passes on one piece of the supervisor's commands; gives the pipe back unless either side has ended.
fn pump(mut to_child: ChildStdin) -> Option<ChildStdin> {
    let mut buffer = [0; 512];
    // Not through `Stdin`: what its buffer holds, `poll` does not see.
    let read = nix::unistd::read(std::io::stdin().as_fd(), &mut buffer).ok()?;
    if read == 0 {
        return None;
    }
    to_child.write_all(buffer.get(..read)?).ok()?;
    Some(to_child)
}
