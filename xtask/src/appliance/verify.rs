//! Whether the same inputs give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use super::base::{self, Base, OS_IMAGE};
use super::error::{ApplianceError, at};
use super::manifest::{FileRecord, Manifest};
use super::recipe::Recipe;
use super::{image, tree};
use crate::out;

/// The first root's name in an appliance.
pub(super) const INITRAMFS: &str = "initramfs";

/// Makes what is derived from a base a second time and compares it with what is there.
pub(super) fn derived(
    recipe: &Recipe,
    base: &Base,
    manifest: &Manifest,
    guest: &Path,
    work: &Path,
) -> Result<(), ApplianceError> {
    fs::create_dir_all(work).map_err(at(format!("creating {}", work.display())))?;
    base::write_os_image(recipe, &base.folder, work, &work.join(OS_IMAGE))?;
    image::initramfs(guest, &base.folder, &work.join(INITRAMFS))?;
    let again = [base::file(&work.join(OS_IMAGE))?, base::file(&work.join(INITRAMFS))?];
    compare(manifest, &again)
}

/// Installs everything a second time and compares what comes of it.
pub(super) fn everything(
    recipe: &Recipe,
    base: &Base,
    native: Option<&Base>,
    work: &Path,
) -> Result<(), ApplianceError> {
    let again = Base::build(recipe, work, native)?;
    if again.record.packages != base.record.packages {
        let changed = again.record.packages.iter().filter(|package| !base.record.packages.contains(package));
        let names: Vec<&str> = changed.map(|package| package.name.as_str()).collect();
        out::line(format!(
            "appliance: the archive has changed meanwhile, so nothing can be compared: {}",
            names.join(" ")
        ));
        return Ok(());
    }
    let files: Vec<(String, FileRecord)> = again.record.files.into_iter().collect();
    compare(&base.record, &files)
}

fn compare(manifest: &Manifest, again: &[(String, FileRecord)]) -> Result<(), ApplianceError> {
    let mut files = Vec::new();
    for (name, record) in again {
        let same = manifest.files.get(name) == Some(record);
        out::line(format!("appliance: {name} {} ({})", if same { "is the same" } else { "DIFFERS" }, record.sha256));
        if !same {
            files.push(name.clone());
        }
    }
    if files.is_empty() { Ok(()) } else { Err(ApplianceError::NotReproducible { files }) }
}

/// Says how large an appliance is, on disk and to download.
pub(super) fn sizes(appliance: &Path, manifest: &Manifest, work: &Path) -> Result<(), ApplianceError> {
    let paths: Vec<PathBuf> = manifest.files.keys().map(|name| appliance.join(name)).collect();
    let compressed = image::download_sizes(&paths, work)?;
    tree::remove(work);
    let megabytes = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000);
    let (mut total, mut download) = (0, 0);
    for ((name, record), compressed) in manifest.files.iter().zip(compressed) {
        out::line(format!("appliance: {name}: {}, {} to download", megabytes(record.size), megabytes(compressed)));
        total += record.size;
        download += compressed;
    }
    out::line(format!("appliance: in all {}, {} to download", megabytes(total), megabytes(download)));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_file_that_came_out_otherwise_is_named() {
        let record = |sha256: &str| FileRecord { size: 1, sha256: sha256.to_owned() };
        let text = r#"{"format":2,"suite":"s","architecture":"x86_64","recipe":"r","kernel_version":"7","kernel_command_line":
            "","agent_protocol":1,"files":{"initramfs":{"size":1,"sha256":"a"},"os.erofs":{"size":1,"sha256":"b"}},
            "versions":{},"tools":{},"packages":[]}"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        let again = |os: &str| [("initramfs".to_owned(), record("a")), (OS_IMAGE.to_owned(), record(os))];
        assert!(compare(&manifest, &again("b")).is_ok());
        let error = compare(&manifest, &again("c")).unwrap_err();
        assert!(matches!(error, ApplianceError::NotReproducible { files } if files == [OS_IMAGE]));
    }
}
