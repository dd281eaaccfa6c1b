//! Making containers and changing what was asked for.

use serde::Serialize;

use crate::{
    ContainerId, ContainerRef, Docker, Error,
    api::{model::nullable, options::options},
    http::{Call, Gate, Older},
    operation::Operation,
};

options! {
    /// How to create a container, apart from its body.
    pub struct CreateContainer {
        /// Its name; the engine thinks of one if there is none.
        pub name: Option<String>,
        /// The platform of the image, such as `linux/arm64`; that of the engine if none. Since API 1.41.
        pub platform: Option<String>,
    }
}

/// A container that was created. API: `ContainerCreate`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreatedContainer {
    /// Its id.
    pub id: ContainerId,
    /// What the engine did otherwise than it was asked, in its words.
    #[serde(default, deserialize_with = "nullable")]
    pub warnings: Vec<String>,
}

/// Answer to a change.
#[derive(Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Warned {
    #[serde(deserialize_with = "nullable")]
    warnings: Vec<String>,
}

const fn refuse(since: u32, path: &'static [&'static str]) -> Gate {
    Gate { path, since, older: Older::Refuse }
}

const fn leave_out(since: u32, path: &'static [&'static str]) -> Gate {
    Gate { path, since, older: Older::LeaveOut }
}

/// What a body may hold that an engine is too old for. Left out is what only makes checks of health, hints to
/// performance or descriptions finer, and what an older engine does anyway; whatever says what a container may do, sees
/// or is limited to is refused.
const CREATE: &[Gate] = &[
    refuse(25, &["HostConfig", "AutoRemove"]),
    refuse(25, &["HostConfig", "Init"]),
    refuse(25, &["HostConfig", "Mounts"]),
    refuse(25, &["HostConfig", "NanoCpus"]),
    leave_out(25, &["StopTimeout"]),
    refuse(28, &["HostConfig", "DeviceCgroupRules"]),
    leave_out(29, &["Healthcheck", "StartPeriod"]),
    leave_out(29, &["HostConfig", "Mounts", "*", "Consistency"]),
    refuse(32, &["NetworkingConfig", "EndpointsConfig", "*", "DriverOpts"]),
    refuse(38, &["HostConfig", "MaskedPaths"]),
    refuse(38, &["HostConfig", "ReadonlyPaths"]),
    refuse(40, &["HostConfig", "DeviceRequests"]),
    refuse(40, &["HostConfig", "KernelMemoryTCP"]),
    refuse(40, &["HostConfig", "Mounts", "*", "BindOptions", "NonRecursive"]),
    refuse(41, &["HostConfig", "CgroupnsMode"]),
    leave_out(42, &["HostConfig", "ConsoleSize"]),
    refuse(42, &["HostConfig", "Mounts", "*", "BindOptions", "CreateMountpoint"]),
    leave_out(43, &["HostConfig", "Annotations"]),
    leave_out(44, &["Healthcheck", "StartInterval"]),
    leave_out(44, &["HostConfig", "Mounts", "*", "BindOptions", "ReadOnlyNonRecursive"]),
    refuse(44, &["HostConfig", "Mounts", "*", "BindOptions", "ReadOnlyForceRecursive"]),
    leave_out(44, &["NetworkingConfig", "EndpointsConfig", "*", "DNSNames"]),
    refuse(44, &["NetworkingConfig", "EndpointsConfig", "*", "MacAddress"]),
    refuse(45, &["HostConfig", "Mounts", "*", "VolumeOptions", "Subpath"]),
    refuse(46, &["HostConfig", "Mounts", "*", "TmpfsOptions", "Options"]),
    refuse(48, &["HostConfig", "Mounts", "*", "ImageOptions"]),
    refuse(48, &["NetworkingConfig", "EndpointsConfig", "*", "GwPriority"]),
];

const UPDATE: &[Gate] = &[
    refuse(28, &["NanoCpus"]),
    refuse(28, &["DeviceCgroupRules"]),
    refuse(40, &["DeviceRequests"]),
    refuse(40, &["KernelMemoryTCP"]),
    refuse(40, &["PidsLimit"]),
];

impl Docker {
    /// Creates a container of a body as the API describes it, such as a
    /// [`ContainerCreateBody`](crate::schema::ContainerCreateBody). What the engine is too old for is left out where it
    /// does what was asked all the same, and refused where it would do something else. API: `ContainerCreate`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no name; [`Error::is_not_found`] if there is no such image;
    /// [`Error::is_conflict`] if the name is taken; [`Error::Unsupported`] if the engine is too old for the body;
    /// whatever a call may fail with.
    pub async fn create_container(&self, name: &str, body: &impl Serialize) -> Result<ContainerId, Error> {
        Ok(self.create_container_with(&CreateContainer::default().name(name.to_owned()), body).await?.id)
    }

    /// [`Docker::create_container`] with a platform, or without a name, and with the engine's warnings.
    /// API: `ContainerCreate`.
    ///
    /// # Errors
    /// As [`Docker::create_container`].
    pub async fn create_container_with(
        &self,
        options: &CreateContainer,
        body: &impl Serialize,
    ) -> Result<CreatedContainer, Error> {
        let mut call = Call::new(Operation::ContainerCreate, []);
        if let Some(name) = &options.name {
            let name: ContainerRef = name.parse()?;
            call = call.query("name", name.as_str());
        }
        if let Some(platform) = &options.platform {
            call = call.query_since(41, Older::Refuse, "platform", platform.as_str());
        }
        self.json(call.json(body, CREATE)?).await
    }

    /// Changes limits and the restart policy of a container, of a body such as
    /// [`ContainerUpdateBody`](crate::schema::ContainerUpdateBody): what it does not hold stays. Gives the engine's
    /// warnings. API: `ContainerUpdate`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; [`Error::Unsupported`] if the engine is too old for the
    /// body; whatever a call may fail with.
    pub async fn update_container(
        &self,
        container: &ContainerRef,
        body: &impl Serialize,
    ) -> Result<Vec<String>, Error> {
        let call = Call::new(Operation::ContainerUpdate, [container.as_str()]).json(body, UPDATE)?;
        Ok(self.json::<Warned>(call).await?.warnings)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{ApiVersion, schema};

    fn sent(body: &impl Serialize, gates: &'static [Gate], minor: u32) -> Result<Value, Error> {
        let mut call = Call::new(Operation::ContainerCreate, []).json(body, gates)?;
        let body = call.take_body(Some(ApiVersion { major: 1, minor }))?.bytes().unwrap();
        Ok(serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_typed_body_says_only_what_was_set() {
        let body = schema::ContainerCreateBody {
            image: Some("busybox".into()),
            exposed_ports: Some(vec!["80/tcp".into()]),
            host_config: Some(schema::HostConfig { init: Some(true), ..Default::default() }),
            ..Default::default()
        };
        let expected = json!({"Image": "busybox", "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"Init": true}});
        assert_eq!(sent(&body, CREATE, 51).unwrap(), expected);
        let too_old = sent(&body, CREATE, 24).unwrap_err().to_string();
        assert!(too_old.contains("`HostConfig.Init`") && too_old.contains("1.25"), "{too_old}");
    }

    #[test]
    fn what_an_old_engine_would_do_otherwise_is_refused() {
        let with = |mount: Value| json!({"HostConfig": {"Mounts": [{"Type": "volume"}, mount]}});
        for (minor, mount) in [
            (44, json!({"VolumeOptions": {"Subpath": "a"}})),
            (45, json!({"TmpfsOptions": {"Options": [["noexec"]]}})),
            (47, json!({"ImageOptions": {"Subpath": "a"}})),
            (41, json!({"BindOptions": {"CreateMountpoint": true}})),
            (43, json!({"BindOptions": {"ReadOnlyForceRecursive": true}})),
        ] {
            assert!(matches!(sent(&with(mount.clone()), CREATE, minor), Err(Error::Unsupported { .. })), "{mount}");
            assert_eq!(sent(&with(mount.clone()), CREATE, minor + 1).unwrap(), with(mount));
        }
        assert!(sent(&json!({"PidsLimit": 3}), UPDATE, 39).is_err());
    }

    #[test]
    fn what_is_harmless_is_left_out() {
        let body = json!({
            "Healthcheck": {"Test": ["NONE"], "StartInterval": 5, "StartPeriod": 6},
            "HostConfig": {"Annotations": {"a": "b"}, "ConsoleSize": [24, 80], "AutoRemove": false, "Init": null},
        });
        let expected = json!({"Healthcheck": {"Test": ["NONE"], "StartPeriod": 6}, "HostConfig": {"AutoRemove": false, "Init": null}});
        assert_eq!(sent(&body, CREATE, 41).unwrap(), expected);
        let oldest = json!({"Healthcheck": {"Test": ["NONE"]}, "HostConfig": {}});
        assert_eq!(sent(&body, CREATE, 24).unwrap(), oldest);
    }

    #[test]
    fn answers_of_every_make_are_read() {
        let id = "ab".repeat(32);
        for warnings in [json!(null), json!([])] {
            let created: CreatedContainer = serde_json::from_value(json!({"Id": id, "Warnings": warnings})).unwrap();
            assert!(created.warnings.is_empty());
        }
        assert!(serde_json::from_value::<CreatedContainer>(json!({"Id": "../../version"})).is_err());
        // Podman answers an update with the id.
        assert_eq!(serde_json::from_value::<Warned>(json!({"ID": id})).unwrap(), Warned::default());
    }
}
