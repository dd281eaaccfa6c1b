//! The root the engine sees: the appliance's programs, read-only; its own `/etc`, `/run`, `/var`; its data; and
//! the host's own folders under their own names, so that `-v /home/me/project:/src` means what it says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};

use crate::arguments::Options;
use crate::config;
use crate::delegated;
use crate::error::Error;
use crate::files::{copy_link, copy_tree, create_folder, link, write};

const LOCK: &str = "guest.lock";

/// Folders of the host's root that are never shown to the engine: it has its own.
const NOT_SHARED: [&str; 17] = [
    "berth",
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "lost+found",
    "proc",
    "run",
    "sbin",
    "snap",
    "sys",
    "usr",
    "var",
];

/// Character devices every container may be given: name, major, minor, mode.
const DEVICES: [(&str, u64, u64, u32); 6] = [
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("tty", 5, 0, 0o666),
];

/// Devices and folders of devices passed on when the host has them, for `--device` and for overlays in user space.
const PASSED_DEVICES: [&str; 14] = [
    "dri",
    "fuse",
    "hwrng",
    "kfd",
    "kmsg",
    "kvm",
    "loop-control",
    "net",
    "nvidia-caps",
    "ppp",
    "snd",
    "vfio",
    "vhost-net",
    "vhost-vsock",
];

/// Builds the root, moves into it, and lets go of the host's.
pub(crate) fn enter(options: &Options) -> Result<(), Error> {
    umask(Mode::from_bits_truncate(0o022));
    // Slave, not private: what the host mounts later shows up in shared folders; nothing travels back.
    flags(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SLAVE)?;

    let new = options.runtime.join("root");
    create_folder(&new)?;
    tmpfs(&new, MsFlags::empty(), "mode=755")?;
    // A shared folder may hold this very mount; unbindable, it is left out of the copy.
    flags(&new, MsFlags::MS_UNBINDABLE)?;

    programs(&options.root, &new)?;
    settings(options, &new)?;
    kernel_files(&new, options.delegated.is_some())?;
    devices(&new, options.identities.is_some())?;
    state(options, &new)?;
    own_program(&new)?;
    host_folders(&new)?;

    flags(&new, MsFlags::MS_PRIVATE)?;
    nix::unistd::chdir(&new).map_err(Error::system("entering the new root"))?;
    nix::unistd::pivot_root(".", ".").map_err(Error::system("making the new root the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::system("letting go of the host's root"))?;
    nix::unistd::chdir("/").map_err(Error::system("entering the new root"))?;
    // Docker's `rshared` and `rslave` bind mounts need a shared source, as on a host with systemd.
    flags(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SHARED)
}

/// Binds the tree's folders read-only and repeats its links; the folders the guest makes itself are left out.
fn programs(root: &Path, new: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(root).map_err(Error::file("cannot read the appliance", root))? {
        let entry = entry.map_err(Error::file("cannot read the appliance", root))?;
        let name = entry.file_name();
        let target = new.join(&name);
        if entry.path().is_symlink() {
            copy_link(&entry.path(), &target)?;
        } else if ["bin", "lib", "lib32", "lib64", "sbin", "usr"].iter().any(|own| name == *own) {
            create_folder(&target)?;
            bind(&entry.path(), &target, false)?;
            read_only(&target)?;
        }
    }
    Ok(())
}

fn settings(options: &Options, new: &Path) -> Result<(), Error> {
    let etc = new.join("etc");
    copy_tree(&options.root.join("etc"), &etc)?;
    let replace = |name: &str, text: &str| {
        let path = etc.join(name);
        // Written anew, so that a link of that name is replaced and not followed.
        let _ = fs::remove_file(&path);
        write(&path, text)
    };
    let hostname = &options.hostname;
    replace("hostname", &format!("{hostname}\n"))?;
    replace("hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {hostname}\n::1 localhost ip6-localhost\n"))?;
    replace("resolv.conf", &options.dns.map_or_else(String::new, |dns| format!("nameserver {dns}\n")))?;
    if let Ok(zone) = fs::read("/etc/localtime") {
        let path = etc.join("localtime");
        let _ = fs::remove_file(&path);
        fs::write(&path, zone).map_err(Error::file("cannot write", &path))?;
    }
    create_folder(&etc.join("docker"))?;
    create_folder(&etc.join("containerd"))?;
    replace("docker/daemon.json", &config::daemon(&options.settings(), true).to_string())?;
    replace("containerd/config.toml", &config::containerd())
}

fn kernel_files(new: &Path, delegated: bool) -> Result<(), Error> {
    let secure = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = new.join("proc");
    create_folder(&proc)?;
    mount(Some("proc"), &proc, Some("proc"), secure, None::<&str>).map_err(Error::system("mounting /proc"))?;

    let sys = new.join("sys");
    create_folder(&sys)?;
    mount(Some("sysfs"), &sys, Some("sysfs"), secure, None::<&str>).map_err(Error::system("mounting /sys"))?;
    // The mount is made read-only, not the file system: containers on the engine's network share the latter.
    mount(
        None::<&str>,
        &sys,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | secure,
        None::<&str>,
    )
    .map_err(Error::system("making /sys read-only"))?;
    let host = Path::new("/sys/fs/cgroup");
    if delegated {
        delegated::mount_at(&sys.join("fs/cgroup"))?;
    } else if host.is_dir() {
        bind(host, &sys.join("fs/cgroup"), true)?;
    }
    Ok(())
}

/// Who may not make device nodes, not being root of the host, is given the host's own.
fn devices(new: &Path, borrowed: bool) -> Result<(), Error> {
    let dev = new.join("dev");
    create_folder(&dev)?;
    tmpfs(&dev, MsFlags::MS_NOSUID, "mode=755,size=1m")?;
    for (name, major, minor, mode) in DEVICES {
        if borrowed {
            borrow_device(&Path::new("/dev").join(name), &dev.join(name))?;
        } else {
            make_device(&dev.join(name), SFlag::S_IFCHR, makedev(major, minor), mode)?;
        }
    }
    for name in PASSED_DEVICES {
        pass_device(&Path::new("/dev").join(name), &dev.join(name), borrowed);
    }
    for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let tail = text.strip_prefix("loop").or_else(|| text.strip_prefix("nvidia"));
        if tail.is_some_and(|tail| !tail.contains('-')) {
            pass_device(&entry.path(), &dev.join(&name), borrowed);
        }
    }
    for (name, destination) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        link(Path::new(destination), &dev.join(name))?;
    }
    let secure = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let pts = dev.join("pts");
    create_folder(&pts)?;
    mount(Some("devpts"), &pts, Some("devpts"), secure, Some("newinstance,ptmxmode=0666,mode=0620,gid=5"))
        .map_err(Error::system("mounting /dev/pts"))?;
    let shm = dev.join("shm");
    create_folder(&shm)?;
    tmpfs(&shm, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    let mqueue = dev.join("mqueue");
    create_folder(&mqueue)?;
    // A kernel without POSIX message queues still runs containers.
    let _ = mount(Some("mqueue"), &mqueue, Some("mqueue"), secure | MsFlags::MS_NODEV, None::<&str>);
    Ok(())
}

/// Repeats a device, or a folder of devices, of the host. What the host lacks, the engine lacks.
fn pass_device(from: &Path, to: &Path, borrowed: bool) {
    let Ok(status) = nix::sys::stat::lstat(from) else { return };
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        if fs::create_dir_all(to).is_ok() {
            for entry in fs::read_dir(from).into_iter().flatten().flatten() {
                pass_device(&entry.path(), &to.join(entry.file_name()), borrowed);
            }
        }
    } else if kind == SFlag::S_IFCHR || kind == SFlag::S_IFBLK {
        let _ = if borrowed {
            borrow_device(from, to)
        } else {
            make_device(to, kind, status.st_rdev, status.st_mode & 0o777)
        };
    }
}

fn borrow_device(from: &Path, to: &Path) -> Result<(), Error> {
    write(to, "")?;
    bind(from, to, false)
}

fn make_device(path: &Path, kind: SFlag, device: u64, mode: u32) -> Result<(), Error> {
    mknod(path, kind, Mode::from_bits_truncate(mode), device)
        .map_err(Error::system(format!("making the device {}", path.display())))?;
    // `mknod` is subject to the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file("cannot set the mode of", path))
}

fn state(options: &Options, new: &Path) -> Result<(), Error> {
    let run = new.join("run");
    create_folder(&run)?;
    tmpfs(&run, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    for folder in ["berth", "lock", "notify"] {
        create_folder(&run.join(folder))?;
    }
    bind(&options.runtime, &run.join("berth"), false)?;
    // Where containers that manage containers look for the engine.
    link(Path::new(config::DOCKER_SOCKET), &run.join("docker.sock"))?;

    let var = new.join("var");
    create_folder(&var)?;
    tmpfs(&var, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    for folder in ["cache", "lib/containerd", "lib/docker", "lib/misc", "log/berth", "spool"] {
        create_folder(&var.join(folder))?;
    }
    let temporary = var.join("tmp");
    create_folder(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))
        .map_err(Error::file("cannot set the mode of", &temporary))?;
    link(Path::new("/run"), &var.join("run"))?;
    link(Path::new("/run/lock"), &var.join("lock"))?;
    for (name, target) in [("docker", "lib/docker"), ("containerd", "lib/containerd"), ("log", "log/berth")] {
        let source = options.data.join(name);
        create_folder(&source)?;
        bind(&source, &var.join(target), false)?;
    }
    Ok(())
}

/// A copy, not a bind: the file it was started from may be replaced by an upgrade while the engine runs.
fn own_program(new: &Path) -> Result<(), Error> {
    let folder = new.join("berth");
    create_folder(&folder)?;
    let program = folder.join("berth-guest");
    fs::copy("/proc/self/exe", &program).map_err(Error::file("cannot copy to", &program))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("cannot set the mode of", &program))?;
    link(Path::new("berth-guest"), &new.join(config::PROXY.trim_start_matches('/')))
}

fn host_folders(new: &Path) -> Result<(), Error> {
    for entry in fs::read_dir("/").map_err(Error::io("cannot read /"))?.flatten() {
        let name = entry.file_name();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !NOT_SHARED.iter().any(|own| name == *own) {
            let target = new.join(&name);
            create_folder(&target)?;
            bind(&entry.path(), &target, true)?;
        }
    }
    let temporary = new.join("tmp");
    if !temporary.exists() {
        create_folder(&temporary)?;
        tmpfs(&temporary, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    }
    Ok(())
}

pub(crate) fn tmpfs(at: &Path, extra: MsFlags, data: &str) -> Result<(), Error> {
    mount(Some("tmpfs"), at, Some("tmpfs"), extra, Some(data))
        .map_err(Error::system(format!("mounting a tmpfs on {}", at.display())))
}

pub(crate) fn flags(at: &Path, change: MsFlags) -> Result<(), Error> {
    mount(None::<&str>, at, None::<&str>, change, None::<&str>)
        .map_err(Error::system(format!("changing the mount at {}", at.display())))
}

pub(crate) fn bind(from: &Path, to: &Path, recursive: bool) -> Result<(), Error> {
    let more = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | more, None::<&str>).map_err(Error::system(format!(
        "binding {} to {}",
        from.display(),
        to.display()
    )))
}

fn read_only(at: &Path) -> Result<(), Error> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let now = statvfs(at).map_err(Error::system(format!("looking at the mount at {}", at.display())))?.flags();
    // In a user namespace, what the host forbids stays forbidden, and leaving it out is an error.
    let kept = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    let kept = kept.into_iter().filter(|(has, _)| now.contains(*has)).map(|(_, keep)| keep);
    flags(at, kept.fold(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, |all, one| all | one))
}

/// Whether the folder is still the one that the lock is in: it may have been waited for.
pub(crate) fn same(lock: &nix::fcntl::Flock<fs::File>, data: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let path = data.join(LOCK);
    let at = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    let locked = lock.metadata().map_err(Error::file("cannot look at", &path))?;
    match fs::metadata(&path) {
        Ok(present) if at(&present) == at(&locked) => Ok(()),
        _ => Err(Error::Disk(format!("the data folder {} was taken away while it was waited for", data.display()))),
    }
}

/// Opens the lock that says a guest uses the data folder, and waits for it; `on_wait` hears when that takes time.
pub(crate) fn lock(data: &Path, on_wait: impl FnOnce()) -> Result<nix::fcntl::Flock<fs::File>, Error> {
    use nix::fcntl::{Flock, FlockArg};
    let path: PathBuf = data.join(LOCK);
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::file("cannot open", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            on_wait();
            Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, source)| Error::System { what: format!("locking {}", path.display()), source })
        }
        Err((_, source)) => Err(Error::System { what: format!("locking {}", path.display()), source }),
    }
}
