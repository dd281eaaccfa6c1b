use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::Error;
use crate::socket::{EngineSocket, OpenFiles};

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let socket = EngineSocket::bind(&path).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // Connections queue before anyone serves them.
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    for left in ["docker.sock", "docker.sock.new"] {
        drop(UnixListener::bind(folder.path().join(left)).unwrap());
        assert!(folder.path().join(left).exists());
    }
    let _socket = EngineSocket::bind(&path).await.unwrap();
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_socket_of_another_program_is_not_replaced_and_its_owner_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let error = EngineSocket::bind(&path).await.err().unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(error, Error::SocketTaken { pid: Some(pid), .. } if pid == own), "{error}");
    assert!(error.to_string().contains(&format!("process {own}")), "{error}");
    listener.accept().unwrap();
    UnixStream::connect(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    std::fs::write(&path, "precious").unwrap();
    let error = EngineSocket::bind(&path).await.err().unwrap();
    assert!(matches!(error, Error::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn only_its_own_file_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let socket = EngineSocket::bind(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(socket);
    UnixStream::connect(&path).unwrap();
    drop(other);
}

#[test]
fn programs_are_started_under_the_limit_as_it_was() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 512, hard).unwrap();
    let limit = OpenFiles::raise();
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, hard);
    let output = limit.lowered(|| Command::new("sh").args(["-c", "ulimit -Sn"]).output()).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "512");
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, hard);
}
