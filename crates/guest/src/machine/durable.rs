//! What dockerd reports as made is to be on the disk, with all that it consists of.
//!
//! dockerd writes the files of a layer without `fsync`, then what it knows about the layer with one, and in the end renames.
//! ext4's ordered mode does not make up for it: a commit writes out only blocks that are new in it. Of a block that was
//! allocated and written before an earlier commit, and went on to be filled after it, the rest may be lost, although the
//! file's size and all that was synced later are there. In folders whose files' content goes through the journal, a commit
//! has everything before it.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::error::Error;
use crate::files::create_folder;

/// Without this, ext4 takes no notice of the mark on a file whose content is to go through the journal.
pub(super) const OPTIONS: &str = "nodelalloc";

/// Where layers lie, what is known of them and of images, and the cache of builds. Volumes are not among them: who writes
/// there calls `fsync` where it matters, as on any disk.
const FOLDERS: [(&str, IFlags); 3] = [
    ("overlay2", IFlags::JOURNALING),
    // Also names: dockerd answers after a rename that nothing brings to the disk.
    ("image", IFlags::JOURNALING.union(IFlags::DIRSYNC)),
    ("buildkit", IFlags::JOURNALING),
];
/// Deeper than the folders of what is known of layers, below which there are only files.
const DEPTH: u32 = 5;

/// Marks the folders of the image store. What is made in a marked folder takes its marks over; the files of layers that are
/// there already are on the disk for long.
pub(super) fn keep_images(docker: &Path) -> Result<(), Error> {
    for (name, flags) in FOLDERS {
        let folder = docker.join(name);
        create_folder(&folder)?;
        mark(&folder, flags, if flags.contains(IFlags::DIRSYNC) { DEPTH } else { 0 })?;
    }
    Ok(())
}

fn mark(folder: &Path, wanted: IFlags, depth: u32) -> Result<(), Error> {
    let open = File::open(folder).map_err(Error::file("cannot open", folder))?;
    let flags = ioctl_getflags(&open).map_err(|error| Error::file("cannot read the flags of", folder)(error.into()))?;
    if flags.contains(wanted) {
        return Ok(());
    }
    if let Some(depth) = depth.checked_sub(1) {
        for entry in fs::read_dir(folder).map_err(Error::file("cannot read", folder))? {
            let entry = entry.map_err(Error::file("cannot read", folder))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                mark(&entry.path(), wanted, depth)?;
            }
        }
    }
    // Last, for the mark says that it is below as well.
    ioctl_setflags(&open, flags | wanted).map_err(|error| Error::file("cannot set the flags of", folder)(error.into()))
}
