//! The machine in QEMU's words.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::MachineSpec;
use super::accelerator::Accelerator;
use super::error::QemuError;

/// By which the guest finds its disks and its agent's port.
const OS_SERIAL: &str = "berth-os";
const DATA_SERIAL: &str = "berth-data";
const AGENT_PORT: &str = "berth.agent.0";
/// What QMP calls the agent's port and the data disk.
pub(super) const AGENT_DEVICE: &str = "agent-port";
pub(super) const DATA_NODE: &str = "data";
/// The rest of a socket's address, which has 108 bytes, is its closing zero.
const SOCKET_PATH_LIMIT: usize = 107;
pub(super) const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// The least a kernel with its initramfs starts in.
const SMALLEST_MEMORY_MIB: u32 = 64;

/// Where the agent's port is on the host.
pub(super) fn agent_socket(runtime: &Path) -> PathBuf {
    runtime.join("agent.sock")
}

/// Refuses what QEMU would misunderstand, or understand and refuse in words of its own.
pub(super) fn check(spec: &MachineSpec) -> Result<(), QemuError> {
    let paths = [&spec.kernel, &spec.initramfs, &spec.os_image, &spec.data_disk, &spec.runtime, &spec.console];
    for path in paths {
        let bad = |why| Err(QemuError::BadPath { path: path.clone(), why });
        if !path.is_absolute() {
            return bad("it does not begin at the root");
        }
        if path.as_os_str().as_bytes().contains(&0) {
            return bad("it has a zero byte");
        }
    }
    for file in [&spec.kernel, &spec.initramfs, &spec.os_image] {
        std::fs::File::open(file).map_err(QemuError::file("read", file))?;
    }
    let socket = agent_socket(&spec.runtime);
    if socket.as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(QemuError::SocketPathTooLong { path: socket, limit: SOCKET_PATH_LIMIT });
    }
    if spec.memory_mib < SMALLEST_MEMORY_MIB {
        return Err(QemuError::BadSize { what: format!("{} MiB of memory", spec.memory_mib) });
    }
    if spec.cpus == 0 || spec.cpus > 255 {
        return Err(QemuError::BadSize { what: format!("{} processors", spec.cpus) });
    }
    Ok(())
}

/// What every machine of ours has in common, the one that tries an accelerator included.
pub(super) fn common(accelerator: Accelerator, sandbox: bool) -> Vec<OsString> {
    let (accel, cpu) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Hvf => ("hvf", "host"),
        Accelerator::Whpx => ("whpx,kernel-irqchip=off", "max"),
        Accelerator::Tcg => ("tcg,thread=multi,tb-size=512", "max"),
    };
    let mut line = Line::default();
    line.all(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    line.all(&["-machine", "q35,vmport=off,smbus=off,sata=off,usb=off,i8042=off", "-accel", accel, "-cpu", cpu]);
    if sandbox {
        line.all(&["-sandbox", SANDBOX]);
    }
    // Standard output is a socket: the console is heard from its first byte on.
    line.all(&["-chardev", "socket,id=console,fd=1", "-serial", "chardev:console"]);
    line.0
}

/// The whole command line. The machine waits for `cont`, so that no event is missed.
pub(super) fn arguments(spec: &MachineSpec) -> Vec<OsString> {
    let mut line = Line(common(spec.accelerator, spec.program.sandbox));
    line.all(&["-S", "-name", "berth,process=berth-vm"]);
    line.all(&["-smp", &spec.cpus.to_string(), "-m", &format!("{}M", spec.memory_mib)]);
    line.path("-kernel", &spec.kernel).path("-initrd", &spec.initramfs).all(&["-append", &spec.command_line]);
    // Standard input is a socket too.
    line.all(&["-chardev", "socket,id=qmp,fd=0", "-mon", "chardev=qmp,mode=control"]);

    line.all(&["-blockdev"]).with_path("driver=file,node-name=os-file,read-only=on,filename=", &spec.os_image, "");
    line.all(&["-blockdev", "driver=raw,node-name=os,file=os-file,read-only=on"]);
    line.all(&["-device", &format!("virtio-blk-pci,drive=os,serial={OS_SERIAL}")]);

    let data = "driver=file,node-name=data-file,discard=unmap,filename=";
    line.all(&["-blockdev"]).with_path(data, &spec.data_disk, "");
    line.all(&[
        "-blockdev",
        &format!("driver=raw,node-name={DATA_NODE},file=data-file,discard=unmap,detect-zeroes=unmap"),
    ]);
    // A full host pauses the machine, which loses nothing; the guest is told of other errors.
    let policy = "werror=enospc,rerror=report";
    line.all(&["-device", &format!("virtio-blk-pci,drive={DATA_NODE},serial={DATA_SERIAL},{policy}")]);

    line.all(&["-device", "virtio-serial-pci"]);
    line.all(&["-chardev"]).with_path("socket,id=agent,path=", &agent_socket(&spec.runtime), ",server=on,wait=off");
    line.all(&["-device", &format!("virtserialport,id={AGENT_DEVICE},chardev=agent,name={AGENT_PORT}")]);

    line.all(&["-netdev", "user,id=network", "-device", "virtio-net-pci,netdev=network,romfile="]);
    line.all(&["-device", "virtio-rng-pci", "-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on"]);
    share(&mut line, spec);
    line.0
}

/// What serves a folder reads and writes the machine's memory itself: without shares it stays QEMU's alone.
fn share(line: &mut Line, spec: &MachineSpec) {
    if spec.shares.is_empty() {
        return;
    }
    line.all(&["-object", &format!("memory-backend-memfd,id=memory,size={}M,share=on", spec.memory_mib)]);
    line.all(&["-machine", "memory-backend=memory"]);
    for (number, share) in spec.shares.iter().enumerate() {
        line.all(&["-chardev"]).with_path(&format!("socket,id=share{number},path="), &share.socket, "");
        line.all(&["-device", &format!("vhost-user-fs-pci,chardev=share{number},tag={}", share.tag)]);
    }
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn all(&mut self, arguments: &[&str]) -> &mut Self {
        self.0.extend(arguments.iter().map(OsString::from));
        self
    }

    /// An option that takes a path as it is.
    fn path(&mut self, option: &str, path: &Path) -> &mut Self {
        self.0.extend([OsString::from(option), path.into()]);
        self
    }

    /// A path among properties.
    fn with_path(&mut self, before: &str, path: &Path, after: &str) {
        let mut argument = OsString::from(before);
        argument.push(doubled(path.as_os_str()));
        argument.push(after);
        self.0.push(argument);
    }
}

/// A comma ends a property's value, two are one comma in it.
fn doubled(value: &OsStr) -> OsString {
    let mut bytes = Vec::with_capacity(value.len());
    for &byte in value.as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::{Path, PathBuf};

    use super::{agent_socket, arguments, check};
    use crate::backend::qemu::tests::spec;
    use crate::backend::qemu::{Accelerator, MachineSpec, QemuError, ShareDevice};

    fn text(spec: &MachineSpec) -> Vec<String> {
        arguments(spec).into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    /// What follows an option, each time it is given.
    fn values<'a>(line: &'a [String], option: &str) -> Vec<&'a str> {
        line.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn the_machine_is_the_one_that_was_described() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path(), Path::new("/usr/bin/qemu"));
        spec.command_line = "console=ttyS0 panic=-1 a=b,c".to_owned();
        (spec.cpus, spec.memory_mib) = (3, 2048);
        spec.program.sandbox = true;
        let line = text(&spec);
        assert_eq!(values(&line, "-append"), ["console=ttyS0 panic=-1 a=b,c"]);
        assert_eq!((values(&line, "-smp"), values(&line, "-m")), (vec!["3"], vec!["2048M"]));
        assert_eq!(values(&line, "-kernel"), [spec.kernel.to_str().unwrap()]);
        assert_eq!(values(&line, "-initrd"), [spec.initramfs.to_str().unwrap()]);
        assert_eq!(values(&line, "-accel"), ["tcg,thread=multi,tb-size=512"]);
        assert_eq!(values(&line, "-sandbox").len(), 1);
        let devices = values(&line, "-device").join("\n");
        for device in [
            "drive=os,serial=berth-os",
            "drive=data,serial=berth-data,werror=enospc",
            "name=berth.agent.0",
            "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on",
            "virtio-rng-pci",
            "netdev=network,romfile=",
        ] {
            assert!(devices.contains(device), "{device} is not in\n{devices}");
        }
        let disks = values(&line, "-blockdev").join("\n");
        assert!(disks.contains("node-name=os,file=os-file,read-only=on"), "{disks}");
        assert!(disks.contains("discard=unmap,detect-zeroes=unmap"), "{disks}");
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot", "-S"] {
            assert!(line.iter().any(|argument| argument == flag), "{flag}");
        }
        (spec.accelerator, spec.program.sandbox) = (Accelerator::Kvm, false);
        let line = text(&spec);
        assert_eq!((values(&line, "-accel"), values(&line, "-cpu")), (vec!["kvm"], vec!["host"]));
        assert!(values(&line, "-sandbox").is_empty());
    }

    #[test]
    fn shares_are_devices_and_the_memory_is_theirs_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path(), Path::new("/usr/bin/qemu"));
        assert!(!text(&spec).join(" ").contains("memfd"));
        for number in 0..2 {
            let socket = PathBuf::from(format!("/r,n/share-{number}.sock"));
            spec.shares.push(ShareDevice { socket, tag: format!("berth-share-{number}") });
        }
        let line = text(&spec);
        assert_eq!(values(&line, "-object"), ["memory-backend-memfd,id=memory,size=128M,share=on"]);
        assert!(values(&line, "-machine").contains(&"memory-backend=memory"));
        assert!(values(&line, "-chardev").contains(&"socket,id=share1,path=/r,,n/share-1.sock"));
        assert!(values(&line, "-device").contains(&"vhost-user-fs-pci,chardev=share1,tag=berth-share-1"));
    }

    #[test]
    fn commas_in_paths_are_no_new_properties() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path(), Path::new("/usr/bin/qemu"));
        spec.data_disk = PathBuf::from("/d,readonly=on/a b,");
        spec.os_image = PathBuf::from("/ö,,s");
        spec.runtime = PathBuf::from("/r,n");
        spec.kernel = PathBuf::from("/k,1");
        let line = text(&spec);
        let disks = values(&line, "-blockdev");
        assert!(disks.iter().any(|disk| disk.ends_with(",filename=/d,,readonly=on/a b,,")), "{disks:?}");
        assert!(disks.iter().any(|disk| disk.ends_with(",filename=/ö,,,,s")), "{disks:?}");
        assert!(line.contains(&"socket,id=agent,path=/r,,n/agent.sock,server=on,wait=off".to_owned()), "{line:?}");
        assert_eq!(values(&line, "-kernel"), ["/k,1"]);
        spec.data_disk = PathBuf::from(OsString::from_vec(b"/not \xff text".to_vec()));
        assert_eq!(arguments(&spec).len(), line.len());
    }

    #[test]
    fn what_cannot_work_is_refused_before_qemu_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let good = spec(folder.path(), Path::new("/usr/bin/qemu"));
        check(&good).unwrap();
        let refused = |change: &dyn Fn(&mut MachineSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            check(&spec).unwrap_err()
        };
        let long = |spec: &mut MachineSpec| spec.runtime = PathBuf::from(format!("/{}", "r".repeat(96)));
        assert!(matches!(refused(&long), QemuError::SocketPathTooLong { limit: 107, .. }));
        let mut longest = good.clone();
        longest.runtime = PathBuf::from(format!("/{}", "r".repeat(95)));
        assert_eq!(agent_socket(&longest.runtime).as_os_str().len(), 107);
        check(&longest).unwrap();
        assert!(matches!(refused(&|spec| spec.console = "console.log".into()), QemuError::BadPath { .. }));
        assert!(matches!(refused(&|spec| spec.data_disk = "/a\0b".into()), QemuError::BadPath { .. }));
        assert!(matches!(refused(&|spec| spec.initramfs = "/nowhere/initramfs".into()), QemuError::File { .. }));
        assert!(matches!(refused(&|spec| spec.memory_mib = 1), QemuError::BadSize { .. }));
        assert!(matches!(refused(&|spec| spec.cpus = 0), QemuError::BadSize { .. }));
    }
}
