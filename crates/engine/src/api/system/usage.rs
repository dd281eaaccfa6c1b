//! What takes room on the engine's disk.

use serde::{Deserialize, Deserializer};

use crate::{
    Docker, Error,
    api::volumes::{Volume, known},
    http::{Call, Older, SLOW},
    model::{ContainerState, model, nullable},
    operation::Operation,
};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UsageKind {
    /// Containers.
    Containers,
    /// Images and their layers.
    Images,
    /// Volumes.
    Volumes,
    /// What builds keep for the next one.
    BuildCache,
}

impl UsageKind {
    fn word(self) -> &'static str {
        match self {
            Self::Containers => "container",
            Self::Images => "image",
            Self::Volumes => "volume",
            Self::BuildCache => "build-cache",
        }
    }
}

model! {
    /// What takes room. API: `SystemDataUsage`.
    pub struct DataUsage {
        /// Images.
        pub images: Vec<ImageUsage>,
        /// Containers.
        pub containers: Vec<ContainerUsage>,
        /// Volumes, with [`Volume::usage_data`].
        pub volumes: Vec<Volume>,
        /// What builds keep.
        pub build_cache: Vec<BuildCacheUsage>,
    }
    with "known" {
        /// All layers of all images in bytes, each counted once.
        pub layers_size: Option<u64>,
    }

    /// What an image takes.
    pub struct ImageUsage {
        /// Id, `sha256:…`.
        pub id: String,
        /// Its names.
        pub repo_tags: Vec<String>,
    }
    with "known" {
        /// Bytes of all of its layers.
        pub size: Option<u64>,
        /// Bytes of layers that others have, too.
        pub shared_size: Option<u64>,
        /// Containers of it.
        pub containers: Option<u64>,
    }
    with "crate::decode::timestamp::millis_of_seconds" {
        /// When it was made, in milliseconds since the epoch.
        pub created: Option<f64>,
    }

    /// What a container takes.
    pub struct ContainerUsage {
        /// Id.
        pub id: String,
        /// Its names, each with a slash before it.
        pub names: Vec<String>,
        /// Name of its image.
        pub image: String,
        /// Where it stands.
        pub state: ContainerState,
    }
    with "known" {
        /// Bytes that it wrote itself.
        #[serde(rename = "SizeRw")]
        pub written: Option<u64>,
        /// Bytes of all it sees, its image with it.
        #[serde(rename = "SizeRootFs")]
        pub whole: Option<u64>,
    }
    with "crate::decode::timestamp::millis_of_seconds" {
        /// When it was made, in milliseconds since the epoch.
        pub created: Option<f64>,
    }

    /// One thing that builds keep.
    pub struct BuildCacheUsage {
        /// Id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Kind, such as `regular` or `source.local`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// What it is of, in the builder's words.
        pub description: String,
        /// A build uses it now.
        pub in_use: bool,
        /// Its bytes belong to images or other entries, too.
        pub shared: bool,
    }
    with "one_or_more" {
        /// Entries it stands on; before API 1.42 one at most is told.
        #[serde(alias = "Parent")]
        pub parents: Vec<String>,
    }
    with "known" {
        /// Bytes.
        pub size: Option<u64>,
        /// How many builds used it.
        pub usage_count: Option<u64>,
    }
    with "crate::decode::timestamp::millis" {
        /// When it was made, in milliseconds since the epoch.
        #[serde(rename = "CreatedAt")]
        pub created: Option<f64>,
        /// When it was used last, in milliseconds since the epoch.
        #[serde(rename = "LastUsedAt")]
        pub last_used: Option<f64>,
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Parents {
        More(Vec<String>),
        One(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Parents::More(parents)) => parents,
        Some(Parents::One(parent)) if !parent.is_empty() => vec![parent],
        _ => Vec::new(),
    })
}

impl DataUsage {
    fn only(mut self, kinds: &[UsageKind]) -> Self {
        let wanted = |kind| kinds.is_empty() || kinds.contains(&kind);
        if !wanted(UsageKind::Images) {
            self.images.clear();
            self.layers_size = None;
        }
        if !wanted(UsageKind::Containers) {
            self.containers.clear();
        }
        if !wanted(UsageKind::Volumes) {
            self.volumes.clear();
        }
        if !wanted(UsageKind::BuildCache) {
            self.build_cache.clear();
        }
        self
    }
}

impl Docker {
    /// Measures what takes room on the engine's disk: all of it when `kinds` is empty. Engines of before API 1.42
    /// measure all of it whatever was asked, and one at a time. The call may take 300 s. API: `SystemDataUsage`.
    ///
    /// # Errors
    /// Whatever a call may fail with; [`Error::Api`] if an engine of before API 1.42 is measuring already.
    pub async fn data_usage(&self, kinds: &[UsageKind]) -> Result<DataUsage, Error> {
        let mut call = Call::new(Operation::SystemDataUsage, []).deadline(Some(SLOW));
        for kind in kinds {
            call = call.query_since(42, Older::LeaveOut, "type", kind.word());
        }
        Ok(self.json::<DataUsage>(call).await?.only(kinds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let old = r#"{"LayersSize":1092588,"Images":[{"Id":"sha256:2b","RepoTags":null,"Created":1466724217,
            "SharedSize":-1,"Size":1092588,"VirtualSize":1092588,"Containers":-1}],
            "Containers":[{"Id":"e5","Names":["/top"],"Image":"busybox","SizeRootFs":1092588,"State":"exited"}],
            "Volumes":[{"Name":"v","UsageData":{"RefCount":0,"Size":-1}}],
            "BuildCache":[{"ID":"a","Parent":"","Type":"regular","LastUsedAt":null},{"ID":"b","Parent":"a","Size":51}],
            "BuilderSize":0}"#;
        let usage: DataUsage = serde_json::from_str(old).unwrap();
        assert_eq!(usage.layers_size, Some(1_092_588));
        let image = usage.images.first().unwrap();
        assert_eq!((image.size, image.shared_size, image.containers), (Some(1_092_588), None, None));
        assert_eq!(image.created, Some(1_466_724_217_000.0));
        let container = usage.containers.first().unwrap();
        assert_eq!((container.state, container.written), (ContainerState::Exited, None));
        let parents: Vec<_> = usage.build_cache.iter().map(|entry| entry.parents.clone()).collect();
        assert_eq!(parents, [vec![], vec!["a".to_owned()]]);
        let new = r#"{"LayersSize":null,"BuildCache":[{"ID":"b","Parents":["a","c"],"UsageCount":2}],"Volumes":null}"#;
        let usage: DataUsage = serde_json::from_str(new).unwrap();
        assert_eq!(usage.build_cache.first().unwrap().parents, ["a", "c"]);
        assert_eq!(serde_json::from_str::<DataUsage>("{}").unwrap(), DataUsage::default());
    }

    #[test]
    fn what_was_not_asked_for_is_not_there() {
        let all = DataUsage {
            layers_size: Some(1),
            images: vec![ImageUsage::default()],
            volumes: vec![Volume::default()],
            ..DataUsage::default()
        };
        assert_eq!(all.clone().only(&[]), all);
        let volumes = all.only(&[UsageKind::Volumes, UsageKind::BuildCache]);
        assert_eq!((volumes.layers_size, volumes.images.len(), volumes.volumes.len()), (None, 0, 1));
    }
}
