//! Where everything of one engine is.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::backend::MOST_SHARES;
use crate::error::Error;

/// A unix socket's address holds 108 bytes; the rest is room for other systems and for a closing zero.
const SOCKET_PATH_LIMIT: usize = 100;
/// The data folder, below the user's home.
const DATA: &str = if cfg!(target_os = "macos") { "Library/Application Support/berth" } else { ".local/share/berth" };
/// Below it the runtime folder's parent, on systems that have no folder for a session's sockets. Not the one for temporary
/// files, which macOS empties.
const RUNTIME: Option<&str> = if cfg!(target_os = "macos") { Some("Library/Caches") } else { None };

/// Where one engine keeps what survives (its data folder) and what does not (its runtime folder).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnginePaths {
    data: PathBuf,
    runtime: PathBuf,
    socket: PathBuf,
    hash: String,
}

impl EnginePaths {
    /// The engine of a data folder; without one, of the user's own: `$XDG_DATA_HOME/berth` or
    /// `~/.local/share/berth`, on macOS `~/Library/Application Support/berth`. Nothing is created.
    ///
    /// # Errors
    ///
    /// There is no default data folder, the current folder is gone, or a socket's path would be too long.
    pub fn new(data: Option<PathBuf>) -> Result<Self, Error> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data
            .or_else(|| variable("XDG_DATA_HOME").map(|folder| folder.join("berth")))
            .or_else(|| variable("HOME").map(|folder| folder.join(DATA)))
            .ok_or(Error::NoDataFolder)?;
        // Root has one place whatever session it works in: a desktop, ssh and cron must find the same engine.
        let of_session = !nix::unistd::geteuid().is_root();
        let runtime = variable("XDG_RUNTIME_DIR").or_else(|| Some(variable("HOME")?.join(RUNTIME?)));
        Self::with_runtime(&data, runtime.filter(|path| of_session && path.is_dir()))
    }

    pub(crate) fn with_runtime(data: &Path, runtime: Option<PathBuf>) -> Result<Self, Error> {
        let data = std::path::absolute(data).map_err(Error::file("find", data))?;
        let data = canonical(&data);
        let hash = hash8(&data);
        let runtime = runtime.unwrap_or_else(|| PathBuf::from("/run")).join("berth").join(&hash);
        let socket = runtime.join("docker.sock");
        let paths = Self { data, runtime, socket, hash };
        let longest = paths.dockerd_socket();
        if longest.as_os_str().len() >= SOCKET_PATH_LIMIT {
            return Err(Error::SocketPathTooLong { path: longest, limit: SOCKET_PATH_LIMIT - 1 });
        }
        Ok(paths)
    }

    /// Tells this engine from those of other data folders: eight hexadecimal digits, the same as long as the folder is.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.hash
    }

    /// The folder that survives: images, containers, volumes, logs.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of the sockets; gone when the engine is stopped.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Where the Docker API is, for everyone: the supervisor's socket, behind which is dockerd's own.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The Docker API, as the engine client takes it.
    #[must_use]
    pub fn endpoint(&self) -> berth_engine::Endpoint {
        berth_engine::Endpoint::Unix(self.socket.clone())
    }

    /// The folder of the supervisor's, dockerd's and containerd's logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.data.join("log")
    }

    /// The supervisor's own log.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.logs().join("supervisor.log")
    }

    /// The same for who only looks on: a connection here is no use of the engine, and does not wake it.
    pub(crate) fn watch_socket(&self) -> PathBuf {
        self.runtime.join("watch.sock")
    }

    /// Where to watch the engine without using it.
    #[must_use]
    pub fn watch_endpoint(&self) -> berth_engine::Endpoint {
        berth_engine::Endpoint::Unix(self.watch_socket())
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// The part of the runtime folder that the native engine sees.
    pub(crate) fn guest_runtime(&self) -> PathBuf {
        self.runtime.join("guest")
    }

    /// Where the native engine's dockerd listens, for the supervisor alone.
    pub(crate) fn dockerd_socket(&self) -> PathBuf {
        self.guest_runtime().join("docker.sock")
    }

    pub(crate) fn ports_socket(&self) -> PathBuf {
        self.guest_runtime().join("ports.sock")
    }

    /// Where a folder is served to the machine.
    pub(crate) fn share_socket(&self, number: usize) -> PathBuf {
        self.runtime.join(format!("share-{number}.sock"))
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.data.join("engine.lock")
    }

    /// Held by the guest, which may outlive its supervisor while it shuts down.
    pub(crate) fn guest_lock_file(&self) -> PathBuf {
        self.data.join("guest.lock")
    }

    /// How the engine is run.
    pub(crate) fn settings_file(&self) -> PathBuf {
        self.data.join("settings.json")
    }

    /// What belongs to a machine.
    pub(crate) fn machine_folder(&self) -> PathBuf {
        self.data.join("vm")
    }

    pub(crate) fn data_disk(&self) -> PathBuf {
        self.machine_folder().join("data.raw")
    }

    /// What is known about system images, and copies of those that work.
    pub(crate) fn images_folder(&self) -> PathBuf {
        self.machine_folder().join("images")
    }

    /// The disks of the two distributions, where there are any.
    pub(crate) fn distributions_folder(&self) -> PathBuf {
        self.data.join("wsl")
    }

    /// There as long as they are.
    pub(crate) fn distributions_file(&self) -> PathBuf {
        self.distributions_folder().join("distributions.json")
    }

    /// What the distributions are called: the engine in the user's own data folder has the plain names.
    pub(crate) fn distribution_names(&self) -> (String, String) {
        let own = Self::new(None).is_ok_and(|own| own.data == self.data);
        let system = if own { "berth".to_owned() } else { self.cgroup() };
        (system.clone(), system + "-data")
    }

    /// Which accelerator was found to work.
    pub(crate) fn accelerator_file(&self) -> PathBuf {
        self.machine_folder().join("accelerator.json")
    }

    /// What a machine of macOS's is known by.
    pub(crate) fn machine_identifier(&self) -> PathBuf {
        self.machine_folder().join("identifier")
    }

    pub(crate) fn console_log(&self) -> PathBuf {
        self.logs().join("console.log")
    }

    pub(crate) fn create_machine_folder(&self) -> Result<(), Error> {
        private_folder(&self.machine_folder())
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.data.join("engine.json")
    }

    /// The cgroup of this engine's containers; another engine's has another name.
    pub(crate) fn cgroup(&self) -> String {
        format!("berth-{}", self.hash)
    }

    pub(crate) fn create_data(&self) -> Result<(), Error> {
        for folder in [self.data.clone(), self.logs()] {
            private_folder(&folder)?;
        }
        Ok(())
    }

    pub(crate) fn create_runtime(&self) -> Result<(), Error> {
        for folder in [self.runtime.clone(), self.guest_runtime()] {
            private_folder(&folder).map_err(|error| match error {
                Error::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    Error::NoRuntimeFolder { folder: folder.clone(), source }
                }
                error => error,
            })?;
            // It may be left from before with another mode.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(Error::file("protect", &folder))?;
        }
        Ok(())
    }

    /// Removes the sockets and their folder. To be called by the supervisor alone, when no guest lives.
    pub(crate) fn remove_runtime(&self) {
        for name in [
            "docker.sock",
            "docker.sock.new",
            "watch.sock",
            "watch.sock.new",
            "control.sock",
            "agent.sock",
            "guest/docker.sock",
            "guest/ports.sock",
        ] {
            let _ = fs::remove_file(self.runtime.join(name));
        }
        for number in 0..MOST_SHARES {
            let _ = fs::remove_file(self.share_socket(number));
        }
        for name in ["guest/root", "guest"] {
            let _ = fs::remove_dir(self.runtime.join(name));
        }
        let _ = fs::remove_dir(&self.runtime);
    }
}

fn private_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::file("create", folder))
}

/// Links resolved as far as the path exists, so that one folder has one engine, by whatever name it is called,
/// before and after it is created.
fn canonical(path: &Path) -> PathBuf {
    let mut rest: Vec<&OsStr> = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(found) = existing.canonicalize() {
            return rest.iter().rev().fold(found, |path, name| path.join(name));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                existing = parent;
            }
            _ => return path.to_path_buf(),
        }
    }
}

fn hash8(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::EnginePaths;
    use crate::error::Error;

    fn paths(data: &str) -> EnginePaths {
        EnginePaths::with_runtime(Path::new(data), Some(PathBuf::from("/run/user/1000"))).unwrap()
    }

    #[test]
    fn each_data_folder_has_its_own_sockets_and_cgroup() {
        let (one, two) = (paths("/nowhere/one"), paths("/nowhere/two"));
        assert_ne!(one.socket(), two.socket());
        assert_ne!(one.cgroup(), two.cgroup());
        assert_eq!(one, paths("/nowhere/one/"));
        assert!(one.socket().starts_with("/run/user/1000/berth"));
        assert_eq!(one.cgroup().len(), "berth-".len() + 8);
    }

    #[test]
    fn a_link_is_the_same_engine_before_and_after_the_folder_exists() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let before = EnginePaths::with_runtime(&link.join("data"), None).unwrap();
        std::fs::create_dir(real.join("data")).unwrap();
        let after = EnginePaths::with_runtime(&link.join("data"), None).unwrap();
        assert_eq!(before, after);
        assert_eq!(before.data(), real.join("data"));
    }

    #[test]
    fn a_path_no_socket_can_have_is_refused_with_the_fix() {
        let long = PathBuf::from(format!("/{}", "x".repeat(90)));
        let error = EnginePaths::with_runtime(Path::new("/data"), Some(long)).unwrap_err();
        assert!(matches!(error, Error::SocketPathTooLong { .. }));
        assert!(error.to_string().contains("XDG_RUNTIME_DIR"), "{error}");
    }

    #[test]
    fn the_runtime_folder_is_the_owners_alone_and_goes_away() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let paths = EnginePaths::with_runtime(&folder.path().join("data"), Some(folder.path().to_path_buf())).unwrap();
        paths.create_runtime().unwrap();
        for folder in [paths.runtime(), &paths.guest_runtime()] {
            assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        for socket in [paths.control_socket(), paths.dockerd_socket()] {
            std::fs::write(socket, "").unwrap();
        }
        paths.remove_runtime();
        assert!(!paths.runtime().exists());
    }
}
