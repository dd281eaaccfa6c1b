//! The registry client against a real registry: open, with logins, and encrypted by an authority of its own.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use berth_engine::reference::ImageReference;
use berth_engine::registry::{
    AuthScheme, Client, ClientBuilder, ManifestKind, RegistryAuth, RegistryError, RegistryHost, Secret,
};
use berth_testkit::registry::Registry;

const PASSWORD: &str = "marker-77aa";

fn builder(registry: &Registry) -> ClientBuilder {
    Client::builder(registry.host().parse().unwrap())
}

fn image(registry: &Registry, rest: &str) -> ImageReference {
    format!("{}/{rest}", registry.host()).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_is_found() {
    let registry = Registry::start_plain().unwrap();
    let amd = registry.push("team/app", "1.0", "amd64").unwrap();
    let index = registry.push_index("team/multi", "2", &["amd64", "arm64"]).unwrap();
    let client = builder(&registry).build().unwrap();
    assert_eq!(client.ping().await.unwrap(), AuthScheme::Open);
    client.check_login().await.unwrap();
    assert_eq!(client.catalog(100).await.unwrap().items, ["team/app", "team/multi"]);
    let tags = client.tags(&image(&registry, "team/multi"), 100).await.unwrap();
    let mut items = tags.items;
    items.sort();
    assert_eq!(items, ["2", "2-amd64", "2-arm64"]);

    let app = image(&registry, "team/app:1.0");
    assert_eq!(client.digest(&app).await.unwrap().as_str(), amd);
    let manifest = client.manifest(&app).await.unwrap();
    assert_eq!(manifest.digest.as_str(), amd);
    assert!(matches!(&manifest.kind, ManifestKind::Image { layers, .. } if layers.len() == 1));
    let config = client.config(&app, &manifest).await.unwrap();
    assert_eq!(config.platform.to_string(), "linux/amd64");
    assert_eq!(config.created.as_deref(), Some("2024-05-01T12:00:00Z"));
    assert_eq!(config.labels()["org.opencontainers.image.title"], "team/app");

    let multi = client.manifest(&image(&registry, "team/multi:2")).await.unwrap();
    assert_eq!(multi.digest.as_str(), index);
    assert_eq!(multi.platforms().len(), 2);
    let arm = multi.platforms()[1];
    let by_digest = client.manifest(&image(&registry, &format!("team/multi@{}", arm.digest))).await.unwrap();
    assert_eq!((by_digest.digest.clone(), by_digest.bytes.len() as u64), (arm.digest.clone(), arm.size));

    for absent in ["team/app:2", "team/none:1", &format!("team/app@sha256:{}", "0".repeat(64))] {
        let error = client.manifest(&image(&registry, absent)).await.unwrap_err();
        assert!(error.is_not_found(), "{absent}: {error:?}");
    }
    assert!(client.digest(&image(&registry, "team/app:2")).await.unwrap_err().is_not_found());
    assert!(client.tags(&image(&registry, "team/none"), 10).await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_come_in_pages() {
    let registry = Registry::start_plain().unwrap();
    for number in 0..130 {
        registry.push(&format!("many/r{number:03}"), "1", "amd64").unwrap();
    }
    let client = builder(&registry).build().unwrap();
    let all = client.catalog(1000).await.unwrap();
    assert_eq!((all.items.len(), all.truncated, all.skipped), (130, false, 0));
    assert_eq!(all.items[129], "many/r129");
    let some = client.catalog(105).await.unwrap();
    assert_eq!((some.items.len(), some.truncated), (105, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_wanted_taken_and_refused() {
    let registry = Registry::start_htpasswd("me", PASSWORD).unwrap();
    let digest = registry.push("private", "1", "amd64").unwrap();
    let host: RegistryHost = registry.host().parse().unwrap();
    let private = image(&registry, "private:1");

    let anonymous = builder(&registry).build().unwrap();
    assert_eq!(anonymous.ping().await.unwrap(), AuthScheme::Basic);
    assert!(matches!(anonymous.manifest(&private).await.unwrap_err(), RegistryError::LoginNeeded { .. }));

    let login = |password: &str| RegistryAuth::password(host.clone(), "me", Secret::new(password.to_owned())).unwrap();
    let wrong = builder(&registry).login(login("wrong")).build().unwrap();
    assert!(matches!(wrong.check_login().await.unwrap_err(), RegistryError::LoginRefused { .. }));

    let right = builder(&registry).login(login(PASSWORD)).build().unwrap();
    right.check_login().await.unwrap();
    assert_eq!(right.digest(&private).await.unwrap().as_str(), digest);
    assert_eq!(right.manifest(&private).await.unwrap().digest.as_str(), digest);
    assert!(!format!("{right:?}").contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_needs_an_authority_that_is_trusted() {
    let registry = Registry::start_tls().unwrap();
    let digest = registry.push("app", "1", "amd64").unwrap();
    let app = image(&registry, "app:1");

    let authority = registry.authority().unwrap().as_bytes().to_vec();
    let trusting = builder(&registry).authority(authority.clone()).build().unwrap();
    assert_eq!(trusting.digest(&app).await.unwrap().as_str(), digest);
    let manifest = trusting.manifest(&app).await.unwrap();
    trusting.config(&app, &manifest).await.unwrap();

    // On this computer plain HTTP would be fine, but a wrong certificate is no reason to fall back to it.
    for suspicious in [builder(&registry), builder(&registry).allow_http(true)] {
        let error = suspicious.build().unwrap().digest(&app).await.unwrap_err();
        assert!(matches!(error, RegistryError::Untrusted { .. }), "{error:?}");
    }
    let plain = Registry::start_plain().unwrap();
    let strict = builder(&plain).authority(authority).build().unwrap();
    assert!(strict.ping().await.is_err(), "who brings an authority expects encryption");
    for bad in [&b""[..], b"marker", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = builder(&plain).authority(bad.to_vec()).build().unwrap_err();
        assert!(matches!(error, RegistryError::BadAuthority { .. }), "{error:?}");
    }
}
