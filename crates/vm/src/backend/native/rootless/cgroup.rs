//! Limits without root: the cgroup this process was started in, where the system left it to the user ("delegated" it).
//!
//! A cgroup that passes controllers on may hold no processes itself. So whoever is in it goes into one below it, and the
//! engine gets another one. On the way out all is put back.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, getxattr, statfs};

use crate::paths::EnginePaths;

const MOUNT: &str = "/sys/fs/cgroup";
const CGROUP2: u32 = 0x6367_7270;
/// What is missed when it is not passed on.
const LIMITS: [&str; 3] = ["cpu", "memory", "pids"];
/// Processes may start others while they are moved.
const ROUNDS: usize = 20;

/// A cgroup of the user's own, divided between the supervisor and the engine.
#[derive(Debug)]
pub(crate) struct Delegated {
    whole: PathBuf,
    own: PathBuf,
    engine: PathBuf,
}

/// Why there is no cgroup for the engine.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum NotDelegated {
    #[error("this system has the first version of cgroups, which only root may use")]
    FirstVersion,
    #[error(
        "the system did not leave the cgroup of this session to its user; stop it and start it with \
         `systemd-run --user --scope -p Delegate=yes berth engine start`"
    )]
    Withheld,
    #[error("its cgroup cannot be divided (see the log)")]
    Undivided,
}

impl Delegated {
    /// Takes the cgroup this process is in, or says why it cannot be had.
    pub(crate) fn take(paths: &EnginePaths) -> Result<Self, NotDelegated> {
        if kind(Path::new(MOUNT)) != Some(CGROUP2) {
            return Err(NotDelegated::FirstVersion);
        }
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let whole =
            place(&text, &paths.cgroup()).map(|path| Path::new(MOUNT).join(path)).ok_or(NotDelegated::Withheld)?;
        // Before there is one to be put back: in what is not ours, nothing may be written.
        if !is_ours(&whole, Path::new("/run/systemd/system").exists()) {
            return Err(NotDelegated::Withheld);
        }
        let delegated = Self::below(whole, &paths.cgroup());
        delegated.divide().map_err(|error| {
            tracing::warn!(%error, whole = %delegated.whole.display(), "the cgroup cannot be divided");
            NotDelegated::Undivided
        })?;
        Ok(delegated)
    }

    fn below(whole: PathBuf, name: &str) -> Self {
        Self { own: whole.join(own_name(name)), engine: whole.join(name), whole }
    }

    /// Where the engine makes its own.
    pub(crate) fn engine(&self) -> &Path {
        &self.engine
    }

    /// The limits that nevertheless do not hold.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let passed = words(&self.whole.join("cgroup.subtree_control"));
        LIMITS.into_iter().filter(|limit| !passed.iter().any(|word| word == limit)).collect()
    }

    fn divide(&self) -> std::io::Result<()> {
        fs::create_dir(&self.own).or_else(|error| if self.own.is_dir() { Ok(()) } else { Err(error) })?;
        let divided = move_all(&self.whole, &self.own);
        if divided.is_err() {
            self.undo();
            return divided;
        }
        for controller in words(&self.whole.join("cgroup.controllers")) {
            // Those that cannot be passed on are told of.
            let _ = fs::write(self.whole.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        Ok(())
    }

    fn undo(&self) {
        remove_tree(&self.engine);
        for controller in words(&self.whole.join("cgroup.subtree_control")) {
            let _ = fs::write(self.whole.join("cgroup.subtree_control"), format!("-{controller}"));
        }
        let undone = move_all(&self.own, &self.whole).and_then(|()| fs::remove_dir(&self.own));
        if let Err(error) = undone {
            tracing::warn!(%error, cgroup = %self.own.display(), "it stays");
        }
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        self.undo();
    }
}

/// systemd marks what it delegates, and rules over everything else, whoever owns the files.
fn is_ours(whole: &Path, with_systemd: bool) -> bool {
    let files = [whole.to_path_buf(), whole.join("cgroup.procs"), whole.join("cgroup.subtree_control")];
    let marked = || {
        let mut mark = [0; 8];
        getxattr(whole, "user.delegate", &mut mark).is_ok_and(|read| mark.get(..read) == Some(b"1"))
    };
    files.iter().all(|file| access(file, Access::WRITE_OK).is_ok()) && (!with_systemd || marked())
}

/// As far as they are empty.
fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

fn kind(path: &Path) -> Option<u32> {
    u32::try_from(statfs(path).ok()?.f_type & 0xffff_ffff).ok()
}

fn own_name(name: &str) -> String {
    format!("{name}.supervisor")
}

/// The cgroup out of `/proc/self/cgroup`, from the mount on. Whom a supervisor that was killed moved is still below it.
fn place(text: &str, name: &str) -> Option<PathBuf> {
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let path = if path.file_name() == Some(own_name(name).as_ref()) { path.parent()? } else { path };
    let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (plain && path.components().next().is_some()).then(|| path.to_path_buf())
}

fn move_all(from: &Path, to: &Path) -> std::io::Result<()> {
    for _ in 0..ROUNDS {
        let pids = words(&from.join("cgroup.procs"));
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match fs::write(to.join("cgroup.procs"), &pid) {
                // It ended meanwhile.
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => {}
                moved => moved?,
            }
        }
    }
    Err(std::io::ErrorKind::ResourceBusy.into())
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::place;

    #[test]
    fn where_it_is_does_not_change_by_what_a_dead_supervisor_left() {
        let found = |text: &str| place(text, "berth-1");
        assert_eq!(found("1:cpu:/x\n0::/user.slice/a.scope\n"), Some(PathBuf::from("user.slice/a.scope")));
        assert_eq!(found("0::/user.slice/a.scope/berth-1.supervisor\n"), Some(PathBuf::from("user.slice/a.scope")));
        for nowhere in ["0::/\n", "0::/../a\n", "4:memory:/a\n", ""] {
            assert_eq!(found(nowhere), None, "{nowhere}");
        }
    }
}
