//! Tests of `ssh`, with scripts in its place.

use std::os::unix::fs::PermissionsExt as _;

use tokio::io::AsyncWriteExt as _;

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A program in place of `ssh`.
fn program(folder: &Path, script: &str) -> std::path::PathBuf {
    let path = folder.join("ssh");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Another test's process that was just forked may hold the script open for writing for a moment.
async fn start(program: &Path) -> SshSocket {
    loop {
        match connect(program, Some("me"), "host", Some(2222), Duration::from_secs(5)) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            socket => return socket.unwrap(),
        }
    }
}

async fn failure(script: &str) -> io::Error {
    let folder = tempfile::tempdir().unwrap();
    let mut socket = start(&program(folder.path(), script)).await;
    timeout(SOON, socket.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err()
}

#[test]
fn the_address_stands_behind_the_options() {
    let line = |user, host| {
        let arguments = arguments(user, host, Some(22), Duration::from_secs(5)).unwrap();
        arguments.iter().map(|argument| argument.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let with_user = line(Some("me"), "host");
    assert!(with_user.starts_with("-T -o ConnectTimeout=5 -o BatchMode=yes "), "{with_user}");
    assert!(with_user.ends_with(" -l me -p 22 -- host docker system dial-stdio"), "{with_user}");
    assert!(!line(None, "::1").contains("-l"), "the user is then whom ssh takes");
}

#[test]
fn an_endpoint_that_was_not_parsed_is_checked_too() {
    for (user, host) in [
        (None, "-oProxyCommand=x"),
        (Some("-oProxyCommand=x"), "host"),
        (None, "host;x"),
        (Some("$(x)"), "host"),
        (None, ""),
        (Some(""), "host"),
        (None, "a b"),
        (None, "a\nb"),
    ] {
        assert!(arguments(user, host, None, Duration::ZERO).is_err(), "{user:?} {host:?}");
    }
}

#[tokio::test]
async fn half_close_reaches_the_other_side_and_its_answer_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut socket = start(&program(folder.path(), r#"printf '%s\n' "$@"; cat; echo end"#)).await;
    socket.write_all(b"input\n").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(socket.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let mut output = String::new();
    timeout(SOON, socket.read_to_string(&mut output)).await.unwrap().unwrap();
    assert!(output.ends_with("--\nhost\ndocker\nsystem\ndial-stdio\ninput\nend\n"), "{output}");
}

#[tokio::test]
async fn what_ssh_says_becomes_the_error() {
    let error = failure("echo 'me@host: Permission denied (publickey).' >&2; exit 255").await;
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().starts_with("ssh said: me@host: Permission denied (publickey).\nBerth cannot ask"));
    assert!(failure("echo 'Host key verification failed.' >&2; exit 255").await.to_string().contains("Connect once"));
    assert!(failure("exit 127").await.to_string().contains("Install the `docker` command"));
}

#[tokio::test]
async fn only_the_end_of_a_long_complaint_is_kept() {
    let error = failure("yes x | head -c 1000000 >&2; printf '\\033[2Jthe reason' >&2; exit 255").await.to_string();
    assert!(error.len() < SAID_CAP + 100 && error.ends_with("[2Jthe reason"), "{}", error.len());
    assert!(!error.contains('\u{1b}'), "a terminal must not obey it");
}

#[tokio::test]
async fn a_write_to_an_ssh_that_has_gone_tells_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut socket = start(&program(folder.path(), "exec <&-; echo 'no route' >&2; exit 255")).await;
    let error = loop {
        if let Err(error) = timeout(SOON, socket.write_all(&[0; 65536])).await.unwrap() {
            break error;
        }
    };
    assert!(error.to_string().contains("no route"), "{error}");
}

#[tokio::test]
async fn dropping_it_kills_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let mut socket = start(&program(folder.path(), "echo $$; trap '' HUP TERM; exec sleep 1000")).await;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(socket.read_u8().await.unwrap());
    }
    let process = format!("/proc/{}", String::from_utf8(line).unwrap().trim());
    drop(socket);
    if cfg!(target_os = "linux") {
        let gone = async {
            while Path::new(&process).exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, gone).await.expect("it should be killed and reaped");
    }
}

#[tokio::test]
async fn a_missing_ssh_is_named() {
    let error = connect(Path::new("/nonexistent/ssh"), None, "host", None, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("install OpenSSH"), "{error}");
}
