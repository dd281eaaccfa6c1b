//! Finds what the system lacks and installs it, after saying what.

mod node;
mod old_engine;
mod packages;
mod tools;

use std::collections::BTreeSet;
use std::process::Command;

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{out, process};

pub(crate) use old_engine::old_engine;
pub(crate) use packages::Purpose;
use packages::{PACKAGES, Package};
pub(crate) use tools::{fuzzer, nextest, tauri_driver};

/// Makes sure that everything these purposes need is there.
pub(crate) fn ensure(workspace: &Workspace, purposes: &[Purpose]) -> Result<(), Error> {
    if cfg!(target_os = "linux") {
        let needed: Vec<&Package> = PACKAGES.iter().filter(|package| purposes.contains(&package.purpose)).collect();
        if is_debian() {
            ensure_debian(workspace, &needed, purposes.contains(&Purpose::Browser))?;
        } else {
            ensure_elsewhere(&needed)?;
        }
    }
    if purposes.contains(&Purpose::Browser) { node::check(workspace) } else { Ok(()) }
}

fn is_debian() -> bool {
    process::find("apt-get").is_some() && process::find("dpkg-query").is_some()
}

fn ensure_debian(workspace: &Workspace, needed: &[&Package], with_node: bool) -> Result<(), Error> {
    let candidates: Vec<&Package> = needed.iter().copied().filter(|package| !package.has_program()).collect();
    let installed = installed(workspace, candidates.iter().map(|package| package.debian))?;
    let mut missing: Vec<String> = candidates
        .iter()
        .map(|package| package.debian.to_owned())
        .filter(|package| !installed.contains(package))
        .collect();
    if with_node {
        missing.extend(node::missing().into_iter().map(str::to_owned));
    }
    apt_install(workspace, &missing)
}

fn ensure_elsewhere(needed: &[&Package]) -> Result<(), Error> {
    let missing: Vec<&Package> = needed.iter().copied().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::LacksPackages {
        lacking: missing.iter().map(|package| package.debian).collect::<Vec<_>>().join(" "),
        why: "Berth can install packages by itself on Debian and Ubuntu only",
        fix: install_advice(&missing),
    })
}

/// The command to type on the distributions whose package names we know.
fn install_advice(missing: &[&Package]) -> String {
    let names = |name: fn(&Package) -> &'static str| {
        let names: BTreeSet<&str> = missing.iter().map(|package| name(package)).filter(|name| *name != "-").collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    };
    format!(
        "install them and try again\n    Fedora: dnf install {}\n    Arch: pacman -S --needed {}\n    Debian: apt-get install {}",
        names(|package| package.fedora),
        names(|package| package.arch),
        names(|package| package.debian),
    )
}

/// Which of these Debian packages are installed.
fn installed<'a>(workspace: &Workspace, packages: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>, Error> {
    let mut command = workspace.command("dpkg-query");
    command.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]).args(packages);
    // It exits with 1 when one of them is unknown, and still lists the others.
    let listing = process::output(&mut command)?.stdout;
    Ok(parse_installed(&String::from_utf8_lossy(&listing)))
}

fn parse_installed(listing: &str) -> BTreeSet<String> {
    listing.lines().filter_map(|line| line.strip_suffix(" installed")).map(str::to_owned).collect()
}

/// Installs Debian packages as root or through sudo; does nothing for none.
fn apt_install(workspace: &Workspace, packages: &[String]) -> Result<(), Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let root = Root::find(workspace).ok_or_else(|| Error::LacksPackages {
        lacking: list.clone(),
        why: "installing them takes root or sudo",
        fix: format!("as root: apt-get update && apt-get install --no-install-recommends {list}"),
    })?;
    out::step(format!("this system lacks {list}"));
    out::step(format!("installing {} with apt-get{}", plural(packages.len(), "package"), root.how()));
    apt_update(workspace, root)?;
    let mut install = root.apt_get(workspace);
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    process::run(&mut install)
}

fn apt_update(workspace: &Workspace, root: Root) -> Result<(), Error> {
    process::run(root.apt_get(workspace).args(["update", "--quiet"]))
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// How to do something as root.
#[derive(Debug, Clone, Copy)]
enum Root {
    Already,
    Sudo,
}

impl Root {
    fn find(workspace: &Workspace) -> Option<Self> {
        let user = process::capture(workspace.command("id").arg("-u")).unwrap_or_default();
        if user.trim() == "0" {
            return Some(Self::Already);
        }
        process::find("sudo").map(|_| Self::Sudo)
    }

    fn how(self) -> &'static str {
        match self {
            Self::Already => "",
            Self::Sudo => " through sudo",
        }
    }

    fn apt_get(self, workspace: &Workspace) -> Command {
        let mut command = match self {
            Self::Already => workspace.command("env"),
            Self::Sudo => {
                let mut command = workspace.command("sudo");
                command.arg("env");
                command
            }
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let listing = "xvfb installed\nslirp4netns config-files\nlibgtk-3-0 installed\nlibgtk-3-0 installed\n";
        let found = parse_installed(listing);
        assert!(found.contains("xvfb") && found.contains("libgtk-3-0"));
        assert!(!found.contains("slirp4netns"), "a removed package leaves its configuration, not its programs");
    }

    #[test]
    fn other_distributions_get_their_own_names() {
        let missing: Vec<&Package> = PACKAGES.iter().filter(|package| package.purpose == Purpose::Desktop).collect();
        let advice = install_advice(&missing);
        assert!(advice.contains("dnf install") && advice.contains("webkit2gtk4.1-devel"), "Fedora: {advice}");
        assert!(advice.contains("pacman -S --needed") && advice.contains("webkit2gtk-4.1"), "Arch: {advice}");
    }
}
