//! Real engines with a data folder of their own, gone without a trace when dropped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Why a throwaway engine did not come up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{program} is missing: {fix}")]
    Missing { program: String, fix: &'static str },
    #[error("{program} could not be run: {source}")]
    Run { program: String, source: std::io::Error },
    #[error("the engine did not come up:\n{log}")]
    NotReady { log: String },
}

/// A program of this workspace, where the tests were built: beside `deps/` of the running test.
#[must_use]
pub fn program(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let here = std::env::current_exe().unwrap_or_default();
    here.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.exists()).unwrap_or_else(|| name.into())
}

/// The engine Berth brings, run by the real `berth` program in a folder of its own.
#[derive(Debug)]
pub struct BundledEngine {
    berth: PathBuf,
    data: TempDir,
    socket: PathBuf,
    environment: Vec<(String, OsString)>,
}

impl BundledEngine {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When the program is not built or the engine does not come up; the error holds its output.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(Vec::new())
    }

    /// The same with variables of our choice in its environment, and so in that of everything it starts.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(environment: Vec<(String, OsString)>) -> Result<Self, Error> {
        let berth = program("berth", "BERTH_BIN");
        let data = tempfile::Builder::new()
            .prefix("berth-test-")
            .tempdir()
            .map_err(|source| Error::Run { program: "mkdir".into(), source })?;
        let mut engine = Self { berth, data, socket: PathBuf::new(), environment };
        engine.engine("start")?;
        engine.socket = PathBuf::from(engine.engine("socket")?.trim());
        Ok(engine)
    }

    /// Runs `berth engine …` on it and gives what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds its output.
    pub fn engine(&self, verb: &str) -> Result<String, Error> {
        let output = Command::new(&self.berth)
            .args(["engine", verb, "--data"])
            .arg(self.data.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Error::Run { program: self.berth.display().to_string(), source })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            return Err(Error::NotReady { log: text(&output.stderr) + &text(&output.stdout) });
        }
        Ok(text(&output.stdout))
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }
}

impl Drop for BundledEngine {
    fn drop(&mut self) {
        if let Err(error) = self.engine("stop") {
            report(&error);
        }
    }
}

/// Debian's dockerd 20.10, the oldest engine Berth is tested against.
#[derive(Debug)]
pub struct OldEngine {
    child: Child,
    folder: TempDir,
}

impl OldEngine {
    /// Starts one on this machine's network, which it leaves alone: it has no bridge of its own. Waits until its socket
    /// takes connections.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error holds its log.
    pub fn start() -> Result<Self, Error> {
        Self::launch(false)
    }

    /// Starts one with a network of its own that leads nowhere, where it may have bridges and ports as it likes.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error holds its log.
    pub fn isolated() -> Result<Self, Error> {
        Self::launch(true)
    }

    fn launch(isolated: bool) -> Result<Self, Error> {
        let unpacked = program("old-engine", "BERTH_OLD_ENGINE").join("root/usr/sbin/dockerd");
        let found = || if unpacked.exists() { unpacked } else { "/usr/sbin/dockerd".into() };
        let dockerd = std::env::var_os("BERTH_OLD_DOCKERD").map_or_else(found, PathBuf::from);
        if !dockerd.exists() {
            let program = dockerd.display().to_string();
            return Err(Error::Missing { program, fix: "run the tests through `cargo xtask test engine`" });
        }
        let run = |source| Error::Run { program: "dockerd".into(), source };
        let folder = tempfile::Builder::new().prefix("berth-old-").tempdir().map_err(run)?;
        let at = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(at("log")).map_err(run)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let beside = dockerd.parent().unwrap_or(Path::new("/")).to_owned();
        let programs = beside.parent().unwrap_or(Path::new("/")).join("bin");
        let mut command = Command::new(if isolated { "unshare".as_ref() } else { dockerd.as_os_str() });
        if isolated {
            // A swarm wants an address that is not the loopback's.
            const SCRIPT: &str = r#"ip link set lo up; ip link add uplink type veth peer name away; ip link set away up;
                ip address add 192.0.2.1/24 dev uplink; ip link set uplink up; exec "$0" "$@""#;
            command.args(["--mount", "--net", "sh", "-c", SCRIPT]).arg(&dockerd);
        } else {
            command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        }
        let child = command
            .env("PATH", format!("{}:{}:{path}", programs.display(), beside.display()))
            .arg("--host")
            .arg(format!("unix://{}", at("docker.sock").display()))
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .args(["--storage-driver", "overlay2"])
            .args(["--cgroup-parent", "/berth-old-engine"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(run)?;
        let engine = Self { child, folder };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(engine.socket()).is_err() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default();
                return Err(Error::NotReady { log });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(engine)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }
}

impl Drop for OldEngine {
    fn drop(&mut self) {
        // dockerd stops its containers and its containerd on SIGTERM, which a plain kill would leave behind.
        let stopped = Command::new("kill").arg(self.child.id().to_string()).status();
        if stopped.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = self.folder.path().display().to_string();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&below))
        {
            let _ = Command::new("umount").arg("--lazy").arg(point).status();
        }
    }
}

/// Removes control groups that are empty, in every hierarchy.
pub(crate) fn remove_groups(hierarchies: &Path, name: &Path) {
    let Ok(entries) = std::fs::read_dir(hierarchies) else { return };
    let parents = entries.flatten().map(|entry| entry.path()).chain([hierarchies.to_owned()]);
    for group in parents.map(|folder| folder.join(name)).filter(|group| group.is_dir()) {
        let _ = Command::new("find").arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]).output();
    }
}

#[expect(clippy::print_stderr, reason = "a test's only way to say that it left something behind")]
fn report(error: &Error) {
    eprintln!("a throwaway engine was not stopped: {error}");
}
