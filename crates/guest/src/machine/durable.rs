//! What dockerd reports as made is to be on the disk: its files are ordered, and the names of its images written at once.
//! It is not enough yet: `tests/vm/kills.py` still finds layers without their content after QEMU was killed.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::error::Error;
use crate::files::create_folder;

/// dockerd writes a layer's files without `fsync`, then what it knows about the layer with one. Without delayed allocation
/// the commit that this brings has everything before it written out; with it, files of a layer that is recorded may be
/// empty after a crash.
pub(super) const OPTIONS: &str = "nodelalloc";

/// Deeper than the folders of layers, below which there are only files.
const DEPTH: u32 = 5;

/// Has every new name in the image store on the disk before dockerd goes on, and with it all that was written before. What
/// is made in such a folder takes this over.
pub(super) fn keep_images(docker: &Path) -> Result<(), Error> {
    let images = docker.join("image");
    create_folder(&images)?;
    mark(&images, DEPTH)
}

fn mark(folder: &Path, depth: u32) -> Result<(), Error> {
    let open = File::open(folder).map_err(Error::file("cannot open", folder))?;
    let flags = ioctl_getflags(&open).map_err(|error| Error::file("cannot read the flags of", folder)(error.into()))?;
    if flags.contains(IFlags::DIRSYNC) {
        return Ok(());
    }
    if let Some(depth) = depth.checked_sub(1) {
        for entry in fs::read_dir(folder).map_err(Error::file("cannot read", folder))? {
            let entry = entry.map_err(Error::file("cannot read", folder))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                mark(&entry.path(), depth)?;
            }
        }
    }
    // Last, for the mark says that it is below as well.
    ioctl_setflags(&open, flags | IFlags::DIRSYNC)
        .map_err(|error| Error::file("cannot set the flags of", folder)(error.into()))
}
