//! Configs of a swarm: files that are no secret.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::{Deserialize, Deserializer};

use super::{BODY_GATES, Body, Created, ObjectVersion};
use crate::{
    Docker, Error, Filters,
    api::options::options,
    http::Call,
    model::{model, nullable},
    operation::Operation,
    reference::ObjectId,
    schema,
};

options! {
    /// What a config is called, without what it holds.
    pub struct ConfigSpec {
        /// Name.
        pub name: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Driver that fills in what it holds. Needs API 1.37.
        pub templating: Option<schema::Driver>,
    }
}

model! {
    /// A config. API: `ConfigList`, `ConfigInspect`.
    pub struct SwarmConfig {
        /// Id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Version, for updates.
        pub version: ObjectVersion,
        /// What it is called and holds.
        pub spec: ConfigAbout,
    }
    with "crate::decode::timestamp::millis" {
        /// When it was made, in milliseconds since the epoch.
        #[serde(rename = "CreatedAt")]
        pub created: Option<f64>,
        /// When it last changed, in milliseconds since the epoch.
        #[serde(rename = "UpdatedAt")]
        pub updated: Option<f64>,
    }

    /// What a config is called and holds, as the engine tells it.
    pub struct ConfigAbout {
        /// Name.
        pub name: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Driver that fills in what it holds.
        pub templating: Option<schema::Driver>,
    }
    with "bytes" {
        /// What it holds.
        pub data: Vec<u8>,
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).map_err(serde::de::Error::custom)
}

impl From<ConfigAbout> for ConfigSpec {
    fn from(about: ConfigAbout) -> Self {
        Self { name: about.name, labels: about.labels, templating: about.templating }
    }
}

impl ConfigSpec {
    fn body(&self, data: Option<&[u8]>) -> Body<'_> {
        Body {
            name: &self.name,
            labels: &self.labels,
            data: data.map(|data| base64::engine::general_purpose::STANDARD.encode(data)),
            driver: None,
            templating: self.templating.as_ref(),
        }
    }
}

impl Docker {
    /// Lists configs. Filters are `id`, `label`, `name` and `names`. API: `ConfigList`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn list_configs(&self, filters: &Filters) -> Result<Vec<SwarmConfig>, Error> {
        self.json(filters.apply(Call::new(Operation::ConfigList, []))).await
    }

    /// Makes a config of `data`, 1000 KiB at most, and less on old engines. API: `ConfigCreate`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if the name is taken; [`Error::Api`] with the engine's words for a name or data that it
    /// does not take; [`Error::is_not_swarm_manager`] if the engine manages no swarm; [`Error::Unsupported`] for what
    /// the engine is too old for; whatever a call may fail with.
    pub async fn create_config(&self, spec: &ConfigSpec, data: &[u8]) -> Result<ObjectId, Error> {
        let call = Call::new(Operation::ConfigCreate, []).json(&spec.body(Some(data)), BODY_GATES)?;
        Ok(self.json::<Created>(call).await?.id)
    }

    /// Everything of one config. API: `ConfigInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine manages no swarm;
    /// whatever a call may fail with.
    pub async fn inspect_config(&self, config: &ObjectId) -> Result<SwarmConfig, Error> {
        self.json(Call::new(Operation::ConfigInspect, [config.as_str()])).await
    }

    /// Removes a config. API: `ConfigDelete`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Api`] with the engine's words if a service uses it;
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn remove_config(&self, config: &ObjectId) -> Result<(), Error> {
        self.done(Call::new(Operation::ConfigDelete, [config.as_str()])).await
    }

    /// Changes the labels of a config that still is at `version`; nothing else of it can change, so that `spec` is
    /// otherwise what it was. API: `ConfigUpdate`.
    ///
    /// # Errors
    /// [`Error::is_out_of_sequence`] if it changed meanwhile; [`Error::Api`] with the engine's words if more than the
    /// labels would change; [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine
    /// manages no swarm; whatever a call may fail with.
    pub async fn update_config(&self, config: &ObjectId, version: u64, spec: &ConfigSpec) -> Result<(), Error> {
        let call = Call::new(Operation::ConfigUpdate, [config.as_str()]).query("version", version.to_string());
        self.done(call.json(&spec.body(None), BODY_GATES)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_null_missing_and_what_is_no_base64() {
        let text = r#"[{"ID":"a","Version":null,"Spec":{"Name":"c","Data":"AP8="}},{"Spec":{"Data":null}}]"#;
        let configs: Vec<SwarmConfig> = serde_json::from_str(text).unwrap();
        assert_eq!(configs.first().unwrap().spec.data, [0, 255]);
        assert_eq!(configs.last().unwrap(), &SwarmConfig::default());
        assert!(serde_json::from_str::<SwarmConfig>(r#"{"Spec":{"Data":"%%"}}"#).is_err());
    }
}
