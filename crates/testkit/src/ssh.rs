//! A real ssh server on a port of this computer, gone when dropped, behind which the `docker` command talks to an
//! engine.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::real::{Error, program};

/// Generous, for two cores that do other work: it only says when to give up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Another program may take the port between its choice and its use.
const TRIES: usize = 5;

/// There is no such user but in the server's own namespaces.
const USER: &str = "berth-test";

/// Runs as PID 1 of the new namespaces. The user, and the folder that `sshd` wants for itself, exist in there alone.
const SCRIPT: &str = r#"
set -e
folder=$1 sshd=$2
mount --bind "$folder/passwd" /etc/passwd
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sshd
exec "$sshd" -D -e -f "$folder/sshd_config"
"#;

/// A running `sshd` in namespaces of its own.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    folder: TempDir,
    port: u16,
}

/// As whom `ssh` comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// With the key that is let in.
    Welcome,
    /// With another key.
    Stranger,
    /// With the right key, and without having seen the server's before.
    FirstTime,
}

impl Sshd {
    /// Starts one whose `docker` command talks to the engine that listens on `engine`.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error holds its log.
    pub fn start(engine: &Path) -> Result<Self, Error> {
        let clients = unpacked().into_iter().flat_map(|root| [root.join("usr/bin"), root.join("bin")]);
        let mut path: Vec<String> = clients.map(|folder| folder.display().to_string()).collect();
        path.extend(std::env::var("PATH"));
        Self::launch(engine, &path.join(":"))
    }

    /// Starts one on a machine without the `docker` command.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn without_docker() -> Result<Self, Error> {
        Self::launch(Path::new("/nonexistent/docker.sock"), "/nonexistent")
    }

    fn launch(engine: &Path, path: &str) -> Result<Self, Error> {
        let sshd = server()?;
        let folder = tempfile::Builder::new().prefix("berth-sshd-").tempdir().map_err(run("sshd"))?;
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).map_err(run("sshd"));
        for name in ["host_key", "user_key", "other_key"] {
            let mut keygen = Command::new("ssh-keygen");
            finished("ssh-keygen", keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(name)))?;
        }
        let home = at("home");
        std::fs::create_dir(&home).map_err(run("sshd"))?;
        // Not root, whose files would have a say. `sshd` itself gives up its privileges to a user of its own.
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\n{USER}:*:0:0::{}:/bin/sh\nsshd:*:65534:65534::/nonexistent:/bin/false\n",
            home.display()
        );
        write("passwd", &passwd)?;
        let mut tries = 1;
        let (child, port) = loop {
            let port = free_port().map_err(run("sshd"))?;
            write("sshd_config", &server_config(folder.path(), port, engine, path))?;
            match listening(&sshd, folder.path()) {
                Ok(child) => break (child, port),
                Err(Error::NotReady { log }) if log.contains("Address already in use") && tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        };
        let sshd = Self { child, folder, port };
        let host_key = std::fs::read_to_string(sshd.folder.path().join("host_key.pub")).map_err(run("sshd"))?;
        std::fs::write(sshd.folder.path().join("known_hosts"), format!("engine {host_key}")).map_err(run("sshd"))?;
        for guest in [Guest::Welcome, Guest::Stranger, Guest::FirstTime] {
            sshd.write_client(guest).map_err(run("ssh"))?;
        }
        Ok(sshd)
    }

    /// The user to log in as.
    #[must_use]
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The port it listens on, at 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A program to start in place of `ssh`, which is `ssh` with a configuration of its own: nothing of this user's is
    /// looked at or changed. In there the host `engine` stands for this server, port and all.
    #[must_use]
    pub fn client(&self, guest: Guest) -> PathBuf {
        self.folder.path().join(format!("ssh-{guest:?}"))
    }

    /// The processes of [`Self::client`] that run.
    #[must_use]
    pub fn clients(&self) -> Vec<u32> {
        let list = std::fs::read_to_string(self.folder.path().join("clients")).unwrap_or_default();
        let runs = |process: &u32| {
            let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*self.folder.path().to_string_lossy())
        };
        list.lines().filter_map(|line| line.parse().ok()).filter(runs).collect()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        log(self.folder.path())
    }

    fn write_client(&self, guest: Guest) -> std::io::Result<()> {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let key = if guest == Guest::Stranger { "other_key" } else { "user_key" };
        let known = if guest == Guest::FirstTime { "known_nobody" } else { "known_hosts" };
        let config = format!(
            "Host engine\n    HostName 127.0.0.1\n    Port {}\n    User {USER}\nHost *\n    HostKeyAlias engine\n    \
             IdentityFile {}\n    IdentitiesOnly yes\n    IdentityAgent none\n    UserKnownHostsFile {}\n    \
             GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking ask\n",
            self.port,
            at(key),
            at(known)
        );
        let config_path = at(&format!("config-{guest:?}"));
        std::fs::write(&config_path, config)?;
        let program = self.client(guest);
        std::fs::write(
            &program,
            format!("#!/bin/sh\necho $$ >> '{}'\nexec ssh -F '{config_path}' \"$@\"\n", at("clients")),
        )?;
        std::fs::set_permissions(program, Permissions::from_mode(0o755))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // With PID 1 of its namespaces go all sessions.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server_config(folder: &Path, port: u16, engine: &Path, path: &str) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
         StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n\
         SetEnv \"DOCKER_HOST=unix://{}\" \"PATH={path}\"\n",
        at("host_key"),
        at("user_key.pub"),
        engine.display()
    );
    // Since 9.8 it consists of several programs, which it looks for where an installed one has them.
    for (setting, name) in [("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")] {
        let part =
            unpacked().into_iter().map(|root| root.join("usr/lib/openssh").join(name)).find(|path| path.exists());
        if let Some(part) = part {
            config += &format!("{setting} {}\n", part.display());
        }
    }
    config
}

/// Starts it and waits until it listens.
fn listening(sshd: &Path, folder: &Path) -> Result<Child, Error> {
    let output = std::fs::File::create(folder.join("log")).map_err(run("sshd"))?;
    let mut child = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT, "sshd"])
        .arg(folder)
        .arg(sshd)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .map_err(run("unshare"))?;
    let deadline = Instant::now() + PATIENCE;
    while !log(folder).contains("Server listening on") {
        if child.try_wait().map_err(run("sshd"))?.is_some() || Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::NotReady { log: log(folder) });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}

/// Debian's package lies unpacked beside the old engine, or is installed. `sshd` wants to be called by its whole path.
fn server() -> Result<PathBuf, Error> {
    let roots = unpacked().into_iter().chain([PathBuf::from("/")]);
    let mut places = roots.flat_map(|root| [root.join("usr/sbin/sshd"), root.join("usr/bin/sshd")]);
    places.find(|path| path.exists()).ok_or_else(|| Error::Missing {
        program: "sshd".into(),
        fix: "run the tests through `cargo xtask test engine`",
    })
}

/// Where packages lie unpacked.
fn unpacked() -> Option<PathBuf> {
    let root = program("old-engine", "BERTH_OLD_ENGINE").join("root");
    let beside = || {
        let dockerd = std::env::var_os("BERTH_OLD_DOCKERD").map(PathBuf::from)?;
        dockerd.ancestors().nth(3).filter(|root| *root != Path::new("/")).map(Path::to_owned)
    };
    let root = if root.is_dir() { Some(root) } else { beside() };
    root.and_then(|root| std::path::absolute(root).ok())
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// A port of this computer that nobody listens on at the moment.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a program to its end, which has to be a good one.
pub(crate) fn finished(name: &str, command: &mut Command) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output().map_err(run(name))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::NotReady { log: format!("{name}: {}", String::from_utf8_lossy(&output.stderr)) })
}

pub(crate) fn run(program: &str) -> impl Fn(std::io::Error) -> Error + use<> {
    let program = program.to_owned();
    move |source| Error::Run { program: program.clone(), source }
}
