//! A child that does not outlive the thread that started it.
#![allow(unsafe_code, reason = "what is done between fork and exec can be given in no other way")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getpid, getppid};

/// The kernel kills the child when the **thread** that spawns it ends, which it must therefore do last. What the
/// child creates is its owner's alone.
pub(super) fn tie(command: &mut Command) {
    let parent = getpid();
    let before_exec = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before it was asked to take the child along.
        if getppid() != parent {
            return Err(io::Error::from(Errno::ESRCH));
        }
        umask(Mode::S_IRWXG | Mode::S_IRWXO);
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls (prctl, getppid, umask), all of them
    // async-signal-safe; it allocates nothing, takes no lock and uses nothing but the number it owns.
    unsafe { command.pre_exec(before_exec) };
}
