//! The root tree: packages of a suite, without what nobody needs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use super::command;
use super::error::{ApplianceError, at};
use super::packages::{self, Package};
use super::recipe::{Architecture, Recipe, wildcard};
use crate::out;

/// The time that installing takes for now, so that no file tells when it was installed: the start of 2026.
const SOURCE_DATE: &str = "1767225600";

/// A finished tree of the same recipe for the processor of this machine.
#[derive(Debug)]
pub(super) struct Native<'a> {
    pub(super) root: &'a Path,
    pub(super) suite: &'a str,
    pub(super) packages: &'a [Package],
}

/// What was installed.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) suite: String,
    pub(super) packages: Vec<Package>,
}

/// Installs the first suite that can be installed. The tree is whole, with what the package manager left behind.
pub(super) fn install(recipe: &Recipe, root: &Path) -> Result<Installed, ApplianceError> {
    let mut tried = Vec::new();
    for suite in recipe.suites() {
        let wanted = recipe.entries("packages.txt");
        out::line(format!("appliance: installing {} packages from {suite}", wanted.len()));
        let mut command = mmdebstrap(&wanted.join(","));
        command.args(["--variant=minbase", "--skip=cleanup/apt/lists,output/dev"]).arg(suite).arg(root);
        match command::run(&mut command) {
            Ok(_) => return Ok(Installed { suite: suite.to_owned(), packages: packages::installed(root)? }),
            Err(ApplianceError::CommandFailed { output, .. }) => {
                out::line(format!("appliance: {suite} cannot be installed, trying the next suite"));
                tried.push((suite.to_owned(), output));
                remove(root);
            }
            Err(other) => return Err(other),
        }
    }
    Err(ApplianceError::NoSuite { tried })
}

/// Unpacks the same packages for another processor. None of their scripts runs, for they are programs of that
/// processor; [`adopt_settings`] makes up for them.
pub(super) fn unpack_foreign(
    architecture: Architecture,
    native: &Native<'_>,
    root: &Path,
) -> Result<Installed, ApplianceError> {
    let names: Vec<&str> = native.packages.iter().map(|package| package.name.as_str()).collect();
    // The kernel's packages carry the name of the other processor and are fetched later, by that of this one.
    let names: Vec<&str> = names.into_iter().filter(|name| !name.starts_with("linux-")).collect();
    out::line(format!(
        "appliance: unpacking {} packages for {} from {}",
        names.len(),
        architecture.debian(),
        native.suite
    ));
    let mut command = mmdebstrap(&names.join(","));
    command
        .arg("--variant=extract")
        .arg(format!("--architectures={}", architecture.debian()))
        .arg("--skip=check/qemu,cleanup/apt,output/dev")
        .arg(native.suite)
        .arg(root);
    command::run(&mut command)?;
    Ok(Installed { suite: native.suite.to_owned(), packages: packages::downloaded(root)? })
}

fn mmdebstrap(packages: &str) -> std::process::Command {
    let mut command = command::tool("mmdebstrap");
    command
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE)
        .args(["--quiet", "--mode=root", "--format=directory"])
        .arg(format!("--include={packages}"))
        // The archive's index may be some weeks old; what matters is that it is signed.
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Check-Valid-Until \"false\""])
        .args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*"]);
    command
}

/// Takes out what a list names, and sees that what another list names is still there.
pub(super) fn slim(
    recipe: &Recipe,
    root: &Path,
    strip_list: &'static str,
    keep_list: &str,
    what: &'static str,
) -> Result<(), ApplianceError> {
    for pattern in recipe.entries(strip_list) {
        strip(root, pattern)?;
    }
    // Not `exists`: an absolute link would be looked up in this machine's own root.
    let is_there = |path: &&str| root.join(path).symlink_metadata().is_ok();
    let missing: Vec<String> =
        recipe.entries(keep_list).into_iter().filter(|path| !is_there(path)).map(str::to_owned).collect();
    if missing.is_empty() { Ok(()) } else { Err(ApplianceError::Incomplete { what, missing, by: strip_list }) }
}

/// Makes the folders that are mounted over.
pub(super) fn mount_points(root: &Path, folders: &[&str]) -> Result<(), ApplianceError> {
    for folder in folders {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(at(format!("creating {}", path.display())))?;
    }
    Ok(())
}

fn strip(root: &Path, pattern: &str) -> Result<(), ApplianceError> {
    let mut matches = vec![root.to_path_buf()];
    for component in pattern.split('/') {
        let mut next = Vec::new();
        for folder in matches {
            // An absolute link would lead into this machine's own root.
            if folder.is_symlink() {
                continue;
            }
            if component.contains('*') {
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    if wildcard(component, &entry.file_name().to_string_lossy()) {
                        next.push(entry.path());
                    }
                }
            } else {
                next.push(folder.join(component));
            }
        }
        matches = next;
    }
    for path in matches {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let removed = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(at(format!("removing {}", path.display())))?;
    }
    Ok(())
}

/// Gives a tree whose packages were only unpacked what their scripts would have made: `/etc` (users, certificates,
/// links of alternatives) and the links that lead there. They are the same for every processor, so they come from the
/// tree that was installed here. What names this machine's processor stays behind.
pub(super) fn adopt_settings(native: &Path, foreign: &Path) -> Result<(), ApplianceError> {
    let own = Architecture::host().rust();
    for folder in ["etc", "usr"] {
        adopt_folder(native, foreign, Path::new(folder), own)?;
    }
    Ok(())
}

fn adopt_folder(native: &Path, foreign: &Path, folder: &Path, own: &str) -> Result<(), ApplianceError> {
    let reading = native.join(folder);
    let mut entries: Vec<PathBuf> = fs::read_dir(&reading)
        .map_err(at(format!("listing {}", reading.display())))?
        .flatten()
        .map(|entry| folder.join(entry.file_name()))
        .collect();
    entries.sort();
    for path in entries {
        let (from, to) = (native.join(&path), foreign.join(&path));
        let what = || at(format!("copying {}", from.display()));
        let names_own = |path: &Path| path.to_string_lossy().contains(own);
        let metadata = from.symlink_metadata().map_err(what())?;
        if names_own(&path) || path.ends_with("ld.so.cache") {
            continue;
        }
        let is_there = to.symlink_metadata().is_ok();
        let is_setting = path.starts_with("etc");
        if metadata.is_symlink() {
            let target = fs::read_link(&from).map_err(what())?;
            let has_place = to.parent().is_some_and(Path::is_dir);
            if !is_there && has_place && !names_own(&target) {
                symlink(&target, &to).map_err(what())?;
            }
        } else if metadata.is_dir() {
            if !is_there && is_setting {
                fs::create_dir(&to).map_err(what())?;
                fs::set_permissions(&to, metadata.permissions()).map_err(what())?;
            }
            adopt_folder(native, foreign, &path, own)?;
        } else if metadata.is_file() && is_setting && !is_there {
            fs::copy(&from, &to).map_err(what())?;
            lchown(&to, Some(metadata.uid()), Some(metadata.gid())).map_err(what())?;
        }
    }
    Ok(())
}

/// A copy of a tree with its owners, modes and links.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), ApplianceError> {
    let mut command = command::tool("cp");
    command.args(["--archive", "--reflink=auto", "--no-target-directory"]).arg(from).arg(to);
    command::run(&mut command).map(|_| ())
}

/// Removes a file or a tree. Failing to is left to whoever needs the place.
pub(super) fn remove(path: &Path) {
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let _ = fs::remove_dir_all(path);
    } else {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn file(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn a_pattern_takes_what_it_names_and_nothing_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        file(&root, "usr/lib/x86_64-linux-gnu/perl/a");
        file(&root, "usr/lib/other/keep");
        file(&outside, "perl/a");
        symlink(&outside, root.join("usr/lib/link")).unwrap();
        strip(&root, "usr/lib/*/perl").unwrap();
        assert!(!root.join("usr/lib/x86_64-linux-gnu/perl").exists());
        assert!(root.join("usr/lib/other/keep").exists());
        strip(&root, "usr/lib/link/*").unwrap();
        assert!(outside.join("perl/a").exists(), "a link that leads out is not followed");
    }

    #[test]
    fn settings_are_adopted_and_what_names_the_processor_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (native, foreign) = (folder.path().join("native"), folder.path().join("foreign"));
        let own = format!("{}-linux-gnu", Architecture::host().rust());
        for path in
            ["etc/passwd", "etc/ssl/certs/ca-certificates.crt", "etc/ld.so.cache", "etc/issue", "usr/sbin/dockerd"]
        {
            file(&native, path);
        }
        file(&native, &format!("etc/ld.so.conf.d/{own}.conf"));
        symlink("/etc/alternatives/iptables", native.join("usr/sbin/iptables")).unwrap();
        symlink(format!("../lib/{own}/ld.so"), native.join("usr/sbin/loader")).unwrap();
        symlink("setarch", native.join("usr/sbin").join(Architecture::host().rust())).unwrap();
        fs::create_dir_all(foreign.join("usr/sbin")).unwrap();
        file(&foreign, "etc/hostname");
        fs::write(foreign.join("etc/issue"), "its own").unwrap();

        adopt_settings(&native, &foreign).unwrap();
        assert!(foreign.join("etc/passwd").is_file() && foreign.join("etc/ssl/certs/ca-certificates.crt").is_file());
        assert_eq!(fs::read_to_string(foreign.join("etc/issue")).unwrap(), "its own");
        assert!(foreign.join("usr/sbin/iptables").is_symlink());
        let link = format!("usr/sbin/{}", Architecture::host().rust());
        for left in ["etc/ld.so.cache", "usr/sbin/dockerd", "usr/sbin/loader", &link] {
            assert!(foreign.join(left).symlink_metadata().is_err(), "{left} is of this processor");
        }
        assert!(!foreign.join(format!("etc/ld.so.conf.d/{own}.conf")).exists());
    }
}
