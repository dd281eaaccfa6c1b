//! The bundled dockerd without what Berth puts around it: tests may freeze it, kill it, starve it and start it again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::real::{Error, program, remove_groups};

/// A throwaway dockerd of the appliance in namespaces of its own, with all that it starts gone when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    folder: TempDir,
}

/// Runs as PID 1 of the new namespaces and starts dockerd again whenever it ended, unless there is a file `hold`.
const SCRIPT: &str = r#"
set -e
root=$1 folder=$2 size=$3
ip link set lo up
ip link add uplink type veth peer name away
ip link set away up
ip address add 192.0.2.1/24 dev uplink
ip link set uplink up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/test"
mount --bind "$folder" "$root/run/test"
[ "$size" = 0 ] || mount -t tmpfs -o "size=${size}m" tmpfs "$root/run/test/data"
set +e
while :; do
    if [ -e "$folder/hold" ]; then sleep 0.02; continue; fi
    rm -f "$root/run/docker.pid"
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$root" dockerd --host unix:///run/test/docker.sock --data-root /run/test/data --pidfile /run/docker.pid \
        --exec-root /run/docker --storage-driver overlay2 --cgroup-parent "/$(basename "$folder")"
done
"#;

impl Daemon {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When the appliance is not built or dockerd does not come up; the error holds its log.
    pub fn start() -> Result<Self, Error> {
        Self::with_space(0)
    }

    /// The same with a disk of so many MiB; 0 for as much as there is.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_space(mebibytes: u32) -> Result<Self, Error> {
        let run = |source| Error::Run { program: "dockerd".into(), source };
        let root = program("appliance", "BERTH_APPLIANCE").join("root");
        if !root.is_dir() {
            let program = root.display().to_string();
            return Err(Error::Missing { program, fix: "run the tests through `cargo xtask test engine`" });
        }
        let folder = tempfile::Builder::new().prefix("berth-daemon-").tempdir().map_err(run)?;
        std::fs::create_dir(folder.path().join("data")).map_err(run)?;
        let log = std::fs::File::create(folder.path().join("log")).map_err(run)?;
        let child = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", SCRIPT, "daemon"])
            .arg(root)
            .arg(folder.path())
            .arg(mebibytes.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(run)?;
        let daemon = Self { child, folder };
        daemon.wait_until_up()?;
        Ok(daemon)
    }

    /// Waits until its socket takes connections.
    ///
    /// # Errors
    /// When it does not in a minute; the error holds its log.
    pub fn wait_until_up(&self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if Instant::now() > deadline {
                return Err(Error::NotReady { log: self.log() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends a signal to its processes of a name, such as `dockerd`, `containerd` or `containerd-shim`, and gives how
    /// many there were.
    #[must_use]
    pub fn signal(&self, name: &str, signal: &str) -> usize {
        let victims = descendants(self.child.id(), name);
        for victim in &victims {
            let _ = Command::new("kill").arg(format!("-{signal}")).arg(victim.to_string()).status();
        }
        victims.len()
    }

    /// Kills dockerd without a word; it does not come back before [`Self::revive`].
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn kill(&self) -> std::io::Result<()> {
        std::fs::write(self.folder.path().join("hold"), "")?;
        let _ = self.signal("dockerd", "KILL");
        while !descendants(self.child.id(), "dockerd").is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts dockerd again after [`Self::kill`] and waits until it takes connections.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn revive(&self) -> Result<(), Error> {
        // The socket of before takes no connections, so that it need not be told from the new one.
        let _ = std::fs::remove_file(self.folder.path().join("hold"));
        self.wait_until_up()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A stopped process would not die with its namespace in time for its folder to be removed.
        let _ = self.signal("dockerd", "CONT");
        let _ = self.child.kill();
        let _ = self.child.wait();
        let name = self.folder.path().file_name().unwrap_or_default().to_owned();
        remove_groups(Path::new("/sys/fs/cgroup"), Path::new(&name));
    }
}

/// The processes of that name below `parent`. The kernel cuts names to 15 characters.
fn descendants(parent: u32, name: &str) -> Vec<u32> {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let mut found = Vec::new();
    let mut waiting = vec![parent];
    while let Some(process) = waiting.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = read(format!("{}/children", task.path().display()));
            waiting.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        let own = read(format!("/proc/{process}/comm"));
        if own.trim() == name || (name.len() > 12 && own.trim().starts_with(name)) {
            found.push(process);
        }
    }
    found
}
