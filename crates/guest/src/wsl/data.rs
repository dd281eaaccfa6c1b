//! The folder of the data: on the disk of a distribution of its own, and seen by the other through `/mnt/wsl`, which all
//! distributions of a user share.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};

use crate::error::Error;
use crate::files::create_folder;
use crate::machine::check_format;
use crate::mounts::{bind, lock};

/// In the distribution with the disk.
const FOLDER: &str = "/data";
/// What is said once it is shared.
const SHARED: &str = "shared\n";
const TURN: &str = "share.turn";

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
    let turn = Turn::take(data)?;
    turn.alone(|_| share(data, &shared))?;
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
    turn.alone(|is_last| if is_last { let_go(&shared) } else { Ok(()) })?;
    Ok(ExitCode::SUCCESS)
}

fn share(data: &Path, shared: &Path) -> Result<(), Error> {
    // Of an earlier run of this distribution: it leads to a disk that was taken away.
    let_go(shared)?;
    bind(data, shared, false)
}

fn let_go(shared: &Path) -> Result<(), Error> {
    while is_mounted(shared)? {
        umount2(shared, MntFlags::MNT_DETACH).map_err(Error::system("letting go of the shared folder"))?;
    }
    Ok(())
}

/// Whose turn it is to share. A process that still waits for an engine to stop must leave alone what the next one has shared
/// meanwhile, and by the number of a mount it cannot tell: those are used again.
struct Turn {
    file: PathBuf,
    name: String,
}

impl Turn {
    /// From now on it is this one's.
    fn take(folder: &Path) -> Result<Self, Error> {
        let random = Path::new("/proc/sys/kernel/random/uuid");
        let name = fs::read_to_string(random).map_err(Error::file("cannot read", random))?;
        let turn = Self { file: folder.join(TURN), name };
        turn.alone(|_| fs::write(&turn.file, &turn.name).map_err(Error::file("cannot write", &turn.file)))?;
        Ok(turn)
    }

    /// Does something while no other process does, which hears whether this one's turn was the last.
    fn alone(&self, what: impl FnOnce(bool) -> Result<(), Error>) -> Result<(), Error> {
        let failed = |source| Error::System { what: format!("locking {}", self.file.display()), source };
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.file);
        let file = file.map_err(Error::file("cannot open", &self.file))?;
        let _held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, source)| failed(source))?;
        let last = fs::read_to_string(&self.file).map_err(Error::file("cannot read", &self.file))?;
        what(last == self.name)
    }
}

/// Whether the folder is what it has to be: a folder that is missing would be filled in memory, and lost.
pub(super) fn check(data: &Path) -> Result<(), Error> {
    let at = data.display();
    if !is_mounted(data)? {
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

fn is_mounted(point: &Path) -> Result<bool, Error> {
    let file = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(file).map_err(Error::file("cannot read", file))?;
    Ok(has(&text, point))
}

/// Names with blanks are written otherwise, and are none of ours.
fn has(text: &str, point: &Path) -> bool {
    text.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| Path::new(at) == point)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Turn, check, has};

    #[test]
    fn a_folder_on_which_nothing_is_mounted_is_named() {
        let text = "36 35 98:0 / /mnt/wsl rw - tmpfs none rw\n37 36 98:0 /data /mnt/wsl/berth-data rw shared:1 - ext4 /dev/sdc rw\n";
        assert!(has(text, Path::new("/mnt/wsl/berth-data")));
        assert!(!has(text, Path::new("/mnt/wsl/berth")));
        let error = check(Path::new("/nowhere/berth-data")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/berth-data") && error.contains("does not share"), "{error}");
    }

    #[test]
    fn who_shared_before_leaves_alone_what_the_next_one_shares() {
        let folder = std::env::temp_dir().join(format!("berth-turn-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let is_last = |turn: &Turn| {
            let mut last = false;
            turn.alone(|is| {
                last = is;
                Ok(())
            })
            .map(|()| last)
            .unwrap()
        };
        let first = Turn::take(&folder).unwrap();
        assert!(is_last(&first));
        let second = Turn::take(&folder).unwrap();
        assert!(!is_last(&first) && is_last(&second));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
