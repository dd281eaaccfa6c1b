//! `.dockerignore`: the engine's own cases, and the Docker CLI asked what it sends.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

mod archive_support;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use archive_support::*;
use berth_engine::archive::{
    ignore::{DockerIgnore, IgnoreError},
    *,
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use proptest::prelude::*;

fn ignores(file: &str, path: &str) -> bool {
    DockerIgnore::parse(file.as_bytes()).unwrap_or_else(|error| panic!("{file}: {error}")).ignores(path.as_bytes())
}

#[test]
fn archive_ignore_single_patterns() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**/", "file", true),
        ("**", "dir/file", true),
        ("**/", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**/file", "dir/file", true),
        ("**file", "dir/dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file*", "dir/dir/file", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abc.def", true),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\\\", "a\\", true),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**", "abc/def", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("dist/a-2.4.0rc3.dev36+g08-any.whl", "dist/a-2.4.0rc3.dev36+g08-any.whl", true),
        ("dist/*.whl", "dist/a+g08-any.whl", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "ab/c", true),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^b-d]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[\\-]", "-", true),
        ("[x\\-]", "x", true),
        ("[x\\-]", "-", true),
        ("[x\\-]", "z", false),
        ("[\\-x]", "x", true),
        ("[\\-x]", "-", true),
        ("[\\-x]", "a", false),
        ("*x", "xxx", true),
        // Peculiarities of the translation.
        ("a[^x]b", "a/b", true),
        ("\\d", "7", true),
        ("\\d", "d", false),
        ("a\\.b", "a.b", true),
        ("[.]a", ".a", true),
        ("[.]a", "xa", false),
        ("a^b", "a^b", true),
        ("a^b*", "a^b", false),
        ("[!a]", "!", true),
        ("[!a]", "b", false),
        ("[[]x", "[x", true),
        ("temp?", "tempa", true),
        ("*/temp*", "somedir/temporary.txt", true),
        ("*/temp*", "somedir/temp", true),
        ("*/*/temp*", "a/b/temporary.txt", true),
        ("*/temp*", "a/b/temp", false),
    ] {
        assert_eq!(ignores(pattern, path), expected, "`{pattern}` and `{path}`");
    }
}

#[test]
fn archive_ignore_files() {
    for (file, path, expected) in [
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs/\n!docs/README.md", "docs/README.md", false),
        ("docs/*\n!docs/README.md", "docs/README.md", false),
        ("!fileutils.go\n*.go", "fileutils.go", true),
        ("*.go\n!fileutils.go", "fileutils.go", false),
        ("**\n!util/docker/web", "util/docker/web/foo", false),
        ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
        ("**\n!dist/*.whl", "dist/a.whl", false),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("*.md\n!README*.md", "README-x.md", false),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
        ("# comment\nfile", "# comment", false),
        ("# comment\nfile", "file", true),
        (" # no comment", "# no comment", true),
        ("\u{feff}file", "file", true),
        ("\u{feff}# c\nfile", "file", true),
        ("file\r\nother\r\n", "file", true),
        ("file  \t", "file", true),
        ("   file", "file", true),
        ("/file", "file", true),
        ("//file", "file", true),
        ("./file", "file", true),
        ("a//b/", "a/b", true),
        ("a/../b", "b", true),
        ("../b", "b", false),
        ("/../b", "b", true),
        ("! file\n", "x", false),
        ("*\n!  file", "file", false),
        ("*\n!/file", "file", false),
        ("*\n!./a/b/../c", "a/c", false),
        (".", "file", false),
        ("/", "file", false),
        ("", "file", false),
        ("\n\n \n", "file", false),
        ("a", "a/b/c/d", true),
        ("a/b", "a", false),
        ("a\n!a/b\na/b/c", "a/b/c", true),
        ("a\n!a/b\na/b/c", "a/b/d", false),
        ("foo\n!foo/**\n", "foo/a", false),
        ("!a\na", "a/b", true),
        ("a/*/c", "a/b/c/d", true),
    ] {
        assert_eq!(ignores(file, path), expected, "{file:?} and `{path}`");
    }
}

#[test]
fn archive_ignore_refuses_what_the_engine_refuses() {
    for pattern in [
        "[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "\\", "!", "! ", "!/", "[z-a]", "a\\y", "[a",
    ] {
        assert!(DockerIgnore::parse(pattern.as_bytes()).is_err(), "{pattern}");
    }
    let error = DockerIgnore::parse(b"ok\n\n#\n[a").unwrap_err();
    assert!(error.to_string().starts_with("Line 4: `[a` is no valid pattern"), "{error}");
    assert_eq!(DockerIgnore::parse(&vec![b'\n'; 2 << 20]).unwrap_err(), IgnoreError::TooLarge);
    assert_eq!(DockerIgnore::parse("a\n".repeat(10_001).as_bytes()).unwrap_err(), IgnoreError::TooMany);
    assert!(matches!(DockerIgnore::parse(&[b'a'; 5000]), Err(IgnoreError::Pattern { .. })));
}

#[test]
fn archive_ignore_takes_linear_time() {
    let ignore = DockerIgnore::parse(format!("{}b\n{}b", "a*".repeat(1000), "**/a".repeat(500)).as_bytes()).unwrap();
    let begin = Instant::now();
    assert!(!ignore.ignores(&vec![b'a'; 4000]));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

proptest! {
    #[test]
    fn archive_ignore_never_panics(file in prop::collection::vec(any::<u8>(), 0..200), path in "[a-c/.*]{0,20}") {
        if let Ok(ignore) = DockerIgnore::parse(&file) {
            let _ = ignore.ignores(path.as_bytes());
        }
    }

    #[test]
    fn archive_ignore_patterns_never_panic(file in "[a-c/*?!\\\\^\\[\\]\\-.\n]{0,30}", path in "[a-c/]{0,20}") {
        if let Ok(ignore) = DockerIgnore::parse(file.as_bytes()) {
            let _ = ignore.ignores(path.as_bytes());
        }
    }
}

/// Answers one `docker build` and gives back the context that was sent.
fn received(listener: &TcpListener) -> Option<Vec<u8>> {
    loop {
        let (stream, _) = listener.accept().ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request).unwrap_or(0) == 0 {
                break;
            }
            if request.starts_with("STOP") {
                return None;
            }
            let mut header = String::new();
            let mut chunked = false;
            while reader.read_line(&mut header).unwrap() > 2 {
                chunked |= header.to_lowercase().starts_with("transfer-encoding: chunked");
                header.clear();
            }
            let mut body = Vec::new();
            loop {
                let mut size = String::new();
                if !chunked || reader.read_line(&mut size).unwrap() == 0 {
                    break;
                }
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let mut piece = vec![0; size + 2];
                reader.read_exact(&mut piece).unwrap();
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&piece[..size]);
            }
            let build = request.contains("/build?");
            let answer = if build { "{\"stream\":\"ok\"}\n" } else { "OK" };
            let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nOSType: linux\r\nBuilder-Version: 1\r\n";
            let length = if request.starts_with("HEAD") { 0 } else { answer.len() };
            write!(reader.get_mut(), "{head}Content-Length: {length}\r\n\r\n{}", &answer[..length]).unwrap();
            if build {
                return Some(body);
            }
        }
    }
}

async fn sent(bytes: &[u8]) -> BTreeSet<String> {
    // The CLI leaves ignored folders out and Berth sends those above an exception, so that they keep their mode.
    let entries = listed(bytes).await.unwrap().entries.into_iter().filter(|entry| entry.kind != EntryKind::Folder);
    entries.map(|entry| entry.path_lossy().into_owned()).collect()
}

fn cli_sends(listener: &TcpListener, folder: &Path) -> Option<Vec<u8>> {
    let address = listener.local_addr().unwrap();
    let mut command = std::process::Command::new("docker");
    command
        .env("DOCKER_BUILDKIT", "0")
        .env("DOCKER_HOST", format!("tcp://{address}"))
        .env("DOCKER_CONFIG", "/nonexistent");
    command.arg("build").arg("-q").arg(folder).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| received(listener));
        let status = child.wait().unwrap();
        if !status.success() && !server.is_finished() {
            let mut stop = std::net::TcpStream::connect(address).unwrap();
            let _ = stop.write_all(b"STOP\n");
        }
        server.join().unwrap()
    })
}

#[tokio::test]
#[ignore = "needs the docker CLI and its old builder"]
async fn archive_ignore_agrees_with_the_docker_cli() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for path in [
        "Dockerfile",
        "a",
        "b",
        "ab",
        "abc",
        "a.b",
        "c/a",
        "c/b",
        "c/ab",
        "c/d/a",
        "c/d/abc",
        "c/d/e/a",
        "c/d/e/.x",
        ".x",
        "d/.x",
        "d/a-b",
        "d/[a]",
        "d/a b",
        "d/ü",
        "d/a*b",
        "e/e/e/e",
        "f^g",
        "7",
        "w/7",
        "-",
        "]",
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let pattern = "(/|\\./|)(\\*\\*/|\\*/|)(a|b|c|d|e|\\*|\\*\\*|\\?|\\[ab\\]|\\[\\^a\\]|\\[a-c\\]|\\[\\*\\]|\\\\d|\\\\a|\\\\\\*|\\.|ü|\\^|-|\\]|7|x|/|\\[b|\\\\){1,4}(/|/\\*\\*|\\*| |)";
    let exception = "!( |/|)(a|b|c|c/d|c/d/e|c/d/e/a|d|d/a-b|\\.x|e/e|ab)(/|/\\*\\*|)";
    let line = prop_oneof![6 => pattern.prop_map(|text: String| text), 3 => exception.prop_map(|text: String| text), 1 => Just("# a".to_owned())];
    let files = prop::collection::vec(line, 1..6).prop_map(|lines| lines.join("\n"));
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut refused, mut contexts) = (0, Vec::new());
    for _ in 0..400 {
        use proptest::strategy::ValueTree;
        let file = files.new_tree(&mut runner).unwrap().current();
        fs::write(folder.path().join(".dockerignore"), &file).unwrap();
        let theirs = cli_sends(&listener, folder.path());
        let ours = build_context(folder.path(), Path::new("Dockerfile"), &ContextOptions::default(), None).await;
        match (theirs, ours) {
            (None, Err(_)) => refused += 1,
            (Some(theirs), Ok(ours)) => {
                let ours: Vec<Bytes> = ours.pack.stream.try_collect().await.unwrap();
                let theirs = sent(&theirs).await;
                assert_eq!(sent(&ours.concat()).await, theirs, "{file:?}");
                contexts.push(theirs);
            }
            (theirs, ours) => panic!("{file:?}: the CLI sends: {}, Berth: {:?}", theirs.is_some(), ours.map(|_| ())),
        }
    }
    let compared = contexts.len();
    let different = contexts.into_iter().collect::<BTreeSet<_>>().len();
    println!(
        "{compared} contexts are the same, {different} of them different ones; {refused} files are refused by both"
    );
    assert!(different > 50 && refused > 10, "the comparison says something");
}
