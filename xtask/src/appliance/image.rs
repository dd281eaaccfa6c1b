//! What a machine is given: the root as a file system in one file, and the first root that finds it.

use std::fs;
use std::io::{self, BufWriter};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::base::{KERNEL, ROOT};
use super::cpio::Archive;
use super::error::{ApplianceError, at};
use super::recipe::Recipe;
use super::{command, modules, tree};

/// One for every image ever made: what tells images apart is their digest.
const UUID: &str = "6265a274-682d-4f53-8e62-6f6f74000001";
/// Compressed pieces of 16 KiB. Smaller ones cost a seventh more space, larger ones more work for each page that is read.
const CLUSTER: &str = "16384";

/// Folders of the VM's root that something is mounted on, or that programs expect.
const MOUNT_POINTS: [&str; 11] = ["dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "var"];

/// What the archive for WSL has and a VM has not: folders, and how files there begin.
const WAY_OUT: [(&str, &str); 2] = [("usr/bin", "slirp4netns"), ("usr/lib/*", "libslirp.so")];

/// Makes the VM's root in a folder, from the tree and the kernel's modules of a base.
pub(super) fn root(recipe: &Recipe, base: &Path, folder: &Path) -> Result<(), ApplianceError> {
    tree::copy(&base.join(ROOT), folder)?;
    tree::slim(recipe, folder, "vm-strip.txt", "vm-keep.txt", "the VM's root")?;
    tree::mount_points(folder, &MOUNT_POINTS)?;
    let set = |path: &str, mode: u32| {
        let path = folder.join(path);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(at(format!("creating {}", path.display())))
    };
    set("root", 0o700)?;
    set("tmp", 0o1777)?;
    // What names the machine it was installed on, or differs from one installation to the next.
    for (name, text) in [
        ("hostname", "berth\n"),
        ("hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tberth\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
        ("machine-id", ""),
        ("resolv.conf", ""),
        ("fstab", ""),
        ("motd", ""),
    ] {
        let path = folder.join("etc").join(name);
        // Written anew, so that a link of that name is replaced and not followed.
        tree::remove(&path);
        fs::write(&path, text).map_err(at(format!("writing {}", path.display())))?;
    }
    Ok(())
}

/// Adds the modules that are loaded once the root is mounted.
pub(super) fn add_modules(base: &Path, folder: &Path) -> Result<(), ApplianceError> {
    let modules = folder.join("usr/lib/modules");
    tree::remove(&modules);
    tree::copy(&base.join(KERNEL).join("lib/modules"), &modules)
}

/// Writes a folder as a read-only file system. No time, name or place of this machine enters it.
pub(super) fn erofs(folder: &Path, output: &Path) -> Result<(), ApplianceError> {
    let mut command = command::tool("mkfs.erofs");
    command
        .args(["--quiet", "-zlz4hc,12", "-Eztailpacking", "-T0", "-x-1"])
        .arg(format!("-C{CLUSTER}"))
        .arg(format!("-U{UUID}"))
        .arg(output)
        .arg(folder);
    command::run(&mut command).map(|_| ())
}

/// Writes the first root: the guest program, and the modules without which it would find no disk.
pub(super) fn initramfs(guest: &Path, base: &Path, output: &Path) -> Result<(), ApplianceError> {
    let read = |path: &Path| fs::read(path).map_err(at(format!("reading {}", path.display())));
    let mut loaded = Vec::new();
    for path in modules::boot_order(&base.join(KERNEL))? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        loaded.push((format!("modules/{name}"), read(&path)?));
    }
    let guest = read(guest)?;
    let what = || at(format!("writing {}", output.display()));
    let file = fs::File::create(output).map_err(what())?;
    write_initramfs(BufWriter::new(file), &guest, &loaded)
        .and_then(|writer| writer.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(what())
        .map(|_| ())
}

fn write_initramfs<W: io::Write>(output: W, guest: &[u8], modules: &[(String, Vec<u8>)]) -> io::Result<W> {
    let mut archive = Archive::new(output);
    archive.folder("dev")?;
    // Without it the kernel gives the first process nowhere to write.
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.file("init", 0o755, guest)?;
    archive.folder("modules")?;
    for (name, content) in modules {
        archive.file(name, 0o644, content)?;
    }
    let list: String = modules.iter().map(|(name, _)| format!("/{name}\n")).collect();
    archive.file("modules.list", 0o644, list.as_bytes())?;
    for folder in ["newroot", "proc", "run", "sys"] {
        archive.folder(folder)?;
    }
    archive.finish()
}

/// Writes the root as the archive that `wsl --import` takes: with the guest program, which a VM has in its initramfs,
/// and without modules, because the kernel is WSL's.
pub(super) fn wsl_archive(
    recipe: &Recipe,
    base: &Path,
    guest: &Path,
    work: &Path,
    output: &Path,
) -> Result<(), ApplianceError> {
    let folder = work.join("wsl");
    root(recipe, base, &folder)?;
    let program = folder.join("usr/sbin/berth-guest");
    fs::copy(guest, &program)
        .and_then(|_| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
        .map_err(at(format!("writing {}", program.display())))?;
    // A VM has a network card; here the engine has a network of its own, and needs its way out.
    for pattern in WAY_OUT {
        bring_back(&base.join(ROOT), &folder, pattern)?;
    }
    let settings = folder.join("etc/wsl.conf");
    fs::write(&settings, recipe.text("wsl.conf")).map_err(at(format!("writing {}", settings.display())))?;
    let mut command = command::tool("tar");
    command
        .args(["--create", "--format=gnu", "--sort=name", "--mtime=@0", "--numeric-owner", "--file"])
        .arg(output)
        .arg("--directory")
        .arg(&folder)
        .arg(".");
    command::run(&mut command).map(|_| ())
}

/// Copies what `vm-strip.txt` took out, links as links.
fn bring_back(from: &Path, to: &Path, (folder, start): (&str, &str)) -> Result<(), ApplianceError> {
    let folders: Vec<PathBuf> = match folder.split_once("/*") {
        Some((parent, _)) => {
            let entries = fs::read_dir(from.join(parent)).map_err(at(format!("reading {parent}")))?;
            entries.flatten().map(|entry| Path::new(parent).join(entry.file_name())).collect()
        }
        None => vec![folder.into()],
    };
    for folder in folders {
        for entry in fs::read_dir(from.join(&folder)).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(start) {
                continue;
            }
            let target = to.join(&folder).join(entry.file_name());
            let copied = match fs::read_link(entry.path()) {
                Ok(destination) => std::os::unix::fs::symlink(destination, &target),
                Err(_) => fs::copy(entry.path(), &target).map(|_| ()),
            };
            copied.map_err(at(format!("writing {}", target.display())))?;
        }
    }
    Ok(())
}

/// How large files are once compressed for a download, in the order in which they are named.
pub(super) fn download_sizes(files: &[PathBuf], work: &Path) -> Result<Vec<u64>, ApplianceError> {
    let compressed = work.join("download.zst");
    files
        .iter()
        .map(|file| {
            let mut command = command::tool("zstd");
            command.args(["--quiet", "--force", "-19", "-T0", "-o"]).arg(&compressed).arg(file);
            command::run(&mut command)?;
            let size = fs::metadata(&compressed).map_err(at(format!("reading {}", compressed.display())))?.len();
            tree::remove(&compressed);
            Ok(size)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_list_names_the_modules_in_the_order_of_loading() {
        let modules = [("modules/b.ko".to_owned(), b"B".to_vec()), ("modules/a.ko".to_owned(), b"A".to_vec())];
        let bytes = write_initramfs(Vec::new(), b"guest", &modules).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("/modules/b.ko\n/modules/a.ko\n"));
        assert_eq!(bytes, write_initramfs(Vec::new(), b"guest", &modules).unwrap(), "the same again");
    }
}
