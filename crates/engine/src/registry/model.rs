//! What registries hold: manifests, indexes of manifests, configurations of images.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde::Deserialize;

use crate::reference::Digest;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What this client asks for, an index before a single manifest.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Lists of one manifest are cut here; a list of this length is no real one.
const ENTRIES_CAP: usize = 4096;

/// What a manifest says of another piece of content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as the manifest claims it.
    pub size: u64,
    /// What it runs on, in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct Platform {
    /// Operating system, `linux`.
    #[serde(default)]
    pub os: String,
    /// Processor, `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Kind of the processor, `v7`.
    #[serde(default)]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// A manifest or an index, its bytes checked against its digest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its exact bytes.
    pub bytes: Bytes,
    /// What it says.
    pub kind: ManifestKind,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image for one platform.
    Image {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, lowest first.
        layers: Vec<Descriptor>,
    },
    /// The images of one name for several platforms, and what belongs to them.
    Index(Vec<Descriptor>),
}

impl Manifest {
    /// The platforms of an index, without entries such as attestations that run nowhere.
    #[must_use]
    pub fn platforms(&self) -> Vec<&Descriptor> {
        match &self.kind {
            ManifestKind::Image { .. } => Vec::new(),
            ManifestKind::Index(manifests) => {
                let runs = |platform: &Platform| platform.os != "unknown" && !platform.os.is_empty();
                manifests.iter().filter(|entry| entry.platform.as_ref().is_some_and(runs)).collect()
            }
        }
    }
}

/// The part of an image's configuration that Berth shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// When it was built, in RFC 3339, as its builder claims it.
    #[serde(default)]
    pub created: Option<String>,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    #[serde(default, deserialize_with = "or_default")]
    config: Inner,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Inner {
    #[serde(default, rename = "Labels", deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.labels
    }
}

/// `null` where nothing is meant, as Go writes it.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What is wrong with a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadManifest(pub(super) &'static str);

/// Reads a manifest of this content type.
pub(super) fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<(String, ManifestKind), BadManifest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        schema_version: u32,
        media_type: Option<String>,
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
        manifests: Option<Vec<Descriptor>>,
    }
    let body: Body = serde_json::from_slice(bytes).map_err(|_| BadManifest("it is not a manifest"))?;
    if body.schema_version != 2 {
        return Err(BadManifest("the manifest has a format that is no longer supported"));
    }
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = |text: &String| [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].contains(&text.as_str());
    let header = content_type.map(essence).filter(known);
    let inner = body.media_type.as_deref().map(essence);
    // Two readers that believe one each would see two different images behind one digest.
    if let (Some(header), Some(inner)) = (&header, &inner)
        && header != inner
    {
        return Err(BadManifest("the manifest's media types contradict each other"));
    }
    let media_type = header.or(inner).filter(known).ok_or(BadManifest("the manifest has no known media type"))?;
    let is_index = [OCI_INDEX, DOCKER_LIST].contains(&media_type.as_str());
    let kind = match (is_index, body.manifests, body.config, body.layers) {
        (true, Some(manifests), None, None) => ManifestKind::Index(manifests),
        (false, None, Some(config), Some(layers)) => ManifestKind::Image { config, layers },
        _ => return Err(BadManifest("the manifest is not what its media type says")),
    };
    let (ManifestKind::Index(entries) | ManifestKind::Image { layers: entries, .. }) = &kind;
    if entries.len() > ENTRIES_CAP {
        return Err(BadManifest("the manifest lists more than any real one"));
    }
    Ok((media_type, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(extra: &str) -> String {
        format!(r#"{{"mediaType":"x","digest":"sha256:{}","size":2{extra}}}"#, "0".repeat(64))
    }

    #[test]
    fn an_image_and_an_index_are_told_apart() {
        let one = descriptor("");
        let image = format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one}]}}"#);
        let (media_type, kind) =
            parse(Some("application/vnd.oci.image.manifest.v1+json; x=y"), image.as_bytes()).unwrap();
        assert_eq!(media_type, OCI_MANIFEST);
        assert!(matches!(kind, ManifestKind::Image { layers, .. } if layers.len() == 1));
        let amd = descriptor(r#","platform":{"os":"linux","architecture":"arm","variant":"v7"},"annotations":null"#);
        let attestation = descriptor(r#","platform":{"os":"unknown","architecture":"unknown"}"#);
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[{amd},{attestation},{one}]}}"#);
        let (media_type, kind) = parse(Some("application/json"), index.as_bytes()).unwrap();
        assert_eq!(media_type, DOCKER_LIST);
        let digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let manifest = Manifest { digest, media_type, bytes: Bytes::new(), kind };
        let platforms: Vec<_> = manifest.platforms().iter().filter_map(|entry| entry.platform.as_ref()).collect();
        assert_eq!(platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/arm/v7"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let one = descriptor("");
        for (content_type, body) in [
            (OCI_INDEX, format!(r#"{{"schemaVersion":2,"config":{one},"layers":[]}}"#)),
            (OCI_MANIFEST, r#"{"schemaVersion":2,"manifests":[]}"#.to_owned()),
            (OCI_MANIFEST, format!(r#"{{"schemaVersion":2,"config":{one},"layers":[],"manifests":[]}}"#)),
            (OCI_MANIFEST, format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#)),
            (OCI_MANIFEST, format!(r#"{{"schemaVersion":1,"config":{one},"layers":[]}}"#)),
            ("text/html", format!(r#"{{"schemaVersion":2,"config":{one},"layers":[]}}"#)),
            (OCI_MANIFEST, "<html>".to_owned()),
            (
                OCI_MANIFEST,
                r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"../x","size":1},"layers":[]}"#.into(),
            ),
        ] {
            assert!(parse(Some(content_type), body.as_bytes()).is_err(), "{content_type} {body}");
        }
        let many = vec![one; ENTRIES_CAP + 1].join(",");
        assert!(parse(Some(OCI_INDEX), format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#).as_bytes()).is_err());
    }

    #[test]
    fn configurations_forgive_what_is_absent() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"created":"2024-01-01T00:00:00Z","os":"linux","architecture":"amd64","config":{"Labels":{"a":"b"}}}"#,
        )
        .unwrap();
        assert_eq!(config.labels()["a"], "b");
        assert_eq!(config.platform.to_string(), "linux/amd64");
        for bare in ["{}", r#"{"config":null}"#, r#"{"config":{"Labels":null}}"#] {
            assert!(serde_json::from_str::<ImageConfig>(bare).unwrap().labels().is_empty());
        }
    }
}
