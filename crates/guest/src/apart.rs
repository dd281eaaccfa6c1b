//! What is done as root of a user namespace and is no engine: trying whether there can be one, and getting at files that
//! belong to ids which are nobody outside.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use crate::error::Error;
use crate::files::create_folder;
use crate::identities::Identities;
use crate::mounts::{flags, tmpfs};

/// What was found possible.
#[derive(Serialize)]
struct Probe {
    /// Layers can be mounted over each other.
    overlay: bool,
}

/// `probe FOLDER`: makes every namespace the engine needs and mounts in it, in a folder of its own, and says what it can.
pub(crate) fn probe(arguments: &[String]) -> Result<ExitCode, Error> {
    let (identities, rest) = Identities::parse(arguments)?;
    let folder = one(&rest)?;
    identities.enter()?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET,
    )
    .map_err(Error::system("new namespaces cannot be made"))?;
    flags(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let found = try_mounts(&folder);
    let _ = nix::unistd::chdir("/");
    let removed = fs::remove_dir_all(&folder).map_err(Error::file("cannot remove", &folder));
    print(&Probe { overlay: found? })?;
    removed?;
    Ok(ExitCode::SUCCESS)
}

fn try_mounts(folder: &Path) -> Result<bool, Error> {
    for name in ["lower", "upper", "work", "merged"] {
        create_folder(&folder.join(name))?;
    }
    // Their paths may hold what means something to the file system.
    nix::unistd::chdir(folder).map_err(Error::system("entering the folder"))?;
    let merged = Path::new("merged");
    tmpfs(merged, MsFlags::empty(), "mode=755")?;
    umount2(merged, MntFlags::MNT_DETACH).map_err(Error::system("unmounting"))?;
    let layers = Some("userxattr,lowerdir=lower,upperdir=upper,workdir=work");
    let overlay = mount(Some("overlay"), merged, Some("overlay"), MsFlags::empty(), layers).is_ok();
    if overlay {
        umount2(merged, MntFlags::MNT_DETACH).map_err(Error::system("unmounting"))?;
    }
    Ok(overlay)
}

/// `measure PATH`: the room that it takes, in bytes.
pub(crate) fn measure(arguments: &[String]) -> Result<ExitCode, Error> {
    let (identities, rest) = Identities::parse(arguments)?;
    let path = one(&rest)?;
    identities.enter()?;
    print(&allocated(&path)?)?;
    Ok(ExitCode::SUCCESS)
}

/// `remove PATH`: with everything in it. Links are removed, not followed.
pub(crate) fn remove(arguments: &[String]) -> Result<ExitCode, Error> {
    let (identities, rest) = Identities::parse(arguments)?;
    let path = one(&rest)?;
    identities.enter()?;
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("cannot remove", &path)(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn allocated(path: &Path) -> Result<u64, Error> {
    const BLOCK: u64 = 512;
    let mut bytes = 0_u64;
    let mut open = vec![path.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).map_err(Error::file("cannot look at", &path))?;
        bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK));
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(Error::file("cannot read", &path))? {
                open.push(entry.map_err(Error::file("cannot read", &path))?.path());
            }
        }
    }
    Ok(bytes)
}

fn one(rest: &[String]) -> Result<PathBuf, Error> {
    match rest {
        [path] => Ok(PathBuf::from(path)),
        _ => Err(Error::Usage("one path is wanted".to_owned())),
    }
}

fn print(what: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(what).map_err(|_| Error::Answer("it cannot be told"))?;
    writeln!(std::io::stdout(), "{text}").map_err(Error::io("telling what was found"))
}
