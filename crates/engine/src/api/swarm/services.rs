//! Services: what a swarm keeps running.

use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use serde::{Deserialize, Deserializer};

use super::{
    logs::{self, ServiceLogOptions},
    tasks::has_terminal,
};
use crate::{
    Docker, Error, Filters, LogBatch,
    api::options::options,
    http::{Call, Gate, Older},
    model::nullable,
    operation::Operation,
    reference::ObjectId,
    registry::{RegistryAuth, X_REGISTRY_AUTH},
    schema,
};

options! {
    /// Which services to list.
    pub struct ListServices {
        /// Filters: `id`, `label`, `mode` and `name`.
        pub filters: Filters,
        /// Also how many tasks of each run. Needs API 1.41; older engines leave it out.
        pub status: bool,
    }

    /// How to look at a service.
    pub struct InspectService {
        /// Fill in what the service leaves to the engine. Needs API 1.29.
        pub insert_defaults: bool,
    }

    /// How to change a service.
    pub struct UpdateService {
        /// Go back to what it was before its last change; what else is asked goes unheard. Needs API 1.28.
        pub rollback: bool,
        /// Login at the registry of its image.
        pub login: Option<RegistryAuth>,
        /// Whose login to go on with if there is no new one.
        pub credentials_from: CredentialsFrom,
    }
}

/// Whose login a service goes on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialsFrom {
    /// What it is.
    #[default]
    Spec,
    /// What it was before its last change.
    PreviousSpec,
}

/// A service that was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ServiceCreated {
    /// Its id.
    #[serde(rename = "ID", alias = "Id")]
    pub id: ObjectId,
    /// What the engine has to say about it, such as that it does not know the digest of the image.
    // One text before API 1.44, a list from there on.
    #[serde(default, rename = "Warnings", alias = "Warning", deserialize_with = "texts")]
    pub warnings: Vec<String>,
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Texts::Many(texts)) => texts,
        Some(Texts::One(text)) if !text.is_empty() => vec![text],
        _ => Vec::new(),
    })
}

/// What not every engine knows of a service. A missing field changes what runs, so that nearly all of them are refused.
macro_rules! gates {
    ($($since:literal $older:ident $($name:literal).+;)*) => {
        &[$(Gate { path: &[$($name),+], since: $since, older: Older::$older },)*]
    };
}

const GATES: &[Gate] = gates! {
    25 Refuse "TaskTemplate"."ContainerSpec"."DNSConfig";
    25 Refuse "TaskTemplate"."ContainerSpec"."TTY";
    27 Refuse "TaskTemplate"."ContainerSpec"."Hostname";
    27 Refuse "TaskTemplate"."ContainerSpec"."Groups";
    27 Refuse "TaskTemplate"."ContainerSpec"."OpenStdin";
    27 Refuse "TaskTemplate"."ContainerSpec"."ReadOnly";
    27 Refuse "TaskTemplate"."ContainerSpec"."HealthCheck";
    27 Refuse "TaskTemplate"."ContainerSpec"."Hosts";
    27 Refuse "TaskTemplate"."ContainerSpec"."Secrets";
    28 Refuse "TaskTemplate"."ContainerSpec"."StopSignal";
    28 Refuse "TaskTemplate"."Placement"."Preferences";
    28 Refuse "RollbackConfig";
    29 LeaveOut "TaskTemplate"."ContainerSpec"."Mounts"."*"."Consistency";
    29 Refuse "TaskTemplate"."ContainerSpec"."HealthCheck"."StartPeriod";
    29 Refuse "UpdateConfig"."Order";
    29 Refuse "RollbackConfig"."Order";
    30 Refuse "TaskTemplate"."ContainerSpec"."Privileges";
    30 Refuse "TaskTemplate"."ContainerSpec"."Configs";
    30 LeaveOut "TaskTemplate"."Placement"."Platforms";
    31 Refuse "TaskTemplate"."PluginSpec";
    32 Refuse "TaskTemplate"."Resources"."Limits"."GenericResources";
    32 Refuse "TaskTemplate"."Resources"."Reservations"."GenericResources";
    32 Refuse "EndpointSpec"."Ports"."*"."PublishMode";
    35 Refuse "TaskTemplate"."ContainerSpec"."Isolation";
    37 Refuse "TaskTemplate"."ContainerSpec"."Init";
    38 Refuse "TaskTemplate"."NetworkAttachmentSpec";
    39 Refuse "Networks"."*"."DriverOpts";
    39 Refuse "TaskTemplate"."Networks"."*"."DriverOpts";
    40 Refuse "TaskTemplate"."ContainerSpec"."Configs"."*"."Runtime";
    40 Refuse "TaskTemplate"."ContainerSpec"."Mounts"."*"."BindOptions"."NonRecursive";
    40 Refuse "TaskTemplate"."ContainerSpec"."Privileges"."CredentialSpec"."Config";
    40 Refuse "TaskTemplate"."ContainerSpec"."Sysctls";
    40 Refuse "TaskTemplate"."Placement"."MaxReplicas";
    41 Refuse "Mode"."ReplicatedJob";
    41 Refuse "TaskTemplate"."ContainerSpec"."CapabilityAdd";
    41 Refuse "TaskTemplate"."ContainerSpec"."CapabilityDrop";
    41 Refuse "TaskTemplate"."ContainerSpec"."Ulimits";
    41 Refuse "TaskTemplate"."Resources"."Limits"."Pids";
    42 Refuse "TaskTemplate"."ContainerSpec"."Mounts"."*"."BindOptions"."CreateMountpoint";
    44 Refuse "TaskTemplate"."ContainerSpec"."HealthCheck"."StartInterval";
    44 Refuse "TaskTemplate"."ContainerSpec"."Mounts"."*"."BindOptions"."ReadOnlyForceRecursive";
    44 Refuse "TaskTemplate"."ContainerSpec"."Mounts"."*"."BindOptions"."ReadOnlyNonRecursive";
    44 Refuse "TaskTemplate"."ContainerSpec"."Privileges"."AppArmor";
    44 Refuse "TaskTemplate"."ContainerSpec"."Privileges"."NoNewPrivileges";
    44 Refuse "TaskTemplate"."ContainerSpec"."Privileges"."Seccomp";
    45 Refuse "TaskTemplate"."ContainerSpec"."Mounts"."*"."VolumeOptions"."Subpath";
    46 Refuse "TaskTemplate"."ContainerSpec"."Mounts"."*"."TmpfsOptions"."Options";
    46 Refuse "TaskTemplate"."ContainerSpec"."OomScoreAdj";
    48 Refuse "TaskTemplate"."ContainerSpec"."Mounts"."*"."ImageOptions";
};

/// `{}` as a mode says something that no field of it does, so that a gate would take it for nothing.
const JOBS_SINCE: crate::ApiVersion = crate::ApiVersion { major: 1, minor: 41 };

impl Docker {
    /// Lists services. API: `ServiceList`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn list_services(&self, options: &ListServices) -> Result<Vec<schema::Service>, Error> {
        let mut call = Call::new(Operation::ServiceList, []);
        if options.status {
            call = call.query_since(41, Older::LeaveOut, "status", "1");
        }
        self.json(options.filters.apply(call)).await
    }

    /// Creates a service. The engine answers before anything of it runs. API: `ServiceCreate`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if the name is taken; [`Error::Api`] with the engine's words if something of it makes no
    /// sense; [`Error::is_not_swarm_manager`] if the engine manages no swarm; [`Error::Unsupported`] for fields that the
    /// engine is too old for; whatever a call may fail with.
    pub async fn create_service(
        &self,
        spec: &schema::ServiceSpec,
        login: Option<&RegistryAuth>,
    ) -> Result<ServiceCreated, Error> {
        self.check_mode(spec).await?;
        let mut call = Call::new(Operation::ServiceCreate, []).json(spec, GATES)?;
        if let Some(login) = login {
            call = call.header(X_REGISTRY_AUTH, login.header());
        }
        self.json(call).await
    }

    /// Everything of one service. API: `ServiceInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine manages no swarm;
    /// [`Error::Unsupported`] for options that the engine is too old for; whatever a call may fail with.
    pub async fn inspect_service(
        &self,
        service: &ObjectId,
        options: &InspectService,
    ) -> Result<schema::Service, Error> {
        let mut call = Call::new(Operation::ServiceInspect, [service.as_str()]);
        if options.insert_defaults {
            call = call.query_since(29, Older::Refuse, "insertDefaults", "1");
        }
        self.json(call).await
    }

    /// Removes a service and its tasks. API: `ServiceDelete`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine manages no swarm;
    /// whatever a call may fail with.
    pub async fn remove_service(&self, service: &ObjectId) -> Result<(), Error> {
        self.done(Call::new(Operation::ServiceDelete, [service.as_str()])).await
    }

    /// Makes of a service that still is at `version` what `spec` says, all of it: what `spec` leaves out is gone. Gives
    /// what the engine has to say about it. API: `ServiceUpdate`.
    ///
    /// # Errors
    /// [`Error::is_out_of_sequence`] if it changed meanwhile; [`Error::is_not_found`] if there is none; [`Error::Api`]
    /// with the engine's words if something of it makes no sense or cannot change; [`Error::is_not_swarm_manager`] if
    /// the engine manages no swarm; [`Error::Unsupported`] for what the engine is too old for; whatever a call may fail
    /// with.
    pub async fn update_service(
        &self,
        service: &ObjectId,
        version: u64,
        spec: &schema::ServiceSpec,
        options: &UpdateService,
    ) -> Result<Vec<String>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Answer {
            #[serde(deserialize_with = "nullable")]
            warnings: Vec<String>,
        }
        self.check_mode(spec).await?;
        let mut call = Call::new(Operation::ServiceUpdate, [service.as_str()]).query("version", version.to_string());
        if options.credentials_from == CredentialsFrom::PreviousSpec {
            call = call.query("registryAuthFrom", "previous-spec");
        }
        if options.rollback {
            call = call.query_since(28, Older::Refuse, "rollback", "previous");
        }
        if let Some(login) = &options.login {
            call = call.header(X_REGISTRY_AUTH, login.header());
        }
        let call = call.json(spec, GATES)?;
        let what = call.what();
        let answer = self.call(call).await?;
        if answer.body.iter().all(u8::is_ascii_whitespace) {
            // Engines of before API 1.25 have nothing to say.
            return Ok(Vec::new());
        }
        let read = serde_json::from_slice::<Option<Answer>>(&answer.body);
        Ok(read.map_err(|source| Error::Decode { what, source })?.unwrap_or_default().warnings)
    }

    /// The log of a service, of all of its tasks, in batches of lines that became known together. With `follow` it does
    /// not end while the service exists; dropping the stream closes its connection. API: `ServiceLogs`.
    ///
    /// # Errors
    /// The stream yields one error and then ends: [`Error::is_not_found`] if there is no such service,
    /// [`Error::Stream`] if the engine cannot read on, [`Error::Frame`] if its output is damaged,
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm, and whatever a call may fail with.
    #[must_use]
    pub fn service_logs(
        &self,
        service: &ObjectId,
        options: &ServiceLogOptions,
    ) -> BoxStream<'static, Result<LogBatch, Error>> {
        let (docker, service, options) = (self.clone(), service.clone(), options.clone());
        let open = async move {
            let found = docker.inspect_service(&service, &InspectService::default()).await?;
            let terminal = has_terminal(found.spec.as_ref().and_then(|spec| spec.task_template.as_ref()));
            logs::open(&docker, Call::new(Operation::ServiceLogs, [service.as_str()]), terminal, &options).await
        };
        stream::once(open).try_flatten().boxed()
    }

    async fn check_mode(&self, spec: &schema::ServiceSpec) -> Result<(), Error> {
        let global_job = spec.mode.as_ref().is_some_and(|mode| mode.global_job.is_some());
        let replicated_job = spec.mode.as_ref().is_some_and(|mode| mode.replicated_job.is_some());
        if global_job || replicated_job {
            let engine = self.negotiate().await?;
            if engine < JOBS_SINCE {
                let what = "`Mode` of a service that ends".to_owned();
                return Err(Error::Unsupported { what, needs: JOBS_SINCE, engine });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ApiVersion;

    #[test]
    fn warnings_are_a_text_or_a_list() {
        let read = |text: &str| serde_json::from_str::<ServiceCreated>(text).unwrap().warnings;
        assert_eq!(read(r#"{"ID":"a","Warning":"no digest"}"#), ["no digest"]);
        assert_eq!(read(r#"{"ID":"a","Warnings":["b","c"]}"#), ["b", "c"]);
        assert!(read(r#"{"ID":"a","Warnings":null}"#).is_empty() && read(r#"{"ID":"a"}"#).is_empty());
        assert!(serde_json::from_str::<ServiceCreated>(r#"{"ID":"a/../b"}"#).is_err());
    }

    #[test]
    fn reads_null_missing_and_hostile() {
        let text = r#"[{"ID":"a","Version":{"Index":3},"Spec":{"Name":"<img src=x>","Labels":null,"Mode":{"Global":{}},
            "TaskTemplate":{"ContainerSpec":{"Image":"busybox","TTY":true}},"EndpointSpec":{"Mode":"dnsrr","Ports":null}},
            "Endpoint":{"Spec":{}},"UpdateStatus":null},{}]"#;
        let services: Vec<schema::Service> = serde_json::from_str(text).unwrap();
        let first = services.first().unwrap().spec.as_ref().unwrap();
        assert!(has_terminal(first.task_template.as_ref()));
        assert_eq!(services.last().unwrap(), &schema::Service::default());
        let again = serde_json::to_value(first).unwrap();
        assert_eq!(again["Mode"], serde_json::json!({"Global": {}}), "a mode survives being read and sent");
    }

    #[test]
    fn what_would_run_otherwise_is_refused() {
        let spec: schema::ServiceSpec = serde_json::from_value(serde_json::json!({
            "TaskTemplate": {"ContainerSpec": {"Image": "a", "Init": true, "Mounts": [{"Consistency": "cached"}]}}}))
        .unwrap();
        let mut call = Call::new(Operation::ServiceCreate, []).json(&spec, GATES).unwrap();
        assert!(matches!(call.take_body(Some(ApiVersion { major: 1, minor: 36 })), Err(Error::Unsupported { .. })));
    }
}
