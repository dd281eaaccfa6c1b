//! The folder of the data: on the disk of a distribution of its own, and seen by the other through `/mnt/wsl`, which all
//! distributions of a user share.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MntFlags, umount2};

use crate::error::Error;
use crate::files::create_folder;
use crate::machine::check_format;
use crate::mounts::{bind, lock};

/// In the distribution with the disk.
const FOLDER: &str = "/data";
/// What is said once it is shared.
const SHARED: &str = "shared\n";

/// `wsl-data --share FOLDER`: shares the data there until standard input ends. As long as it runs, so does the
/// distribution, and its disk stays where it is.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let shared = match arguments {
        [name, folder] if name == "--share" => PathBuf::from(folder),
        _ => return Err(Error::Usage("`wsl-data --share FOLDER` is wanted".to_owned())),
    };
    let data = Path::new(FOLDER);
    create_folder(data)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).map_err(Error::file("cannot protect", data))?;
    create_folder(&shared)?;
    // Of an earlier run of this distribution: it leads to a disk that was taken away.
    while mount_at(&shared)?.is_some() {
        umount2(&shared, MntFlags::MNT_DETACH).map_err(Error::system("letting go of a stale folder"))?;
    }
    bind(data, &shared, false)?;
    let ours = mount_at(&shared)?;
    let mut stdout = std::io::stdout();
    stdout
        .write_all(SHARED.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Error::io("telling that it is shared"))?;
    let mut nothing = [0; 64];
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut nothing), Ok(1..)) {}
    // Whoever started both may have died, and the engine still stops: its disk stays for as long as that takes.
    drop(lock(data, || ())?);
    nix::unistd::sync();
    if mount_at(&shared)? == ours {
        umount2(&shared, MntFlags::MNT_DETACH).map_err(Error::system("letting go of the data"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the folder is what it has to be: a folder that is missing would be filled in memory, and lost.
pub(super) fn check(data: &Path) -> Result<(), Error> {
    let at = data.display();
    if mount_at(data)?.is_none() {
        return Err(Error::Disk(format!(
            "the distribution with the data does not share its folder: nothing is mounted on {at}"
        )));
    }
    let probe = data.join("guest.lock");
    let usable = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&probe);
    if let Err(error) = usable {
        return Err(Error::Disk(format!(
            "the folder of the distribution with the data is stale or cannot be written: {} ({error})",
            probe.display()
        )));
    }
    check_format(&data.join("berth.json"))
}

/// The number of what is mounted there.
fn mount_at(point: &Path) -> Result<Option<u32>, Error> {
    let file = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(file).map_err(Error::file("cannot read", file))?;
    Ok(last_at(&text, point))
}

/// What is mounted over something else comes later. Names with blanks are written otherwise, and are none of ours.
fn last_at(text: &str, point: &Path) -> Option<u32> {
    let mounts = text.lines().filter_map(|line| Some((line.split(' ').nth(4)?, line.split(' ').next()?.parse().ok()?)));
    mounts.filter(|(at, _)| Path::new(at) == point).map(|(_, number)| number).next_back()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check, last_at};

    #[test]
    fn a_folder_on_which_nothing_is_mounted_is_named() {
        let text = "36 35 98:0 / /mnt/wsl rw - tmpfs none rw\n37 36 98:0 /data /mnt/wsl/berth-data rw shared:1 - ext4 /dev/sdc rw\n";
        assert_eq!(last_at(text, Path::new("/mnt/wsl/berth-data")), Some(37));
        assert_eq!(last_at(text, Path::new("/mnt/wsl/berth")), None);
        let error = check(Path::new("/nowhere/berth-data")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/berth-data") && error.contains("does not share"), "{error}");
    }
}
