//! Stage 1: the initramfs, which holds this program and what the kernel needs to see its disks.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{Pid, chdir, chroot, execv, getpid};

use super::{PROGRAM, shares};
use crate::error::Error;
use crate::files::create_folder;

const NEW_ROOT: &str = "/newroot";
const OS_DISK: &str = "berth-os";
/// A disk is there as soon as its driver is; a machine under load may need a while for it.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
const DISK_PAUSE: Duration = Duration::from_millis(20);

/// Whether this is the program the kernel starts.
pub(crate) fn is_first_process(program: &OsStr) -> bool {
    program == "/init" && getpid() == Pid::from_raw(1)
}

/// Finds the machine's root and goes on there. Returns only when there is no way: the kernel then gives up, which its
/// console shows together with the reason.
pub(crate) fn find_root() -> Result<ExitCode, Error> {
    // The first words on the console, for the kernel is quiet: whoever started the machine waits for them.
    let _ = writeln!(io::stderr(), "berth-guest: the kernel has started");
    kernel_files()?;
    load_modules(Path::new("/modules.list"))?;
    let disk = disk_of(OS_DISK)?;
    shares::mount_root(&disk, Path::new(NEW_ROOT))?;
    bring_own_program()?;
    switch_root().map(|never| match never {})
}

fn kernel_files() -> Result<(), Error> {
    let secure = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (kind, at, flags, data) in [
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=755"),
        ("proc", "/proc", secure, ""),
        ("sysfs", "/sys", secure, ""),
        // Programs are started from here: this one.
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755"),
    ] {
        mount(Some(kind), at, Some(kind), flags, Some(data)).map_err(Error::system(format!("mounting {at}")))?;
    }
    Ok(())
}

fn load_modules(list: &Path) -> Result<(), Error> {
    let list = fs::read_to_string(list).map_err(Error::file("cannot read", list))?;
    for name in list.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let path = Path::new("/modules").join(name);
        let file = File::open(&path).map_err(Error::file("cannot open", &path))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(source) => return Err(Error::System { what: format!("loading {}", path.display()), source }),
        }
    }
    Ok(())
}

/// The disk with that serial number. Which name the kernel gave it says nothing.
pub(super) fn disk_of(serial: &str) -> Result<PathBuf, Error> {
    let deadline = Instant::now() + DISK_PATIENCE;
    loop {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
            if found.trim() == serial {
                return Ok(Path::new("/dev").join(entry.file_name()));
            }
        }
        if Instant::now() >= deadline {
            return Err(Error::Disk(format!("the machine has no disk {serial}")));
        }
        std::thread::sleep(DISK_PAUSE);
    }
}

/// The system image has not this program in it, so that a new one needs no new image.
fn bring_own_program() -> Result<(), Error> {
    let program = Path::new(PROGRAM);
    create_folder(Path::new("/run/berth"))?;
    fs::copy("/init", program).map_err(Error::file("cannot copy to", program))?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("cannot set the mode of", program))?;
    // What the initramfs holds stays in memory for as long as the machine runs.
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
    Ok(())
}

fn switch_root() -> Result<Infallible, Error> {
    for folder in ["dev", "proc", "sys", "run"] {
        let (from, to) = (Path::new("/").join(folder), Path::new(NEW_ROOT).join(folder));
        mount(Some(&from), &to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(Error::system(format!("moving {}", from.display())))?;
    }
    chdir(NEW_ROOT).map_err(Error::system("entering the root"))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(Error::system("making it the root"))?;
    chroot(".").and_then(|()| chdir("/")).map_err(Error::system("entering the root"))?;
    let text = |text: &str| CString::new(text).map_err(|_| Error::Machine(format!("{text:?} is no argument")));
    let arguments = [text(PROGRAM)?, text("vm-init")?];
    execv(&text(PROGRAM)?, &arguments).map_err(Error::system("starting stage 2"))
}
