//! Docker contexts, as the `docker` command writes them and as nobody should.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use berth_engine::{
    Endpoint, InvalidEndpoint, Pem, Verification,
    context::{ChosenBy, Contexts, DockerConfigFolder, DockerEnvironment, watch_contexts},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn id(name: &str) -> String {
    Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn meta_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("contexts/meta").join(id(name)).join("meta.json")
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // As the `docker` command does.
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, content).unwrap();
    fs::rename(unfinished, path).unwrap();
}

fn meta(name: &str, host: &str) -> Value {
    json!({
        "Name": name,
        "Metadata": { "Description": format!("about {name}"), "Other": [1] },
        "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false }, "kubernetes": {} },
    })
}

fn add(folder: &Path, name: &str, host: &str) {
    write(&meta_path(folder, name), meta(name, host).to_string());
}

fn load(folder: &Path, variables: &[(&str, &str)]) -> Contexts {
    Contexts::load(&DockerConfigFolder::at(folder), &environment(variables))
}

fn environment(variables: &[(&str, &str)]) -> DockerEnvironment {
    DockerEnvironment::from_variables(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
    })
}

fn endpoint(contexts: &Contexts, name: &str) -> Result<Endpoint, InvalidEndpoint> {
    contexts.list.iter().find(|context| context.name == name).unwrap().endpoint.clone()
}

fn names(contexts: &Contexts) -> Vec<&str> {
    contexts.list.iter().map(|context| context.name.as_str()).collect()
}

#[test]
fn without_a_folder_there_is_the_default() {
    let contexts = load(Path::new("/nonexistent"), &[]);
    assert_eq!(names(&contexts), ["default"]);
    assert_eq!(contexts.current().unwrap().endpoint, Ok(Endpoint::system()));
    assert!(contexts.problems.is_empty(), "having no contexts is no fault: {:?}", contexts.problems);
}

#[test]
fn who_chooses_comes_in_the_order_of_docker() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "filed", "unix:///filed.sock");
    add(folder.path(), "named", "unix:///named.sock");
    write(&folder.path().join("config.json"), r#"{"auths":{},"currentContext":"filed"}"#);
    let chosen = |variables: &[(&str, &str)]| {
        let contexts = load(folder.path(), variables);
        (contexts.current.name.clone(), contexts.current.chosen_by, contexts.current().unwrap().endpoint.clone())
    };
    let unix = |path: &str| Ok(Endpoint::Unix(path.into()));
    assert_eq!(chosen(&[]), ("filed".into(), ChosenBy::ConfigFile, unix("/filed.sock")));
    let context = ("DOCKER_CONTEXT", "named");
    assert_eq!(chosen(&[context]), ("named".into(), ChosenBy::DockerContext, unix("/named.sock")));
    let host = ("DOCKER_HOST", "unix:///host.sock");
    assert_eq!(chosen(&[context, host]), ("default".into(), ChosenBy::DockerHost, unix("/host.sock")));
    assert_eq!(chosen(&[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "")]).1, ChosenBy::ConfigFile, "empty is none");

    let missing = load(folder.path(), &[("DOCKER_CONTEXT", "gone\u{1b}[2J")]);
    assert!(missing.current().is_none());
    let said = missing.problems[0].to_string();
    assert!(said.contains("gone") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn tls_comes_with_the_files_or_the_wish() {
    let folder = tempfile::tempdir().unwrap();
    let tls = |name: &str| folder.path().join("contexts/tls").join(id(name)).join("docker");
    for name in ["plain", "mutual", "local"] {
        add(folder.path(), name, if name == "local" { "unix:///x" } else { "tcp://host:2376" });
    }
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        write(&tls("mutual").join(file), "");
        write(&tls("local").join(file), "");
    }
    let mut skipping = meta("skipping", "tcp://host:2376");
    skipping["Endpoints"]["docker"]["SkipTLSVerify"] = true.into();
    write(&meta_path(folder.path(), "skipping"), skipping.to_string());

    let contexts = load(folder.path(), &[]);
    assert!(matches!(endpoint(&contexts, "plain"), Ok(Endpoint::Tcp { .. })));
    assert!(matches!(endpoint(&contexts, "local"), Ok(Endpoint::Unix(_))));
    let Ok(Endpoint::Tls { tls: material, .. }) = endpoint(&contexts, "mutual") else { panic!("{contexts:?}") };
    assert_eq!(material.key, Some(Pem::File(tls("mutual").join("key.pem"))));
    assert_eq!(material.verification, Verification::Full);
    let Ok(Endpoint::Tls { tls: material, .. }) = endpoint(&contexts, "skipping") else { panic!("{contexts:?}") };
    assert_eq!(material.verification, Verification::SkippedAsAsked);
    let flags: Vec<bool> = contexts.list.iter().map(|context| context.skip_tls_verify).collect();
    assert_eq!(flags, [false, false, false, false, true], "{:?}", names(&contexts));
    assert_eq!(contexts.list[1].description, "about local");
}

#[test]
fn tls_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("ca.pem"), "");
    let certificates = tempfile::tempdir().unwrap();
    write(&certificates.path().join("cert.pem"), "");
    let host = ("DOCKER_HOST", "tcp://host:2376");
    let material = |variables: &[(&str, &str)]| match endpoint(&load(folder.path(), variables), "default") {
        Ok(Endpoint::Tls { tls, .. }) => Some(tls),
        _ => None,
    };
    assert_eq!(material(&[host]), None);
    let own = material(&[host, ("DOCKER_TLS_VERIFY", "0")]).expect("any text is a yes");
    assert_eq!(own.authorities, Some(Pem::File(folder.path().join("ca.pem"))), "beside config.json");
    assert_eq!(own.verification, Verification::Full);
    let path = ("DOCKER_CERT_PATH", certificates.path().to_str().unwrap());
    let other = material(&[host, path, ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_TLS", "1")]).unwrap();
    assert_eq!((other.authorities.is_some(), other.certificate.is_some()), (false, true));
    assert_eq!(other.verification, Verification::Full, "the stricter wish counts");
    assert_eq!(material(&[host, path, ("DOCKER_TLS", "1")]).unwrap().verification, Verification::SkippedAsAsked);
    let local = load(folder.path(), &[("DOCKER_HOST", "unix:///x"), ("DOCKER_TLS_VERIFY", "1")]);
    assert_eq!(endpoint(&local, "default"), Ok(Endpoint::Unix("/x".into())));
}

#[test]
fn a_broken_context_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| meta_path(folder.path(), name);
    add(folder.path(), "good", "unix:///good.sock");
    add(folder.path(), "badhost", "ssh://-oProxyCommand=x");
    write(&at("nohost"), r#"{"Name":"nohost","Metadata":"text","Endpoints":{}}"#);
    write(&at("notjson"), "{\"Name\": \"secret");
    write(&at("noname"), r#"{"Metadata":{}}"#);
    write(&at("misplaced"), meta("elsewhere", "unix:///x").to_string());
    for name in ["../evil", "-x", "a b", "x", "default", "e\u{301}", &"y".repeat(300)] {
        add(folder.path(), name, "unix:///x");
    }
    fs::create_dir_all(at("folder")).unwrap();
    fs::create_dir_all(at("removed").parent().unwrap()).unwrap();
    fs::create_dir_all(at("huge").parent().unwrap()).unwrap();
    fs::File::create(at("huge")).unwrap().set_len(1 << 30).unwrap();
    write(&folder.path().join("contexts/meta/.DS_Store"), "");
    write(&folder.path().join("config.json"), r#"{"currentContext":1}"#);
    #[cfg(unix)]
    {
        for name in ["device", "loop", "linked"] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        write(&folder.path().join("dotfiles.json"), meta("linked", "unix:///linked.sock").to_string());
        std::os::unix::fs::symlink(folder.path().join("dotfiles.json"), at("linked")).unwrap();
    }
    let contexts = load(folder.path(), &[]);
    let expected: &[&str] = if cfg!(unix) {
        &["default", "badhost", "good", "linked", "nohost"]
    } else {
        &["default", "badhost", "good", "nohost"]
    };
    assert_eq!(names(&contexts), expected);
    assert_eq!(endpoint(&contexts, "badhost"), Err(InvalidEndpoint::Character));
    assert_eq!(endpoint(&contexts, "nohost"), Err(InvalidEndpoint::Empty));
    let said: Vec<String> = contexts.problems.iter().map(ToString::to_string).collect();
    let links = if cfg!(unix) { 2 } else { 0 };
    assert_eq!(said.len(), 13 + links, "{said:#?}");
    assert!(said.iter().all(|text| !text.contains("secret")), "{said:#?}");
    assert_eq!(contexts.current().unwrap().name, "default");
}

#[test]
fn the_docker_command_is_understood() {
    let Ok(version) = std::process::Command::new("docker").arg("--version").output() else {
        eprintln!("there is no docker command; the fixtures of the other tests have to do");
        return;
    };
    assert!(version.status.success());
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("pem");
    let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    fs::write(&pem, &authority).unwrap();
    let docker = |arguments: &[&str]| {
        let mut command = std::process::Command::new("docker");
        command.args(arguments).env("DOCKER_CONFIG", folder.path());
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let ca = format!("host=tcp://host:2376,ca={}", pem.display());
    docker(&["context", "create", "tls", "--docker", &ca, "--description", "with ü"]);
    docker(&["context", "create", "remote", "--docker", "host=ssh://me@host:22"]);
    docker(&["context", "create", "skip", "--docker", "host=tcp://host:2376,skip-tls-verify=true"]);
    docker(&["context", "use", "remote"]);
    let contexts = load(folder.path(), &[]);
    assert!(contexts.problems.is_empty(), "{:?}", contexts.problems);
    assert_eq!(names(&contexts), ["default", "remote", "skip", "tls"]);
    let ssh = Endpoint::Ssh { user: Some("me".into()), host: "host".into(), port: Some(22) };
    assert_eq!(contexts.current().unwrap().endpoint, Ok(ssh));
    let Ok(Endpoint::Tls { tls, .. }) = endpoint(&contexts, "tls") else { panic!("{contexts:?}") };
    let Some(Pem::File(copied)) = &tls.authorities else { panic!("{tls:?}") };
    assert_eq!(fs::read_to_string(copied).unwrap(), authority);
    assert_eq!(contexts.list[3].description, "with ü");
    assert!(contexts.list[2].skip_tls_verify);
    docker(&["context", "use", "default"]);
    assert_eq!(load(folder.path(), &[]).current.name, "default");
}

#[tokio::test]
async fn changes_are_seen_however_they_are_made() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("not/yet/.docker");
    let mut watch = watch_contexts(DockerConfigFolder::at(&folder), environment(&[]));
    let mut seen = async |what: &str| {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        next.unwrap_or_else(|_| panic!("not noticed: {what}")).unwrap()
    };
    assert_eq!(names(&seen("the beginning").await), ["default"]);

    add(&folder, "one", "unix:///1.sock");
    assert_eq!(names(&seen("a folder that appears").await), ["default", "one"]);

    add(&folder, "one", "unix:///2.sock");
    assert_eq!(endpoint(&seen("a file replaced by renaming").await, "one"), Ok(Endpoint::Unix("/2.sock".into())));

    write(&folder.join("config.json"), r#"{"currentContext":"one"}"#);
    assert_eq!(seen("the choice").await.current.name, "one");

    fs::write(meta_path(&folder, "one"), meta("one", "tcp://host:2376").to_string()).unwrap();
    assert!(matches!(endpoint(&seen("a file written in place").await, "one"), Ok(Endpoint::Tcp { .. })));

    write(&folder.join("contexts/tls").join(id("one")).join("docker/ca.pem"), "");
    assert!(matches!(endpoint(&seen("certificates").await, "one"), Ok(Endpoint::Tls { .. })));

    let other = home.path().join("other");
    add(&other, "two", "unix:///2.sock");
    fs::rename(&folder, home.path().join("old")).unwrap();
    fs::rename(&other, &folder).unwrap();
    let mut last = seen("another folder in its place").await;
    if last.list.len() == 1 {
        last = seen("the moment after it was away").await;
    }
    assert_eq!(names(&last), ["default", "two"]);

    add(&folder, "three", "unix:///3.sock");
    assert_eq!(names(&seen("a change in the new folder").await), ["default", "three", "two"]);

    fs::remove_dir_all(folder.join("contexts")).unwrap();
    while seen("removal").await.list.len() > 1 {}
}
