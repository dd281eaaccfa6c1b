//! Volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    ApiVersion, Docker, Error, Filters,
    api::{options::options, swarm::ObjectVersion},
    http::{Call, Gate, Older, SLOW},
    model::{model, nullable},
    operation::Operation,
    reference::VolumeName,
    schema,
};

model! {
    /// A volume. API: `VolumeList`, `VolumeInspect`, `VolumeCreate`.
    pub struct Volume {
        /// Name.
        pub name: String,
        /// Driver, such as `local`.
        pub driver: String,
        /// Where the engine has its files, on the engine's machine.
        #[serde(rename = "Mountpoint")]
        pub mount_point: String,
        /// `local` or `global`.
        pub scope: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Options of its driver.
        pub options: BTreeMap<String, String>,
        /// What its driver tells.
        pub status: BTreeMap<String, serde_json::Value>,
        /// How much it holds and who uses it; only [`Docker::data_usage`] tells.
        pub usage_data: Option<VolumeUsage>,
        /// What a swarm knows of it, if it is a cluster's.
        pub cluster_volume: Option<Box<ClusterVolume>>,
    }
    with "crate::decode::timestamp::millis" {
        /// When it was made, in milliseconds since the epoch.
        #[serde(rename = "CreatedAt")]
        pub created: Option<f64>,
    }

    /// What a swarm knows of a volume.
    pub struct ClusterVolume {
        /// Id. Its name finds it only on nodes that have its driver.
        #[serde(rename = "ID")]
        pub id: String,
        /// Version, for updates.
        pub version: ObjectVersion,
        /// What it should be.
        pub spec: ClusterVolumeSpec,
        /// What its driver made of it.
        pub info: schema::ClusterVolumeInfo,
        /// On which nodes it is.
        pub publish_status: Vec<schema::ClusterVolumePublishStatus>,
    }

    /// What a volume takes.
    pub struct VolumeUsage {
    }
    with "known" {
        /// Bytes; `None` if its driver cannot tell.
        pub size: Option<u64>,
        /// How many containers use it; `None` if the engine does not know.
        pub ref_count: Option<u64>,
    }

    /// Volumes, and what the engine could not find out.
    pub struct VolumeList {
        /// The volumes.
        pub volumes: Vec<Volume>,
        /// Drivers that did not answer, in the engine's words.
        pub warnings: Vec<String>,
    }

    /// What was removed.
    pub struct VolumesPruned {
        /// Names.
        #[serde(rename = "VolumesDeleted")]
        pub removed: Vec<String>,
        /// Bytes that became free.
        pub space_reclaimed: u64,
    }
}

/// What a cluster's volume should be.
// Not the schema's own: that has most of this within the access mode, where engines neither look for it nor put it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ClusterVolumeSpec {
    /// Group, by which services ask for any of several volumes; empty for none.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Who may use it how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<ClusterAccessMode>,
    /// From where it must be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accessibility_requirements: Option<schema::ClusterVolumeSpecAccessModeAccessibilityRequirements>,
    /// How large it must and may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_range: Option<schema::ClusterVolumeSpecAccessModeCapacityRange>,
    /// Secrets of the swarm that its driver gets.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<schema::ClusterVolumeSpecAccessModeSecrets>,
    /// `active`, `pause` for no new tasks, or `drain` for no tasks; what it was or `active` when empty.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub availability: String,
}

/// Who may use a cluster's volume how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ClusterAccessMode {
    /// `single` for one node at a time, or `multi`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// `none`, `readonly`, `onewriter` or `all`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub sharing: String,
    /// It is mounted, with these options: `FsType` and `MountFlags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_volume: Option<BTreeMap<String, serde_json::Value>>,
    /// It is used as a block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_volume: Option<BTreeMap<String, serde_json::Value>>,
}

/// A number that is -1 when it is not known.
pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<i64>::deserialize(deserializer)?.and_then(|number| u64::try_from(number).ok()))
}

options! {
    /// How to make a volume.
    pub struct CreateVolume {
        /// Name; one of the engine's choice when empty.
        pub name: String,
        /// Driver; `local` when empty.
        pub driver: String,
        /// Options of the driver.
        pub driver_options: BTreeMap<String, String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Make it a cluster's. Needs API 1.42.
        pub cluster: Option<ClusterVolumeSpec>,
    }

    /// Which volumes to remove.
    pub struct PruneVolumes {
        /// Also those that were given a name.
        pub all: bool,
        /// Only those with these labels (`label`), or without (`label!`).
        pub filters: Filters,
    }
}

const CREATE_GATES: &[Gate] = &[Gate { path: &["ClusterVolumeSpec"], since: 42, older: Older::Refuse }];

/// From here on pruning spares volumes with names unless told otherwise.
const SPARES_NAMED: ApiVersion = ApiVersion { major: 1, minor: 42 };

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'o> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'o str,
    #[serde(skip_serializing_if = "str::is_empty")]
    driver: &'o str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    driver_opts: &'o BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'o BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_volume_spec: Option<&'o ClusterVolumeSpec>,
}

impl CreateVolume {
    fn body(&self) -> Create<'_> {
        Create {
            name: &self.name,
            driver: &self.driver,
            driver_opts: &self.driver_options,
            labels: &self.labels,
            cluster_volume_spec: self.cluster.as_ref(),
        }
    }
}

impl Docker {
    /// Lists volumes. Filters are `dangling`, `driver`, `label` and `name`. API: `VolumeList`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn list_volumes(&self, filters: &Filters) -> Result<VolumeList, Error> {
        self.json(filters.apply(Call::new(Operation::VolumeList, []))).await
    }

    /// Creates a volume. One of this name that is there already is what comes back, if it has the same driver. API: `VolumeCreate`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::volumes::CreateVolume;
    ///
    /// let volume = docker.create_volume(&CreateVolume::default().name("doc-volume")).await?;
    /// assert_eq!(volume.driver, "local");
    /// docker.remove_volume(&"doc-volume".parse()?, false).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_conflict`] if there is one of another driver; [`Error::Api`] for a name or options that the engine
    /// does not take; [`Error::Unsupported`] for a cluster's volume before API 1.42; whatever a call may fail with.
    pub async fn create_volume(&self, options: &CreateVolume) -> Result<Volume, Error> {
        self.json(Call::new(Operation::VolumeCreate, []).json(&options.body(), CREATE_GATES)?).await
    }

    /// Everything of one volume. API: `VolumeInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn inspect_volume(&self, volume: &VolumeName) -> Result<Volume, Error> {
        self.json(Call::new(Operation::VolumeInspect, [volume.as_str()])).await
    }

    /// Changes a cluster's volume that still is at `version`, that of its [`ClusterVolume`]. Only its availability
    /// can change. API: `VolumeUpdate`.
    ///
    /// # Errors
    /// [`Error::is_out_of_sequence`] if it changed meanwhile; [`Error::is_not_found`] if there is none;
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; [`Error::Unsupported`] before API 1.42; whatever
    /// a call may fail with.
    pub async fn update_volume(
        &self,
        volume: &VolumeName,
        version: u64,
        spec: &ClusterVolumeSpec,
    ) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Update<'b> {
            spec: &'b ClusterVolumeSpec,
        }
        let call = Call::new(Operation::VolumeUpdate, [volume.as_str()]).query("version", version.to_string());
        self.done(call.json(&Update { spec }, &[])?).await
    }

    /// Removes a volume; with `force` also one that its driver has lost. API: `VolumeDelete`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if a container uses it; [`Error::is_not_found`] if there is none, unless `force` is set;
    /// whatever a call may fail with.
    pub async fn remove_volume(&self, volume: &VolumeName, force: bool) -> Result<(), Error> {
        let mut call = Call::new(Operation::VolumeDelete, [volume.as_str()]);
        if force {
            call = call.query_since(25, Older::LeaveOut, "force", "1");
        }
        self.done(call).await
    }

    /// Removes the volumes that no container uses. The call may take 300 s. API: `VolumePrune`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without [`PruneVolumes::all`] on an engine of before API 1.42, which would remove volumes
    /// with names, too, and for several filters on Podman, which would remove what fits any of them; whatever a call may
    /// fail with.
    pub async fn prune_volumes(&self, options: &PruneVolumes) -> Result<VolumesPruned, Error> {
        let engine = self.negotiate().await?;
        let mut filters = options.filters.clone();
        if engine >= SPARES_NAMED {
            if options.all {
                filters = filters.with("all", "true");
            }
        } else if !options.all {
            let what = "removing volumes without a name alone".to_owned();
            return Err(Error::Unsupported { what, needs: SPARES_NAMED, engine });
        } else if filters.count() > 1 && self.is_podman().await? {
            let what = "removing volumes by several filters on Podman".to_owned();
            return Err(Error::Unsupported { what, needs: SPARES_NAMED, engine });
        }
        self.json(filters.apply(Call::new(Operation::VolumePrune, []).deadline(Some(SLOW)))).await
    }
}

impl Docker {
    async fn is_podman(&self) -> Result<bool, Error> {
        let components = self.system_version().await?.components.unwrap_or_default();
        Ok(components.iter().any(|component| component.name.starts_with("Podman")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_null_and_unknown() {
        let text = r#"{"Volumes":[{"Name":"a","Driver":"local","Mountpoint":"/x","CreatedAt":"2024-02-29T12:00:00Z",
            "Labels":null,"Options":null,"Scope":"","UsageData":{"Size":-1,"RefCount":-1},"Status":{"x":[1]}},
            {"Name":"b","UsageData":{"Size":7,"RefCount":null}}],"Warnings":null}"#;
        let list: VolumeList = serde_json::from_str(text).unwrap();
        let [a, b] = list.volumes.as_slice() else { panic!("{list:?}") };
        assert_eq!(a.usage_data.as_ref().unwrap(), &VolumeUsage::default());
        assert_eq!((a.created, a.status.len()), (Some(1_709_208_000_000.0), 1));
        assert_eq!(b.usage_data.as_ref().unwrap().size, Some(7));
        assert_eq!(serde_json::from_str::<VolumeList>(r#"{"Volumes":null}"#).unwrap(), VolumeList::default());
        assert_eq!(serde_json::from_str::<VolumesPruned>("{}").unwrap(), VolumesPruned::default());
    }

    #[test]
    fn a_clusters_volume_is_read_as_engines_write_it() {
        let text = r#"{"Name":"v","ClusterVolume":{"ID":"abc","Version":{"Index":9},"Spec":{"Group":"","AccessMode":{
            "Scope":"single","Sharing":"none","MountVolume":{}},"Secrets":null,"Availability":"pause"},"Info":null}}"#;
        let volume: Volume = serde_json::from_str(text).unwrap();
        let cluster = volume.cluster_volume.unwrap();
        assert_eq!((cluster.version.index, cluster.spec.availability.as_str()), (9, "pause"));
        let mode = serde_json::json!({"Scope": "single", "Sharing": "none", "MountVolume": {}});
        let again = serde_json::to_value(&cluster.spec).unwrap();
        assert_eq!(again, serde_json::json!({"AccessMode": mode, "Availability": "pause"}));
    }

    #[test]
    fn a_clusters_volume_is_refused_before_its_time() {
        let spec = ClusterVolumeSpec { group: "g".into(), ..ClusterVolumeSpec::default() };
        let options = CreateVolume::default().name("far").cluster(Some(spec));
        let mut call = Call::new(Operation::VolumeCreate, []).json(&options.body(), CREATE_GATES).unwrap();
        assert!(matches!(call.take_body(Some(ApiVersion { major: 1, minor: 41 })), Err(Error::Unsupported { .. })));
    }
}
