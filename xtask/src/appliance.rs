//! `cargo xtask appliance`: the root tree the bundled engine runs from, built from Debian packages.
//!
//! The tree is kept in a cache under a key made of the recipe and the architecture, so that a changed
//! recipe is a new tree and an unchanged one is never built twice. A build happens in a sibling folder and
//! is renamed into place, so a half-built tree is never found under its key.

#![allow(clippy::print_stdout, reason = "a developer command speaks on stdout")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The recipe's files, in the order in which they enter the digest.
const RECIPE: [&str; 4] = ["keep.txt", "packages.txt", "strip.txt", "suites.txt"];
/// Goes into the digest: raise it when this code builds a different tree from the same recipe.
const BUILDER: &str = "1";
/// Finished trees kept in the cache besides which older ones are removed.
const KEPT: usize = 2;
/// The packages whose versions are shown as the engine's.
const ENGINE_PACKAGES: [(&str, &str); 7] = [
    ("buildx", "docker-buildx"),
    ("compose", "docker-compose"),
    ("containerd", "containerd"),
    ("docker-cli", "docker-cli"),
    ("engine", "docker.io"),
    ("runc", "runc"),
    ("slirp4netns", "slirp4netns"),
];

/// Why there is no appliance.
#[derive(Debug)]
pub(crate) enum ApplianceError {
    /// A command the build needs is not installed.
    MissingCommand {
        /// The command.
        command: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// Building unpacks packages as their owners, which only root may.
    NotRoot,
    /// Reading or writing a file failed.
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A command ran and failed.
    CommandFailed {
        /// The command line.
        command: String,
        /// The end of what it wrote.
        output: String,
    },
    /// No suite of the recipe could be installed.
    NoSuite {
        /// Each suite with the reason.
        tried: Vec<(String, String)>,
    },
    /// The finished tree lacks something it must hold.
    Incomplete {
        /// What it lacks.
        missing: Vec<String>,
    },
}

impl std::fmt::Display for ApplianceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MissingCommand { command, package } => {
                write!(
                    f,
                    "the appliance cannot be built: `{command}` is not installed; install it with `apt-get install {package}`"
                )
            }
            Self::NotRoot => f.write_str(
                "the appliance cannot be built by this user: packages are unpacked with their owners, which only root may; run `sudo -E cargo xtask appliance`",
            ),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::CommandFailed { command, output } => write!(f, "`{command}` failed:\n{output}"),
            Self::NoSuite { tried } => {
                f.write_str("the appliance cannot be built: no suite of assets/appliance/suites.txt could be installed; is the package archive reachable?")?;
                for (suite, why) in tried {
                    write!(f, "\n{suite}: {why}")?;
                }
                Ok(())
            }
            Self::Incomplete { missing } => write!(
                f,
                "the appliance built but lacks {}; a line of assets/appliance/strip.txt takes too much",
                missing.join(", ")
            ),
        }
    }
}

impl std::error::Error for ApplianceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn at(what: impl Into<String>) -> impl FnOnce(io::Error) -> ApplianceError {
    let what = what.into();
    move |source| ApplianceError::Io { what, source }
}

/// One installed package.
#[derive(Default)]
struct Package {
    name: String,
    version: String,
    architecture: String,
    sha256: Option<String>,
}

/// Builds the appliance, or reuses the one the cache holds, and points `target/appliance` at it.
///
/// # Errors
///
/// Not root, a missing command, no installable suite, a tree that lacks a needed command, or an I/O failure.
pub(crate) fn build(force: bool) -> Result<PathBuf, ApplianceError> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let recipe_folder = workspace.join("assets/appliance");
    let recipe = RecipeFiles::read(&recipe_folder)?;
    let digest = recipe.digest()?;
    let key = digest.get(..16).unwrap_or(&digest).to_owned();
    let cache = cache_folder()?.join("appliance");
    let finished = cache.join(&key);

    if !force && finished.join("manifest.json").is_file() && finished.join("root").is_dir() {
        println!("appliance: reusing {}", finished.display());
    } else {
        require_root()?;
        require_command("mmdebstrap", "mmdebstrap")?;
        fs::create_dir_all(&cache).map_err(at(format!("creating {}", cache.display())))?;
        let building = cache.join(format!(".building-{key}-{}", std::process::id()));
        let built = build_into(&building, &recipe, &digest).and_then(|()| publish(&building, &finished));
        if built.is_err() {
            remove_tree(&building);
        }
        built?;
    }
    prune(&cache, &finished);
    link(&workspace, &finished)?;
    Ok(finished)
}

struct RecipeFiles {
    texts: BTreeMap<&'static str, String>,
}

impl RecipeFiles {
    fn read(folder: &Path) -> Result<Self, ApplianceError> {
        let mut texts = BTreeMap::new();
        for name in RECIPE {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).map_err(at(format!("reading {}", path.display())))?;
            texts.insert(name, text);
        }
        Ok(Self { texts })
    }

    /// The entries of one list: comments and blank lines are not entries.
    fn entries(&self, name: &str) -> Vec<&str> {
        let text = self.texts.get(name).map_or("", String::as_str);
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    fn digest(&self) -> Result<String, ApplianceError> {
        let mut input = format!("builder {BUILDER}\narchitecture {}\n", std::env::consts::ARCH);
        for name in RECIPE {
            let _ = writeln!(input, "file {name}");
            for entry in self.entries(name) {
                let _ = writeln!(input, "{entry}");
            }
        }
        sha256(&input)
    }
}

/// Coreutils' `sha256sum` over a text: it is on every machine that has mmdebstrap, and spares a dependency.
fn sha256(input: &str) -> Result<String, ApplianceError> {
    use std::io::Write as _;
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(at("starting sha256sum"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(at("writing to sha256sum"))?;
    }
    let output = child.wait_with_output().map_err(at("reading from sha256sum"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().next() {
        Some(digest) if output.status.success() && digest.len() == 64 => Ok(digest.to_owned()),
        _ => Err(ApplianceError::CommandFailed { command: "sha256sum".to_owned(), output: text.into_owned() }),
    }
}

fn cache_folder() -> Result<PathBuf, ApplianceError> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("BERTH_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("berth")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/berth")))
        .ok_or_else(|| ApplianceError::Io {
            what: "no cache folder: set BERTH_CACHE, XDG_CACHE_HOME or HOME".to_owned(),
            source: io::Error::from(io::ErrorKind::NotFound),
        })
}

fn require_root() -> Result<(), ApplianceError> {
    let output = Command::new("id").arg("-u").output().map_err(at("asking who runs this (`id -u`)"))?;
    if String::from_utf8_lossy(&output.stdout).trim() == "0" { Ok(()) } else { Err(ApplianceError::NotRoot) }
}

fn require_command(command: &'static str, package: &'static str) -> Result<(), ApplianceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(command).is_file()) {
        Ok(())
    } else {
        Err(ApplianceError::MissingCommand { command, package })
    }
}

fn build_into(building: &Path, recipe: &RecipeFiles, digest: &str) -> Result<(), ApplianceError> {
    remove_tree(building);
    fs::create_dir_all(building).map_err(at(format!("creating {}", building.display())))?;
    let root = building.join("root");
    let mut tried = Vec::new();
    let started = Instant::now();
    let suite = 'found: {
        for suite in recipe.entries("suites.txt") {
            println!("appliance: installing {} packages from {suite}", recipe.entries("packages.txt").len());
            match install(suite, recipe, &root) {
                Ok(()) => break 'found suite,
                Err(ApplianceError::CommandFailed { output, .. }) => {
                    println!("appliance: {suite} cannot be installed, trying the next suite");
                    tried.push((suite.to_owned(), output));
                    remove_tree(&root);
                }
                Err(other) => return Err(other),
            }
        }
        return Err(ApplianceError::NoSuite { tried });
    };
    let installed = started.elapsed();

    let packages = installed_packages(&root)?;
    for pattern in recipe.entries("strip.txt") {
        strip(&root, pattern)?;
    }
    for folder in ["dev", "proc", "run", "sys", "tmp", "var"] {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(at(format!("creating {}", path.display())))?;
    }
    let missing: Vec<String> =
        recipe.entries("keep.txt").into_iter().filter(|path| !root.join(path).exists()).map(str::to_owned).collect();
    if !missing.is_empty() {
        return Err(ApplianceError::Incomplete { missing });
    }
    let manifest = building.join("manifest.json");
    fs::write(&manifest, manifest_text(suite, digest, &packages))
        .map_err(at(format!("writing {}", manifest.display())))?;
    println!(
        "appliance: {} packages from {suite} in {:.1} s, {:.1} s in all",
        packages.len(),
        installed.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn install(suite: &str, recipe: &RecipeFiles, root: &Path) -> Result<(), ApplianceError> {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase", "--mode=root", "--format=directory"])
        .arg(format!("--include={}", recipe.entries("packages.txt").join(",")))
        // The lists hold the digests of the packages; they are stripped once the manifest has them.
        .arg("--skip=cleanup/apt/lists,output/dev")
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Check-Valid-Until \"false\""])
        .args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*"])
        .arg(suite)
        .arg(root)
        .stdin(Stdio::null());
    let output = command.output().map_err(at("starting mmdebstrap"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n");
    Err(ApplianceError::CommandFailed { command: format!("mmdebstrap … {suite}"), output: tail })
}

/// The fields of each stanza of a Debian control file; continuation lines are of no use here.
fn stanzas(text: &str) -> impl Iterator<Item = BTreeMap<&str, &str>> {
    text.split("\n\n").map(|stanza| {
        stanza
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect()
    })
}

fn installed_packages(root: &Path) -> Result<Vec<Package>, ApplianceError> {
    let status = root.join("var/lib/dpkg/status");
    let text = fs::read_to_string(&status).map_err(at(format!("reading {}", status.display())))?;
    let digests = archive_digests(&root.join("var/lib/apt/lists"));
    let mut packages: Vec<Package> = stanzas(&text)
        .filter_map(|fields| {
            let name = (*fields.get("Package")?).to_owned();
            let version = (*fields.get("Version")?).to_owned();
            let architecture = (*fields.get("Architecture")?).to_owned();
            let sha256 = digests.get(&(name.clone(), version.clone())).cloned();
            Some(Package { name, version, architecture, sha256 })
        })
        .collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// Digests by package and version from whatever plain lists are there; a list that cannot be read only
/// means fewer digests in the manifest.
fn archive_digests(lists: &Path) -> BTreeMap<(String, String), String> {
    let mut digests = BTreeMap::new();
    for entry in fs::read_dir(lists).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().ends_with("_Packages") {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        for fields in stanzas(&text) {
            if let (Some(name), Some(version), Some(sha256)) =
                (fields.get("Package"), fields.get("Version"), fields.get("SHA256"))
            {
                digests.insert(((*name).to_owned(), (*version).to_owned()), (*sha256).to_owned());
            }
        }
    }
    digests
}

fn strip(root: &Path, pattern: &str) -> Result<(), ApplianceError> {
    let mut matches = vec![root.to_path_buf()];
    for component in pattern.split('/') {
        let mut next = Vec::new();
        for folder in matches {
            if component.contains('*') {
                if folder.is_symlink() {
                    continue;
                }
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

/// Whether `name` is what `pattern` describes, `*` standing for any text.
fn wildcard(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(index, _)| index)
                .chain([rest.len()])
                .any(|index| rest.get(index..).is_some_and(|tail| wildcard(after, tail)))
        }),
    }
}

fn manifest_text(suite: &str, digest: &str, packages: &[Package]) -> String {
    let built = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut text = String::from("{\n  \"format\": 1,\n");
    let _ = writeln!(text, "  \"suite\": {},", quoted(suite));
    let _ = writeln!(text, "  \"architecture\": {},", quoted(std::env::consts::ARCH));
    let _ = writeln!(text, "  \"recipe\": {},", quoted(digest));
    let _ = writeln!(text, "  \"built\": {built},");
    text.push_str("  \"versions\": {");
    let mut first = true;
    for (label, name) in ENGINE_PACKAGES {
        if let Some(package) = packages.iter().find(|package| package.name == name) {
            let _ =
                write!(text, "{}\n    {}: {}", if first { "" } else { "," }, quoted(label), quoted(&package.version));
            first = false;
        }
    }
    text.push_str("\n  },\n  \"packages\": [");
    for (index, package) in packages.iter().enumerate() {
        let _ = write!(
            text,
            "{}\n    {{\"name\": {}, \"version\": {}, \"architecture\": {}, \"sha256\": {}}}",
            if index == 0 { "" } else { "," },
            quoted(&package.name),
            quoted(&package.version),
            quoted(&package.architecture),
            package.sha256.as_deref().map_or_else(|| "null".to_owned(), quoted)
        );
    }
    text.push_str("\n  ]\n}\n");
    text
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Renames the finished build into place. An older tree under the key is moved aside first: a folder cannot
/// be renamed over a full one.
fn publish(building: &Path, finished: &Path) -> Result<(), ApplianceError> {
    let aside = building.with_extension("replaced");
    if finished.exists() {
        fs::rename(finished, &aside).map_err(at(format!("replacing {}", finished.display())))?;
    }
    let renamed = fs::rename(building, finished).map_err(at(format!("publishing {}", finished.display())));
    remove_tree(&aside);
    renamed
}

/// Removes older trees and builds whose process is gone. Failing to is no reason to fail a build.
fn prune(cache: &Path, keep: &Path) {
    let mut finished = Vec::new();
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".building-") {
            let process = name.trim_end_matches(".replaced").rsplit('-').next().unwrap_or_default();
            if !Path::new("/proc").join(process).exists() {
                remove_tree(&entry.path());
            }
        } else if let Ok(modified) = entry.path().join("manifest.json").metadata().and_then(|file| file.modified()) {
            finished.push((entry.path() == keep, modified, entry.path()));
        }
    }
    finished.sort();
    finished.reverse();
    for (_, _, path) in finished.into_iter().skip(KEPT) {
        remove_tree(&path);
    }
}

fn remove_tree(path: &Path) {
    if path.symlink_metadata().is_ok() {
        let _ = fs::remove_dir_all(path);
    }
}

fn link(workspace: &Path, finished: &Path) -> Result<(), ApplianceError> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    fs::create_dir_all(&target).map_err(at(format!("creating {}", target.display())))?;
    let link = target.join("appliance");
    if fs::read_link(&link).is_ok_and(|current| current == finished) {
        return Ok(());
    }
    let fresh = target.join(format!(".appliance-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    std::os::unix::fs::symlink(finished, &fresh).map_err(at(format!("linking {}", fresh.display())))?;
    fs::rename(&fresh, &link).map_err(at(format!("linking {}", link.display())))
}

#[cfg(test)]
mod tests {
    use super::{RecipeFiles, quoted, stanzas, wildcard};

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(wildcard("perl*", "perl5.42"));
        assert!(wildcard("rc*.d", "rc0.d"));
        assert!(wildcard("*", "x86_64-linux-gnu"));
        assert!(!wildcard("rc*.d", "rc.local"));
        assert!(!wildcard("ctr", "ctr2"));
    }

    #[test]
    fn comments_do_not_change_the_key() {
        let recipe =
            |text: &str| RecipeFiles { texts: super::RECIPE.into_iter().map(|name| (name, text.to_owned())).collect() };
        let plain = recipe("one\ntwo\n").digest().unwrap();
        assert_eq!(plain, recipe("# why\none\n\ntwo\n").digest().unwrap());
        assert_ne!(plain, recipe("one\n").digest().unwrap());
        assert_eq!(plain.len(), 64);
    }

    #[test]
    fn control_files_are_read_by_stanza() {
        let text = "Package: a\nVersion: 1:2\nDescription: x\n more: text\n\nPackage: b\n";
        let all: Vec<_> = stanzas(text).collect();
        assert_eq!(all[0].get("Version"), Some(&"1:2"));
        assert!(!all[0].contains_key(" more"));
        assert_eq!(all[1].get("Package"), Some(&"b"));
    }

    #[test]
    fn hostile_text_stays_inside_its_quotes() {
        assert_eq!(quoted("a\"\n\\"), "\"a\\\"\\u000a\\\\\"");
    }
}
