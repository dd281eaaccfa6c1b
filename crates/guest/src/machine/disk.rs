//! The data disk: found, made if it is new, looked after, and never taken for ours when it is not.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use super::stage1::disk_of;
use super::{durable, last_engine};
use crate::error::Error;
use crate::files::{create_folder, write};
use crate::mounts::bind;

const SERIAL: &str = "berth-data";
const LABEL: &str = "berth-data";
/// Where the whole disk is.
pub(crate) const MOUNT: &str = "/var/lib/berth";
/// Folders of the disk, and where the engine looks for them.
const FOLDERS: [(&str, &str); 3] =
    [("docker", "/var/lib/docker"), ("containerd", "/var/lib/containerd"), ("log", "/var/log/berth")];
/// Of what lies on the disk, as this program knows it.
const FORMAT: u32 = 1;

/// A disk that was ever used has something in here.
const BEGINNING: usize = 1 << 20;
const SUPERBLOCK: usize = 1024;
const MAGIC: [u8; 2] = [0x53, 0xef];

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    Ours,
    Foreign(&'static str),
}

#[derive(Serialize, Deserialize)]
struct About {
    format_version: u32,
}

/// Mounts the disk, as ext4 that was checked, and puts its folders where they are expected. Gives what the user should
/// know of it.
pub(super) fn prepare() -> Result<Option<String>, Error> {
    let disk = disk_of(SERIAL)?;
    let mut beginning = Vec::new();
    File::open(&disk)
        .and_then(|file| file.take(BEGINNING as u64).read_to_end(&mut beginning))
        .map_err(Error::file("cannot read the data disk", &disk))?;
    match content(&beginning) {
        Content::Nothing => make(&disk)?,
        Content::Ours => check(&disk)?,
        Content::Foreign(what) => {
            let why = "it was left as it is: take it away, or restore Berth's own";
            return Err(Error::Disk(format!("the data disk {what}; {why}")));
        }
    }
    mount(Some(&disk), MOUNT, Some("ext4"), MsFlags::MS_NOATIME, Some(durable::OPTIONS))
        .map_err(Error::system("mounting the data disk"))?;
    check_format(&Path::new(MOUNT).join("berth.json"))?;
    durable::keep_images(&Path::new(MOUNT).join("docker"))?;
    for (name, at) in FOLDERS {
        let folder = Path::new(MOUNT).join(name);
        create_folder(&folder)?;
        bind(&folder, Path::new(at), false)?;
    }
    Ok(last_engine::note(Path::new(MOUNT)))
}

/// Writes everything out and lets go of the disk, so that its journal is empty.
pub(super) fn let_go() {
    for (_, at) in FOLDERS {
        let _ = umount2(at, MntFlags::empty());
    }
    nix::unistd::sync();
    if umount2(MOUNT, MntFlags::empty()).is_err() {
        // Something still uses it: at least nothing is written any more.
        let _ = mount(None::<&str>, MOUNT, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>);
        let _ = umount2(MOUNT, MntFlags::MNT_DETACH);
    }
    nix::unistd::sync();
}

fn content(beginning: &[u8]) -> Content {
    if beginning.iter().all(|byte| *byte == 0) {
        return Content::Nothing;
    }
    let at = |from: usize, length: usize| beginning.get(SUPERBLOCK + from..SUPERBLOCK + from + length);
    if at(56, 2) != Some(MAGIC.as_slice()) {
        return Content::Foreign("holds something that is no ext4 file system, or its beginning is damaged");
    }
    let label = at(120, 16).unwrap_or_default();
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    if label == LABEL.as_bytes() { Content::Ours } else { Content::Foreign("is somebody else's: its label is another") }
}

fn make(disk: &Path) -> Result<(), Error> {
    let options = ["-q", "-F", "-L", LABEL, "-m", "1", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"];
    let made = tool("/usr/sbin/mkfs.ext4", &options, disk)?;
    if made.status.success() {
        return Ok(());
    }
    Err(Error::Disk(format!("the data disk cannot be made: {}", words(&made))))
}

/// Repairs what can be repaired without a decision.
fn check(disk: &Path) -> Result<(), Error> {
    for _ in 0..2 {
        let checked = tool("/usr/sbin/e2fsck", &["-p"], disk)?;
        match checked.status.code() {
            Some(0 | 1) => return Ok(()),
            // Repaired, and to be looked at again.
            Some(2 | 3) => {}
            _ => return Err(Error::Disk(format!("the data disk is damaged: {}", words(&checked)))),
        }
    }
    Ok(())
}

fn tool(program: &'static str, arguments: &[&str], disk: &Path) -> Result<Output, Error> {
    Command::new(program)
        .args(arguments)
        .arg(disk)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(Error::file("cannot start", Path::new(program)))
}

/// The last of what a tool said.
fn words(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&all);
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).rev().take(4).collect();
    lines.reverse();
    format!("{} ({})", lines.join(" "), output.status)
}

/// Whether this program knows what lies there, by what was written down when it was new.
pub(crate) fn check_format(file: &Path) -> Result<(), Error> {
    match fs::read(file) {
        Ok(text) => {
            let about = serde_json::from_slice::<About>(&text)
                .map_err(|error| Error::Disk(format!("the data disk does not say what it holds ({error})")))?;
            if about.format_version > FORMAT {
                let version = about.format_version;
                let what =
                    format!("the data disk was used by a newer Berth (format {version}, this one knows {FORMAT})");
                return Err(Error::Disk(format!("{what}; use that one again")));
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let about = serde_json::to_string(&About { format_version: FORMAT });
            write(file, &about.map_err(|error| Error::Disk(error.to_string()))?)
        }
        Err(source) => Err(Error::file("cannot read", file)(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::{BEGINNING, Content, LABEL, MAGIC, SUPERBLOCK, content};

    fn disk(label: &str) -> Vec<u8> {
        let mut bytes = vec![0; BEGINNING];
        bytes[SUPERBLOCK + 56..SUPERBLOCK + 58].copy_from_slice(&MAGIC);
        bytes[SUPERBLOCK + 120..SUPERBLOCK + 120 + label.len()].copy_from_slice(label.as_bytes());
        bytes
    }

    #[test]
    fn only_a_disk_without_anything_is_new() {
        assert_eq!(content(&[0; BEGINNING]), Content::Nothing);
        assert_eq!(content(&disk(LABEL)), Content::Ours);
        for foreign in [disk("somebody"), disk(""), disk("berth-data-2"), b"QFI".to_vec()] {
            assert!(matches!(content(&foreign), Content::Foreign(_)));
        }
        let mut far = vec![0; BEGINNING];
        far[BEGINNING - 1] = 1;
        assert!(matches!(content(&far), Content::Foreign(_)));
    }
}
