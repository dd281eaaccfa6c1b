//! Podman's service of Docker's API, an engine of another make.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::real::{Error, remove_groups};

/// A throwaway Podman with storage, state and networks of its own. It and all of its containers live in namespaces that
/// end with it, so that nothing of the system's own Podman is touched and nothing is left.
#[derive(Debug)]
pub struct PodmanEngine {
    child: Child,
    folder: TempDir,
}

/// Runs as PID 1 of the new namespaces. It stays, since orphaned monitors of containers need somebody to reap them.
const SCRIPT: &str = r#"
set -e
ip link set lo up
for folder in /run/netns /run/libpod /run/containers /run/crun /var/lib/containers; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
done
# crun refuses to run beside an empty second version of control groups.
umount /sys/fs/cgroup/unified 2>/dev/null || true
podman --root "$1/root" --runroot "$1/runroot" --tmpdir "$1/libpod" --storage-driver "$2" \
    --cgroup-manager cgroupfs --events-backend file system service --time 0 "unix://$1/podman.sock"
"#;

/// Registries on its own loopback speak plain HTTP, as Docker allows them to without being told.
const REGISTRIES: &str = r#"
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "127.0.0.1"
insecure = true
"#;

impl PodmanEngine {
    /// Starts one and waits until its socket takes connections.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error holds its log.
    pub fn start() -> Result<Self, Error> {
        let run = |source| Error::Run { program: "podman".into(), source };
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join("podman").exists());
        if !found {
            return Err(Error::Missing {
                program: "podman".into(),
                fix: "run the tests through `cargo xtask test engine`",
            });
        }
        let folder = tempfile::Builder::new().prefix("berth-podman-").tempdir().map_err(run)?;
        let configuration = folder.path().join("containers.conf");
        std::fs::write(&configuration, configure(folder.path())).map_err(run)?;
        std::fs::create_dir(folder.path().join("tmp")).map_err(run)?;
        let registries = folder.path().join("registries.conf");
        std::fs::write(&registries, REGISTRIES).map_err(run)?;
        let log = std::fs::File::create(folder.path().join("log")).map_err(run)?;
        let child = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", SCRIPT, "podman-engine"])
            .arg(folder.path())
            .arg("overlay")
            .env("CONTAINERS_CONF", &configuration)
            .env("CONTAINERS_REGISTRIES_CONF", &registries)
            .env("TMPDIR", folder.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(run)?;
        let mut engine = Self { child, folder };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(engine.socket()).is_err() {
            if Instant::now() > deadline || engine.child.try_wait().map_err(run)?.is_some() {
                return Err(Error::NotReady { log: engine.log() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(engine)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("podman.sock")
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PodmanEngine {
    fn drop(&mut self) {
        // With the first process of its namespace everything in it ends, and with the last its mounts do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its own alone: a group of another Podman is empty for the moment between its making and its first process.
        let containers = std::fs::read_dir(self.folder.path().join("root/overlay-containers"));
        for container in containers.into_iter().flatten().flatten() {
            let group = format!("libpod_parent/libpod-{}", container.file_name().to_string_lossy());
            remove_groups(Path::new("/sys/fs/cgroup"), Path::new(&group));
        }
    }
}

fn configure(folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    // Podman asks for more open files than a machine without CAP_SYS_RESOURCE may give.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let hard = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().rev().nth(1).and_then(|value| value.parse::<u64>().ok()).unwrap_or(65_536)
    };
    let (files, processes) = (hard("Max open files"), hard("Max processes"));
    format!(
        r#"[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
log_driver = "k8s-file"
[engine]
events_logger = "file"
tmp_dir = "{}"
volume_path = "{}"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]
[network]
network_backend = "netavark"
network_config_dir = "{}"
"#,
        at("libpod"),
        at("volumes"),
        at("networks"),
    )
}
