//! A child that does not outlive the thread that started it.
#![allow(unsafe_code, reason = "what is done between fork and exec can be given in no other way")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
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

/// The child, which must be root's, sees this folder read-only, and nothing that is mounted below it.
pub(super) fn read_only(command: &mut Command, folder: &Path) -> io::Result<()> {
    let folder = CString::new(folder.as_os_str().as_bytes())?;
    let nothing = None::<&CStr>;
    let before_exec = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
        mount(Some(folder.as_c_str()), folder.as_c_str(), nothing, MsFlags::MS_BIND, nothing)?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        Ok(mount(nothing, folder.as_c_str(), nothing, flags, nothing)?)
    };
    // SAFETY: between fork and exec the closure only makes system calls (unshare, mount), with text that was made
    // before; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(before_exec) };
    Ok(())
}
