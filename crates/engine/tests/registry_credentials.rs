//! Logins through credential helpers and `config.json`.

#![cfg(unix)]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use berth_engine::registry::{
    CredentialError, CredentialStore, Destination, Place, RegistryAuth, RegistryHost, Secret,
};
use tempfile::TempDir;

const MARKER: &str = "marker-9d2e";

/// Keeps one file for each server URL, as the helpers of Docker keep one entry in a keychain.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")/kept" || exit 1
tr '\0' ' ' < /proc/$$/cmdline >> ../arguments
tr '\0' '\n' < /proc/$$/environ >> ../environment
name() { sed 's/[^A-Za-z0-9.]/_/g'; }
case "$1" in
store) input=$(cat); url=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
  printf %s "$input" > "$(printf %s "$url" | name)" ;;
get) file=$(cat | name)
  if [ -f "$file" ]; then cat "$file"; else printf 'credentials not found in native keychain\n'; exit 1; fi ;;
erase) rm -f "$(cat | name)" ;;
list) printf '{"https://index.docker.io/v1/":"me","https://own.example":"other"}' ;;
esac
"#;

struct Kept {
    folder: TempDir,
}

impl Kept {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("bin/kept")).unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        Self { folder }
    }

    fn helper(&self, name: &str, script: &str) {
        let path = self.bin().join(format!("docker-credential-{name}"));
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    fn store(&self, deadline: Duration) -> CredentialStore {
        CredentialStore::at(self.folder.path()).with_helpers(vec![self.bin()], deadline)
    }

    fn read(&self, path: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.folder.path().join(path)).unwrap_or_default()
    }
}

fn host(text: &str) -> RegistryHost {
    text.parse().unwrap()
}

fn login(name: &str) -> RegistryAuth {
    RegistryAuth::password(host(name), "me", Secret::new(MARKER.to_owned())).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_helper_keeps_a_login_and_no_one_else_sees_it() {
    let place = Kept::new(r#"{"credsStore":"kept","auths":{"ghcr.io":{"auth":"b2xkOm9sZA=="}},"other":{"a":1.0}}"#);
    place.helper("kept", HELPER);
    let store = place.store(PATIENCE);
    for name in ["docker.io", "ghcr.io"] {
        let kept = store.store(&login(name), Destination::Safe).await.unwrap();
        assert_eq!(kept, Place::Helper("kept".parse().unwrap()));
        assert_eq!(store.lookup(&host(name)).await.unwrap(), Some(login(name)));
    }
    let token = RegistryAuth::identity_token(host("token.io"), Secret::new(MARKER.into()));
    store.store(&token, Destination::Safe).await.unwrap();
    assert_eq!(store.lookup(&host("token.io")).await.unwrap(), Some(token));

    let config = place.read("config.json");
    assert!(!config.contains(MARKER) && !config.contains("b2xkOm9sZA"), "the old plain login went too: {config}");
    assert!(config.contains("\"ghcr.io\": {}") && config.contains("{\"a\":1.0}"), "{config}");
    let seen = place.read("bin/arguments") + &place.read("bin/environment");
    assert!(place.read("bin/arguments").contains("store"), "the helper looked at its own arguments");
    for secret in [MARKER, "ghcr.io", "index.docker.io"] {
        assert!(!seen.contains(secret), "{secret}");
    }

    store.erase(&host("ghcr.io")).await.unwrap();
    assert_eq!(store.lookup(&host("ghcr.io")).await.unwrap(), None);
    assert!(!place.read("config.json").contains("ghcr.io"));
    store.erase(&host("never.io")).await.unwrap();
}

#[tokio::test]
async fn logins_are_listed_without_their_secrets() {
    let config =
        r#"{"credsStore":"kept","credHelpers":{"own.example":"gone"},"auths":{"plain.io":{"auth":"bWU6bWFya2Vy"}}}"#;
    let place = Kept::new(config);
    place.helper("kept", HELPER);
    let (logins, problems) = place.store(PATIENCE).list().await.unwrap();
    let shown: Vec<_> =
        logins.iter().map(|login| (login.host.as_str(), login.username.as_str(), &login.place)).collect();
    let helper = Place::Helper("kept".parse().unwrap());
    assert_eq!(shown, [("docker.io", "me", &helper), ("plain.io", "me", &Place::PlainFile)]);
    assert!(matches!(problems.as_slice(), [CredentialError::NoHelper { .. }]), "{problems:?}");
}

#[tokio::test]
async fn the_plain_file_is_used_on_explicit_choice_alone() {
    let place = Kept::new("{}");
    let store = place.store(PATIENCE);
    let error = store.store(&login("ghcr.io"), Destination::Safe).await.unwrap_err();
    assert!(matches!(error, CredentialError::Keychain { .. }), "{error:?}");
    assert_eq!(place.read("config.json"), "{}");
    assert_eq!(store.store(&login("ghcr.io"), Destination::PlainFile).await.unwrap(), Place::PlainFile);
    assert_eq!(store.lookup(&host("ghcr.io")).await.unwrap(), Some(login("ghcr.io")));
    store.erase(&host("ghcr.io")).await.unwrap();
    assert_eq!(store.lookup(&host("ghcr.io")).await.unwrap(), None);
}

#[tokio::test]
async fn a_helper_that_fails_is_told_apart_and_not_quoted() {
    let place = Kept::new(r#"{"credsStore":"bad"}"#);
    let store = place.store(PATIENCE);
    let error = store.lookup(&host("ghcr.io")).await.unwrap_err();
    assert!(matches!(error, CredentialError::NoHelper { .. }), "{error:?}");

    place.helper("bad", "#!/bin/sh\ncat > /dev/null\nprintf 'the keychain \\033[1mis locked'\nexit 1\n");
    let error = store.lookup(&host("ghcr.io")).await.unwrap_err();
    assert_eq!(error.to_string(), "docker-credential-bad failed: the keychain [1mis locked");

    // It says back what it was told.
    place.helper("bad", "#!/bin/sh\ncat\nexit 1\n");
    let error = store.store(&login("ghcr.io"), Destination::Safe).await.unwrap_err();
    assert!(matches!(error, CredentialError::HelperFailed { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains(MARKER));
    assert!(!place.read("config.json").contains(MARKER), "no fall back into the plain file");

    for (script, name) in [
        ("printf '{\"Username\":\"me\",\"Secret\":\"marker-9d2e'", "half"),
        ("printf marker-9d2e", "no JSON"),
        ("yes marker-9d2e", "endless"),
        ("printf '{\"Username\":\"a:b\",\"Secret\":\"marker-9d2e\"}'", "a name that HTTP cannot carry"),
    ] {
        place.helper("bad", &format!("#!/bin/sh\ncat > /dev/null\n{script}\n"));
        let error = store.lookup(&host("ghcr.io")).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(MARKER), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_helper_that_hangs_is_ended() {
    let place = Kept::new(r#"{"credsStore":"slow"}"#);
    place.helper("slow", "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 1000\n");
    let start = Instant::now();
    let error = place.store(Duration::from_secs(1)).lookup(&host("ghcr.io")).await.unwrap_err();
    assert!(matches!(error, CredentialError::HelperTimeout { seconds: 1, .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(15));
    let pid = place.read("bin/docker-credential-slow.pid");
    let gone = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    let mut tries = 0;
    while !gone() {
        tries += 1;
        assert!(tries < 100, "the helper is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
