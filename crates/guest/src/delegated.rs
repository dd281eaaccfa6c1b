//! The engine's own cgroup below one that the system left to the user: limits hold without root.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::Error;
use crate::files::{create_folder, write};

const MOUNT: &str = "/sys/fs/cgroup";
/// Below it are all containers; PID 1 and the services are beside it, as a cgroup with others below it may hold none itself.
pub(crate) const CONTAINERS: &str = "containers";
const SERVICES: &str = "services";

/// Makes the engine's cgroup and goes there, for PID 1 to be born in; says where this process was before.
pub(crate) fn enter(folder: &Path) -> Result<PathBuf, Error> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(Error::io("finding the present cgroup"))?;
    let before = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    create_folder(folder)?;
    go(folder)?;
    Ok(Path::new(MOUNT).join(before))
}

/// This process alone: its children stay.
pub(crate) fn go(folder: &Path) -> Result<(), Error> {
    write(&folder.join("cgroup.procs"), "0")
}

/// From here on the present cgroup is the root of all there are.
pub(crate) fn separate() -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(Error::system("a cgroup namespace cannot be made"))
}

/// Mounts them, and leaves the root of them.
pub(crate) fn mount_at(at: &Path) -> Result<(), Error> {
    let secure = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), at, Some("cgroup2"), secure, None::<&str>).map_err(Error::system("mounting the cgroups"))?;
    create_folder(&at.join(SERVICES))?;
    go(&at.join(SERVICES))
}
