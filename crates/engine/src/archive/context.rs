//! The context of a build: a folder, less what its ignore file names, and a Dockerfile from anywhere.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    ArchiveError, Owner, Pack, PackOptions, Progress, Source,
    ignore::{DockerIgnore, FILE_LIMIT, IgnoreError},
    pack, root,
};

/// Largest Dockerfile that is read, in bytes.
const DOCKERFILE_LIMIT: usize = 16 * 1024 * 1024;

/// Name of the ignore file.
const IGNORE_FILE: &str = ".dockerignore";

/// How to make the context.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// Who owns the files in the context.
    pub owner: Owner,
    /// Most files, folders and links, ignored ones included.
    pub entries: usize,
    /// Look at all files first to say how much it will be.
    pub estimate: bool,
}

impl Default for ContextOptions {
    fn default() -> Self {
        let PackOptions { owner, entries, estimate, .. } = PackOptions::default();
        Self { owner, entries, estimate }
    }
}

/// The context of a build.
#[derive(Debug)]
pub struct BuildContext {
    /// Path of the Dockerfile in the context, for the engine.
    pub dockerfile: String,
    /// The ignore file that was used.
    pub ignore_file: Option<PathBuf>,
    /// The archive.
    pub pack: Pack,
}

/// Packs a folder as the context of a build.
///
/// `dockerfile` is a path as the user gives it, relative to the folder. Beside it, `<name>.dockerignore` wins over
/// `.dockerignore` in the folder. Both the Dockerfile and `.dockerignore` are sent even if they are ignored. A Dockerfile
/// from elsewhere is sent under a random name, which `.dockerignore` then hides from the build.
///
/// # Errors
/// [`ArchiveError::Ignore`] if the ignore file is wrong, [`ArchiveError::Unsuitable`] if the folder or the Dockerfile is
/// none, and those of [`pack()`].
pub async fn build_context(
    folder: &Path,
    dockerfile: &Path,
    options: &ContextOptions,
    progress: Option<watch::Sender<Progress>>,
) -> Result<BuildContext, ArchiveError> {
    let (folder, path) = (folder.to_path_buf(), folder.join(dockerfile));
    let root = folder.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&root, &path));
    let Prepared { dockerfile, ignore_file, ignore, extra } = prepared.await.unwrap_or(Err(ArchiveError::Abandoned))?;
    let options = PackOptions {
        owner: options.owner,
        entries: options.entries,
        estimate: options.estimate,
        ignore: Some(ignore),
        follow_sources: true,
        extra,
    };
    let pack = pack(vec![Source { path: folder, name: "".into() }], options, progress).await?;
    Ok(BuildContext { dockerfile, ignore_file, pack })
}

struct Prepared {
    dockerfile: String,
    ignore_file: Option<PathBuf>,
    ignore: DockerIgnore,
    extra: Vec<(String, Bytes)>,
}

fn prepare(folder: &Path, path: &Path) -> Result<Prepared, ArchiveError> {
    let folder = folder.canonicalize().map_err(ArchiveError::file("read", folder))?;
    if !path.is_file() {
        return Err(ArchiveError::Unsuitable { path: path.to_path_buf(), expected: "a file with build instructions" });
    }
    let beside = path.file_name().map(|name| {
        let mut name = name.to_owned();
        name.push(IGNORE_FILE);
        path.with_file_name(name)
    });
    let in_folder = folder.join(IGNORE_FILE);
    let content = read(&in_folder, FILE_LIMIT)?;
    let own = match &beside {
        Some(beside) => read(beside, FILE_LIMIT)?.map(|content| (content, beside.clone())),
        None => None,
    };
    let (rules, ignore_file) = match own {
        Some((rules, path)) => (rules, Some(path)),
        None => (content.clone().unwrap_or_default(), content.is_some().then(|| in_folder.clone())),
    };
    let mut ignore = DockerIgnore::parse(&rules)?;
    ignore.keep(IGNORE_FILE);
    if let Some(inside) = inside(&folder, path) {
        ignore.keep(inside.as_bytes());
        return Ok(Prepared { dockerfile: inside, ignore_file, ignore, extra: Vec::new() });
    }
    let instructions = read(path, DOCKERFILE_LIMIT)?;
    let instructions = instructions.ok_or_else(|| ArchiveError::Unsuitable {
        path: path.to_path_buf(),
        expected: "a file with build instructions of at most 16 MiB",
    })?;
    let random = RandomState::new();
    let name = format!(".dockerfile.{:016x}", random.hash_one(std::process::id()));
    let mut hidden = content.unwrap_or_default();
    if !hidden.is_empty() && !hidden.ends_with(b"\n") {
        hidden.push(b'\n');
    }
    hidden.extend_from_slice(format!("{name}\n").as_bytes());
    let extra = vec![(IGNORE_FILE.to_owned(), hidden.into()), (name.clone(), instructions.into())];
    Ok(Prepared { dockerfile: name, ignore_file, ignore, extra })
}

/// The path of the Dockerfile in the context, if it is there.
fn inside(folder: &Path, path: &Path) -> Option<String> {
    // The last name may be a link, which is sent as one and followed by the engine.
    let parent = path.parent()?.canonicalize().ok()?;
    let relative = parent.strip_prefix(folder).ok()?.join(path.file_name()?);
    let mut names = Vec::new();
    for part in relative.components() {
        let Component::Normal(name) = part else { return None };
        names.push(std::str::from_utf8(root::archive_name(name)?).ok()?.to_owned());
    }
    // A link that leads out of the folder leads nowhere in the context.
    let target = path.canonicalize().ok()?;
    target.starts_with(folder).then(|| names.join("/"))
}

/// Reads a small file. None if it is not there.
fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, ArchiveError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(ArchiveError::file("read", path))?,
    };
    let mut content = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut content).map_err(ArchiveError::file("read", path))?;
    if content.len() <= limit {
        return Ok(Some(content));
    }
    if limit == FILE_LIMIT {
        return Err(IgnoreError::TooLarge.into());
    }
    Err(ArchiveError::Unsuitable {
        path: path.to_path_buf(),
        expected: "a file with build instructions of at most 16 MiB",
    })
}
