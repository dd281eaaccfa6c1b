//! Copies of images that work, each in a folder of its own that is there only when it is whole.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::record::ImageId;
use crate::appliance::{Appliance, ImageFile, MANIFEST};
use crate::error::Error;
use crate::room::free_bytes;

/// Of a copy that is being made.
const FRESH: &str = ".new";
/// Between two looks at whether it is to go on.
const CHUNK: u64 = 8 << 20;
/// Left free for the engine's own disk, which would pause on a full one.
const SPARE: u64 = 1 << 30;

/// Why there is no copy of an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Image(#[from] Error),
    #[error("{} is no longer what was started: it was replaced meanwhile", .0.display())]
    Changed(PathBuf),
    #[error("{} has {free} bytes free, and {needed} are needed to leave room for the engine", folder.display())]
    NoRoom { folder: PathBuf, free: u64, needed: u64 },
    #[error("the engine was stopped meanwhile")]
    Cancelled,
}

impl KeepError {
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }
}

/// Tells a copy that is being made to leave off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(crate) fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), KeepError> {
        if self.0.load(Ordering::Relaxed) { Err(KeepError::Cancelled) } else { Ok(()) }
    }
}

/// The copy of an image, if there is one. Its files have their lengths; their content is not looked at.
pub(super) fn find(folder: &Path, image: &ImageId) -> Result<Appliance, Error> {
    let kept = Appliance::open_kept(&folder.join(image.as_str()))?;
    if kept.id() != image {
        let why = "its manifest is another than the one that was kept".to_owned();
        return Err(Error::BadAppliance { path: folder.join(image.as_str()), why });
    }
    kept.vm().map(|_| kept)
}

/// Copies an image, reads the copy again and compares it with what was built, and makes sure that it is on the disk.
pub(super) fn keep(folder: &Path, appliance: &Appliance, cancel: &Cancel) -> Result<(), KeepError> {
    let image = appliance.id();
    let whole = folder.join(image.as_str());
    if find(folder, image).is_ok() {
        return Ok(());
    }
    let fresh = folder.join(format!("{}{FRESH}", image.as_str()));
    for remains in [&whole, &fresh] {
        remove(remains).map_err(KeepError::file("remove", remains))?;
    }
    let made = fill(&fresh, appliance, cancel);
    if made.is_err() {
        let _ = remove(&fresh);
    }
    made?;
    fs::rename(&fresh, &whole).map_err(KeepError::file("rename", &fresh))?;
    sync_folder(folder)
}

fn fill(fresh: &Path, appliance: &Appliance, cancel: &Cancel) -> Result<(), KeepError> {
    let image = appliance.vm()?;
    let files = [&image.kernel, &image.initramfs, &image.os];
    let needed = files.iter().map(|file| file.record().size).sum::<u64>().saturating_add(SPARE);
    DirBuilder::new().mode(0o700).create(fresh).map_err(KeepError::file("create", fresh))?;
    let free = free_bytes(fresh).map_err(KeepError::file("look at", fresh))?;
    if free < needed {
        return Err(KeepError::NoRoom { folder: fresh.to_path_buf(), free, needed });
    }
    let manifest = appliance.folder().join(MANIFEST);
    let text = fs::read(&manifest).map_err(KeepError::file("read", &manifest))?;
    if *appliance.id() != ImageId::of(&text) {
        return Err(KeepError::Changed(manifest));
    }
    for file in files {
        copy(file, &fresh.join(file.name()), cancel)?;
    }
    let at = fresh.join(MANIFEST);
    let written = create(&at).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(KeepError::file("write", &at))?;
    sync_folder(fresh)
}

/// File to file, which the kernel does by itself, and without using more room where the file system can share it. Never
/// by a hard link: what is written into the one would be in the other.
fn copy(file: &ImageFile, to: &Path, cancel: &Cancel) -> Result<(), KeepError> {
    let from = File::open(file.path()).map_err(KeepError::file("open", file.path()))?;
    let mut made = create(to).map_err(KeepError::file("create", to))?;
    loop {
        cancel.check()?;
        let copied = io::copy(&mut (&from).take(CHUNK), &mut made);
        if copied.map_err(KeepError::file("write", to))? == 0 {
            break;
        }
    }
    made.rewind().map_err(KeepError::file("read", to))?;
    let mut hash = Sha256::new();
    loop {
        cancel.check()?;
        let read = io::copy(&mut (&made).take(CHUNK), &mut hash);
        if read.map_err(KeepError::file("read", to))? == 0 {
            break;
        }
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != file.record().sha256 {
        return Err(KeepError::Changed(file.path().to_path_buf()));
    }
    made.sync_all().map_err(KeepError::file("write out", to))
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Removes every copy but these, finished or not. What is not ours is left.
pub(super) fn prune(folder: &Path, kept: &[&ImageId]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let image = ImageId::try_from(name.strip_suffix(FRESH).unwrap_or(&name).to_owned());
        let Ok(image) = image else { continue };
        let is_kept = kept.contains(&&image) && !name.ends_with(FRESH);
        if !is_kept {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// No link inside is followed.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_folder(path: &Path) -> Result<(), KeepError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(KeepError::file("write out", path))
}
