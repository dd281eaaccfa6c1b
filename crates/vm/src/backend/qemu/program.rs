//! Which QEMU there is, and what it can do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::command_line::SANDBOX;
use super::error::QemuError;

const NAMES: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];
/// Where programs are that a desktop's PATH may not name; Red Hat's QEMU is in the last.
const FOLDERS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/libexec"];
/// The first with every property of the machine that is asked for.
const MINIMUM: (u32, u32) = (7, 0);
const PATIENCE: Duration = Duration::from_secs(20);

/// A QEMU that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// As it tells it: `7.2.22 (Debian 1:7.2+dfsg-7)`.
    pub(crate) version: String,
    /// Whether it can confine itself by seccomp.
    pub(crate) sandbox: bool,
}

/// Finds QEMU: the one that is given, or else the first there is in PATH and the usual folders.
///
/// # Errors
///
/// There is none, it does not run, it is not QEMU, or it is too old.
pub(crate) async fn find_program(given: Option<&Path>) -> Result<Program, QemuError> {
    match given {
        Some(path) => examine(path).await,
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let found = search(&path).ok_or(QemuError::NotInstalled(&NAMES))?;
            examine(&found).await
        }
    }
}

fn search(path: &OsStr) -> Option<PathBuf> {
    let folders: Vec<_> = std::env::split_paths(path).chain(FOLDERS.map(PathBuf::from)).collect();
    NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.is_absolute()
        && path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

async fn examine(path: &Path) -> Result<Program, QemuError> {
    let path = std::path::absolute(path).map_err(QemuError::file("find", path))?;
    // Options are looked at in their order, so that one run tells whether the first is known, and the version.
    let mut output = run(&path, &["-sandbox", SANDBOX, "-version"]).await?;
    let sandbox = output.status.success();
    if !sandbox {
        output = run(&path, &["-version"]).await?;
    }
    let bad = |why: String| QemuError::BadProgram { path: path.clone(), why };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(bad(format!("`-version` ended with {}: {}", output.status, first_line(&said))));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let (version, number) = parse(&said).ok_or_else(|| bad(format!("`-version` says {:?}", first_line(&said))))?;
    if number < MINIMUM {
        let minimum = format!("{}.{}", MINIMUM.0, MINIMUM.1);
        return Err(QemuError::TooOld { path, version, minimum });
    }
    Ok(Program { path, version, sandbox })
}

async fn run(path: &Path, arguments: &[&str]) -> Result<Output, QemuError> {
    let mut command = Command::new(path);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Ok(output) => output.map_err(|source| QemuError::Spawn { path: path.to_path_buf(), source }),
        Err(_) => {
            let why = format!("`-version` was not answered within {} s", PATIENCE.as_secs());
            Err(QemuError::BadProgram { path: path.to_path_buf(), why })
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The version as told, and its first two numbers.
fn parse(said: &str) -> Option<(String, (u32, u32))> {
    let version = first_line(said.lines().next()?.strip_prefix("QEMU emulator version ")?);
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    let number = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((version, number))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use berth_testkit::fake_qemu::{self, Script};

    use super::{find_program, parse, search};
    use crate::backend::qemu::QemuError;

    #[test]
    fn versions_are_told_in_many_ways() {
        assert_eq!(parse("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright").unwrap().1, (7, 2));
        assert_eq!(parse("QEMU emulator version 11.1.0-rc2\n").unwrap(), ("11.1.0-rc2".to_owned(), (11, 1)));
        for text in [
            "",
            "\n",
            "QEMU emulator version x",
            "QEMU emulator version 7",
            "Bochs 2.7",
            "QEMU emulator version 99999999999.1",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[tokio::test]
    async fn this_machines_qemu_is_found() {
        let program = find_program(None).await.unwrap();
        assert!(program.path.is_absolute() && program.version.contains('.'), "{program:?}");
        assert!(program.sandbox);
    }

    #[tokio::test]
    async fn what_it_cannot_do_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let place = |script: Script| fake_qemu::place(folder.path(), &script).unwrap();
        let path = place(Script { no_sandbox: true, version: Some("9.0.0".to_owned()), ..Script::default() });
        let program = find_program(Some(&path)).await.unwrap();
        assert_eq!((program.version.as_str(), program.sandbox), ("9.0.0", false));
        let path = place(Script { version: Some("5.2.0 (Debian)".to_owned()), ..Script::default() });
        let error = find_program(Some(&path)).await.unwrap_err();
        assert!(matches!(error, QemuError::TooOld { .. }) && error.to_string().contains("7.0"), "{error}");
        let error = find_program(Some(Path::new("/bin/false"))).await.unwrap_err();
        assert!(matches!(error, QemuError::BadProgram { .. }), "{error}");
        let error = find_program(Some(Path::new("/bin/true"))).await.unwrap_err();
        assert!(matches!(error, QemuError::BadProgram { .. }), "{error}");
        let error = find_program(Some(Path::new("/nowhere/qemu"))).await.unwrap_err();
        assert!(matches!(error, QemuError::Spawn { .. }) && error.to_string().contains("qemu-system-x86"), "{error}");
    }

    #[test]
    fn the_first_in_the_path_is_taken_if_it_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).join("qemu-system-x86_64");
        for (name, mode) in [("one", 0o644), ("two", 0o755), ("three", 0o755)] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(path(name), "").unwrap();
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let folders = ["one", "two", "three"].map(|name| folder.path().join(name));
        let list = std::env::join_paths([PathBuf::from("."), "".into()].iter().chain(&folders)).unwrap();
        assert_eq!(search(&list), Some(path("two")));
    }
}
