//! A QEMU process: it ends with its supervisor, is reaped whatever happens, and leaves nothing behind.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};

use super::leash;
use crate::backend::machine::DataDisk;

/// What is given up when the process has ended, not before.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) sockets: Vec<PathBuf>,
    pub(super) disk: Option<DataDisk>,
}

/// A process that has ended: how, unless somebody else reaped it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(pub(super) Option<ExitStatus>);

/// A running process, the leader of its group; dropping it kills the group.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    reaped: Arc<Mutex<bool>>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Process {
    /// Starts it with the smallest of environments, in a thread that lives exactly as long: the kernel kills the
    /// process when the thread that started it ends, and a runtime's threads come and go.
    pub(super) async fn spawn(mut command: Command, held: Held) -> io::Result<(Self, Option<ChildStderr>)> {
        command.env_clear().env("LC_ALL", "C").process_group(0).current_dir("/");
        for name in ["PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        leash::tie(&mut command);
        let (tell, told) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        let of_thread = Arc::clone(&reaped);
        std::thread::Builder::new().name("qemu".to_owned()).spawn(move || {
            let spawned = command.spawn();
            // It holds the child's ends of the sockets, whose closing is how their end is noticed.
            drop(command);
            let mut child = match spawned {
                Ok(child) => child,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let pid = Pid::from_raw(child.id().cast_signed());
            if tell.send(Ok((pid, child.stderr.take()))).is_err() {
                let _ = killpg(pid, Signal::SIGKILL);
            }
            let status = reap(pid, &mut child, &of_thread);
            held.give_up();
            end.send_replace(Some(Ended(status)));
        })?;
        let told = told.await.map_err(|_| io::Error::other("the thread that was to start it ended"))?;
        let (pid, stderr) = told?;
        Ok((Self { pid, reaped, ended }, stderr))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Tells how it ended, once it has.
    pub(super) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.clone()
    }

    /// Kills its group, unless it is gone: QEMU with a vCPU that hangs ignores gentler signals.
    pub(super) fn kill(&self) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        // Once it is reaped its number may be another's.
        if !*reaped {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Held {
    fn give_up(self) {
        for socket in &self.sockets {
            remove(socket);
        }
        drop(self.disk);
    }
}

/// Waits for the end, and only then takes the number back under the lock.
fn reap(pid: Pid, child: &mut Child, reaped: &Mutex<bool>) -> Option<ExitStatus> {
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
    // Whom it started, if anybody, is still in the group, which keeps its number until they are gone.
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait();
    *reaped = true;
    status.inspect_err(|error| tracing::warn!(%error, %pid, "QEMU cannot be waited for")).ok()
}

/// Removes a socket that nobody listens on any more.
pub(super) fn remove(socket: &Path) {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %socket.display(), "a socket cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::{Command, Stdio};

    use super::{Held, Process};

    fn quiet(program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn runs(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn killing_ends_the_group_and_may_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        std::fs::write(&socket, "").unwrap();
        let mut command = quiet("/bin/sh", &["-c", "trap '' TERM; sleep 1000 & wait"]);
        command.stderr(Stdio::piped());
        let held = Held { sockets: vec![socket.clone()], disk: None };
        let (process, stderr) = Process::spawn(command, held).await.unwrap();
        process.kill();
        process.kill();
        let mut ended = process.ended();
        let status = ended.wait_for(Option::is_some).await.unwrap().unwrap().0.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        assert!(!runs(process.pid()) && !socket.exists());
        // The sleep holds the pipe too: it ends only when both are gone.
        assert_eq!(stderr.unwrap().read_to_end(&mut Vec::new()).unwrap(), 0);
        process.kill();
    }

    #[tokio::test]
    async fn what_cannot_be_run_is_an_error_and_what_is_dropped_ends() {
        let missing = Process::spawn(quiet("/nowhere/qemu", &[]), Held::default()).await.unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        let (process, _) = Process::spawn(quiet("/bin/sleep", &["1000"]), Held::default()).await.unwrap();
        let (mut ended, pid) = (process.ended(), process.pid());
        drop(process);
        ended.wait_for(Option::is_some).await.unwrap();
        assert!(!runs(pid));
    }

    #[tokio::test]
    async fn its_environment_is_the_smallest_and_its_files_are_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let (out, file) = (folder.path().join("out"), folder.path().join("new"));
        let script = format!("env; : > '{}'", file.display());
        let mut command = quiet("/bin/sh", &["-c", &script]);
        command.env("LD_PRELOAD", "nothing").stdout(std::fs::File::create(&out).unwrap());
        let (process, _) = Process::spawn(command, Held::default()).await.unwrap();
        process.ended().wait_for(Option::is_some).await.unwrap();
        let names: Vec<String> = std::fs::read_to_string(out)
            .unwrap()
            .lines()
            .map(|line| line.split('=').next().unwrap().to_owned())
            .collect();
        let known = ["LC_ALL", "PATH", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"];
        assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }

    const AS_PARENT: &str = "BERTH_TEST_AS_PARENT";

    /// Twice in one: this test runs itself as the parent that is killed.
    #[tokio::test]
    async fn it_dies_with_a_parent_that_is_killed() {
        if std::env::var_os(AS_PARENT).is_some() {
            let (process, _) = Process::spawn(quiet("/bin/sleep", &["1000"]), Held::default()).await.unwrap();
            eprintln!("child {}", process.pid());
            std::future::pending::<()>().await;
        }
        let name = "backend::qemu::process::tests::it_dies_with_a_parent_that_is_killed";
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(AS_PARENT, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The child has it too, so that its end is the end of both.
        let mut said = BufReader::new(parent.stderr.take().unwrap()).lines();
        let line = said.by_ref().map(Result::unwrap).find(|line| line.starts_with("child ")).unwrap();
        let pid = line.trim_start_matches("child ").parse::<u32>().unwrap();
        assert!(runs(pid));
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert_eq!(said.count(), 0);
    }
}
