use proptest::prelude::*;

use super::*;

fn image(text: &str) -> ImageReference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn hex(digits: usize) -> String {
    "0123456789abcdef".chars().cycle().take(digits).collect()
}

/// What would leave a path segment, end a header or hide in a text.
const HOSTILE: [&str; 30] = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/..",
    "%2e%2e",
    "a%2e",
    "a%2fb",
    "a?x=1",
    "a#b",
    "a\r\nX: y",
    "a\n",
    "a\0",
    "a\u{7f}",
    "a/",
    "/a",
    "a//b",
    "a/./b",
    "\\a",
    "a\\b",
    "a\u{202e}b",
    "a\u{200b}",
    "a\u{85}b",
    "a/\u{e9}",
    "a/ ",
    "a/<b>",
    "a;/b",
    "a\tb",
    "a/\"b\"",
];

#[test]
fn names_of_images_are_completed() {
    for (text, canonical, familiar) in [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("bitnami/redis", "docker.io/bitnami/redis", "bitnami/redis"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/library/alpine:_x", "docker.io/library/alpine:_x", "alpine:_x"),
        ("docker.io/a/b/c", "docker.io/a/b/c", "a/b/c"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/a", "localhost/a", "localhost/a"),
        ("localhost:5000/a:5000", "localhost:5000/a:5000", "localhost:5000/a:5000"),
        ("ghcr.io/a/b_c/d__e/f-g/h---i:v1", "ghcr.io/a/b_c/d__e/f-g/h---i:v1", "ghcr.io/a/b_c/d__e/f-g/h---i:v1"),
        ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
        ("[2001:db8::1]/a/b", "[2001:db8::1]/a/b", "[2001:db8::1]/a/b"),
        ("Registry/a", "Registry/a", "Registry/a"),
        ("docker.io/my.host/x", "docker.io/my.host/x", "docker.io/my.host/x"),
        ("library/sha256:abc", "docker.io/library/sha256:abc", "library/sha256:abc"),
    ] {
        assert_eq!(image(text).canonical(), canonical, "{text}");
        assert_eq!(image(text).familiar(), familiar, "{text}");
        assert_eq!(image(text).as_str(), text);
        assert!(!image(text).is_id(), "{text}");
    }
}

#[test]
fn parts_of_a_name_are_told_apart() {
    let digest = format!("sha256:{}", hex(64));
    let full = image(&format!("my.host:5000/team/app:v1@{digest}"));
    assert_eq!(full.host(), Some("my.host:5000"));
    assert_eq!(full.repository(), Some("team/app"));
    assert_eq!(full.tag(), Some("v1"));
    assert_eq!(full.digest().map(Digest::as_str), Some(digest.as_str()));
    assert_eq!(full.without_tag(), Some("my.host:5000/team/app"));
    assert_eq!(full.or_latest(), full);
    assert_eq!(image("alpine").or_latest(), image("alpine:latest"));
    assert_eq!(image(&format!("alpine@{digest}")).or_latest().tag(), None);
    assert_eq!(image("localhost:5000/a").tag(), None);
}

#[test]
fn ids_of_images_are_no_names() {
    let whole = hex(64);
    for id in [whole.clone(), format!("sha256:{whole}"), "sha256:0123abc".into(), format!("sha512:{}", hex(128))] {
        let id = image(&id);
        assert!(id.is_id() && id.host().is_none() && id.repository().is_none() && id.without_tag().is_none());
        assert_eq!(id.canonical(), id.as_str());
        assert_eq!(id.familiar(), id.as_str());
        assert_eq!(id.or_latest(), id);
    }
    assert!(!image("0123abc").is_id(), "the engine decides what a short id is");
    let named = format!("docker.io/library/{whole}");
    assert!(named.parse::<ImageReference>().is_ok_and(|name| name.familiar() != whole));
}

#[test]
fn images_are_refused_by_the_grammar() {
    let long = "a".repeat(256);
    let tag = format!("a:{}", "t".repeat(129));
    let host = format!("{}.io/a", "h".repeat(256));
    let bad = [
        "Alpine",
        "a/B",
        "a:",
        "a:-x",
        "a:.x",
        "a@",
        "a@sha256:12",
        "a@sha256:",
        ":a",
        "@a",
        "a__",
        "_a",
        "a___b",
        "a..b",
        "a._b",
        "a-",
        "-a",
        ".a",
        "a.",
        "a:b:c",
        "a@b@c",
        "http://a/b",
        "a.b:/c",
        "a.b:0/c",
        "a.b:65536/c",
        "a.b:+1/c",
        "-a.b/c",
        "a-.b/c",
        "a..b/c",
        "[::1/a",
        "[]/a",
        "[::g]/a",
        "[::1]x/a",
        "[::1]:/a",
        "<none>",
        "<none>:<none>",
        "a b",
        "sha256:",
        "u@h.io/a",
        "a.b:80@c/d",
        "*",
        "a:*",
        &long,
        &tag,
        &host,
    ];
    for bad in bad.into_iter().chain(HOSTILE) {
        assert!(bad.parse::<ImageReference>().is_err(), "{bad:?}");
        assert!(bad.parse::<PluginName>().is_err(), "{bad:?}");
    }
    assert!("a".repeat(255).parse::<ImageReference>().is_ok());
    assert!(format!("a:{}", "t".repeat(128)).parse::<ImageReference>().is_ok());
    assert!("vieux/sshfs:latest".parse::<PluginName>().is_ok());
}

#[test]
fn digests_are_whole() {
    let digest: Digest = format!("sha256:{}", hex(64)).parse().unwrap();
    assert_eq!((digest.algorithm(), digest.hex(), digest.short()), ("sha256", hex(64).as_str(), "0123456789ab"));
    assert!(format!("sha512:{}", hex(128)).parse::<Digest>().is_ok());
    for bad in [
        String::new(),
        hex(64),
        format!("sha256:{}", hex(63)),
        format!("sha512:{}", hex(64)),
        format!("sha256:{}", hex(64).to_uppercase()),
        format!("md5:{}", hex(32)),
        format!("sha256:{}\n", hex(63)),
        format!("sha256::{}", hex(63)),
    ] {
        assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
    }
}

#[test]
fn other_names_admit_what_the_api_admits() {
    for good in ["data", "0", "a_b.c-d", "Project_data", &"a".repeat(255)] {
        assert_eq!(good.parse::<VolumeName>().unwrap().as_str(), good);
        assert_eq!(good.parse::<ObjectId>().unwrap().as_str(), good);
        assert_eq!(good.parse::<NetworkRef>().unwrap().as_str(), good);
    }
    for odd in ["<img src=x onerror=alert(1)>", "mein netz é", "a..b", "%2e%2e", "a?b#c", "日本"] {
        assert_eq!(odd.parse::<NetworkRef>().unwrap().as_str(), odd);
        assert!(odd == "a..b" || odd.parse::<VolumeName>().is_err());
    }
    assert!(hex(64).parse::<ExecId>().is_ok());
    let long = "a".repeat(256);
    for bad in HOSTILE.into_iter().chain([long.as_str()]) {
        assert!(bad.parse::<VolumeName>().is_err(), "{bad:?}");
        assert!(bad.parse::<ObjectId>().is_err(), "{bad:?}");
        assert!(bad.parse::<ExecId>().is_err(), "{bad:?}");
    }
    for bad in ["", " ", ".", "..", "a/b", "../x", "a\\b", "a\r\nb", "a\0", "a\u{202e}b", "a\u{200b}", &long] {
        assert!(bad.parse::<NetworkRef>().is_err(), "{bad:?}");
    }
}

#[test]
fn serde_checks_too() {
    assert!(serde_json::from_str::<ImageReference>(r#""alpine:3""#).is_ok());
    assert!(serde_json::from_str::<ImageReference>(r#""../version""#).is_err());
    assert_eq!(serde_json::to_string(&image("alpine:3")).unwrap(), r#""alpine:3""#);
}

fn component() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}"
}

prop_compose! {
    fn any_name()(
        host in proptest::option::of(prop_oneof![
            "[a-z0-9]{1,5}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?",
            Just("localhost:5000".to_owned()),
            Just("[fe80::1]:5000".to_owned()),
        ]),
        // A dot in the first part would make it a host.
        first in "[a-z0-9]{1,6}((_|__|-{1,3})[a-z0-9]{1,5}){0,2}",
        rest in proptest::collection::vec(component(), 0..3),
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        digest in proptest::option::of("sha256:[0-9a-f]{64}"),
    ) -> String {
        let host = host.map(|host| format!("{host}/")).unwrap_or_default();
        let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        let path: String = [first].into_iter().chain(rest.into_iter().map(|part| format!("/{part}"))).collect();
        format!("{host}{path}{tag}{digest}")
    }
}

proptest! {
    #[test]
    fn every_name_of_the_grammar_is_taken_and_keeps_its_meaning(text in any_name()) {
        let name = image(&text);
        prop_assert_eq!(name.as_str(), &text);
        for again in [name.canonical(), name.familiar()] {
            prop_assert_eq!(image(&again).canonical(), name.canonical());
        }
        prop_assert!(name.familiar().len() <= name.canonical().len());
    }

    #[test]
    fn no_text_panics_or_walks(text in "\\PC{0,40}|[a-z./:@%?#\\r\\n\\x00\\[\\]-]{0,40}") {
        if let Ok(name) = text.parse::<ImageReference>() {
            prop_assert!(name.as_str().split('/').all(|segment| !matches!(segment, "" | "." | "..")));
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'?' | b'#')));
            prop_assert_eq!(image(&name.canonical()).canonical(), name.canonical());
            prop_assert_eq!(image(&name.familiar()).canonical(), name.canonical());
        }
        if let Ok(name) = text.parse::<NetworkRef>() {
            prop_assert!(!name.as_str().contains('/') && name.as_str() != "..");
        }
        let _ = text.parse::<Digest>();
        let _ = text.parse::<VolumeName>();
    }
}
