//! The distribution's dockerd, years older than the bundled one, and its ssh server, for the tests against real engines.
//! They are unpacked into the target folder and never installed: installed ones would start as services.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{out, process};

const PACKAGES: [&str; 6] = ["docker.io", "containerd", "runc", "tini", "docker-registry", "openssh-server"];
/// Without one of these, what is there was unpacked before it was wanted.
const PROGRAMS: [&str; 6] = ["dockerd", "containerd", "runc", "docker", "docker-registry", "sshd"];
/// Client programs that the tests call by name, from the unpacked packages when the system has none.
const LINKED: [&str; 2] = ["docker", "docker-registry"];

/// Unpacks the old engine, or finds the one unpacked before, and gives the path of its dockerd.
pub(crate) fn old_engine(workspace: &Workspace) -> Result<PathBuf, Error> {
    if !super::is_debian() {
        return system_engine();
    }
    let root = workspace.target("old-engine/root");
    let stamp = workspace.target("old-engine/stamp");
    let complete = stamp.exists() && PROGRAMS.into_iter().all(|name| program(&root, name).is_some());
    if let Some(dockerd) = program(&root, "dockerd").filter(|_| complete) {
        return Ok(dockerd);
    }

    out::step(format!("unpacking {} into target/old-engine (nothing is installed)", PACKAGES.join(" ")));
    let archives = download(workspace)?;
    remove(&root)?;
    create(&root)?;
    for archive in &archives {
        process::run(workspace.command("dpkg").arg("-x").arg(archive).arg(&root))?;
    }
    let dockerd = program(&root, "dockerd").ok_or_else(|| Error::NoOldEngine {
        why: "the package docker.io brought no dockerd".to_owned(),
        fix: "see what is in target/old-engine/packages; the package may have another name here",
    })?;
    install_libraries(workspace, &root, &archives)?;
    link_clients(workspace, &root)?;

    let mut versions = String::new();
    for archive in &archives {
        let fields = ["--showformat=${Package} ${Version}\n", "--show"];
        versions.push_str(&process::capture(workspace.command("dpkg-deb").args(fields).arg(archive))?);
    }
    std::fs::write(&stamp, &versions).map_err(Error::file("write", &stamp))?;
    Ok(dockerd)
}

/// Elsewhere than on Debian: what the system has.
fn system_engine() -> Result<PathBuf, Error> {
    process::find("dockerd").ok_or_else(|| Error::NoOldEngine {
        why: "it is unpacked by itself on Debian and Ubuntu only, and PATH has none".to_owned(),
        fix: "install your distribution's Docker engine (it need not run), and try again",
    })
}

fn download(workspace: &Workspace) -> Result<Vec<PathBuf>, Error> {
    let folder = workspace.target("old-engine/packages");
    remove(&folder)?;
    create(&folder)?;
    let fetch = || {
        // Without the sandbox user there is no warning that it cannot write into this folder.
        let mut command = workspace.command("apt-get");
        command.args(["download", "--quiet", "-o", "APT::Sandbox::User=root"]).args(PACKAGES).current_dir(&folder);
        process::run(&mut command)
    };
    if fetch().is_err() {
        let root = super::Root::find(workspace).ok_or_else(|| Error::NoOldEngine {
            why: "the package lists are out of date, and updating them takes root or sudo".to_owned(),
            fix: "run `apt-get update` as root, and try again",
        })?;
        super::apt_update(workspace, root)?;
        fetch()?;
    }
    let entries = std::fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
    let mut archives: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    archives.sort();
    Ok(archives)
}

/// Shared libraries are harmless to install; the engine's own packages are not.
fn install_libraries(workspace: &Workspace, root: &Path, archives: &[PathBuf]) -> Result<(), Error> {
    let lacks = |name: &str| {
        let Some(path) = program(root, name) else { return false };
        let listing = process::output(workspace.command("ldd").arg(path));
        listing.is_ok_and(|listing| String::from_utf8_lossy(&listing.stdout).contains("not found"))
    };
    if !PROGRAMS.into_iter().any(lacks) {
        return Ok(());
    }
    let mut wanted = BTreeSet::new();
    for archive in archives {
        let depends = process::capture(workspace.command("dpkg-deb").arg("-f").arg(archive).arg("Depends"))?;
        wanted.extend(libraries(&depends));
    }
    let installed = super::installed(workspace, wanted.iter().map(String::as_str))?;
    let missing: Vec<String> = wanted.difference(&installed).cloned().collect();
    super::apt_install(workspace, &missing)
}

/// The libraries in a `Depends` field, each by its first alternative.
fn libraries(depends: &str) -> impl Iterator<Item = String> {
    depends
        .split(',')
        .filter_map(|entry| entry.split([' ', '(', '|', ':']).find(|word| !word.is_empty()))
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("lib"))
}

fn link_clients(workspace: &Workspace, root: &Path) -> Result<(), Error> {
    let folder = workspace.target("tools/bin");
    create(&folder)?;
    for name in LINKED {
        let link = folder.join(name);
        if process::find(name).is_some() || link.exists() {
            continue;
        }
        if let Some(path) = program(root, name) {
            link_file(&path, &link).map_err(Error::file("link", &link))?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link_file(original: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(original, link)
}

#[cfg(not(unix))]
fn link_file(original: &Path, link: &Path) -> std::io::Result<()> {
    std::fs::copy(original, link).map(|_| ())
}

/// Debian keeps dockerd in sbin, Ubuntu in bin.
fn program(root: &Path, name: &str) -> Option<PathBuf> {
    ["usr/sbin", "usr/bin", "sbin", "bin"].into_iter().find_map(|folder| process::find_in(&root.join(folder), name))
}

fn remove(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn create(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::file("create", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_from_programs() {
        let depends = "libc6 (>= 2.34), libdevmapper1.02.1 (>= 2:1.02.97) | libother, adduser, containerd (>= 1.4~)\n";
        assert_eq!(libraries(depends).collect::<Vec<_>>(), ["libc6", "libdevmapper1.02.1"]);
    }
}
