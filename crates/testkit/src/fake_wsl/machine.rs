//! The one machine in which all distributions run, as namespaces of this kernel: its network and `/mnt/wsl` are every
//! distribution's, mounts and processes are each one's own. As in the real one, whatever runs there dies with its
//! distribution, and every distribution with the machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const MACHINE: &str = "machine";

/// Its first process writes down the number that it has outside: `/proc` is still the one of outside.
const START: &str = r#"
set -e
mount --make-rprivate /
mkdir -p "$STATE/shared"
mount -t tmpfs tmpfs "$STATE/shared"
mount --make-shared "$STATE/shared"
ip link set lo up || true
read -r pid rest </proc/self/stat
echo "$pid" >"$STATE/machine.new"
mv "$STATE/machine.new" "$STATE/machine.pid"
exec sleep infinity
"#;

const DISTRIBUTION: &str = r#"
set -e
mount --bind "$ROOT" "$ROOT"
for folder in proc sys dev run tmp mnt/wsl; do mkdir -p "$ROOT/$folder"; done
read -r pid rest </proc/self/stat
mount -t proc proc "$ROOT/proc"
mount --rbind /sys "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount --rbind "$STATE/shared" "$ROOT/mnt/wsl"
# The old root is let go of with all that is mounted in it, which must be nobody else's loss.
mount --make-rprivate "$STATE/shared"
echo "$pid" >"$STATE/$NAME.new"
cd "$ROOT"
exec "$FAKE" --first-process "$STATE" "$NAME"
"#;

/// The first process of a distribution, in the folder that is to be its root. Programs that enter the namespace begin in
/// the root of it, so a changed root of one process would not do.
pub(super) fn first_process(state: &str, name: &str) -> io::Result<()> {
    let state = fs::File::open(state)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    rustix::fs::renameat(&state, format!("{name}.new"), &state, format!("{name}.pid"))?;
    drop(state);
    loop {
        std::thread::park();
    }
}

/// A program in a distribution, with the machine and the distribution started if need be.
pub(super) fn command(state: &Path, name: &str, root: &Path, program: &[&str]) -> io::Result<Command> {
    let machine = match alive(state, MACHINE) {
        Some(pid) => pid,
        None => {
            let namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork"];
            let mut command = Command::new("setsid");
            command.arg("unshare").args(namespaces).args(["sh", "-c", START]);
            begin(command, state, MACHINE)?
        }
    };
    let distribution = match alive(state, name) {
        Some(pid) => pid,
        None => {
            let mut command = Command::new("setsid");
            command.args(["nsenter", "--target", &machine, "--mount", "--net", "--pid", "--ipc", "--uts", "--"]);
            command.args([
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--propagation",
                "unchanged",
                "sh",
                "-c",
                DISTRIBUTION,
            ]);
            command.env("ROOT", root).env("NAME", name).env("FAKE", std::env::current_exe()?);
            begin(command, state, name)?
        }
    };
    let mut command = Command::new("nsenter");
    command.args(["--target", &distribution, "--mount", "--net", "--pid", "--ipc", "--uts", "--"]);
    command.args(program).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(command)
}

fn begin(mut command: Command, state: &Path, name: &str) -> io::Result<String> {
    let _ = fs::remove_file(pid_file(state, name));
    let log = fs::File::create(state.join(format!("{name}.log")))?;
    // Whoever waits for the end of what this process was given must not wait for the machine.
    command.env("STATE", state).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(pid) = alive(state, name) {
            return Ok(pid);
        }
        sleep(Duration::from_millis(10));
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, fs::read_to_string(state.join(format!("{name}.log")))?))
}

fn pid_file(state: &Path, name: &str) -> PathBuf {
    state.join(format!("{name}.pid"))
}

/// The first process of a distribution, or of the machine, if it runs.
fn alive(state: &Path, name: &str) -> Option<String> {
    let pid = fs::read_to_string(pid_file(state, name)).ok()?.trim().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (!status.contains(") Z")).then_some(pid)
}

pub(super) fn runs(state: &Path, name: &str) -> bool {
    alive(state, name).is_some()
}

pub(super) fn terminate(state: &Path, name: &str) -> io::Result<()> {
    if let Some(pid) = alive(state, name) {
        Command::new("kill").args(["-9", &pid]).status()?;
        let end = Instant::now() + PATIENCE;
        while Path::new("/proc").join(&pid).exists() && runs(state, name) && Instant::now() < end {
            sleep(Duration::from_millis(10));
        }
    }
    let _ = fs::remove_file(pid_file(state, name));
    Ok(())
}

pub(super) fn shutdown(state: &Path) -> io::Result<()> {
    terminate(state, MACHINE)
}
