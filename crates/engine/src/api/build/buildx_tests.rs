use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::build::BuildGraph;

/// A program in place of buildx.
fn program(folder: &TempDir, script: &str) -> Buildx {
    let program = folder.path().join("buildx");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Buildx { program, endpoint: Endpoint::Unix("/nowhere/engine.sock".into()) }
}

async fn run(buildx: &Buildx, build: &BuildxBuild) -> (BuildGraph, Result<Option<String>, BuildxError>) {
    let mut graph = BuildGraph::default();
    let mut run = match buildx.start(build) {
        Ok(run) => run,
        Err(error) => return (graph, Err(error)),
    };
    loop {
        match run.next().await {
            Ok(Some(update)) => graph.apply(&update),
            Ok(None) => return (graph, Ok(run.image().map(str::to_owned))),
            Err(error) => return (graph, Err(error)),
        }
    }
}

#[tokio::test]
async fn reports_arrive_and_the_folder_goes() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"echo "$DOCKER_CONFIG" > "$(dirname "$0")/where"
        for a; do case "$a" in --metadata-file=*) cat "$(dirname "$0")/made" > "${a#*=}";; esac; done
        echo '{"vertexes":[{"digest":"a","name":"n"}]}' >&2; echo junk >&2; printf '{"vertexes":[{"digest":"b"}]}' >&2"#;
    let id = format!("sha256:{}", "1".repeat(64));
    std::fs::write(folder.path().join("made"), json!({ "containerimage.digest": id }).to_string()).unwrap();
    let (graph, end) = run(&program(&folder, script), &BuildxBuild::default().context(".")).await;
    assert_eq!(end.unwrap(), Some(id));
    assert_eq!(graph.vertices().len(), 2);
    let config = std::fs::read_to_string(folder.path().join("where")).unwrap();
    assert!(config.contains("berth-build-") && !Path::new(config.trim()).exists());
}

#[tokio::test]
async fn failures_tell_code_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (_, end) = run(&program(&folder, "echo ERROR: no luck >&2; echo x >&2; exit 7"), &BuildxBuild::default()).await;
    assert!(matches!(end, Err(BuildxError::Failed { code: Some(7), message }) if message == "no luck"));
    let missing = Buildx { program: "/nowhere/buildx".into(), endpoint: Endpoint::Unix("/x".into()) };
    assert!(matches!(missing.start(&BuildxBuild::default()), Err(BuildxError::Run { .. })));
}

#[tokio::test]
async fn cancelling_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"sleep 600 & echo $! > "$(dirname "$0")/pid"; echo '{}' >&2; wait"#;
    for gently in [true, false] {
        let buildx = program(&folder, script);
        let mut run = buildx.start(&BuildxBuild::default()).unwrap();
        assert!(run.next().await.unwrap().is_some());
        let child = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        if gently {
            run.cancel().await.unwrap();
        } else {
            drop(run);
        }
        let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
        for _ in 0..100 {
            // An orphan that nobody reaps stays as a zombie.
            if !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert!(!std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")));
    }
}

#[tokio::test]
async fn secrets_are_in_the_environment_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"here=$(dirname "$0"); tr '\0' ' ' < /proc/$$/cmdline > "$here/argv"; env > "$here/env"
        find "$DOCKER_CONFIG" -type f -exec cat {} + > "$here/files""#;
    let login =
        RegistryAuth::password("reg.test:5000".parse().unwrap(), "me", Secret::new("marker-login".into())).unwrap();
    let secret = BuildSecret { id: "s".into(), value: Secret::new("marker-secret".into()) };
    let build = BuildxBuild::default().context("ctx").secrets(vec![secret]).logins(vec![login]);
    let buildx = program(&folder, script);
    let mut run = buildx.start(&build).unwrap();
    let printed = format!("{build:?} {run:?} {buildx:?}");
    while run.next().await.unwrap().is_some() {}
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let encoded = STANDARD.encode("me:marker-login");
    assert!(read("env").contains("=marker-secret") && read("env").contains(&encoded));
    for place in [read("argv"), read("files"), printed] {
        assert!(!place.contains("marker") && !place.contains(&encoded), "{place}");
    }
    assert!(read("argv").contains("--secret=id=s,env=BERTH_BUILD_SECRET_0 -- ctx"), "{}", read("argv"));
}

#[test]
fn values_cannot_become_options() {
    let folder = Path::new("/f");
    let build = BuildxBuild::default().context("--push").target("--rm").ssh(vec!["--x".into()]);
    let arguments = arguments(&build, folder).unwrap();
    let end = arguments.iter().position(|argument| argument == "--").unwrap();
    assert_eq!(arguments.get(end + 1).unwrap(), "--push");
    assert!(arguments.contains(&"--target=--rm".into()) && arguments.contains(&"--ssh=--x".into()));
    for id in ["", "a,src=/etc/shadow", "a b", "a\n"] {
        let secret = BuildSecret { id: id.into(), value: Secret::new("x".into()) };
        assert!(super::arguments(&BuildxBuild::default().secrets(vec![secret]), folder).is_err(), "{id:?}");
    }
    let token = RegistryAuth::identity_token("ghcr.io".parse().unwrap(), Secret::new("t".into()));
    assert!(matches!(auth_config(&[token]), Err(BuildxError::Login(_))));
}
