//! Swarms: engines that run services together.
//!
//! What a swarm keeps has a version, `version.index` of its schema. An update names the version it was made from, and is
//! refused if there is a later one: see [`Error::is_out_of_sequence`]. An engine that manages no swarm refuses all of
//! these calls but [`Docker::init_swarm`], [`Docker::join_swarm`] and [`Docker::unlock_swarm`]: see
//! [`Error::is_not_swarm_manager`].

mod configs;
mod logs;
mod nodes;
mod secrets;
mod services;
mod tasks;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::{
    configs::{ConfigAbout, ConfigSpec, SwarmConfig},
    logs::{ServiceLogOptions, take_details},
    secrets::{SecretAbout, SecretSpec, SwarmSecret},
    services::{CredentialsFrom, InspectService, ListServices, ServiceCreated, UpdateService},
};
use crate::{
    Docker, Error,
    api::options::options,
    http::{Call, Gate, Older, SLOW},
    model::{model, nullable},
    operation::Operation,
    reference::ObjectId,
    registry::Secret,
    schema,
};

model! {
    /// A swarm, as one of its managers sees it. API: `SwarmInspect`.
    pub struct Swarm {
        /// Id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Version, for updates.
        pub version: ObjectVersion,
        /// How it is set up.
        pub spec: schema::SwarmSpec,
        /// Whom its nodes trust.
        #[serde(rename = "TLSInfo")]
        pub tls_info: schema::TlsInfo,
        /// Its nodes are getting a new authority to trust.
        pub root_rotation_in_progress: bool,
        /// Port of the traffic between its networks.
        pub data_path_port: u32,
        /// Ranges from which its networks get addresses.
        pub default_addr_pool: Vec<String>,
        /// Length of the prefix of such a network.
        pub subnet_size: u32,
        /// What lets an engine join it.
        pub join_tokens: JoinTokens,
    }
    with "crate::decode::timestamp::millis" {
        /// When it was made, in milliseconds since the epoch.
        #[serde(rename = "CreatedAt")]
        pub created: Option<f64>,
        /// When it last changed, in milliseconds since the epoch.
        #[serde(rename = "UpdatedAt")]
        pub updated: Option<f64>,
    }

    /// Version of something in a swarm.
    pub struct ObjectVersion {
        /// The number that an update names.
        pub index: u64,
    }

    /// What lets an engine join a swarm. Does not print.
    pub struct JoinTokens {
    }
    with "secret" {
        /// As a worker.
        pub worker: Option<Secret>,
        /// As a manager.
        pub manager: Option<Secret>,
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()).map(Secret::new))
}

/// Where an engine of a swarm listens for others unless told otherwise: everywhere, on the port of swarms.
pub const LISTEN_ADDRESS: &str = "0.0.0.0:2377";

/// How to join a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinSwarm {
    /// A token of the swarm, of [`JoinTokens`].
    pub token: Secret,
    /// Addresses of its managers, each with a port.
    pub remote_addresses: Vec<String>,
    /// Where this engine listens for others; [`LISTEN_ADDRESS`] unless set.
    pub listen_address: String,
    /// Where others reach this engine; the engine's choice when empty.
    pub advertise_address: String,
    /// The same for the traffic between containers, as `advertise_address` when empty. Needs API 1.30.
    pub data_path_address: String,
}

impl JoinSwarm {
    /// Joins the swarm with a manager at `remote_address`, such as `192.0.2.1:2377`.
    #[must_use]
    pub fn new(token: Secret, remote_address: impl Into<String>) -> Self {
        Self {
            token,
            remote_addresses: vec![remote_address.into()],
            listen_address: LISTEN_ADDRESS.to_owned(),
            advertise_address: String::new(),
            data_path_address: String::new(),
        }
    }
}

options! {
    /// Which secrets of a swarm to make anew.
    pub struct RotateTokens {
        /// The token of workers.
        pub worker: bool,
        /// The token of managers.
        pub manager: bool,
        /// The key that unlocks managers. Needs API 1.25.
        pub unlock_key: bool,
    }
}

const INIT_GATES: &[Gate] = &[
    Gate { path: &["DataPathAddr"], since: 30, older: Older::Refuse },
    Gate { path: &["Spec", "CAConfig", "ExternalCAs", "*", "CACert"], since: 30, older: Older::Refuse },
    Gate { path: &["Spec", "CAConfig", "SigningCACert"], since: 30, older: Older::Refuse },
    Gate { path: &["Spec", "CAConfig", "SigningCAKey"], since: 30, older: Older::Refuse },
    Gate { path: &["Spec", "CAConfig", "ForceRotate"], since: 30, older: Older::Refuse },
    Gate { path: &["Spec", "EncryptionConfig"], since: 25, older: Older::Refuse },
    Gate { path: &["DefaultAddrPool"], since: 39, older: Older::Refuse },
    Gate { path: &["SubnetSize"], since: 39, older: Older::Refuse },
    Gate { path: &["DataPathPort"], since: 40, older: Older::Refuse },
];

const UPDATE_GATES: &[Gate] = &[
    Gate { path: &["CAConfig", "ExternalCAs", "*", "CACert"], since: 30, older: Older::Refuse },
    Gate { path: &["CAConfig", "SigningCACert"], since: 30, older: Older::Refuse },
    Gate { path: &["CAConfig", "SigningCAKey"], since: 30, older: Older::Refuse },
    Gate { path: &["CAConfig", "ForceRotate"], since: 30, older: Older::Refuse },
    Gate { path: &["EncryptionConfig"], since: 25, older: Older::Refuse },
];

const JOIN_GATES: &[Gate] = &[Gate { path: &["DataPathAddr"], since: 30, older: Older::Refuse }];

impl Docker {
    /// The swarm of this engine. API: `SwarmInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if the engine manages none; whatever a call may fail with.
    pub async fn inspect_swarm(&self) -> Result<Swarm, Error> {
        self.json(Call::new(Operation::SwarmInspect, [])).await
    }

    /// Makes a swarm of this engine alone and gives the id of its node. It listens at [`LISTEN_ADDRESS`] if `body` names
    /// no other. The call may take 300 s. API: `SwarmInit`.
    ///
    /// # Errors
    /// [`Error::Api`] with the engine's words if it is in a swarm already, or it cannot choose one of its addresses;
    /// [`Error::Unsupported`] for fields that the engine is too old for; whatever a call may fail with.
    pub async fn init_swarm(&self, body: &schema::SwarmInitRequest) -> Result<ObjectId, Error> {
        let mut body = body.clone();
        // Engines have no default for it.
        body.listen_addr.get_or_insert_with(|| LISTEN_ADDRESS.to_owned());
        self.json(Call::new(Operation::SwarmInit, []).json(&body, INIT_GATES)?.deadline(Some(SLOW))).await
    }

    /// Joins a swarm. The call may take 300 s. API: `SwarmJoin`.
    ///
    /// # Errors
    /// [`Error::Api`] with the engine's words if it is in a swarm already, the token is wrong or no manager can be
    /// reached; [`Error::Unsupported`] for fields that the engine is too old for; whatever a call may fail with.
    pub async fn join_swarm(&self, options: &JoinSwarm) -> Result<(), Error> {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let body = schema::SwarmJoinRequest {
            listen_addr: text(&options.listen_address),
            advertise_addr: text(&options.advertise_address),
            data_path_addr: text(&options.data_path_address),
            remote_addrs: Some(options.remote_addresses.clone()),
            join_token: Some(options.token.expose().to_owned()),
        };
        self.done(Call::new(Operation::SwarmJoin, []).json(&body, JOIN_GATES)?.deadline(Some(SLOW))).await
    }

    /// Leaves the swarm; with `force` also as its last manager, which is its end. The call may take 300 s.
    /// API: `SwarmLeave`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if it is in none; [`Error::Api`] with the engine's words if the swarm would lose
    /// its managers; whatever a call may fail with.
    pub async fn leave_swarm(&self, force: bool) -> Result<(), Error> {
        self.done(Call::new(Operation::SwarmLeave, []).flag("force", force).deadline(Some(SLOW))).await
    }

    /// Sets up the swarm that still is at `version` as `spec` says, and makes secrets of it anew. API: `SwarmUpdate`.
    ///
    /// # Errors
    /// [`Error::is_out_of_sequence`] if it changed meanwhile; [`Error::is_not_swarm_manager`] if the engine manages
    /// none; [`Error::Unsupported`] for what the engine is too old for; whatever a call may fail with.
    pub async fn update_swarm(
        &self,
        version: u64,
        spec: &schema::SwarmSpec,
        rotate: &RotateTokens,
    ) -> Result<(), Error> {
        let mut call = Call::new(Operation::SwarmUpdate, [])
            .query("version", version.to_string())
            .flag("rotateWorkerToken", rotate.worker)
            .flag("rotateManagerToken", rotate.manager);
        if rotate.unlock_key {
            call = call.query_since(25, Older::Refuse, "rotateManagerUnlockKey", "1");
        }
        self.done(call.json(spec, UPDATE_GATES)?).await
    }

    /// The key that unlocks a manager after a restart; `None` if they do not lock. API: `SwarmUnlockkey`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn swarm_unlock_key(&self) -> Result<Option<Secret>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default, rename = "UnlockKey", deserialize_with = "secret")]
            key: Option<Secret>,
        }
        Ok(self.json::<Answer>(Call::new(Operation::SwarmUnlockkey, [])).await?.key)
    }

    /// Unlocks a manager that locked itself when it was restarted. The call may take 300 s. API: `SwarmUnlock`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if it is not locked; [`Error::Api`] with the engine's words if the key is wrong;
    /// [`Error::is_not_swarm_manager`] if it is in no swarm; whatever a call may fail with.
    pub async fn unlock_swarm(&self, key: &Secret) -> Result<(), Error> {
        let body = schema::SwarmUnlockRequest { unlock_key: Some(key.expose().to_owned()) };
        self.done(Call::new(Operation::SwarmUnlock, []).json(&body, &[])?.deadline(Some(SLOW))).await
    }
}

/// A new object of a swarm.
#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID", alias = "Id")]
    id: ObjectId,
}

/// What an object of a swarm is called, as it is sent with its data.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'s> {
    name: &'s str,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    labels: &'s std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'s schema::Driver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    templating: Option<&'s schema::Driver>,
}

const BODY_GATES: &[Gate] = &[
    Gate { path: &["Driver"], since: 31, older: Older::Refuse },
    Gate { path: &["Templating"], since: 37, older: Older::Refuse },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_not_printed() {
        let text = r#"{"ID":"abc","Version":{"Index":7},"CreatedAt":"2024-02-29T12:00:00Z","Spec":{"Name":"default"},
            "JoinTokens":{"Worker":"SWMTKN-marker","Manager":""},"DefaultAddrPool":null,"TLSInfo":null}"#;
        let swarm: Swarm = serde_json::from_str(text).unwrap();
        assert_eq!((swarm.version.index, swarm.created), (7, Some(1_709_208_000_000.0)));
        assert_eq!(swarm.join_tokens.worker.as_ref().unwrap().expose(), "SWMTKN-marker");
        assert_eq!(swarm.join_tokens.manager, None);
        let join = JoinSwarm::new(swarm.join_tokens.worker.clone().unwrap(), "192.0.2.1:2377");
        assert!(!format!("{swarm:?} {join:?}").contains("marker"));
        assert_eq!(serde_json::from_str::<Swarm>("{}").unwrap(), Swarm::default());
    }

    #[test]
    fn an_id_that_would_walk_the_api_is_refused() {
        assert!(serde_json::from_str::<Created>(r#"{"ID":"../nodes"}"#).is_err());
        assert_eq!(serde_json::from_str::<Created>(r#"{"ID":"abc"}"#).unwrap().id.as_str(), "abc");
    }
}
