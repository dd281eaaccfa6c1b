//! The appliance: what the builder made, found, checked and described for whoever runs it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::slots::ImageId;

/// What to do when there is none.
pub(crate) const FIX: &str = "run `cargo xtask appliance`, or set BERTH_APPLIANCE to a folder with one";
/// The file that describes an appliance.
pub(crate) const MANIFEST: &str = "manifest.json";
const MANIFEST_FORMAT: u32 = 2;
/// What the kernel may be called: `Image` on arm64.
const KERNELS: [&str; 2] = ["vmlinux", "Image"];
const INITRAMFS: &str = "initramfs";
const OS_IMAGE: &str = "os.erofs";

/// What the engine runs from, and what it is made of.
#[derive(Clone, Debug)]
pub struct Appliance {
    folder: PathBuf,
    root: PathBuf,
    manifest: Manifest,
    id: ImageId,
}

/// What the builder wrote down about an appliance.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The version of this file's format.
    pub format: u32,
    /// The Debian suite it was built from.
    pub suite: String,
    /// Its architecture, by Rust's name.
    pub architecture: String,
    /// The digest of the recipe.
    pub recipe: String,
    /// The release of the kernel, as `uname -r` tells it.
    pub kernel_version: String,
    /// What the kernel is told in any case.
    pub kernel_command_line: String,
    /// The newest protocol its guest speaks with the supervisor.
    pub agent_protocol: u32,
    /// The files a machine boots from, by name.
    pub files: BTreeMap<String, FileRecord>,
    /// The versions of the packages that matter, by what they are.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
}

/// What a file of an appliance has to be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FileRecord {
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// What a virtual machine boots. The files are there and have their lengths; their content is read by
/// [`VmImage::verify`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmImage {
    /// The kernel: on amd64 an ELF program with a PVH entry, on arm64 a plain `Image`.
    pub kernel: ImageFile,
    /// The first root, with the guest program and the modules it needs to find the next.
    pub initramfs: ImageFile,
    /// The read-only root, an EROFS file system.
    pub os: ImageFile,
    /// What the kernel is told in any case; who starts the machine adds keys of its own.
    pub command_line: String,
    /// The release of the kernel.
    pub kernel_version: String,
    /// The newest protocol its guest speaks with the supervisor.
    pub agent_protocol: u32,
    /// The version of its dockerd, where the builder knew it.
    pub engine_version: Option<String>,
}

/// A file a machine boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    name: &'static str,
    path: PathBuf,
    record: FileRecord,
}

/// What is wrong with a file of an appliance.
#[derive(Debug, thiserror::Error)]
pub enum ImageProblem {
    /// The manifest does not say what it has to be.
    #[error("the manifest does not name it")]
    NotNamed,
    /// It is missing or cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It is longer or shorter than it was.
    #[error("it has {found} bytes and had {expected} when it was built")]
    Size {
        /// Its length now.
        found: u64,
        /// Its length by the manifest.
        expected: u64,
    },
    /// It has the length it had, and other content.
    #[error("its content is not what was built")]
    Content,
}

impl Appliance {
    /// Finds the appliance: where `BERTH_APPLIANCE` says, next to the program, or where an installation keeps it.
    ///
    /// # Errors
    ///
    /// There is none, or the one found is not usable here.
    pub fn find() -> Result<Self, Error> {
        if let Some(folder) = std::env::var_os("BERTH_APPLIANCE").filter(|value| !value.is_empty()) {
            return Self::open(Path::new(&folder));
        }
        let program = std::env::current_exe().map_err(Error::system("finding this program"))?;
        let candidates = candidates(&program);
        match candidates.iter().find(|folder| folder.join(MANIFEST).is_file()) {
            Some(folder) => Self::open(folder),
            None => Err(Error::NoAppliance(candidates)),
        }
    }

    /// Opens the appliance in a folder.
    ///
    /// # Errors
    ///
    /// It is incomplete, of a format this version does not know, or for another architecture.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let found = Self::open_kept(folder)?;
        if !found.root.join("usr/sbin/dockerd").is_file() {
            return Err(Error::BadAppliance { path: folder.to_path_buf(), why: "it holds no dockerd".to_owned() });
        }
        Ok(found)
    }

    /// Opens what is kept of an appliance for machines: all but the root tree.
    pub(crate) fn open_kept(folder: &Path) -> Result<Self, Error> {
        let bad = |why: String| Error::BadAppliance { path: folder.to_path_buf(), why };
        // Resolved now: the links may be pointed at newer ones while this one is in use.
        let real = folder.canonicalize().map_err(|error| bad(error.to_string()))?;
        let text = fs::read(real.join(MANIFEST)).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
        let unreadable = |error: serde_json::Error| bad(format!("{MANIFEST}: {error}"));
        // Alone at first: of a manifest of another format nothing else is known.
        let Format { format } = serde_json::from_slice(&text).map_err(unreadable)?;
        if format != MANIFEST_FORMAT {
            return Err(bad(format!("its format is {format}, and this version reads {MANIFEST_FORMAT}")));
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(unreadable)?;
        if manifest.architecture != std::env::consts::ARCH {
            return Err(bad(format!("it is for {}, and this is {}", manifest.architecture, std::env::consts::ARCH)));
        }
        let root = real.join("root");
        let root = root.canonicalize().unwrap_or(root);
        Ok(Self { folder: real, root, manifest, id: ImageId::of(&text) })
    }

    /// Which one it is: the same for the same manifest, which names the content of every file.
    pub(crate) fn id(&self) -> &ImageId {
        &self.id
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root tree.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// What it is made of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What a virtual machine boots. Looks at the lengths of the files, not at their content.
    ///
    /// # Errors
    ///
    /// A file is missing, or has another length than it was built with.
    pub fn vm(&self) -> Result<VmImage, Error> {
        let kernel = KERNELS.into_iter().find(|name| self.manifest.files.contains_key(*name)).unwrap_or(KERNELS[0]);
        Ok(VmImage {
            kernel: self.file(kernel)?,
            initramfs: self.file(INITRAMFS)?,
            os: self.file(OS_IMAGE)?,
            command_line: self.manifest.kernel_command_line.clone(),
            kernel_version: self.manifest.kernel_version.clone(),
            agent_protocol: self.manifest.agent_protocol,
            engine_version: self.manifest.versions.get("engine").cloned(),
        })
    }

    fn file(&self, name: &'static str) -> Result<ImageFile, Error> {
        let path = self.folder.join(name);
        let bad = |problem| Error::BadImage { path: path.clone(), problem };
        let record = self.manifest.files.get(name).ok_or_else(|| bad(ImageProblem::NotNamed))?.clone();
        let real = path.canonicalize().map_err(|error| bad(ImageProblem::Unreadable(error)))?;
        let found = fs::metadata(&real).map_err(|error| bad(ImageProblem::Unreadable(error)))?.len();
        if found != record.size {
            return Err(bad(ImageProblem::Size { found, expected: record.size }));
        }
        Ok(ImageFile { name, path: real, record })
    }
}

impl VmImage {
    /// Reads all of it and compares with what was built: some tenths of a second of work for a processor, so not for an
    /// asynchronous task.
    ///
    /// # Errors
    ///
    /// A file has changed since it was built, or cannot be read.
    pub fn verify(&self) -> Result<(), Error> {
        [&self.kernel, &self.initramfs, &self.os].into_iter().try_for_each(ImageFile::verify)
    }
}

impl ImageFile {
    /// What it is called in its appliance, whatever a link leads to.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length and digest.
    #[must_use]
    pub fn record(&self) -> &FileRecord {
        &self.record
    }

    /// Reads it and compares with what was built.
    ///
    /// # Errors
    ///
    /// It has changed since it was built, or cannot be read.
    pub fn verify(&self) -> Result<(), Error> {
        let bad = |problem| Error::BadImage { path: self.path.clone(), problem };
        let mut file = fs::File::open(&self.path).map_err(|error| bad(ImageProblem::Unreadable(error)))?;
        let mut hash = Sha256::new();
        let found = io::copy(&mut file, &mut hash).map_err(|error| bad(ImageProblem::Unreadable(error)))?;
        if found != self.record.size {
            return Err(bad(ImageProblem::Size { found, expected: self.record.size }));
        }
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if digest == self.record.sha256 { Ok(()) } else { Err(bad(ImageProblem::Content)) }
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn candidates(program: &Path) -> Vec<PathBuf> {
    let Some(folder) = program.parent().and_then(Path::parent) else { return Vec::new() };
    let mut found = vec![folder.join("appliance"), folder.join("lib/berth/appliance")];
    // A test's program is one folder deeper than the others.
    if program.parent().is_some_and(|parent| parent.ends_with("deps"))
        && let Some(target) = folder.parent()
    {
        found.push(target.join("appliance"));
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{Appliance, ImageProblem, candidates};
    use crate::error::Error;

    const FILES: [(&str, &str); 3] = [("vmlinux", "kernel"), ("initramfs", "initramfs"), ("os.erofs", "os")];

    fn digest(text: &str) -> String {
        use sha2::{Digest as _, Sha256};
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// An appliance as the builder leaves it: a manifest, and links to what it shares with others.
    fn appliance(folder: &Path) -> Appliance {
        let base = folder.join("base");
        let own = folder.join("own");
        fs::create_dir_all(base.join("root/usr/sbin")).unwrap();
        fs::create_dir_all(&own).unwrap();
        fs::write(base.join("root/usr/sbin/dockerd"), "").unwrap();
        let mut files = Vec::new();
        for (name, content) in FILES {
            fs::write(base.join(name), content).unwrap();
            std::os::unix::fs::symlink(Path::new("../base").join(name), own.join(name)).unwrap();
            files.push(format!(r#""{name}":{{"size":{},"sha256":"{}"}}"#, content.len(), digest(content)));
        }
        std::os::unix::fs::symlink("../base/root", own.join("root")).unwrap();
        let text = format!(
            r#"{{"format":2,"suite":"s","architecture":"{}","recipe":"r","kernel_version":"7.2.1","kernel_command_line":
               "quiet","agent_protocol":1,"files":{{{}}},"new":[]}}"#,
            std::env::consts::ARCH,
            files.join(",")
        );
        fs::write(own.join("manifest.json"), text).unwrap();
        Appliance::open(&own).unwrap()
    }

    fn problem(result: Result<impl std::fmt::Debug, Error>) -> (PathBuf, ImageProblem) {
        match result.unwrap_err() {
            Error::BadImage { path, problem } => (path, problem),
            other => panic!("another error: {other}"),
        }
    }

    #[test]
    fn it_is_looked_for_next_to_the_program_and_where_it_is_installed() {
        let found = candidates(Path::new("/b/target/debug/berth"));
        assert_eq!(found, [PathBuf::from("/b/target/appliance"), PathBuf::from("/b/target/lib/berth/appliance")]);
        assert!(candidates(Path::new("/usr/bin/berth")).contains(&PathBuf::from("/usr/lib/berth/appliance")));
    }

    #[test]
    fn a_foreign_or_half_built_one_is_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let open = |manifest: &str| {
            fs::write(folder.path().join("manifest.json"), manifest).unwrap();
            Appliance::open(folder.path()).unwrap_err().to_string()
        };
        let manifest = |architecture: &str| {
            format!(
                r#"{{"format":2,"suite":"s","architecture":"{architecture}","recipe":"r","kernel_version":"7",
                   "kernel_command_line":"","agent_protocol":1,"files":{{}},"new":[]}}"#
            )
        };
        assert!(open(r#"{"format":1,"suite":"s"}"#).contains("format is 1"), "what an older builder wrote");
        assert!(open(&manifest("vax")).contains("for vax"));
        let incomplete = open(&manifest(std::env::consts::ARCH));
        assert!(incomplete.contains("no dockerd") && incomplete.contains("cargo xtask appliance"), "{incomplete}");
    }

    #[test]
    fn a_machine_is_given_the_files_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let appliance = appliance(folder.path());
        let base = folder.path().canonicalize().unwrap().join("base");
        let vm = appliance.vm().unwrap();
        assert_eq!(vm.kernel.path(), base.join("vmlinux"));
        assert_eq!(vm.initramfs.path(), base.join("initramfs"));
        assert_eq!(vm.os.path(), base.join("os.erofs"));
        assert_eq!((vm.command_line.as_str(), vm.agent_protocol), ("quiet", 1));
        assert_eq!(appliance.root(), base.join("root"), "links may be pointed elsewhere while it runs");
        vm.verify().unwrap();
    }

    #[test]
    fn a_file_that_is_not_what_was_built_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let appliance = appliance(folder.path());
        let vm = appliance.vm().unwrap();
        let os = folder.path().join("base/os.erofs");

        fs::write(&os, "so").unwrap();
        assert!(appliance.vm().is_ok(), "lengths are compared at every start, content when asked");
        let (path, found) = problem(vm.verify());
        assert!(path.ends_with("os.erofs") && matches!(found, ImageProblem::Content), "{found}");

        fs::write(&os, "cut").unwrap();
        let (_, found) = problem(appliance.vm());
        assert!(matches!(found, ImageProblem::Size { found: 3, expected: 2 }), "{found}");

        fs::remove_file(&os).unwrap();
        let (path, found) = problem(appliance.vm());
        assert!(path.ends_with("os.erofs") && matches!(found, ImageProblem::Unreadable(_)), "{found}");
    }
}
