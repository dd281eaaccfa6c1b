//! The kernel's modules: which of a thousand are taken, and in which order the first few are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::command;
use super::error::{ApplianceError, at};
use super::recipe::{Recipe, wildcard};

/// Files of a kernel's folder that `depmod` reads and `modprobe` answers from.
const LISTS: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];
/// Where the order of the initramfs' modules is written down, below the folder of the modules taken.
pub(super) const BOOT_ORDER: &str = "boot-order";

/// What `depmod` found out about a kernel's modules.
#[derive(Debug, Default)]
struct Index {
    /// A module's path and the names of the modules it needs, by its name.
    modules: BTreeMap<String, (String, Vec<String>)>,
    /// Names of modules that a module wants and works without.
    wishes: BTreeMap<String, Vec<String>>,
    built_in: BTreeSet<String>,
}

/// Takes the modules that the recipe names, with what they need, into `output/lib/modules`, uncompressed and indexed.
/// The order of those that are loaded first is written beside them.
pub(super) fn select(recipe: &Recipe, source: &Path, release: &str, output: &Path) -> Result<(), ApplianceError> {
    let everything = source.parent().and_then(Path::parent).and_then(Path::parent).unwrap_or(source);
    index_files(everything, release)?;
    let index = Index::read(source)?;
    let mut missing = Vec::new();
    let boot = index.boot_order(&recipe.entries("boot-modules.txt"), &mut missing);
    let taken = index.closure(&recipe.entries("modules.txt"), &boot, &mut missing);
    if !missing.is_empty() {
        return Err(ApplianceError::NoModules { release: release.to_owned(), modules: missing });
    }
    let folder = output.join("lib/modules").join(release);
    let mut compressed = Vec::new();
    for (path, _) in taken.iter().filter_map(|name| index.modules.get(name)) {
        let to = folder.join(path);
        copy(&source.join(path), &to)?;
        if to.extension().is_some_and(|extension| extension != "ko") {
            compressed.push(to);
        }
    }
    decompress(&compressed)?;
    for list in LISTS {
        if source.join(list).is_file() {
            copy(&source.join(list), &folder.join(list))?;
        }
    }
    index_files(output, release)?;
    let order: String = boot
        .iter()
        .filter_map(|name| index.modules.get(name))
        .map(|(path, _)| format!("lib/modules/{release}/{}\n", plain(path)))
        .collect();
    let list = output.join(BOOT_ORDER);
    fs::write(&list, order).map_err(at(format!("writing {}", list.display())))
}

/// The paths of the modules that are loaded first, in that order.
pub(super) fn boot_order(output: &Path) -> Result<Vec<PathBuf>, ApplianceError> {
    let list = output.join(BOOT_ORDER);
    let text = fs::read_to_string(&list).map_err(at(format!("reading {}", list.display())))?;
    Ok(text.lines().map(|path| output.join(path)).collect())
}

/// `depmod` looks below `lib/modules`; a package may have it below `usr`.
fn index_files(base: &Path, release: &str) -> Result<(), ApplianceError> {
    command::run(command::tool("depmod").arg("--basedir").arg(base).arg(release)).map(|_| ())
}

fn copy(from: &Path, to: &Path) -> Result<(), ApplianceError> {
    let what = || at(format!("copying {}", from.display()));
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(what())?;
    }
    fs::copy(from, to).map_err(what()).map(|_| ())
}

/// They lie in a file system that compresses by itself, or are wanted in a hurry.
fn decompress(paths: &[PathBuf]) -> Result<(), ApplianceError> {
    for (extension, program) in [("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")] {
        let found: Vec<&PathBuf> =
            paths.iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        if found.is_empty() {
            continue;
        }
        let mut command = command::tool(program);
        command.args(["--quiet", "--decompress"]);
        if program == "zstd" {
            command.arg("--rm");
        }
        command::run(command.args(found))?;
    }
    Ok(())
}

/// A path without the ending of a compressed file.
fn plain(path: &str) -> &str {
    [".xz", ".zst", ".gz"].into_iter().find_map(|ending| path.strip_suffix(ending)).unwrap_or(path)
}

/// A module's name as the kernel has it: files are spelled with `-` or `_` as their authors liked.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    plain(file).trim_end_matches(".ko").replace('-', "_")
}

impl Index {
    fn read(folder: &Path) -> Result<Self, ApplianceError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(at(format!("reading {}", path.display())))
        };
        Ok(Self::parse(&read("modules.dep")?, &read("modules.softdep")?, &read("modules.builtin")?))
    }

    fn parse(dependencies: &str, soft: &str, built_in: &str) -> Self {
        let mut index = Self { built_in: built_in.lines().map(name_of).collect(), ..Self::default() };
        for line in dependencies.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(name_of).collect();
                index.modules.insert(name_of(path), (path.to_owned(), needs));
            }
        }
        for line in soft.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(name)) = (words.next(), words.next()) {
                let wanted = words.filter(|word| !word.ends_with(':')).map(name_of);
                index.wishes.entry(name_of(name)).or_default().extend(wanted);
            }
        }
        index
    }

    /// The named modules and what they need, each after what it needs.
    fn boot_order(&self, wanted: &[&str], missing: &mut Vec<String>) -> Vec<String> {
        let mut order = Vec::new();
        for name in wanted {
            if self.modules.contains_key(*name) {
                self.add(name, &mut order);
            } else if !self.built_in.contains(*name) {
                missing.push((*name).to_owned());
            }
        }
        order
    }

    fn add(&self, name: &str, order: &mut Vec<String>) {
        if order.iter().any(|done| done == name) {
            return;
        }
        for needed in self.modules.get(name).into_iter().flat_map(|(_, needs)| needs) {
            self.add(needed, order);
        }
        if !order.iter().any(|done| done == name) {
            order.push(name.to_owned());
        }
    }

    /// Everything that the entries name or match, what is loaded first, and what all of these need or want.
    fn closure(&self, entries: &[&str], boot: &[String], missing: &mut Vec<String>) -> BTreeSet<String> {
        let mut waiting: Vec<String> = boot.to_vec();
        for entry in entries {
            if entry.contains('/') {
                let pattern = format!("kernel/{entry}");
                let matching = self.modules.iter().filter(|(_, (path, _))| wildcard(&pattern, path));
                waiting.extend(matching.map(|(name, _)| name.clone()));
            } else if self.modules.contains_key(&name_of(entry)) {
                waiting.push(name_of(entry));
            } else if !self.built_in.contains(&name_of(entry)) {
                missing.push((*entry).to_owned());
            }
        }
        let mut taken = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            let Some((_, needs)) = self.modules.get(&name) else { continue };
            if taken.insert(name.clone()) {
                waiting.extend(needs.iter().chain(self.wishes.get(&name).into_iter().flatten()).cloned());
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index::parse(
            "kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz\n\
             kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz\n\
             kernel/net/core/failover.ko.xz:\n\
             kernel/net/netfilter/xt_LOG.ko.xz: kernel/net/netfilter/x_tables.ko.xz\n\
             kernel/net/netfilter/x_tables.ko.xz:\n\
             kernel/net/netfilter/nf_log_syslog.ko.xz:\n\
             kernel/drivers/char/hw_random/virtio-rng.ko.xz:\n",
            "# Soft dependencies extracted from modules themselves.\nsoftdep xt_LOG pre: nf_log_syslog\n",
            "kernel/fs/ext4/ext4.ko\n",
        )
    }

    #[test]
    fn each_module_is_loaded_after_what_it_needs() {
        let mut missing = Vec::new();
        let order = index().boot_order(&["ext4", "virtio_net"], &mut missing);
        assert_eq!(order, ["failover", "net_failover", "virtio_net"], "what is built in is left out");
        assert!(missing.is_empty());
    }

    #[test]
    fn what_matches_brings_along_what_it_needs_and_wants() {
        let mut missing = Vec::new();
        let taken = index().closure(&["net/netfilter/xt_*", "ext4", "virtio_rng"], &[], &mut missing);
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        assert_eq!(taken, ["nf_log_syslog", "virtio_rng", "x_tables", "xt_LOG"]);
        assert!(missing.is_empty());
    }

    #[test]
    fn a_named_module_must_be_there_and_a_pattern_may_match_nothing() {
        let mut missing = Vec::new();
        index().boot_order(&["floppy"], &mut missing);
        index().closure(&["bridge", "fs/coda/*"], &[], &mut missing);
        assert_eq!(missing, ["floppy", "bridge"]);
    }
}
