//! The root that services see: the read-only system image, and over it what they may write, in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, umask};

use super::PROGRAM;
use crate::config;
use crate::error::Error;
use crate::files::{create_folder, link, write};
use crate::mounts::{flags, tmpfs};

const HOSTNAME: &str = "berth";

pub(super) fn prepare() -> Result<(), Error> {
    umask(Mode::from_bits_truncate(0o022));
    let _ = fs::set_permissions("/run/berth", fs::Permissions::from_mode(0o700));
    writable_settings()?;
    let (var, temporary) = (Path::new("/var"), Path::new("/tmp"));
    tmpfs(var, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    tmpfs(temporary, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    for folder in ["cache", "lib/berth", "lib/containerd", "lib/docker", "lib/misc", "log/berth", "spool", "tmp"] {
        create_folder(&var.join(folder))?;
    }
    // Whoever logs before there is a data disk keeps its file open: on a mount of its own, it does not hold `/var` open.
    tmpfs(&var.join("log/berth"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    tmpfs(&var.join("tmp"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    link(Path::new("/run"), &var.join("run"))?;
    link(Path::new("/run/lock"), &var.join("lock"))?;
    for folder in ["/run/lock", "/run/notify"] {
        create_folder(Path::new(folder))?;
    }
    link(Path::new(PROGRAM), Path::new(config::MACHINE_PROXY))?;
    // Where containers that manage containers look for the engine.
    link(Path::new(config::DOCKER_SOCKET), Path::new("/run/docker.sock"))?;
    kernel_files()?;
    nix::unistd::sethostname(HOSTNAME).map_err(Error::system("setting the host name"))?;
    // Docker's `rshared` and `rslave` bind mounts need a shared source, as on a host with systemd.
    flags(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SHARED)
}

/// Leaves nothing where a folder could be made by mistake: dockerd makes the source of a bind mount that is not there,
/// and the user would find it empty. What has to be written is mounted by now.
pub(super) fn close() -> Result<(), Error> {
    for folder in ["/var", "/tmp"] {
        flags(
            Path::new(folder),
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        )?;
    }
    Ok(())
}

/// `/etc` as the image has it, with what is written kept in memory.
fn writable_settings() -> Result<(), Error> {
    for folder in ["/run/settings/upper", "/run/settings/work"] {
        create_folder(Path::new(folder))?;
    }
    let layers = "lowerdir=/etc,upperdir=/run/settings/upper,workdir=/run/settings/work";
    mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers))
        .map_err(Error::system("making /etc writable"))?;
    write(Path::new("/etc/hostname"), &format!("{HOSTNAME}\n"))?;
    write(Path::new("/etc/hosts"), &format!("127.0.0.1 localhost\n127.0.1.1 {HOSTNAME}\n::1 localhost ip6-localhost\n"))
}

fn kernel_files() -> Result<(), Error> {
    let secure = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), secure, Some("nsdelegate,memory_recursiveprot"))
        .map_err(Error::system("mounting the cgroups"))?;
    for (kind, at, flags, data) in [
        ("devpts", "/dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("tmpfs", "/dev/shm", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777"),
    ] {
        create_folder(Path::new(at))?;
        mount(Some(kind), at, Some(kind), flags, Some(data)).map_err(Error::system(format!("mounting {at}")))?;
    }
    // Containers that want them have them where the kernel does.
    for (kind, at) in [("mqueue", "/dev/mqueue"), ("securityfs", "/sys/kernel/security"), ("bpf", "/sys/fs/bpf")] {
        if create_folder(Path::new(at)).is_ok() {
            let _ = mount(Some(kind), at, Some(kind), secure, None::<&str>);
        }
    }
    Ok(())
}
