//! The kernel: found by the package that depends on the newest, unpacked, and made into what a machine boots.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::command;
use super::elf::Elf;
use super::error::{ApplianceError, at};
use super::packages::{Package, stanzas};
use super::recipe::Architecture;

/// A kernel as its packages hold it.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The folder of its modules.
    pub(super) modules: PathBuf,
    pub(super) release: String,
    pub(super) image: PathBuf,
    pub(super) packages: Vec<Package>,
}

/// Downloads a kernel's packages, by the archive a tree was made from, and unpacks them into a folder.
pub(super) fn unpack(
    package: &str,
    architecture: Architecture,
    root: &Path,
    folder: &Path,
) -> Result<Unpacked, ApplianceError> {
    let apt = Apt { root, architecture };
    let packages = apt.kernel_packages(package)?;
    let archives = folder.join("archives");
    fs::create_dir_all(&archives).map_err(at(format!("creating {}", archives.display())))?;
    let mut download = apt.command("apt-get");
    download.args(["--quiet", "download"]).current_dir(&archives);
    download.args(packages.iter().map(|package| format!("{}={}", package.name, package.version)));
    command::run(&mut download)?;
    let content = folder.join("content");
    for archive in list(&archives)? {
        command::run(command::tool("dpkg-deb").arg("--extract").arg(&archive).arg(&content))?;
    }
    find(&content, packages)
}

/// apt with the sources and the lists of a tree.
#[derive(Debug)]
struct Apt<'a> {
    root: &'a Path,
    architecture: Architecture,
}

impl Apt<'_> {
    fn command(&self, program: &str) -> Command {
        let option = |name: &str, path: &str| format!("{name}={}", self.root.join(path).display());
        let mut command = command::tool(program);
        command
            .args(["-o", &option("Dir", ""), "-o", &option("Dir::State::status", "var/lib/dpkg/status")])
            .args(["-o", &option("Dir::Cache", "var/cache/apt"), "-o", &option("Dir::Log", "var/log/apt")])
            // These are this machine's own: its programs, and the keys it trusts.
            .args(["-o", "Dir::Bin::methods=/usr/lib/apt/methods", "-o", "APT::Sandbox::User=root"])
            .args([
                "-o",
                "Dir::Etc::trusted=/etc/apt/trusted.gpg",
                "-o",
                "Dir::Etc::trustedparts=/etc/apt/trusted.gpg.d/",
            ])
            .args(["-o", &format!("APT::Architecture={}", self.architecture.debian())])
            .args(["-o", &format!("APT::Architectures={}", self.architecture.debian())]);
        command
    }

    /// The package and those of the kernel that it leads to: image, modules, and what both need of the kernel's own.
    fn kernel_packages(&self, package: &str) -> Result<Vec<Package>, ApplianceError> {
        let mut wanted = vec![package.to_owned()];
        let mut seen = BTreeSet::new();
        let mut packages = Vec::new();
        while let Some(name) = wanted.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let shown = command::output(self.command("apt-cache").args(["--no-all-versions", "show"]).arg(&name))?;
            let text = String::from_utf8_lossy(&shown.stdout);
            let fields = stanzas(&text).next().unwrap_or_default();
            let field = |key: &str| fields.get(key).map(|value| (*value).to_owned());
            let (Some(version), Some(architecture)) = (field("Version"), field("Architecture")) else {
                return Err(ApplianceError::NoKernel { package: name });
            };
            wanted.extend(kernel_dependencies(fields.get("Depends").unwrap_or(&"")));
            packages.push(Package { name, version, architecture, sha256: field("SHA256") });
        }
        packages.sort();
        Ok(packages)
    }
}

/// The packages of the kernel's own source among those that a package depends on. The generator of an initramfs is not
/// among them: we bring our own.
fn kernel_dependencies(depends: &str) -> Vec<String> {
    let first_names = depends.split(',').filter_map(|choice| choice.split_whitespace().next());
    let own = ["linux-base-", "linux-binary-", "linux-image-", "linux-modules-"];
    first_names.filter(|name| own.iter().any(|start| name.starts_with(start))).map(str::to_owned).collect()
}

fn find(content: &Path, packages: Vec<Package>) -> Result<Unpacked, ApplianceError> {
    let bad = |why: &str| ApplianceError::BadKernel { path: content.to_owned(), why: why.to_owned() };
    let folder =
        ["usr/lib/modules", "lib/modules"].map(|path| content.join(path)).into_iter().find(|path| path.is_dir());
    let folder = folder.ok_or_else(|| bad("its packages hold no folder of modules"))?;
    let [modules] = <[PathBuf; 1]>::try_from(list(&folder)?)
        .map_err(|found| bad(&format!("its packages hold the modules of {} kernels", found.len())))?;
    let release = modules.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let places = [modules.join("vmlinuz"), content.join(format!("boot/vmlinuz-{release}"))];
    let image = places.into_iter().find(|path| path.is_file()).ok_or_else(|| bad("its packages hold no kernel"))?;
    Ok(Unpacked { modules, release, image, packages })
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, ApplianceError> {
    let entries = fs::read_dir(folder).map_err(at(format!("listing {}", folder.display())))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Makes the file a machine boots: on amd64 the plain program inside the self-unpacking one, which QEMU enters directly;
/// on arm64 the plain image.
pub(super) fn bootable(image: &Path, architecture: Architecture, output: &Path) -> Result<(), ApplianceError> {
    let bad = |why: &str| ApplianceError::BadKernel { path: image.to_owned(), why: why.to_owned() };
    let bytes = fs::read(image).map_err(at(format!("reading {}", image.display())))?;
    let plain = match architecture {
        Architecture::Amd64 => {
            let payload = payload(&bytes).ok_or_else(|| bad("it is no bzImage"))?;
            let compressed = output.with_extension("compressed");
            let plain = decompress(payload, &compressed, image);
            let _ = fs::remove_file(&compressed);
            let mut plain = plain?;
            let elf = Elf::parse(&plain).ok_or_else(|| bad("what it unpacks to is no 64-bit program"))?;
            if !elf.has_pvh_entry() {
                return Err(bad("it has no PVH entry, by which QEMU would start it"));
            }
            // Relocations follow, which only the self-unpacking kernel reads.
            let end = elf.end().and_then(|end| usize::try_from(end).ok());
            plain.truncate(end.ok_or_else(|| bad("the program in it is cut off"))?);
            plain
        }
        Architecture::Arm64 => {
            let plain = if bytes.starts_with(GZIP) {
                let compressed = output.with_extension("compressed");
                let plain = decompress(&bytes, &compressed, image);
                let _ = fs::remove_file(&compressed);
                plain?
            } else {
                bytes
            };
            if plain.get(56..60) != Some(b"ARM\x64") {
                return Err(bad("it is no arm64 Image"));
            }
            plain
        }
    };
    fs::write(output, plain).map_err(at(format!("writing {}", output.display())))
}

const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// The compressed kernel inside a bzImage, by the boot protocol's header.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + usize::try_from(number(0x248)?).ok()?;
    image.get(start..start.checked_add(usize::try_from(number(0x24c)?).ok()?)?)
}

fn decompress(payload: &[u8], temporary: &Path, image: &Path) -> Result<Vec<u8>, ApplianceError> {
    let bad = |why: String| ApplianceError::BadKernel { path: image.to_owned(), why };
    let (program, arguments, has_size) = match payload {
        _ if payload.starts_with(ZSTD) => ("zstd", &["--quiet", "--decompress", "--stdout"][..], true),
        _ if payload.starts_with(XZ) => ("xz", &["--decompress", "--stdout", "--format=xz"][..], true),
        _ if payload.starts_with(GZIP) => ("gzip", &["--decompress", "--stdout"][..], false),
        _ => return Err(bad("it is compressed in a way that is not known here (zstd, xz and gzip are)".to_owned())),
    };
    // The kernel's build appends the size of what comes out, except to gzip, which has it itself.
    let (stream, size) = match payload.split_last_chunk::<4>() {
        Some((stream, size)) if has_size => (stream, Some(u32::from_le_bytes(*size))),
        _ => (payload, None),
    };
    fs::write(temporary, stream).map_err(at(format!("writing {}", temporary.display())))?;
    let input = fs::File::open(temporary).map_err(at(format!("reading {}", temporary.display())))?;
    let mut command = command::tool(program);
    command.args(arguments).stdin(input).stdout(Stdio::piped());
    let output = command.output().map_err(at(format!("starting {program}")))?;
    if !output.status.success() {
        return Err(command::failure(&command, &output.stderr));
    }
    match size {
        Some(size) if usize::try_from(size) != Ok(output.stdout.len()) => {
            Err(bad(format!("it unpacks to {} bytes and says {size}", output.stdout.len())))
        }
        _ => Ok(output.stdout),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_the_kernels_own_packages_are_followed() {
        let forky = "dracut | initramfs-tools (>= 0.120), linux-base-7.2.12+deb14-cloud-amd64 (= 7.2.12-1), \
                     linux-binary-7.2.12+deb14-cloud-amd64 (= 7.2.12-1), linux-modules-7.2.12+deb14-cloud-amd64 (= 7.2.12-1)";
        assert_eq!(kernel_dependencies(forky).len(), 3);
        let trixie = "kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool";
        assert!(kernel_dependencies(trixie).is_empty(), "the image of trixie holds everything itself");
        assert_eq!(kernel_dependencies("linux-image-6.12.57+deb13-cloud-amd64 (= 6.12.57-1)").len(), 1);
    }

    /// A bzImage with one sector of set-up and a payload 16 bytes behind it.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        image
    }

    #[test]
    fn the_payload_is_found_by_the_header() {
        assert_eq!(payload(&image(b"compressed")), Some(&b"compressed"[..]));
        let mut cut_off = image(b"compressed");
        cut_off.truncate(1030);
        assert_eq!(payload(&cut_off), None);
        assert_eq!(payload(b"MZ"), None);
    }

    #[test]
    fn a_kernel_that_unpacks_to_another_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, b"not a kernel").unwrap();
        let zstd = Command::new("zstd").args(["--quiet", "--stdout"]).arg(&plain).output().unwrap().stdout;
        let try_with = |size: u32| {
            let path = folder.path().join("vmlinuz");
            fs::write(&path, image(&[&zstd[..], &size.to_le_bytes()].concat())).unwrap();
            bootable(&path, Architecture::Amd64, &folder.path().join("vmlinux")).unwrap_err().to_string()
        };
        assert!(try_with(13).contains("unpacks to 12 bytes and says 13"));
        assert!(try_with(12).contains("no 64-bit program"));
    }
}
