//! What Berth needs from the system, and what it is called where.

use std::path::Path;
use std::process::Command;

use crate::process;

use Probe::{AnyPath, AnyProgram, PkgConfig, Program};
use Purpose::{BrowserTests, Build, CrossCheck, CrossGuest, Desktop, DesktopTests, Engine, EngineTests, SocketBench};

/// What a package is for. Nobody has to install what he does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Compiling anything.
    Build,
    /// Building the interface and running scripts: Node.js and npm.
    Browser,
    /// Building the appliance and running the bundled engine.
    Engine,
    /// Building and opening the desktop window.
    Desktop,
    /// The tests against real engines.
    EngineTests,
    /// The tests in a browser.
    BrowserTests,
    /// The tests of the desktop window.
    DesktopTests,
    /// The peer of the engine's socket in its benchmark.
    SocketBench,
    /// Checking the code for other systems.
    CrossCheck,
    /// Linking the guest program for the other processor, besides what [`Self::CrossCheck`] has.
    CrossGuest,
}

/// How to see that something is there without asking a package manager.
#[derive(Debug)]
pub(crate) enum Probe {
    Program(&'static str),
    AnyProgram(&'static [&'static str]),
    PkgConfig(&'static str),
    AnyPath(&'static [&'static str]),
}

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) purpose: Purpose,
    pub(crate) debian: &'static str,
    pub(crate) fedora: &'static str,
    pub(crate) arch: &'static str,
    pub(crate) probe: Probe,
}

impl Package {
    const fn new(purpose: Purpose, [debian, fedora, arch]: [&'static str; 3], probe: Probe) -> Self {
        Self { purpose, debian, fedora, arch, probe }
    }

    /// A program counts wherever it came from; a library has to be the system's own.
    pub(crate) fn has_program(&self) -> bool {
        match self.probe {
            Program(program) => process::find(program).is_some(),
            AnyProgram(programs) => programs.iter().any(|program| process::find(program).is_some()),
            PkgConfig(_) | AnyPath(_) => false,
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        match self.probe {
            Program(_) | AnyProgram(_) => self.has_program(),
            PkgConfig(module) => process::succeeds(Command::new("pkg-config").args(["--exists", module])),
            AnyPath(paths) => paths.iter().any(|path| Path::new(path).exists()),
        }
    }
}

pub(crate) const PACKAGES: &[Package] = &[
    Package::new(Build, ["build-essential", "gcc", "base-devel"], Program("cc")),
    Package::new(Build, ["pkg-config", "pkgconf-pkg-config", "pkgconf"], Program("pkg-config")),
    Package::new(Engine, ["mmdebstrap", "mmdebstrap", "mmdebstrap"], Program("mmdebstrap")),
    // The VM's images: file system, kernel modules, and what kernels and modules are compressed with.
    Package::new(Engine, ["erofs-utils", "erofs-utils", "erofs-utils"], Program("mkfs.erofs")),
    Package::new(Engine, ["kmod", "kmod", "kmod"], Program("depmod")),
    Package::new(Engine, ["xz-utils", "xz", "xz"], Program("xz")),
    Package::new(Engine, ["zstd", "zstd", "zstd"], Program("zstd")),
    Package::new(Engine, ["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"], Program("qemu-system-x86_64")),
    Package::new(Engine, ["slirp4netns", "slirp4netns", "slirp4netns"], Program("slirp4netns")),
    Package::new(Engine, ["iproute2", "iproute", "iproute2"], Program("ip")),
    Package::new(Engine, ["util-linux", "util-linux", "util-linux"], Program("unshare")),
    Package::new(
        Desktop,
        ["libwebkit2gtk-4.1-dev", "webkit2gtk4.1-devel", "webkit2gtk-4.1"],
        PkgConfig("webkit2gtk-4.1"),
    ),
    Package::new(
        Desktop,
        ["libayatana-appindicator3-dev", "libayatana-appindicator-gtk3-devel", "libayatana-appindicator"],
        PkgConfig("ayatana-appindicator3-0.1"),
    ),
    Package::new(Desktop, ["librsvg2-dev", "librsvg2-devel", "librsvg"], PkgConfig("librsvg-2.0")),
    Package::new(Desktop, ["libxdo-dev", "libxdo-devel", "xdotool"], AnyPath(&["/usr/include/xdo.h"])),
    Package::new(
        EngineTests,
        ["busybox-static", "busybox", "busybox"],
        AnyPath(&["/bin/busybox", "/usr/sbin/busybox"]),
    ),
    Package::new(EngineTests, ["iptables", "iptables-nft", "iptables"], Program("iptables")),
    // The engine without root.
    Package::new(EngineTests, ["uidmap", "shadow-utils", "shadow"], Program("newuidmap")),
    Package::new(EngineTests, ["apache2-utils", "httpd-tools", "apache"], Program("htpasswd")),
    Package::new(EngineTests, ["curl", "curl", "curl"], Program("curl")),
    Package::new(EngineTests, ["python3", "python3", "python"], Program("python3")),
    // Debian has it apart, and without it a virtual environment of Python cannot be made.
    Package::new(EngineTests, ["python3-venv", "python3", "python"], AnyPath(&["/usr/bin/python3"])),
    Package::new(EngineTests, ["procps", "procps-ng", "procps-ng"], Program("ps")),
    Package::new(EngineTests, ["openssl", "openssl", "openssl"], Program("openssl")),
    // The server is unpacked beside the old engine on Debian: installed, it would start.
    Package::new(EngineTests, ["openssh-client", "openssh-clients openssh-server", "openssh"], Program("ssh")),
    Package::new(EngineTests, ["podman", "podman", "podman"], Program("podman")),
    Package::new(EngineTests, ["crun", "crun", "crun"], AnyProgram(&["crun", "runc"])),
    // Podman's networks; Debian has it below /usr/lib/podman.
    Package::new(
        EngineTests,
        ["netavark", "netavark", "netavark"],
        AnyPath(&["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"]),
    ),
    Package::new(
        EngineTests,
        ["aardvark-dns", "aardvark-dns", "aardvark-dns"],
        AnyPath(&["/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"]),
    ),
    Package::new(
        BrowserTests,
        ["chromium", "chromium", "chromium"],
        AnyProgram(&["chromium", "chromium-browser", "google-chrome"]),
    ),
    Package::new(
        BrowserTests,
        ["fonts-dejavu-core", "dejavu-sans-fonts", "ttf-dejavu"],
        AnyPath(&["/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/dejavu-sans-fonts", "/usr/share/fonts/TTF"]),
    ),
    Package::new(DesktopTests, ["xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb"], Program("Xvfb")),
    // xvfb-run needs it.
    Package::new(DesktopTests, ["xauth", "xorg-x11-xauth", "xorg-xauth"], Program("xauth")),
    Package::new(DesktopTests, ["dbus", "dbus-daemon", "dbus"], Program("dbus-daemon")),
    Package::new(DesktopTests, ["dbus-x11", "dbus-x11", "dbus"], Program("dbus-launch")),
    Package::new(DesktopTests, ["xdotool", "xdotool", "xdotool"], Program("xdotool")),
    Package::new(DesktopTests, ["imagemagick", "ImageMagick", "imagemagick"], Program("convert")),
    Package::new(
        DesktopTests,
        ["webkit2gtk-driver", "webkit2gtk-driver", "webkit2gtk-4.1"],
        Program("WebKitWebDriver"),
    ),
    Package::new(SocketBench, ["socat", "socat", "socat"], Program("socat")),
    // Debian's backport of the compiler, the one that comes with the source of its standard library.
    Package::new(CrossCheck, ["rustc-web", "-", "-"], AnyPath(&["/usr/bin/rustc"])),
    Package::new(CrossCheck, ["cargo-web", "-", "-"], AnyPath(&["/usr/bin/cargo"])),
    Package::new(CrossCheck, ["rust-web-src", "-", "-"], AnyPath(&["/usr/src/rustc-1.96.0"])),
    Package::new(CrossGuest, ["gcc-aarch64-linux-gnu", "-", "-"], Program("aarch64-linux-gnu-gcc")),
    Package::new(CrossGuest, ["libc6-dev-arm64-cross", "-", "-"], AnyPath(&["/usr/aarch64-linux-gnu/lib/libc.a"])),
];
