//! The archive that the distribution with the data is made from: as little as WSL takes for a distribution, and the one
//! program that shares its folder.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::Path;

use tar::{Archive, Builder, EntryType, Header};

use crate::error::Error;

const PROGRAM: &str = "usr/sbin/berth-guest";
const PROGRAM_LIMIT: u64 = 64 << 20;
const FOLDERS: [&str; 11] = ["bin", "data", "dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "usr/sbin"];
const SETTINGS: &str = "[boot]\nsystemd=false\n[automount]\nenabled=false\n[interop]\nenabled=false\n";
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n";

/// Takes the program out of the system's archive and writes the other. Blocks.
pub(crate) fn write(system: &Path, to: &Path) -> Result<(), Error> {
    let program = program(system)?;
    let written = |file: File| -> io::Result<()> {
        let mut archive = Builder::new(BufWriter::new(file));
        for folder in FOLDERS {
            add(&mut archive, folder, EntryType::Directory, 0o755, &[])?;
        }
        add(&mut archive, "etc/wsl.conf", EntryType::Regular, 0o644, SETTINGS.as_bytes())?;
        add(&mut archive, "etc/passwd", EntryType::Regular, 0o644, USERS.as_bytes())?;
        add(&mut archive, PROGRAM, EntryType::Regular, 0o755, &program)?;
        // Without a shell it is no distribution to WSL.
        let mut shell = header(EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut shell, "bin/sh", "../usr/sbin/berth-guest")?;
        archive.into_inner()?.flush()
    };
    File::create(to).and_then(written).map_err(Error::file("write", to))
}

fn program(system: &Path) -> Result<Vec<u8>, Error> {
    let bad = |why: String| Error::Archive { path: system.to_path_buf(), why };
    let file = File::open(system).map_err(|error| bad(error.to_string()))?;
    let mut archive = Archive::new(BufReader::new(file));
    for entry in archive.entries().map_err(|error| bad(error.to_string()))? {
        let entry = entry.map_err(|error| bad(error.to_string()))?;
        let is_program = entry.path().is_ok_and(|path| path.strip_prefix("./").unwrap_or(&path) == Path::new(PROGRAM));
        if is_program && entry.header().entry_type() == EntryType::Regular {
            let mut bytes = Vec::new();
            let read = entry.take(PROGRAM_LIMIT + 1).read_to_end(&mut bytes);
            return match read {
                Ok(read) if read as u64 <= PROGRAM_LIMIT => Ok(bytes),
                Ok(_) => Err(bad(format!("its {PROGRAM} is too large"))),
                Err(error) => Err(bad(error.to_string())),
            };
        }
    }
    Err(bad(format!("it has no {PROGRAM}")))
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn add(
    archive: &mut Builder<impl io::Write>,
    path: &str,
    kind: EntryType,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    archive.append_data(&mut header(kind, mode, content.len() as u64), path, content)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Read as _;

    use super::{EntryType, add, write};

    #[test]
    fn it_has_the_program_and_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        let (system, data) = (folder.path().join("os.tar"), folder.path().join("data.tar"));
        let mut archive = tar::Builder::new(File::create(&system).unwrap());
        add(&mut archive, "./usr/bin/other", EntryType::Regular, 0o755, b"other").unwrap();
        add(&mut archive, "./usr/sbin/berth-guest", EntryType::Regular, 0o755, b"program").unwrap();
        archive.finish().unwrap();
        write(&system, &data).unwrap();
        let mut made = tar::Archive::new(File::open(&data).unwrap());
        let mut found = BTreeMap::new();
        for entry in made.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.insert(entry.path().unwrap().to_string_lossy().into_owned(), text);
        }
        assert_eq!(found["usr/sbin/berth-guest"], "program");
        assert!(found.contains_key("bin/sh") && found.contains_key("etc/wsl.conf"));
    }

    #[test]
    fn an_archive_without_the_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let system = folder.path().join("os.tar");
        tar::Builder::new(File::create(&system).unwrap()).finish().unwrap();
        let error = write(&system, &folder.path().join("data.tar")).unwrap_err().to_string();
        assert!(error.contains("os.tar") && error.contains("berth-guest"), "{error}");
        std::fs::write(&system, "no archive").unwrap();
        assert!(write(&system, &folder.path().join("data.tar")).is_err());
    }
}
