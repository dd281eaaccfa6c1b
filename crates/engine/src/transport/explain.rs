//! Words for what the system only has a code for.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use super::problem::Problem;
use crate::{Endpoint, Error};

/// What went wrong on the way to the engine and what to do about it, when more can be said than the error itself says.
///
/// It looks at the file system; the path may have changed since.
fn explain(endpoint: &Endpoint, error: &io::Error) -> Option<String> {
    if let Some(problem) = Problem::of(error) {
        return Some(problem.to_string());
    }
    match endpoint {
        Endpoint::Unix(path) => unix(path, error),
        Endpoint::NamedPipe(path) => pipe(path, error),
        Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => network(host, *port, error),
        Endpoint::Ssh { .. } => None,
    }
}

impl Error {
    /// Why no connection could be made and what to do about it, in words for people; to be shown instead of the
    /// [`source`](std::error::Error::source). `None` when the source says it as well as it can be said.
    ///
    /// It looks at the file system.
    #[must_use]
    pub fn explanation(&self) -> Option<String> {
        match self {
            Self::Connect { endpoint, source } => explain(endpoint, source),
            _ => None,
        }
    }
}

fn unix(path: &Path, error: &io::Error) -> Option<String> {
    let shown = path.display();
    // Connecting to a folder or an ordinary file says `connection refused`, as a socket without a listener does.
    let said = match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            format!("{shown} is a folder, not a socket; give the path of the socket in it, such as {shown}/docker.sock")
        }
        Ok(found) if !is_socket(&found) => {
            format!(
                "{shown} is not a socket; give the path of the engine's socket, or remove the file and start the engine"
            )
        }
        Ok(_) => match error.kind() {
            ErrorKind::PermissionDenied => denied(path),
            ErrorKind::ConnectionRefused => {
                format!("Nobody listens on {shown}, though the socket is there; start the engine that it belongs to")
            }
            _ => return None,
        },
        Err(found) if found.kind() == ErrorKind::PermissionDenied => denied(path),
        Err(found) => match fs::symlink_metadata(path) {
            Ok(link) if link.is_symlink() && found.kind() == ErrorKind::NotFound => {
                let target = fs::read_link(path).unwrap_or_default();
                format!(
                    "{shown} is a link to {}, and nothing is there; start the engine it belongs to",
                    target.display()
                )
            }
            Ok(link) if link.is_symlink() => {
                format!(
                    "{shown} is a link that leads back to itself; remove it, or let it point to the engine's socket"
                )
            }
            _ if error.kind() == ErrorKind::InvalidInput => {
                format!(
                    "The path of a socket must be shorter than about 100 bytes, and {shown} is not; use a shorter one"
                )
            }
            _ => missing(path, &found)?,
        },
    };
    Some(said)
}

#[cfg(unix)]
fn is_socket(found: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&found.file_type())
}

#[cfg(not(unix))]
fn is_socket(_: &fs::Metadata) -> bool {
    true
}

fn denied(path: &Path) -> String {
    let shown = path.display();
    let folder = path.ancestors().skip(1).find(|folder| fs::read_dir(folder).is_ok());
    match fs::metadata(path) {
        Ok(found) => format!("This user may not use {shown}; {}", who_may(&found)),
        // The folder can be read, so that only the socket's own permissions are in the way.
        Err(_) if folder == path.parent() => {
            format!("This user may not use {shown}; ask whoever runs the engine for access")
        }
        Err(_) => format!("This user may not enter the folder of {shown}; ask whoever runs the engine for access"),
    }
}

/// Who may use a socket, and how to become one of them.
#[cfg(unix)]
fn who_may(found: &fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    const GROUP_MAY: u32 = 0o060;
    if found.mode() & GROUP_MAY == GROUP_MAY && found.gid() != 0 {
        let group = name_of(found.gid(), Path::new("/etc/group")).map_or_else(
            || format!("of the group with the number {}", found.gid()),
            |name| format!("of the group `{name}`, which `sudo usermod -aG {name} $USER` makes of this one"),
        );
        return format!("a member {group} may, from its next login on");
    }
    let owner = name_of(found.uid(), Path::new("/etc/passwd"))
        .map_or_else(|| format!("with the number {}", found.uid()), |name| format!("`{name}`"));
    format!(
        "only the user {owner} may: run this as that user, or have the engine give its socket to a group, for most \
         engines the group `docker`"
    )
}

#[cfg(not(unix))]
fn who_may(_: &fs::Metadata) -> String {
    "ask whoever runs the engine for access".to_owned()
}

/// What `/etc/passwd` or `/etc/group` calls a user or a group.
#[cfg(unix)]
fn name_of(number: u32, table: &Path) -> Option<String> {
    use std::io::{BufRead as _, Read as _};
    // Where there are more, the number has to do.
    const LIMIT: u64 = 1024 * 1024;
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let lines = io::BufReader::new(fs::File::open(table).ok()?.take(LIMIT)).lines();
    lines.map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(':');
        let (name, third) = (fields.next()?, fields.nth(1)?);
        (third.parse() == Ok(number) && plain(name)).then(|| name.to_owned())
    })
}

fn missing(path: &Path, found: &io::Error) -> Option<String> {
    let shown = path.display();
    if found.kind() == ErrorKind::NotADirectory {
        return Some(format!("{shown} cannot exist, as a file is where a folder should be; check the address"));
    }
    if found.kind() != ErrorKind::NotFound {
        return None;
    }
    let folder = path.parent()?;
    if folder.is_dir() {
        return Some(format!("There is no {shown}; start the engine, or check its address"));
    }
    Some(format!("There is no {shown}, not even the folder {}; check the address", folder.display()))
}

fn pipe(path: &str, error: &io::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::NotFound => Some(format!("There is no pipe {path}; start the engine, or check its address")),
        ErrorKind::PermissionDenied => Some(format!(
            "This user may not use the pipe {path}; a member of the group that owns it may, for Docker the group `docker-users`"
        )),
        _ => None,
    }
}

fn network(host: &str, port: u16, error: &io::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            Some(format!("Nobody listens on port {port} of {host}; start the engine, or check the port"))
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some(format!("There is no way to {host}; check the network, the VPN and the address"))
        }
        _ => None,
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::transport::{ConnectOptions, dial};

    async fn said(path: &Path) -> (ErrorKind, String) {
        let endpoint = Endpoint::Unix(path.to_owned());
        match dial(&endpoint, &ConnectOptions::default()).await {
            Err(Error::Connect { source, .. }) => (source.kind(), explain(&endpoint, &source).unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_there_instead_of_a_socket_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("silent")).unwrap());
        for (path, expected) in [
            (folder.path().to_owned(), "is a folder, not a socket"),
            (at("file"), "is not a socket"),
            (at("loop"), "leads back to itself"),
            (at("dangling"), "and nothing is there"),
            (at("absent"), "start the engine, or check its address"),
            (at("no/absent"), "not even the folder"),
            (at("file/absent"), "a file is where a folder should be"),
            (at("silent"), "Nobody listens on"),
            (at(&"x".repeat(120)), "must be shorter"),
        ] {
            let (_, words) = said(&path).await;
            assert!(words.contains(expected), "{}: {words}", path.display());
        }
        assert_eq!(said(&at("absent")).await.0, ErrorKind::NotFound, "the system's own kind is kept");
    }

    #[test]
    fn a_denial_says_who_may_and_how_to_become_one() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        // As root nothing is denied: the kind is given instead.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let said = |mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            explain(&Endpoint::Unix(path.clone()), &ErrorKind::PermissionDenied.into()).unwrap()
        };
        assert!(said(0o600).contains("only the user `"), "{}", said(0o600));
        if chown(&path, None, Some(54_321)).is_ok() {
            assert!(said(0o660).contains("of the group with the number 54321 may"), "{}", said(0o660));
            assert!(said(0o640).contains("only the user `root` may"), "{}", said(0o640));
        }
    }

    #[test]
    fn names_are_read_from_tables_of_any_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "# none\n::\nroot:x:0:\n$(reboot):x:7:\ndocker:x:998:me,you\nnumber:x:many:\n\u{ff}:x";
        fs::write(file.path(), text).unwrap();
        let name = |number| name_of(number, file.path());
        assert_eq!((name(998).as_deref(), name(0).as_deref()), (Some("docker"), Some("root")));
        assert_eq!((name(7), name(1)), (None, None));
    }
}
