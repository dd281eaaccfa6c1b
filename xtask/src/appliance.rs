//! `cargo xtask appliance`: what the bundled engine runs from, built from Debian packages. A tree for running it
//! without a VM; kernel, first root and root image for running it in one; an archive of the same for WSL on demand.
//!
//! Two stages. The base (see [`base`]) takes a minute and changes with the recipe. The appliance itself adds the guest
//! program and takes a second. See `docs/decisions/006-appliance-image.md`.

mod base;
mod cache;
mod command;
mod cpio;
mod elf;
mod error;
mod guest;
mod image;
mod kernel;
mod manifest;
mod modules;
mod packages;
mod recipe;
mod tree;
mod verify;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base::{Base, ROOT};
use cache::Cache;
use error::{ApplianceError, at};
use manifest::{MANIFEST, Manifest, sha256_of};
use recipe::{Architecture, Recipe, hexadecimal};
use sha2::{Digest as _, Sha256};
use verify::INITRAMFS;

use crate::error::Error;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
use crate::{out, process};

/// What to build, from the words behind `cargo xtask appliance`.
#[derive(Debug)]
pub(crate) struct Options {
    architecture: Architecture,
    suite: Option<String>,
    force: bool,
    verify: bool,
    tar: bool,
    /// Only what takes root; how this program calls itself through sudo.
    base_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        let architecture = Architecture::host();
        Self { architecture, suite: None, force: false, verify: false, tar: false, base_only: false }
    }
}

impl Options {
    pub(crate) fn parse(words: &[String]) -> Result<Self, Error> {
        let usage = |problem: String| Error::Usage { problem };
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| usage(format!("`{word}` has no value")));
            match word.as_str() {
                "--arch" => {
                    let name = value()?;
                    options.architecture = Architecture::parse(name)
                        .ok_or_else(|| usage(format!("there is no architecture `{name}`, only amd64 and arm64")))?;
                }
                "--suite" => options.suite = Some(value()?.clone()),
                "--force" => options.force = true,
                "--verify" => options.verify = true,
                "--tar" => options.tar = true,
                "--base-only" => options.base_only = true,
                other => return Err(usage(format!("`{other}` is not understood here"))),
            }
        }
        Ok(options)
    }
}

/// The appliance of this machine, built when something of it is missing or has changed; `target/appliance` leads there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf, Error> {
    build(workspace, &Options::default())
}

/// The same, with its archive for WSL beside it where this user may write one.
pub(crate) fn ensure_with_archive(workspace: &Workspace) -> Result<PathBuf, Error> {
    build(workspace, &Options { tar: command::is_root()?, ..Options::default() })
}

/// What the command does.
pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<(), Error> {
    setup::ensure(workspace, &[Purpose::Build, Purpose::Engine])?;
    if options.base_only {
        let recipe = read_recipe(workspace, options)?;
        return ensure_base(workspace, &recipe, options).map(|_| ());
    }
    if (options.verify || options.tar) && !command::is_root()? {
        return Err(ApplianceError::NotRoot.into());
    }
    build(workspace, options).map(|_| ())
}

fn build(workspace: &Workspace, options: &Options) -> Result<PathBuf, Error> {
    let recipe = read_recipe(workspace, options)?;
    let cache = Cache::open()?;
    // To be verified is what is there; `--force` then says how much of it.
    let replace = options.force && !options.verify;
    let base = ensure_base(workspace, &recipe, &Options { force: replace, suite: options.suite.clone(), ..*options })?;
    let guest = guest::build(workspace, options.architecture)?;
    let appliance = assemble(&cache, &base, &guest)?;
    let native = options.architecture == Architecture::host();
    let link = if native { "appliance".to_owned() } else { format!("appliance-{}", options.architecture.debian()) };
    cache::link(workspace, &link, &appliance)?;
    cache.prune(&appliance);
    let manifest = Manifest::read(&appliance.join(MANIFEST))?;

    let work = cache.building("work");
    let extras = || -> Result<(), Error> {
        if options.verify {
            verify::derived(&recipe, &base, &manifest, &guest, &work)?;
            if options.force {
                let native = native_base(workspace, options)?;
                verify::everything(&recipe, &base, native.as_ref(), &work)?;
            }
            verify::sizes(&appliance, &manifest, &work)?;
        }
        if options.tar {
            fs::create_dir_all(&work).map_err(at(format!("creating {}", work.display())))?;
            write_tar(&recipe, &base, &guest, &work, &appliance)?;
        }
        Ok(())
    };
    let done = extras();
    tree::remove(&work);
    done?;
    Ok(appliance)
}

fn read_recipe(workspace: &Workspace, options: &Options) -> Result<Recipe, ApplianceError> {
    Recipe::read(&workspace.path("assets/appliance"), options.architecture, options.suite.as_deref())
}

/// The base, built through sudo when this user may not.
fn ensure_base(workspace: &Workspace, recipe: &Recipe, options: &Options) -> Result<Base, Error> {
    let cache = Cache::open()?;
    let native = native_base(workspace, options)?;
    match base::ensure(recipe, native.as_ref(), &cache, options.force) {
        Err(ApplianceError::NotRoot) if process::find("sudo").is_some() => {
            build_base_as_root(workspace, options)?;
            Ok(base::ensure(recipe, native.as_ref(), &cache, false)?)
        }
        built => Ok(built?),
    }
}

/// The base for this machine's processor, when the one wanted is for another.
fn native_base(workspace: &Workspace, options: &Options) -> Result<Option<Base>, Error> {
    if options.architecture == Architecture::host() {
        return Ok(None);
    }
    let options = Options { suite: options.suite.clone(), ..Options::default() };
    let recipe = read_recipe(workspace, &options)?;
    ensure_base(workspace, &recipe, &options).map(Some)
}

/// Unpacking packages as their owners takes root. What comes of it still lands in this user's cache.
fn build_base_as_root(workspace: &Workspace, options: &Options) -> Result<(), Error> {
    let this = std::env::current_exe().map_err(Error::file("find", "the running xtask"))?;
    let mut command = workspace.command("sudo");
    command.arg("env");
    for name in ["HOME", "PATH", "BERTH_CACHE", "XDG_CACHE_HOME", "CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            let mut assignment = std::ffi::OsString::from(format!("{name}="));
            assignment.push(value);
            command.arg(assignment);
        }
    }
    command.arg(this).args(["appliance", "--base-only", "--arch", options.architecture.debian()]);
    command.args(options.force.then_some("--force"));
    if let Some(suite) = &options.suite {
        command.args(["--suite", suite]);
    }
    out::step("unpacking the engine's packages as root, through sudo");
    process::run(&mut command)
}

/// The appliance of a base and a guest program, from the cache when both are the same as ever.
fn assemble(cache: &Cache, base: &Base, guest: &Path) -> Result<PathBuf, ApplianceError> {
    let started = Instant::now();
    let guest_sha256 = sha256_of(guest)?.sha256;
    let mut identity = Sha256::new();
    identity.update(base.record.text()?);
    identity.update(&guest_sha256);
    let identity = hexadecimal(&identity.finalize());
    let key = base.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = format!("{key}-{}", identity.get(..12).unwrap_or(&identity));
    let finished = cache.path(&name);
    if finished.join(MANIFEST).is_file() {
        cache::touch(&finished);
        out::line(format!("appliance: {} is up to date", finished.display()));
        return Ok(finished);
    }
    let building = cache.building(&name);
    tree::remove(&building);
    let built = fill(base, guest, &guest_sha256, &key, &building).and_then(|()| cache.publish(&building, &finished));
    if built.is_err() {
        tree::remove(&building);
    }
    built?;
    out::line(format!("appliance: {} in {}", finished.display(), out::duration(started.elapsed())));
    Ok(finished)
}

fn fill(base: &Base, guest: &Path, guest_sha256: &str, key: &str, folder: &Path) -> Result<(), ApplianceError> {
    fs::create_dir_all(folder).map_err(at(format!("creating {}", folder.display())))?;
    let initramfs = folder.join(INITRAMFS);
    image::initramfs(guest, &base.folder, &initramfs)?;
    for name in base.record.files.keys().map(String::as_str).chain([ROOT]) {
        let link = folder.join(name);
        symlink(Path::new("..").join(key).join(name), &link).map_err(at(format!("linking {}", link.display())))?;
    }
    let mut manifest = base.record.clone();
    manifest.guest_sha256 = Some(guest_sha256.to_owned());
    manifest.files.extend([base::file(&initramfs)?]);
    manifest.write(&folder.join(MANIFEST))
}

fn write_tar(recipe: &Recipe, base: &Base, guest: &Path, work: &Path, appliance: &Path) -> Result<(), ApplianceError> {
    let output = appliance.join("os.tar");
    image::wsl_archive(recipe, &base.folder, guest, work, &output)?;
    let record = sha256_of(&output)?;
    out::line(format!("appliance: {}: {} bytes, sha256 {}", output.display(), record.size, record.sha256));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, Error> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_slip_is_not_taken_for_the_default() {
        let options = parse(&["--arch", "arm64", "--suite", "trixie", "--verify"]).unwrap();
        assert_eq!((options.architecture, options.suite.as_deref()), (Architecture::Arm64, Some("trixie")));
        assert!(options.verify && !options.force && !options.tar);
        assert!(parse(&["--arch", "mips"]).is_err());
        assert!(parse(&["--arch"]).is_err());
        assert!(parse(&["arm64"]).is_err());
    }
}
