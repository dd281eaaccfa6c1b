//! Folders of the host, under the paths they have there. The kernel's command line names them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::Error;
use crate::files::create_folder;

const WORD: &str = "berth.share=";
const COMMAND_LINE: &str = "/proc/cmdline";
/// More than the host ever gives.
const MOST: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    tag: String,
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
}

/// The system image, and where it has no folder to mount a share on, one that cannot be written to: what is not
/// shared cannot be made there by mistake.
pub(super) fn mount_root(disk: &Path, at: &Path) -> Result<(), Error> {
    let image = |at: &Path| {
        mount(Some(disk), at, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>)
            .map_err(Error::system(format!("mounting the system image on {}", disk.display())))
    };
    let shares = shares();
    if shares.is_empty() {
        return image(at);
    }
    let (system, points) = (Path::new("/system"), Path::new("/points"));
    create_folder(system)?;
    create_folder(points)?;
    image(system)?;
    mount(Some("tmpfs"), points, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .map_err(Error::system("making room for shares"))?;
    for share in &shares {
        create_folder(&points.join(share.path.strip_prefix("/").unwrap_or(&share.path)))?;
    }
    mount(Some("overlay"), at, Some("overlay"), MsFlags::MS_RDONLY, Some("lowerdir=/points:/system"))
        .map_err(Error::system("making the root with its shares"))
}

/// Mounts them all; which one cannot be, it says.
pub(super) fn mount_all() -> Vec<String> {
    let shares = shares();
    if shares.is_empty() {
        return Vec::new();
    }
    // A kernel that has it built in has no module.
    let mut modprobe = Command::new("/usr/sbin/modprobe");
    let _ = modprobe.args(["-q", "virtiofs"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    shares.iter().filter_map(|share| mount_one(share).err()).map(|error| error.to_string()).collect()
}

fn mount_one(share: &Share) -> Result<(), Error> {
    // In `/tmp`, which is no part of the root.
    if !share.path.is_dir() {
        create_folder(&share.path)?;
    }
    let mode = if share.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let flags = mode | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some(share.tag.as_str()), &share.path, Some("virtiofs"), flags, None::<&str>)
        .map_err(Error::system(format!("the machine has not the folder {}: mounting it", share.path.display())))
}

/// Before everything is written out: what serves them may be gone, and would be waited for.
pub(super) fn let_go() {
    for share in shares() {
        let _ = umount2(&share.path, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}

/// What the machine was given.
pub(crate) fn shares() -> Vec<Share> {
    parse(&fs::read_to_string(COMMAND_LINE).unwrap_or_default())
}

fn parse(command_line: &str) -> Vec<Share> {
    let words = command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(WORD));
    words.filter_map(share).take(MOST).collect()
}

/// `0:rw:/home/me`, where `%20` is a space.
fn share(word: &str) -> Option<Share> {
    let mut parts = word.splitn(3, ':');
    let (number, mode, path) = (parts.next()?.parse::<u32>().ok()?, parts.next()?, parts.next()?);
    let path = PathBuf::from(OsString::from_vec(decoded(path.as_bytes())?));
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    (path.is_absolute() && plain).then(|| Share { tag: format!("berth-share-{number}"), path, read_only: mode != "rw" })
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [*rest.next()?, *rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok().filter(|byte| *byte != 0)?
            }
            byte => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Share, parse};

    #[test]
    fn the_command_line_names_the_shares() {
        let line = "quiet berth.share=0:ro:/srv/a%20b%22%3d%25 berth.agent=1 berth.share=1:rw:/%c3%bc\n";
        let expected = [
            Share { tag: "berth-share-0".to_owned(), path: PathBuf::from("/srv/a b\"=%"), read_only: true },
            Share { tag: "berth-share-1".to_owned(), path: PathBuf::from("/ü"), read_only: false },
        ];
        assert_eq!(parse(line), expected);
        for bad in ["x:rw:/a", "0:rw:a", "0:rw:/a/../b", "0:rw:/a%0", "0:rw:/%00", "0:rw", "", "0:rw:/%é"] {
            assert_eq!(parse(&format!("berth.share={bad}")), [], "{bad}");
        }
    }
}
