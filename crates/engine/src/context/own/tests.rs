//! A context of our own beside everything that a person may have there.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use serde_json::{Value, json};

use super::{ContextWriteError, MadeCurrent, OwnContext, OwnState, Restored, Written, file};
use crate::{
    Endpoint,
    context::{Contexts, DockerConfigFolder, DockerEnvironment},
};

const CONFIG: &str = "{\n  \"auths\" : { \"r.example\": { \"auth\": \"c2VjcmV0OnNlY3JldA==\" } },\n  \"detachKeys\": \
                      \"ctrl-e,e\", \"x\": 1.50\n}\n";

fn socket(path: &str) -> Endpoint {
    Endpoint::Unix(path.into())
}

fn own(folder: &Path) -> OwnContext {
    OwnContext::new(DockerConfigFolder::at(folder), "berth", "1234abcd").unwrap()
}

fn made(folder: &Path) -> OwnContext {
    let own = own(folder);
    assert_eq!(own.write(&socket("/run/berth/x/docker.sock"), "An engine").unwrap(), Written::Created);
    own
}

fn config(folder: &Path, text: &str, mode: u32) {
    fs::write(folder.join("config.json"), text).unwrap();
    fs::set_permissions(folder.join("config.json"), fs::Permissions::from_mode(mode)).unwrap();
}

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join("config.json")).unwrap()
}

/// Another context, as `docker context create` writes it.
fn other(folder: &Path, name: &str, metadata: &Value) {
    let path = OwnContext::new(DockerConfigFolder::at(folder), name, "").unwrap().file();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let meta = json!({ "Name": name, "Metadata": metadata, "Endpoints": { "docker": { "Host": "tcp://10.0.0.1:1" } } });
    fs::write(path, meta.to_string()).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_is_made_where_nothing_is_and_read_back_and_kept_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("new/.docker");
    let own = made(&folder);
    assert_eq!(own.write(&socket("/run/berth/x/docker.sock"), "Other words").unwrap(), Written::Unchanged);
    assert_eq!(own.write(&socket("/run/berth/y/docker.sock"), "Other words").unwrap(), Written::Updated);
    let contexts = Contexts::load(&DockerConfigFolder::at(&folder), &DockerEnvironment::default());
    assert!(contexts.problems.is_empty(), "{:?}", contexts.problems);
    let context = contexts.list.iter().find(|context| context.name == "berth").unwrap();
    assert_eq!(context.endpoint, Ok(socket("/run/berth/y/docker.sock")));
    assert_eq!(context.description, "An engine");
    for path in [&folder, &own.file()] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    assert_eq!(own.state().unwrap(), OwnState { is_made: true, is_current: false, previous: None });
    assert_eq!(own.remove().unwrap(), Some(Restored::NotCurrent));
    assert_eq!(own.remove().unwrap(), None);
    assert!(names(&folder.join("contexts/meta")).is_empty());
    assert!(!folder.join("config.json").exists());
}

#[test]
fn what_its_owner_wrote_about_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let own = made(folder.path());
    let mut meta: Value = serde_json::from_slice(&fs::read(own.file()).unwrap()).unwrap();
    meta["Metadata"]["Description"] = json!("mine");
    meta["Metadata"]["Other"] = json!([1]);
    meta["Later"] = json!({ "a": null });
    fs::write(own.file(), meta.to_string()).unwrap();
    assert_eq!(own.write(&socket("/other.sock"), "An engine").unwrap(), Written::Updated);
    meta["Endpoints"]["docker"]["Host"] = json!("unix:///other.sock");
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(own.file()).unwrap()).unwrap(), meta);
}

#[test]
fn made_current_and_taken_back_every_byte_of_the_configuration_is_as_before() {
    for (before, mode) in [(CONFIG, 0o640), ("{}", 0o600), (r#"{"currentContext":"other","a":1}"#, 0o644)] {
        let folder = tempfile::tempdir().unwrap();
        other(folder.path(), "other", &json!({}));
        config(folder.path(), before, mode);
        let own = made(folder.path());
        let was = if before.contains("other") { "other" } else { "default" };
        assert_eq!(own.make_current().unwrap(), MadeCurrent::InsteadOf(was.to_owned()));
        assert_eq!(own.make_current().unwrap(), MadeCurrent::Already);
        let state = OwnState { is_made: true, is_current: true, previous: Some(was.to_owned()) };
        assert_eq!(own.state().unwrap(), state);
        let contexts = Contexts::load(&DockerConfigFolder::at(folder.path()), &DockerEnvironment::default());
        assert_eq!(contexts.current.name, "berth");
        assert!(before == "{}" || text(folder.path()).contains("1"), "{}", text(folder.path()));
        assert_eq!(own.restore().unwrap(), Restored::To(was.to_owned()));
        let after = text(folder.path());
        assert!(after == before || before == "{}" && after == "{\n}", "{after}");
        assert_eq!(folder.path().join("config.json").metadata().unwrap().mode() & 0o777, mode);
        assert_eq!(own.restore().unwrap(), Restored::NotCurrent);
        assert_eq!(own.state().unwrap().previous, None);
        assert_eq!(names(folder.path()), ["config.json", "contexts"], "nothing is left beside them");
    }
}

#[test]
fn without_a_configuration_one_is_made_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let own = made(folder.path());
    own.make_current().unwrap();
    assert_eq!(folder.path().join("config.json").metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(own.remove().unwrap(), Some(Restored::To("default".to_owned())));
    assert_eq!(text(folder.path()), "{\n}");
}

#[test]
fn the_owners_own_choice_stays_until_the_context_goes() {
    let folder = tempfile::tempdir().unwrap();
    let own = made(folder.path());
    other(folder.path(), "other", &json!({}));
    config(folder.path(), r#"{"currentContext":"berth"}"#, 0o600);
    assert_eq!(own.make_current().unwrap(), MadeCurrent::Already);
    assert_eq!(own.restore().unwrap(), Restored::NotRemembered);
    assert_eq!(text(folder.path()), r#"{"currentContext":"berth"}"#);
    assert_eq!(own.remove().unwrap(), Some(Restored::To("default".to_owned())));
    assert_eq!(text(folder.path()), "{}");

    let own = made(folder.path());
    own.make_current().unwrap();
    config(folder.path(), r#"{"currentContext":"other"}"#, 0o600);
    assert_eq!(own.restore().unwrap(), Restored::NotCurrent, "somebody chose another one meanwhile");
    assert_eq!(text(folder.path()), r#"{"currentContext":"other"}"#);
}

#[test]
fn one_that_is_gone_meanwhile_becomes_the_default() {
    let folder = tempfile::tempdir().unwrap();
    for gone in ["other", "../../etc", "\u{1b}]0;x"] {
        config(folder.path(), &json!({ "currentContext": gone, "a": 1 }).to_string(), 0o600);
        let own = made(folder.path());
        own.make_current().unwrap();
        assert!(matches!(own.remove().unwrap(), Some(Restored::ToDefault { gone }) if !gone.contains('\u{1b}')));
        assert_eq!(text(folder.path()), r#"{"a":1}"#);
    }
}

#[test]
fn a_current_context_that_does_not_exist_is_undone_by_a_removal_alone() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), r#"{"currentContext":"berth","a":1}"#, 0o600);
    let own = own(folder.path());
    assert_eq!(own.restore().unwrap(), Restored::NotMade);
    assert!(matches!(own.make_current(), Err(ContextWriteError::NotMade { .. })));
    assert_eq!(own.remove().unwrap(), None);
    assert_eq!(text(folder.path()), r#"{"a":1}"#);
}

#[test]
fn what_is_not_ours_or_broken_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    let own = own(folder.path());
    for metadata in [json!({}), json!({ "Berth": true }), json!({ "Berth": { "Engine": 1 } }), json!("Berth")] {
        other(folder.path(), "berth", &metadata);
        config(folder.path(), r#"{"currentContext":"berth"}"#, 0o600);
        let before = fs::read(own.file()).unwrap();
        let error = own.write(&socket("/x"), "").unwrap_err();
        assert!(error.to_string().contains("docker context rm berth"), "{error}");
        assert!(matches!(own.make_current(), Err(ContextWriteError::Foreign { .. })));
        assert!(matches!(own.remove(), Err(ContextWriteError::Foreign { .. })));
        assert!(own.restore().is_err());
        assert_eq!(fs::read(own.file()).unwrap(), before);
        assert_eq!(text(folder.path()), r#"{"currentContext":"berth"}"#);
    }
    for broken in ["", "{", "[]", "{\"Name\":\"other\"}"] {
        fs::write(own.file(), broken).unwrap();
        assert!(own.write(&socket("/x"), "").is_err() && own.remove().is_err(), "{broken}");
        assert_eq!(fs::read_to_string(own.file()).unwrap(), broken);
    }
    fs::remove_file(own.file()).unwrap();
    let own = made(folder.path());
    for broken in ["{\"auths\": {", "[]", "null", "{\"currentContext\": 1}", "\u{feff}{}", "{}\n{}"] {
        config(folder.path(), broken, 0o600);
        assert!(own.make_current().is_err() && own.restore().is_err() && own.remove().is_err(), "{broken}");
        assert_eq!(text(folder.path()), broken);
        assert!(own.file().exists());
    }
    let secret = own.make_current().unwrap_err().to_string();
    assert!(!secret.contains("auths"), "{secret}");
}

#[test]
fn another_of_berths_engines_takes_it_over_and_only_its_own_gives_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let one = made(folder.path());
    one.make_current().unwrap();
    let two = OwnContext::new(DockerConfigFolder::at(folder.path()), "berth", "ffff0000").unwrap();
    assert_eq!(two.restore().unwrap(), Restored::NotMade);
    assert!(!two.state().unwrap().is_made);
    assert_eq!(two.write(&socket("/two.sock"), "").unwrap(), Written::Updated);
    assert_eq!(one.restore().unwrap(), Restored::NotMade);
    assert_eq!(two.restore().unwrap(), Restored::To("default".to_owned()));
}

#[test]
fn a_link_stays_a_link_and_one_to_nothing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let real = tempfile::tempdir().unwrap();
    config(real.path(), CONFIG, 0o604);
    symlink(real.path().join("config.json"), folder.path().join("config.json")).unwrap();
    let own = made(folder.path());
    own.make_current().unwrap();
    assert!(folder.path().join("config.json").symlink_metadata().unwrap().is_symlink());
    assert!(text(real.path()).contains("\"berth\""));
    assert_eq!(real.path().join("config.json").metadata().unwrap().mode() & 0o777, 0o604);
    own.restore().unwrap();
    assert_eq!(text(real.path()), CONFIG);
    fs::remove_file(real.path().join("config.json")).unwrap();
    assert!(matches!(own.make_current(), Err(ContextWriteError::LeadsNowhere(_))));
    assert!(folder.path().join("config.json").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn what_is_written_meanwhile_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, "one").unwrap();
    assert!(!file::replace(&path, Some(b"two"), b"new").unwrap());
    assert!(!file::replace(&path, None, b"new").unwrap());
    assert!(!file::replace(&path, Some(b"on"), b"new").unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"one");
    assert!(file::replace(&path, Some(b"one"), b"new").unwrap());
    assert!(!file::replace(&folder.path().join("gone"), Some(b"x"), b"new").unwrap());
    assert_eq!(names(folder.path()), ["config.json"]);
}

#[test]
fn two_that_change_the_same_file_all_the_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), r#"{"currentContext":"default","count":0}"#, 0o600);
    let own = made(folder.path());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..40 {
                    own.make_current().unwrap();
                    own.restore().unwrap();
                }
            });
        }
    });
    assert_eq!(text(folder.path()), r#"{"currentContext":"default","count":0}"#);
    assert_eq!(names(folder.path()), ["config.json", "contexts"]);
}

#[test]
fn names_and_addresses_that_docker_would_not_take_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "default", "a b", "../x", "-x"] {
        assert!(OwnContext::new(DockerConfigFolder::at(folder.path()), name, "").is_err(), "{name}");
    }
    for path in ["relative.sock", "/a\nb"] {
        let refused = own(folder.path()).write(&socket(path), "");
        assert!(matches!(refused, Err(ContextWriteError::Address)), "{path}");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn another_users_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    // Only root can make somebody else's folder.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(12345), None).unwrap();
    for path in [theirs.clone(), theirs.join("deep/.docker")] {
        let error = own(&path).write(&socket("/x"), "").unwrap_err();
        assert!(matches!(&error, ContextWriteError::OtherUser { owner: 12345, .. }), "{error}");
    }
    assert!(names(&theirs).is_empty());
    // A file of theirs in a folder of ours.
    config(folder.path(), "{}", 0o600);
    std::os::unix::fs::chown(folder.path().join("config.json"), Some(12345), None).unwrap();
    let own = made(folder.path());
    assert!(matches!(own.make_current(), Err(ContextWriteError::OtherUser { .. })));
    assert_eq!(folder.path().join("config.json").metadata().unwrap().uid(), 12345);
}

#[test]
fn a_folder_that_cannot_be_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = own(&folder.path().join("file/.docker")).write(&socket("/x"), "").unwrap_err();
    assert!(error.to_string().contains("file/.docker"), "{error}");
    assert_eq!(own(&folder.path().join("absent")).restore().unwrap(), Restored::NotMade);
    assert_eq!(own(&folder.path().join("absent")).remove().unwrap(), None);
    assert!(!folder.path().join("absent").exists());
}
