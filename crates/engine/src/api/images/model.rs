//! What the engine says about images.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::{
    Environment,
    api::model::{
        HealthConfig, model, nullable,
        readers::{keys, words},
    },
    decode::timestamp::{millis, millis_of_seconds},
    registry::Platform,
};

/// What old engines write where there is no tag and no digest.
const NONE: &str = "<none>";

/// Names without the engine's placeholders for none.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names: Option<Vec<String>> = Option::deserialize(deserializer)?;
    Ok(names.unwrap_or_default().into_iter().filter(|name| !name.contains(NONE)).collect())
}

/// A number that is negative or missing where the engine did not count.
fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number: Option<i64> = Option::deserialize(deserializer)?;
    Ok(number.and_then(|number| u64::try_from(number).ok()))
}

/// A piece of content as its manifest describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    #[serde(deserialize_with = "nullable")]
    pub media_type: String,
    /// Its digest, as the registry or the engine wrote it.
    #[serde(deserialize_with = "nullable")]
    pub digest: String,
    /// Its size in bytes.
    #[serde(deserialize_with = "nullable")]
    pub size: u64,
    /// Free-form notes.
    #[serde(deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    /// What it runs on, where that is known.
    pub platform: Option<Platform>,
}

model! {
    /// An image in a list. API: `ImageList`.
    pub struct ImageSummary {
        /// Id, `sha256:` and 64 digits.
        pub id: String,
        /// Id of the image it was built on, where the engine built it; empty otherwise.
        #[serde(rename = "ParentId")]
        pub parent: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Its manifests, if they were asked for and the engine has such (API 1.47).
        pub manifests: Vec<ManifestSummary>,
    }
    with "names" {
        /// Names with tags, such as `alpine:3`; none for an image that only has its id.
        #[serde(rename = "RepoTags")]
        pub tags: Vec<String>,
        /// Names with digests, under which it was pulled or pushed.
        #[serde(rename = "RepoDigests")]
        pub digests: Vec<String>,
    }
    with "millis_of_seconds" {
        /// When it was made, in milliseconds since the epoch; to the second.
        pub created: Option<f64>,
    }
    with "counted" {
        /// Bytes of all of its layers.
        pub size: Option<u64>,
        /// Bytes that other images have as well, if that was asked for.
        pub shared_size: Option<u64>,
        /// What engines before API 1.44 call the size with its parents; the same number as `size` since 1.10 of Docker.
        pub virtual_size: Option<u64>,
        /// Containers of it, where the engine counted.
        pub containers: Option<u64>,
    }

    /// One manifest of an image, for one platform or about one.
    pub struct ManifestSummary {
        /// Its digest.
        #[serde(rename = "ID")]
        pub id: String,
        /// What the index says of it.
        pub descriptor: Descriptor,
        /// All of its content is here.
        pub available: bool,
        /// `image`, `attestation` or `unknown`.
        pub kind: String,
        /// What it occupies.
        pub size: ManifestSize,
        /// What it is, if it is an image.
        pub image_data: Option<ManifestImage>,
        /// What it speaks of, if it is an attestation.
        pub attestation_data: Option<Attestation>,
    }

    /// What a manifest occupies, in bytes.
    pub struct ManifestSize {
        /// Everything.
        pub total: u64,
        /// Packed content.
        pub content: u64,
    }

    /// An image for one platform.
    pub struct ManifestImage {
        /// The platform.
        pub platform: Platform,
        /// Ids of the containers that use it.
        pub containers: Vec<String>,
        /// What it occupies unpacked.
        pub size: UnpackedSize,
    }

    /// What an image occupies unpacked.
    pub struct UnpackedSize {
        /// In bytes.
        pub unpacked: u64,
    }

    /// What an attestation speaks of.
    pub struct Attestation {
        /// Digest of the manifest.
        #[serde(rename = "For")]
        pub subject: String,
    }

    /// Everything of one image. API: `ImageInspect`.
    pub struct ImageInspect {
        /// Id, `sha256:` and 64 digits.
        pub id: String,
        /// Id of the image it was built on, where the engine built it; empty otherwise.
        pub parent: String,
        /// What its maker remarked.
        pub comment: String,
        /// Its maker.
        pub author: String,
        /// Version of the engine that made it, where one did.
        pub docker_version: String,
        /// Architecture in the words of images, such as `amd64`.
        pub architecture: String,
        /// Kind of the architecture, such as `v8`; empty where there are none.
        pub variant: String,
        /// Operating system, such as `linux`.
        pub os: String,
        /// Version of the operating system, for Windows.
        pub os_version: String,
        /// What containers of it are told, unless they are told otherwise.
        pub config: ImageConfig,
        /// Its layers.
        #[serde(rename = "RootFS")]
        pub root: RootFs,
        /// How the engine keeps it.
        pub graph_driver: GraphDriver,
        /// What the engine notes about it.
        pub metadata: ImageMetadata,
        /// The manifest it was taken from (API 1.48 with containerd's image store).
        pub descriptor: Option<Descriptor>,
        /// All of its manifests, if they were asked for (API 1.48).
        pub manifests: Vec<ManifestSummary>,
    }
    with "names" {
        /// Names with tags.
        #[serde(rename = "RepoTags")]
        pub tags: Vec<String>,
        /// Names with digests.
        #[serde(rename = "RepoDigests")]
        pub digests: Vec<String>,
    }
    with "millis" {
        /// When it was made, in milliseconds since the epoch.
        pub created: Option<f64>,
    }
    with "counted" {
        /// Bytes of all of its layers.
        pub size: Option<u64>,
        /// What engines before API 1.44 also call its size.
        pub virtual_size: Option<u64>,
    }

    /// What containers of an image are told.
    pub struct ImageConfig {
        /// Environment, as `NAME=value`.
        pub env: Environment,
        /// User, and group after a colon.
        pub user: String,
        /// Working directory.
        pub working_dir: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Signal that stops a container of it, if not `SIGTERM`.
        pub stop_signal: String,
        /// How health is checked.
        pub healthcheck: Option<HealthConfig>,
        /// What a build on it is to run first.
        pub on_build: Vec<String>,
        /// The shell of `RUN` and `CMD` in a build on it.
        pub shell: Vec<String>,
    }
    with "words" {
        /// Entry point.
        pub entrypoint: Vec<String>,
        /// Command, or the arguments of the entry point.
        pub cmd: Vec<String>,
    }
    with "keys" {
        /// Exposed ports, such as `80/tcp`.
        pub exposed_ports: Vec<String>,
        /// Paths of anonymous volumes.
        pub volumes: Vec<String>,
    }

    /// Layers of an image.
    pub struct RootFs {
        /// `layers`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Digests of the unpacked layers, lowest first.
        pub layers: Vec<String>,
    }

    /// How the engine keeps an image.
    pub struct GraphDriver {
        /// Name of the driver, such as `overlay2`.
        pub name: String,
        /// What the driver says, such as folders on the engine's machine.
        pub data: BTreeMap<String, String>,
    }

    /// One step in the making of an image. API: `ImageHistory`.
    pub struct HistoryEntry {
        /// Id of the image of this step; `<missing>` if it was made elsewhere.
        pub id: String,
        /// The instruction. It is text from whoever made the image.
        pub created_by: String,
        /// A remark, from there too.
        pub comment: String,
    }
    with "names" {
        /// Names of the image of this step.
        pub tags: Vec<String>,
    }
    with "millis_of_seconds" {
        /// When it was made, in milliseconds since the epoch; to the second.
        pub created: Option<f64>,
    }
    with "counted" {
        /// Bytes that this step added.
        pub size: Option<u64>,
    }

    /// What a prune of images did. API: `ImagePrune`.
    pub struct PrunedImages {
        /// What was taken away, in order.
        #[serde(rename = "ImagesDeleted")]
        pub removed: Vec<RemovedImage>,
    }
    with "counted" {
        /// Bytes that are free again, where the engine counted.
        #[serde(rename = "SpaceReclaimed")]
        pub freed_bytes: Option<u64>,
    }

    /// One thing that a removal took away: exactly one of the two is there.
    pub struct RemovedImage {
        /// A name that no longer stands for the image.
        pub untagged: Option<String>,
        /// Id of an image or of a layer that is gone.
        pub deleted: Option<String>,
    }
}

/// What the engine notes about an image.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// When it was last given a tag, in milliseconds since the epoch.
    #[serde(deserialize_with = "millis")]
    pub last_tag_time: Option<f64>,
}

/// A repository that a search found. API: `ImageSearch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundImage {
    /// Name of the repository.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// What its owner says of it. Anybody can write anything there.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// How many like it.
    #[serde(rename = "star_count", deserialize_with = "nullable")]
    pub stars: u64,
    /// The registry's owner vouches for it.
    #[serde(rename = "is_official", deserialize_with = "nullable")]
    pub official: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_for_none_are_none() {
        let text = r#"{"Containers":-1,"Created":1795473564,"Id":"sha256:4e","Labels":null,"ParentId":"sha256:cc",
            "RepoDigests":["<none>@<none>"],"RepoTags":["<none>:<none>"],"SharedSize":-1,"Size":1982492,
            "VirtualSize":1982492}"#;
        let image: ImageSummary = serde_json::from_str(text).unwrap();
        assert!(image.tags.is_empty() && image.digests.is_empty() && image.labels.is_empty());
        assert_eq!((image.shared_size, image.containers, image.size), (None, None, Some(1_982_492)));
        assert_eq!(image.created, Some(1_795_473_564_000.0));
    }

    #[test]
    fn manifests_are_read() {
        let text = r#"{"Id":"sha256:1","Manifests":[{"ID":"sha256:2","Descriptor":{"mediaType":"m","digest":"sha256:2",
            "size":3,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}},"Available":true,
            "Size":{"Content":1,"Total":2},"Kind":"image","ImageData":{"Platform":{"os":"linux","architecture":"arm64"},
            "Containers":null,"Size":{"Unpacked":9}}},{"ID":"x","Kind":"attestation","AttestationData":{"For":"sha256:2"}}]}"#;
        let image: ImageSummary = serde_json::from_str(text).unwrap();
        let first = image.manifests.first().unwrap();
        assert_eq!((first.size.total, first.available, first.descriptor.size), (2, true, 3));
        assert_eq!(first.image_data.as_ref().unwrap().size.unpacked, 9);
        assert_eq!(image.manifests.last().unwrap().attestation_data.as_ref().unwrap().subject, "sha256:2");
    }

    #[test]
    fn an_inspect_of_nulls_is_read() {
        let text = r#"{"Id":"sha256:1","RepoTags":null,"Config":{"Cmd":null,"Entrypoint":"/x","Env":null,"Labels":null,
            "ExposedPorts":{"80/tcp":{}},"Volumes":null},"Metadata":{"LastTagTime":"0001-01-01T00:00:00Z"},"Created":null,
            "GraphDriver":{"Data":null,"Name":"overlay2"},"RootFS":{"Type":"layers","Layers":null}}"#;
        let image: ImageInspect = serde_json::from_str(text).unwrap();
        assert_eq!(image.config.entrypoint, ["/x"]);
        assert_eq!(image.config.exposed_ports, ["80/tcp"]);
        assert_eq!((image.created, image.metadata.last_tag_time), (None, None));
    }
}
