//! Images made on the spot, since tests have no registry to pull from.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("busybox is not installed: the package busybox-static brings it")]
    NoBusybox,
    #[error("the image could not be made: {0}")]
    Io(#[from] std::io::Error),
    #[error("tar failed: {0}")]
    Tar(String),
}

/// A root file system with busybox in it, as an uncompressed tar archive.
///
/// # Errors
/// When busybox is not installed or the archive cannot be written.
pub fn busybox() -> Result<Vec<u8>, Error> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("bin"))?;
    for name in ["etc", "tmp", "proc", "sys", "dev", "root", "var", "www"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    std::fs::copy(static_busybox()?, root.join("bin/busybox"))?;
    for applet in [
        "sh", "ash", "echo", "sleep", "cat", "true", "false", "yes", "seq", "printf", "kill", "env", "id", "ls",
        "httpd", "wget", "nc", "head", "date", "usleep", "test", "trap", "tail", "hostname", "nslookup", "ip",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("www/index.html"), "hello from a berth test\n")?;
    let output = Command::new("tar").args(["--numeric-owner", "-c", "-C"]).arg(&root).arg(".").output()?;
    if !output.status.success() {
        return Err(Error::Tar(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(output.stdout)
}

fn static_busybox() -> Result<PathBuf, Error> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(Path::to_owned)
        .ok_or(Error::NoBusybox)
}
