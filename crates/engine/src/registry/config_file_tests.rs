use super::*;

fn host(text: &str) -> RegistryHost {
    text.parse().unwrap()
}

fn password(host_name: &str, user: &str, text: &str) -> RegistryAuth {
    RegistryAuth::password(host(host_name), user, Secret::new(text.to_owned())).unwrap()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn login(text: &str, name: &str) -> Result<Option<RegistryAuth>, CredentialError> {
    let (_folder, path) = file(text);
    ConfigFile::read(&path)?.login(&host(name))
}

#[test]
fn logins_in_all_the_spellings_of_docker() {
    // me:marker, and the same padded with NULs.
    for (config, name) in [
        (r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6bWFya2Vy"}}}"#, "docker.io"),
        (r#"{"auths":{"docker.io":{"auth":"bWU6bWFya2VyAAAA"}}}"#, "docker.io"),
        (r#"{"auths":{"https://ghcr.io/v2/":{"auth":"bWU6bWFya2Vy"}}}"#, "ghcr.io"),
        (r#"{"auths":{"GHCR.io":{"username":"me","password":"marker"}}}"#, "ghcr.io"),
        (r#"{"auths":{"ghcr.io":{},"https://ghcr.io":{"auth":"bWU6bWFya2Vy"}}}"#, "ghcr.io"),
        (r#"{"auths":{"localhost:5000":{"auth":"bWU6bWFya2Vy","email":"x"}}}"#, "localhost:5000"),
    ] {
        assert_eq!(login(config, name).unwrap(), Some(password(name, "me", "marker")), "{config}");
    }
    let token = login(r#"{"auths":{"ghcr.io":{"auth":"","identitytoken":"t"}}}"#, "ghcr.io").unwrap().unwrap();
    assert_eq!(token, RegistryAuth::identity_token(host("ghcr.io"), Secret::new("t".into())));
    for none in
        ["", " \n", "{}", r#"{"auths":null}"#, r#"{"auths":{"a.b":null,"ghcr.io":{}}}"#, r#"{"auths":{"/":{}}}"#]
    {
        assert_eq!(login(none, "ghcr.io").unwrap(), None, "{none}");
    }
    let other = r#"{"auths":{"ghcr.io:444":{"auth":"bWU6bWFya2Vy"},"ghcr.io.evil.com":{"auth":"bWU6bWFya2Vy"}}}"#;
    assert_eq!(login(other, "ghcr.io").unwrap(), None);
}

#[test]
fn a_broken_file_is_not_quoted() {
    for broken in [
        "marker",
        r#"["marker"]"#,
        r#"{"auths":{"ghcr.io":{"auth":"marker"#,
        r#"{"auths":"marker"}"#,
        r#"{"auths":{"ghcr.io":"marker"}}"#,
        r#"{"auths":{"ghcr.io":{"auth":"marker!"}}}"#,
        r#"{"auths":{"ghcr.io":{"auth":"bWFya2Vy"}}}"#,
        r#"{"auths":{"ghcr.io":{"auth":7}}}"#,
        "{\"auths\":{\"ghcr.io\":{\"auth\":\"mar\u{1}ker\"}}}",
    ] {
        let error = login(broken, "ghcr.io").unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(matches!(error, CredentialError::Broken { .. }), "{broken}: {said}");
        assert!(!said.contains("marker") && !said.contains("bWFya2Vy"), "{broken}: {said}");
    }
    let error = login("{\n  \"a\": x\n}", "ghcr.io").unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    let huge = format!("{{\"a\":\"{}\"}}", "a".repeat(CAP));
    assert!(matches!(login(&huge, "ghcr.io").unwrap_err(), CredentialError::TooLarge { .. }));
}

#[test]
fn the_helper_of_a_registry_comes_before_that_of_all() {
    let config = r#"{"credsStore":"desktop","credHelpers":{"https://ghcr.io":"own-one_2","e.io":""}}"#;
    let (_folder, path) = file(config);
    let config = ConfigFile::read(&path).unwrap();
    let name = |host: Option<&RegistryHost>| config.helper(host).unwrap().map(|name| name.to_string());
    assert_eq!(name(Some(&host("ghcr.io"))).unwrap(), "own-one_2");
    assert_eq!(name(Some(&host("docker.io"))).unwrap(), "desktop");
    assert_eq!(name(None).unwrap(), "desktop");
    assert_eq!(name(Some(&host("e.io"))), None);
    for bad in ["../evil", "a/b", "A", "a b", "a;b", "é"] {
        let (_folder, path) = file(&serde_json::json!({"credsStore": bad}).to_string());
        let error = ConfigFile::read(&path).unwrap().helper(None).unwrap_err();
        assert!(matches!(error, CredentialError::BadHelperName { .. }), "{bad}");
    }
}

#[test]
fn everything_else_keeps_its_text_and_its_place() {
    let odd = "{ \"x\":  1.0e+5,\n\"HttpHeaders\": {\"b\":1, \"a\" : [ 1,2 ]},\n \"auths\": {\n  \"a.io\": { \"auth\" : \"x\", \"future\":18446744073709551616 },\n \"ghcr.io\":{\"auth\":\"old\"},\"https://ghcr.io/v2/\":{}}, \"z\\u00e9\":null }";
    let (_folder, path) = file(odd);
    let new = password("ghcr.io", "me", "marker");
    ConfigFile::read(&path).unwrap().replace(&host("ghcr.io"), Some(&new), false).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let expected = "{\n\t\"x\": 1.0e+5,\n\t\"HttpHeaders\": {\"b\":1, \"a\" : [ 1,2 ]},\n\t\"auths\": {\n\t\t\"a.io\": { \"auth\" : \"x\", \"future\":18446744073709551616 },\n\t\t\"ghcr.io\": {\n\t\t\t\"auth\": \"bWU6bWFya2Vy\"\n\t\t}\n\t},\n\t\"z\u{e9}\": null\n}";
    assert_eq!(text, expected);
    assert_eq!(ConfigFile::read(&path).unwrap().login(&host("ghcr.io")).unwrap(), Some(new));

    ConfigFile::read(&path).unwrap().replace(&host("ghcr.io"), None, false).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("ghcr.io") && text.contains("18446744073709551616"));
    ConfigFile::read(&path).unwrap().replace(&host("ghcr.io"), None, false).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "nothing to take out, nothing written");
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (folder, path) = file("{}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let link = folder.path().join("link.json");
    symlink(&path, &link).unwrap();
    let new = password("ghcr.io", "me", "marker");
    ConfigFile::read(&link).unwrap().replace(&host("ghcr.io"), Some(&new), false).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink(), "a link stays a link");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");

    let fresh = folder.path().join("new/config.json");
    ConfigFile::read(&fresh).unwrap().replace(&host("ghcr.io"), Some(&new), false).unwrap();
    assert_eq!(std::fs::metadata(fresh.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
}
