//! The processes that give a machine folders of this computer: one virtiofsd for each, confined to it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::leash;
use super::process::{Ended, Held, Process, remove};
use crate::backend::machine::{AbortOnDrop, SharedTail, Told};
use crate::backend::{Condition, GuestEvent, Share, words};
use crate::paths::EnginePaths;

/// C's of QEMU before 8.0, and the one in Rust that came after it, where distributions have them.
const PLACES: [&str; 5] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
    "/usr/local/libexec/virtiofsd",
    "/usr/bin/virtiofsd",
];
const INSTALL: &str = "install `virtiofsd` (on Debian 12 it is in `qemu-system-common`) and start the engine again";
const PATIENCE: Duration = Duration::from_secs(10);
/// With the machine its shares end too: only what it outlives is told.
const OUTLIVED: Duration = Duration::from_secs(2);
const ERROR_LINES: usize = 20;
/// Both say it when they have confined themselves and wait for QEMU.
const WAITING: &str = "Waiting for vhost-user socket";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    C,
    Rust,
}

#[derive(Clone, Debug)]
struct Virtiofsd {
    path: PathBuf,
    kind: Kind,
}

/// A share's device in the machine.
#[derive(Clone, Debug)]
pub(crate) struct ShareDevice {
    pub(crate) socket: PathBuf,
    pub(crate) tag: String,
}

/// Processes that serve folders, until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Serving {
    pub(super) devices: Vec<ShareDevice>,
    /// What the machine is told of them, for its kernel's command line.
    pub(super) words: String,
    /// Which folders it has.
    pub(super) shared: Vec<Share>,
    /// Which folders could not be shared, and why.
    pub(super) warnings: Vec<String>,
    daemons: Vec<Daemon>,
}

/// Why a folder is not shared.
#[derive(Debug, thiserror::Error)]
enum ShareError {
    #[error("there is no such folder here")]
    NoFolder,
    #[error("{} cannot be started: {source}", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("virtiofsd ended ({how}): {last}")]
    Ended { how: String, last: String },
}

#[derive(Debug)]
struct Daemon {
    folder: PathBuf,
    process: Process,
    errors: SharedTail,
}

impl Serving {
    /// Starts one process for each folder. A folder that cannot be shared is left out, with a warning.
    pub(super) async fn start(wanted: &[Share], paths: &EnginePaths) -> Self {
        let mut serving = Self::default();
        if wanted.is_empty() {
            return serving;
        }
        let Some(program) = find().await else {
            let folders: Vec<_> = wanted.iter().map(|share| share.path.display().to_string()).collect();
            let folders = folders.join(", ");
            serving
                .warnings
                .push(format!("the machine has none of your folders ({folders}): there is no virtiofsd; {INSTALL}"));
            return serving;
        };
        for share in wanted {
            let socket = paths.share_socket(serving.shared.len());
            match serve(&program, share, &socket).await {
                Ok(daemon) => {
                    serving.devices.push(ShareDevice { socket, tag: format!("berth-share-{}", serving.shared.len()) });
                    serving.daemons.push(daemon);
                    serving.shared.push(share.clone());
                }
                Err(why) => {
                    let folder = share.path.display();
                    serving.warnings.push(format!("the machine has not the folder {folder}: {why}"));
                }
            }
        }
        serving.words = words(&serving.shared);
        serving
    }

    /// Tells of each that ends before its machine.
    pub(super) fn watch(&self, tell: &mpsc::Sender<GuestEvent>) -> Vec<AbortOnDrop> {
        let dead = watch::Sender::new(Vec::<String>::new());
        let watched = self.daemons.iter().map(|daemon| {
            let (mut ended, folder) = (daemon.process.ended(), daemon.folder.display().to_string());
            let (tell, dead, errors) = (tell.clone(), dead.clone(), daemon.errors.clone());
            AbortOnDrop(tokio::spawn(async move {
                let _ = ended.wait_for(Option::is_some).await;
                tokio::time::sleep(OUTLIVED).await;
                tracing::warn!(folder, errors = ?errors.lines(), "virtiofsd ended");
                let mut folders = String::new();
                dead.send_modify(|dead| {
                    dead.push(folder);
                    folders = dead.join(", ");
                });
                let text = format!(
                    "virtiofsd ended, and containers that use {folders} hang; stop the engine and start it again"
                );
                let _ = tell.send(GuestEvent::Condition { what: Condition::Shares, text: Some(text) }).await;
            }))
        });
        watched.collect()
    }
}

async fn find() -> Option<Virtiofsd> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("virtiofsd"));
    for path in PLACES.map(PathBuf::from).into_iter().chain(in_path.filter(|path| path.is_absolute())) {
        if !path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0) {
            continue;
        }
        let mut command = tokio::process::Command::new(&path);
        command.arg("--version").env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        let said = timeout(PATIENCE, command.output()).await;
        let kind = said.ok().and_then(Result::ok).and_then(|said| kind(&String::from_utf8_lossy(&said.stdout)));
        match kind {
            // It runs as root alone.
            Some(Kind::C) if !nix::unistd::geteuid().is_root() => {}
            Some(kind) => return Some(Virtiofsd { path, kind }),
            None => tracing::warn!(path = %path.display(), "this is no virtiofsd that is known"),
        }
    }
    None
}

/// `virtiofsd version 7.2.22 (Debian …)` is C's, `virtiofsd 1.13.2` Rust's.
fn kind(said: &str) -> Option<Kind> {
    let rest = said.lines().next()?.strip_prefix("virtiofsd ")?;
    match rest.strip_prefix("version ") {
        Some(_) => Some(Kind::C),
        None => {
            rest.trim_start_matches("backend ").starts_with(|first: char| first.is_ascii_digit()).then_some(Kind::Rust)
        }
    }
}

/// Its standard input is the socket it listens on. It may make no devices on the host's disk.
fn arguments(kind: Kind, share: &Share, user: Option<(u32, u32)>) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    match kind {
        Kind::C => {
            let mut options = b"sandbox=namespace,cache=auto,modcaps=-mknod,source=".to_vec();
            for &byte in share.path.as_os_str().as_bytes() {
                if matches!(byte, b',' | b'\\') {
                    options.push(b'\\');
                }
                options.push(byte);
            }
            line.extend(["-f", "--fd=0", "-o"].map(OsString::from));
            line.push(OsString::from_vec(options));
        }
        Kind::Rust => {
            line.extend(["--fd=0", "--sandbox=namespace", "--cache=auto", "--shared-dir"].map(OsString::from));
            line.push(share.path.clone().into());
            match user {
                None => line.push("--modcaps=-mknod".into()),
                // Root in the machine is this user here, and nobody else is anybody.
                Some((uid, gid)) => {
                    line.extend(
                        [format!("--uid-map=:0:{uid}:1:"), format!("--gid-map=:0:{gid}:1:")].map(OsString::from),
                    );
                    if share.read_only {
                        line.push("--readonly".into());
                    }
                }
            }
        }
    }
    line
}

async fn serve(program: &Virtiofsd, share: &Share, socket: &Path) -> Result<Daemon, ShareError> {
    if !share.path.is_dir() {
        return Err(ShareError::NoFolder);
    }
    let said = |source| ShareError::Start { program: program.path.clone(), source };
    remove(socket);
    let listener = UnixListener::bind(socket).map_err(said)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(said)?;
    let root = nix::unistd::geteuid().is_root();
    let user = (!root).then(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    let mut command = Command::new(&program.path);
    command.args(arguments(program.kind, share, user)).stdin(OwnedFd::from(listener));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    if root && share.read_only {
        leash::read_only(&mut command, &share.path).map_err(said)?;
    }
    let held = Held { sockets: vec![socket.to_path_buf()], disk: None };
    let (process, stderr) = Process::spawn(command, held).await.map_err(said)?;
    let errors = SharedTail::new(ERROR_LINES);
    let (ready, mut waiting) = watch::channel(false);
    if let Some(stderr) = stderr {
        let stderr = tokio::process::ChildStderr::from_std(stderr).map_err(said)?;
        let errors = errors.clone();
        tokio::spawn(async move {
            let each = |told| {
                if let Told::Line(line) = told {
                    if line.contains(WAITING) {
                        ready.send_replace(true);
                    }
                    tracing::debug!(line, "virtiofsd");
                }
            };
            errors.follow(stderr, None, each).await;
        });
    }
    let mut ended = process.ended();
    let ready = async {
        tokio::select! {
            Ok(_) = waiting.wait_for(|ready| *ready) => true,
            _ = ended.wait_for(Option::is_some) => false,
        }
    };
    match timeout(PATIENCE, ready).await {
        // One that waits in silence waits too.
        Ok(true) | Err(_) => Ok(Daemon { folder: share.path.clone(), process, errors }),
        Ok(false) => {
            let how = match *process.ended().borrow() {
                Some(Ended(Some(status))) => status.to_string(),
                _ => "nobody knows how".to_owned(),
            };
            let last = errors.lines().pop().unwrap_or_default();
            Err(ShareError::Ended { how, last })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Kind, Serving, arguments, find, kind};
    use crate::backend::Share;
    use crate::paths::EnginePaths;

    #[test]
    fn both_programs_are_known_by_what_they_say() {
        assert_eq!(kind("virtiofsd version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), Some(Kind::C));
        assert_eq!(kind("virtiofsd 1.13.2\n"), Some(Kind::Rust));
        assert_eq!(kind("virtiofsd backend 1.4.0"), Some(Kind::Rust));
        assert_eq!((kind(""), kind("virtiofsd"), kind("bash 5")), (None, None, None));
    }

    #[test]
    fn each_is_confined_to_its_folder() {
        let share = Share { path: PathBuf::from("/srv/a,source=\\ b"), read_only: true };
        let text = |kind, user| -> Vec<String> {
            arguments(kind, &share, user).into_iter().map(|word| word.into_string().unwrap()).collect()
        };
        let line = text(Kind::C, None);
        assert_eq!(line.last().unwrap(), "sandbox=namespace,cache=auto,modcaps=-mknod,source=/srv/a\\,source=\\\\ b",);
        let line = text(Kind::Rust, None);
        assert!(line.contains(&"--sandbox=namespace".to_owned()) && line.contains(&"--modcaps=-mknod".to_owned()));
        assert!(line.contains(&share.path.display().to_string()));
        let line = text(Kind::Rust, Some((1000, 100)));
        for word in ["--uid-map=:0:1000:1:", "--gid-map=:0:100:1:", "--readonly", "--sandbox=namespace"] {
            assert!(line.contains(&word.to_owned()), "{word}: {line:?}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_left_out_and_the_others_are_served() {
        if find().await.is_none() || !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let there = Share { path: folder.path().join("a b,c"), read_only: false };
        std::fs::create_dir(&there.path).unwrap();
        let paths = EnginePaths::with_runtime(folder.path(), Some(folder.path().to_path_buf())).unwrap();
        paths.create_runtime().unwrap();
        let absent = Share { path: folder.path().join("absent"), read_only: false };
        let serving = Serving::start(&[absent.clone(), there], &paths).await;
        assert_eq!(serving.warnings.len(), 1, "{:?}", serving.warnings);
        assert!(serving.warnings[0].contains(&absent.path.display().to_string()));
        assert_eq!(serving.devices[0].tag, "berth-share-0");
        assert!(serving.words.starts_with(" berth.share=0:rw:"));
        let socket = serving.devices[0].socket.clone();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&socket.metadata().unwrap().permissions()) & 0o777, 0o600);
        let mut ended = serving.daemons[0].process.ended();
        drop(serving);
        ended.wait_for(Option::is_some).await.unwrap();
        assert!(!socket.exists());
    }
}
