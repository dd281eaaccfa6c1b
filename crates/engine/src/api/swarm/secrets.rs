//! Secrets of a swarm. What they hold goes in and never comes out.

use std::collections::BTreeMap;

use base64::Engine as _;

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
    /// What a secret is called and how it is kept, without what it holds.
    pub struct SecretSpec {
        /// Name.
        pub name: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Driver that keeps it elsewhere. Needs API 1.31.
        pub driver: Option<schema::Driver>,
        /// Driver that fills in what it holds. Needs API 1.37.
        pub templating: Option<schema::Driver>,
    }
}

model! {
    /// A secret, without what it holds. API: `SecretList`, `SecretInspect`.
    pub struct SwarmSecret {
        /// Id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Version, for updates.
        pub version: ObjectVersion,
        /// What it is called.
        pub spec: SecretAbout,
    }
    with "crate::decode::timestamp::millis" {
        /// When it was made, in milliseconds since the epoch.
        #[serde(rename = "CreatedAt")]
        pub created: Option<f64>,
        /// When it last changed, in milliseconds since the epoch.
        #[serde(rename = "UpdatedAt")]
        pub updated: Option<f64>,
    }

    /// What a secret is called, as the engine tells it.
    pub struct SecretAbout {
        /// Name.
        pub name: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Driver that keeps it elsewhere.
        pub driver: Option<schema::Driver>,
        /// Driver that fills in what it holds.
        pub templating: Option<schema::Driver>,
    }
}

impl From<SecretAbout> for SecretSpec {
    fn from(about: SecretAbout) -> Self {
        Self { name: about.name, labels: about.labels, driver: about.driver, templating: about.templating }
    }
}

impl SecretSpec {
    fn body(&self, data: Option<&[u8]>) -> Body<'_> {
        Body {
            name: &self.name,
            labels: &self.labels,
            data: data.map(|data| base64::engine::general_purpose::STANDARD.encode(data)),
            driver: self.driver.as_ref(),
            templating: self.templating.as_ref(),
        }
    }
}

impl Docker {
    /// Lists secrets. Filters are `id`, `label`, `name` and `names`. API: `SecretList`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn list_secrets(&self, filters: &Filters) -> Result<Vec<SwarmSecret>, Error> {
        self.json(filters.apply(Call::new(Operation::SecretList, []))).await
    }

    /// Makes a secret of `data`, 500 KiB at most, and nothing if its driver has it. API: `SecretCreate`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if the name is taken; [`Error::Api`] with the engine's words for a name or data that it
    /// does not take; [`Error::is_not_swarm_manager`] if the engine manages no swarm; [`Error::Unsupported`] for what
    /// the engine is too old for; whatever a call may fail with.
    pub async fn create_secret(&self, spec: &SecretSpec, data: &[u8]) -> Result<ObjectId, Error> {
        let data = (!data.is_empty()).then_some(data);
        let call = Call::new(Operation::SecretCreate, []).json(&spec.body(data), BODY_GATES)?;
        Ok(self.json::<Created>(call).await?.id)
    }

    /// Everything of one secret but what it holds. API: `SecretInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine manages no swarm;
    /// whatever a call may fail with.
    pub async fn inspect_secret(&self, secret: &ObjectId) -> Result<SwarmSecret, Error> {
        self.json(Call::new(Operation::SecretInspect, [secret.as_str()])).await
    }

    /// Removes a secret. API: `SecretDelete`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Api`] with the engine's words if a service uses it;
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn remove_secret(&self, secret: &ObjectId) -> Result<(), Error> {
        self.done(Call::new(Operation::SecretDelete, [secret.as_str()])).await
    }

    /// Changes the labels of a secret that still is at `version`; nothing else of it can change, so that `spec` is
    /// otherwise what it was. API: `SecretUpdate`.
    ///
    /// # Errors
    /// [`Error::is_out_of_sequence`] if it changed meanwhile; [`Error::Api`] with the engine's words if more than the
    /// labels would change; [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine
    /// manages no swarm; [`Error::Unsupported`] before API 1.26; whatever a call may fail with.
    pub async fn update_secret(&self, secret: &ObjectId, version: u64, spec: &SecretSpec) -> Result<(), Error> {
        let call = Call::new(Operation::SecretUpdate, [secret.as_str()]).query("version", version.to_string());
        self.done(call.json(&spec.body(None), BODY_GATES)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_goes_in_as_the_api_wants_it() {
        let spec = SecretSpec::default().name("db");
        let sent = serde_json::to_value(spec.body(Some(b"\x00\xffmarker"))).unwrap();
        assert_eq!(sent, serde_json::json!({"Name": "db", "Data": "AP9tYXJrZXI="}));
        assert_eq!(serde_json::to_value(spec.body(None)).unwrap(), serde_json::json!({"Name": "db"}));
        assert!(!format!("{spec:?}").contains("marker"));
    }

    #[test]
    fn reads_null_and_missing_and_keeps_no_data() {
        let text = r#"[{"ID":"a","Version":{"Index":3},"Spec":{"Name":"db","Labels":null,"Data":"bWFya2Vy"}},{}]"#;
        let secrets: Vec<SwarmSecret> = serde_json::from_str(text).unwrap();
        assert_eq!(secrets.first().unwrap().spec.name, "db");
        assert!(!format!("{secrets:?}").contains("bWFya2Vy"));
        assert_eq!(secrets.last().unwrap(), &SwarmSecret::default());
    }
}
