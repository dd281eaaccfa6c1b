//! The part of an appliance that does not change with the guest program: tree, kernel, root image. Built rarely, as
//! root, and kept under a key made of the recipe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cache::Cache;
use super::elf::Elf;
use super::error::{ApplianceError, at};
use super::manifest::{AGENT_PROTOCOL, FORMAT, FileRecord, Manifest, RECORD, sha256_of};
use super::recipe::{Architecture, Recipe};
use super::tree::Native;
use super::{command, image, kernel, modules, packages, tree};
use crate::out;

/// The tree that the engine runs from without a VM.
pub(super) const ROOT: &str = "root";
/// The kernel's modules, uncompressed.
pub(super) const KERNEL: &str = "kernel";
pub(super) const OS_IMAGE: &str = "os.erofs";

/// A base in the cache, or somewhere else for a comparison.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) folder: PathBuf,
    pub(super) record: Manifest,
}

impl Base {
    pub(super) fn open(folder: &Path) -> Result<Self, ApplianceError> {
        let record = Manifest::read(&folder.join(RECORD))?;
        Ok(Self { folder: folder.to_owned(), record })
    }

    /// Builds one in an empty place. A tree for another processor is made after one for this processor.
    pub(super) fn build(recipe: &Recipe, folder: &Path, native: Option<&Self>) -> Result<Self, ApplianceError> {
        let started = Instant::now();
        tree::remove(folder);
        let work = folder.join("work");
        fs::create_dir_all(&work).map_err(at(format!("creating {}", work.display())))?;
        let root = folder.join(ROOT);
        let tree::Installed { suite, mut packages } = match native {
            None => tree::install(recipe, &root)?,
            Some(native) => {
                let native_root = native.folder.join(ROOT);
                let record = &native.record;
                let native = Native { root: &native_root, suite: &record.suite, packages: &record.packages };
                let installed = tree::unpack_foreign(recipe.architecture, &native, &root)?;
                tree::adopt_settings(native.root, &root)?;
                installed
            }
        };
        out::line(format!("appliance: {} packages in {}", packages.len(), out::duration(started.elapsed())));

        let unpacked = kernel::unpack(&recipe.kernel(), recipe.architecture, &root, &work)?;
        packages.extend(unpacked.packages.iter().cloned());
        packages.sort();
        tree::slim(recipe, &root, "strip.txt", "keep.txt", "the tree")?;
        tree::mount_points(&root, &["dev", "proc", "run", "sys", "tmp", "var"])?;
        check_programs(&root, recipe.architecture)?;

        modules::select(recipe, &unpacked.modules, &unpacked.release, &folder.join(KERNEL))?;
        let kernel = folder.join(recipe.architecture.kernel_file());
        kernel::bootable(&unpacked.image, recipe.architecture, &kernel)?;
        let os = folder.join(OS_IMAGE);
        write_os_image(recipe, folder, &work, &os)?;
        tree::remove(&work);

        let mut versions = packages::engine_versions(&packages);
        if let Some(kernel) = unpacked.packages.first() {
            versions.insert("kernel".to_owned(), kernel.version.clone());
        }
        let said: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        out::line(format!("appliance: {suite} has {}", said.join(", ")));
        let record = Manifest {
            format: FORMAT,
            suite,
            architecture: recipe.architecture.rust().to_owned(),
            recipe: recipe.digest(),
            kernel_version: unpacked.release,
            kernel_command_line: recipe.command_line(),
            agent_protocol: AGENT_PROTOCOL,
            guest_sha256: None,
            files: [file(&kernel)?, file(&os)?].into_iter().collect(),
            versions,
            tools: tools(),
            packages,
        };
        record.write(&folder.join(RECORD))?;
        out::line(format!("appliance: its base took {}", out::duration(started.elapsed())));
        Ok(Self { folder: folder.to_owned(), record })
    }
}

/// Makes the root image again from what a base keeps.
pub(super) fn write_os_image(recipe: &Recipe, base: &Path, work: &Path, output: &Path) -> Result<(), ApplianceError> {
    let folder = work.join("os");
    tree::remove(&folder);
    image::root(recipe, base, &folder)?;
    image::add_modules(base, &folder)?;
    image::erofs(&folder, output)?;
    tree::remove(&folder);
    Ok(())
}

/// The base of a recipe, from the cache when it is there.
pub(super) fn ensure(
    recipe: &Recipe,
    native: Option<&Base>,
    cache: &Cache,
    force: bool,
) -> Result<Base, ApplianceError> {
    let digest = recipe.digest();
    let key = digest.get(..16).unwrap_or(&digest);
    let finished = cache.path(key);
    if !force && finished.join(RECORD).is_file() {
        return Base::open(&finished);
    }
    if !command::is_root()? {
        return Err(ApplianceError::NotRoot);
    }
    command::require_tools()?;
    let building = cache.building(key);
    let built = Base::build(recipe, &building, native).and_then(|_| {
        // They are made of what is about to be replaced.
        cache.remove_made_of(key);
        cache.publish(&building, &finished)
    });
    if built.is_err() {
        tree::remove(&building);
    }
    built?;
    Base::open(&finished)
}

pub(super) fn file(path: &Path) -> Result<(String, FileRecord), ApplianceError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, sha256_of(path)?))
}

/// A tree for another processor is never run here, so a mistake in it would only show on somebody's machine.
fn check_programs(root: &Path, architecture: Architecture) -> Result<(), ApplianceError> {
    for program in ["usr/sbin/dockerd", "usr/bin/containerd", "usr/sbin/runc"] {
        let path = root.join(program);
        let bytes = fs::read(&path).map_err(at(format!("reading {}", path.display())))?;
        if Elf::parse(&bytes).map(Elf::machine) != Some(architecture.elf_machine()) {
            let why = format!("it is no program for {}", architecture.debian());
            return Err(ApplianceError::BadProgram { path, why });
        }
    }
    Ok(())
}

/// The versions of what decides the bytes of the images besides their content.
fn tools() -> BTreeMap<String, String> {
    let version = |program: &str, argument: &str, start: &str| {
        let output = command::output(command::tool(program).arg(argument)).ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(start))?;
        line.split_whitespace().next().map(|version| (program.to_owned(), version.to_owned()))
    };
    [version("mkfs.erofs", "-V", "mkfs.erofs "), version("depmod", "--version", "kmod version ")]
        .into_iter()
        .flatten()
        .collect()
}
