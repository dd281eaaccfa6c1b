//! Which dockerd had the data disk last: Docker goes forward with its data, and not back.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Of the kernel's command line, by which the host says what is in the system image.
const WORD: &str = "berth.engine=";
const COMMAND_LINE: &str = "/proc/cmdline";
const FILE: &str = "last-engine";
/// Of a version, in bytes.
const LIMIT: u64 = 64;

/// Writes down which dockerd is about to open the disk mounted here. Gives what the user should know of it.
pub(super) fn note(disk: &Path) -> Option<String> {
    let command_line = fs::read_to_string(COMMAND_LINE).unwrap_or_default();
    let present = command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(WORD))?;
    note_version(disk, present)
}

fn note_version(disk: &Path, present: &str) -> Option<String> {
    let file = disk.join(FILE);
    let last = read(&file).unwrap_or_default();
    if last == present {
        return None;
    }
    if let Err(error) = write(disk, &file, present) {
        return Some(format!(
            "it cannot be written on the data disk which Docker has it ({}: {error})",
            file.display()
        ));
    }
    (numbers(present) < numbers(&last)).then(|| {
        format!(
            "Docker {present} has the data that Docker {last} had last, and Docker does not support going back: images or \
             containers may be missing or not start; update Berth again, or restore a backup from before the update"
        )
    })
}

/// What cannot be read says nothing.
fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(LIMIT).read_to_string(&mut text)?;
    Ok(text.trim().chars().filter(char::is_ascii_graphic).collect())
}

/// Whole or not at all, whenever the machine ends.
fn write(disk: &Path, file: &Path, version: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut made = File::create(&fresh)?;
    made.write_all(version.as_bytes())?;
    made.sync_all()?;
    fs::rename(&fresh, file)?;
    File::open(disk)?.sync_all()
}

/// Docker's own version of a package's, such as 28.5.2 of `1:28.5.2+dfsg4-5`.
fn numbers(version: &str) -> Vec<u32> {
    let own = version.rsplit(':').next().unwrap_or(version);
    let own = own.split(['+', '~', '-']).next().unwrap_or(own);
    own.split('.').map_while(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{note_version, numbers};

    #[test]
    fn only_a_step_back_is_told() {
        let disk = std::env::temp_dir().join(format!("berth-last-engine-{}", std::process::id()));
        fs::create_dir_all(&disk).unwrap();
        for silent in ["28.5.2+dfsg4-5", "28.5.2+dfsg4-6", "28.10.0-1", "28.10.0-1"] {
            assert_eq!(note_version(&disk, silent), None, "{silent}");
            assert_eq!(fs::read_to_string(disk.join("last-engine")).unwrap(), silent);
        }
        let told = note_version(&disk, "26.1.5-1").unwrap();
        assert!(told.contains("26.1.5-1 has") && told.contains("28.10.0-1 had"), "{told}");
        assert_eq!(note_version(&disk, "26.1.5-1"), None, "once");
        fs::write(disk.join("last-engine"), [0xff; 1000]).unwrap();
        assert_eq!(note_version(&disk, "26.1.5-1"), None, "of what is damaged nothing is known");
        assert_eq!(fs::read_to_string(disk.join("last-engine")).unwrap(), "26.1.5-1");
        fs::remove_dir_all(&disk).unwrap();
    }

    #[test]
    fn versions_are_numbers_and_not_texts() {
        assert_eq!(numbers("1:28.5.2+dfsg4-5"), [28, 5, 2]);
        assert!(numbers("28.10.0-1") > numbers("28.9.3"));
        assert_eq!(numbers("unknown"), Vec::<u32>::new());
    }
}
