//! Networks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ContainerRef, Docker, Error, Filters,
    api::options::options,
    http::{Call, Gate, Older, SLOW},
    model::{model, nullable},
    operation::Operation,
    reference::NetworkRef,
    schema,
};

model! {
    /// A network. Its name may be any text. API: `NetworkList`, `NetworkInspect`.
    pub struct Network {
        /// Name, which need not be unique.
        pub name: String,
        /// Id.
        pub id: String,
        /// `local`, `global` or `swarm`.
        pub scope: String,
        /// Driver, such as `bridge`.
        pub driver: String,
        /// Containers get IPv4 addresses. Engines of before API 1.47 do not tell, see [`Network::has_ipv4`].
        #[serde(rename = "EnableIPv4")]
        pub ipv4: Option<bool>,
        /// Containers get IPv6 addresses.
        #[serde(rename = "EnableIPv6")]
        pub ipv6: bool,
        /// Whence addresses come.
        #[serde(rename = "IPAM")]
        pub ipam: Ipam,
        /// It leads nowhere outside.
        pub internal: bool,
        /// Containers that belong to no service may join this network of a swarm.
        pub attachable: bool,
        /// It spreads the published ports of a swarm.
        pub ingress: bool,
        /// It only keeps settings for others.
        pub config_only: bool,
        /// The network whose settings it has.
        pub config_from: NetworkConfigSource,
        /// Options of its driver.
        pub options: BTreeMap<String, String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Who is in it, by the container's id; empty in a list.
        pub containers: BTreeMap<String, NetworkMember>,
    }
    with "crate::decode::timestamp::millis" {
        /// When it was made, in milliseconds since the epoch.
        pub created: Option<f64>,
    }

    /// Whence a network has its settings.
    pub struct NetworkConfigSource {
        /// Name of the network, empty for none.
        pub network: String,
    }

    /// Whence the addresses of a network come.
    pub struct Ipam {
        /// Driver, such as `default`.
        pub driver: String,
        /// Options of the driver.
        pub options: BTreeMap<String, String>,
        /// Ranges.
        #[serde(rename = "Config")]
        pub pools: Vec<IpamPool>,
    }

    /// One range of addresses.
    pub struct IpamPool {
        /// The whole range, such as `172.20.0.0/16`.
        pub subnet: String,
        /// The part of it from which containers get addresses.
        #[serde(rename = "IPRange")]
        pub range: String,
        /// Address of the way out.
        pub gateway: String,
        /// Addresses that no container gets, by name.
        #[serde(alias = "AuxAddress", alias = "AuxAddresses")]
        pub auxiliary_addresses: BTreeMap<String, String>,
    }

    /// A container in a network.
    pub struct NetworkMember {
        /// Name of the container.
        pub name: String,
        /// Id of its end of the network.
        #[serde(rename = "EndpointID")]
        pub endpoint: String,
        /// Hardware address.
        pub mac_address: String,
        /// Address with the length of its prefix, such as `172.20.0.2/16`.
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        /// The same for IPv6.
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }
}

impl Network {
    /// The network by its id, which unlike its name is unique.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if the engine gave it none that a request can carry.
    pub fn reference(&self) -> Result<NetworkRef, Error> {
        self.id.parse()
    }

    /// Containers get IPv4 addresses: what the engine says, and yes where it cannot say.
    #[must_use]
    pub fn has_ipv4(&self) -> bool {
        self.ipv4.unwrap_or(true)
    }
}

options! {
    /// How to look at a network.
    pub struct InspectNetwork {
        /// Also the services and tasks of a swarm. Needs API 1.28; older engines leave them out.
        pub verbose: bool,
        /// Only in this scope: `local`, `global` or `swarm`; in all when empty. Needs API 1.31.
        pub scope: String,
    }
}

/// A network that was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct NetworkCreated {
    /// Its id.
    pub id: NetworkRef,
    /// What the engine has to say about it; mostly empty.
    #[serde(default, deserialize_with = "nullable")]
    pub warning: String,
}

const CREATE_GATES: &[Gate] = &[
    Gate { path: &["Attachable"], since: 25, older: Older::Refuse },
    Gate { path: &["Ingress"], since: 29, older: Older::Refuse },
    Gate { path: &["ConfigOnly"], since: 30, older: Older::Refuse },
    Gate { path: &["ConfigFrom"], since: 30, older: Older::Refuse },
    Gate { path: &["Scope"], since: 30, older: Older::Refuse },
];

/// The field that API 1.47 was the first to have, and the version in which it can be false.
const IPV4_SINCE: u32 = 47;

const CONNECT_GATES: &[Gate] = &[
    Gate { path: &["EndpointConfig", "DriverOpts"], since: 32, older: Older::Refuse },
    Gate { path: &["EndpointConfig", "MacAddress"], since: 44, older: Older::Refuse },
    Gate { path: &["EndpointConfig", "DNSNames"], since: 44, older: Older::LeaveOut },
    Gate { path: &["EndpointConfig", "GwPriority"], since: 48, older: Older::Refuse },
];

#[derive(Serialize)]
struct Create<'b> {
    #[serde(flatten)]
    body: &'b schema::NetworkCreateRequest,
    /// Before API 1.44 an engine makes a second network of the same name without it; later ones never do.
    #[serde(rename = "CheckDuplicate")]
    check_duplicate: bool,
}

impl Docker {
    /// Lists networks. Filters are `dangling`, `driver`, `id`, `label`, `name`, `scope` and `type`.
    /// API: `NetworkList`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn list_networks(&self, filters: &Filters) -> Result<Vec<Network>, Error> {
        self.json(filters.apply(Call::new(Operation::NetworkList, []))).await
    }

    /// Everything of one network. API: `NetworkInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Unsupported`] for a scope on an engine of before API 1.31;
    /// whatever a call may fail with.
    pub async fn inspect_network(&self, network: &NetworkRef, options: &InspectNetwork) -> Result<Network, Error> {
        let mut call = Call::new(Operation::NetworkInspect, [network.as_str()]);
        if options.verbose {
            call = call.query_since(28, Older::LeaveOut, "verbose", "1");
        }
        if !options.scope.is_empty() {
            call = call.query_since(31, Older::Refuse, "scope", &options.scope);
        }
        self.json(call).await
    }

    /// Removes a network. API: `NetworkDelete`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Api`] with status 403 if it is one of the engine's own or in
    /// use; whatever a call may fail with.
    pub async fn remove_network(&self, network: &NetworkRef) -> Result<(), Error> {
        self.done(Call::new(Operation::NetworkDelete, [network.as_str()])).await
    }

    /// Creates a network. A second one of the same name is refused. API: `NetworkCreate`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::schema::NetworkCreateRequest;
    ///
    /// let body = NetworkCreateRequest { name: "doc-network".to_owned(), ..NetworkCreateRequest::default() };
    /// docker.create_network(&body).await?;
    /// let network = "doc-network".parse()?;
    /// assert_eq!(docker.inspect_network(&network, &Default::default()).await?.driver, "bridge");
    /// docker.remove_network(&network).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_conflict`] if the name is taken; [`Error::is_not_found`] if there is no such driver;
    /// [`Error::Unsupported`] for fields that the engine is too old for; whatever a call may fail with.
    pub async fn create_network(&self, body: &schema::NetworkCreateRequest) -> Result<NetworkCreated, Error> {
        let mut body = body.clone();
        if body.enable_ipv4.is_some() {
            let (needs, engine) = (crate::ApiVersion { major: 1, minor: IPV4_SINCE }, self.negotiate().await?);
            if engine < needs {
                // Older engines always give IPv4 addresses: only `false` is something else than what they do.
                if body.enable_ipv4 == Some(false) {
                    let what = "`EnableIPv4` of POST /networks/create".to_owned();
                    return Err(Error::Unsupported { what, needs, engine });
                }
                body.enable_ipv4 = None;
            }
        }
        let body = Create { body: &body, check_duplicate: true };
        self.json(Call::new(Operation::NetworkCreate, []).json(&body, CREATE_GATES)?).await
    }

    /// Connects a container to a network, with the engine's choice of addresses or with `endpoint`.
    /// API: `NetworkConnect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such network or container; [`Error::Api`] with status 403 if it already
    /// is connected, or the network takes no such container; [`Error::Unsupported`] for fields that the engine is too
    /// old for; whatever a call may fail with.
    pub async fn connect_network(
        &self,
        network: &NetworkRef,
        container: &ContainerRef,
        endpoint: Option<&schema::EndpointSettings>,
    ) -> Result<(), Error> {
        let body = schema::NetworkConnectRequest {
            container: container.as_str().to_owned(),
            endpoint_config: endpoint.cloned(),
        };
        self.done(Call::new(Operation::NetworkConnect, [network.as_str()]).json(&body, CONNECT_GATES)?).await
    }

    /// Takes a container out of a network; with `force` also one that is not there any more. API: `NetworkDisconnect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such network or container; [`Error::Api`] if it is not connected;
    /// whatever a call may fail with.
    pub async fn disconnect_network(
        &self,
        network: &NetworkRef,
        container: &ContainerRef,
        force: bool,
    ) -> Result<(), Error> {
        let body =
            schema::NetworkDisconnectRequest { container: container.as_str().to_owned(), force: force.then_some(true) };
        self.done(Call::new(Operation::NetworkDisconnect, [network.as_str()]).json(&body, &[])?).await
    }

    /// Removes the networks that no container uses, and gives their names. Filters are `until` and `label`, and
    /// `label!` for those without. The call may take 300 s. API: `NetworkPrune`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn prune_networks(&self, filters: &Filters) -> Result<Vec<String>, Error> {
        let call = Call::new(Operation::NetworkPrune, []).deadline(Some(SLOW));
        Ok(self.json::<Pruned>(filters.apply(call)).await?.networks_deleted)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Pruned {
    #[serde(deserialize_with = "nullable")]
    networks_deleted: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ApiVersion;

    #[test]
    fn reads_hostile_and_null_networks() {
        let text = r#"[{"Name":"<img src=x onerror=alert(1)>","Id":"abc","Created":"2024-02-29T12:00:00.5Z",
            "IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.0.0.0/8"}]},"Containers":null,
            "ConfigFrom":null,"Labels":{"__proto__":"x","a\u202e":"\u0000"},"EnableIPv6":null},{}]"#;
        let networks: Vec<Network> = serde_json::from_str(text).unwrap();
        let [first, second] = networks.as_slice() else { panic!("{networks:?}") };
        assert_eq!(first.name, "<img src=x onerror=alert(1)>");
        assert_eq!(first.created, Some(1_709_208_000_500.0));
        assert_eq!(first.ipam.pools.first().unwrap().subnet, "10.0.0.0/8");
        assert_eq!(first.labels.len(), 2);
        assert!(first.has_ipv4() && first.reference().is_ok());
        assert_eq!(second, &Network::default());
        assert!(second.reference().is_err(), "nothing without an id reaches a path");
    }

    #[test]
    fn an_id_that_would_walk_the_api_is_refused() {
        assert!(serde_json::from_str::<NetworkCreated>(r#"{"Id":"../containers","Warning":""}"#).is_err());
        assert!(serde_json::from_str::<NetworkCreated>("{}").is_err());
        let created: NetworkCreated = serde_json::from_str(r#"{"Id":"abc","Warning":null}"#).unwrap();
        assert_eq!((created.id.as_str(), created.warning.as_str()), ("abc", ""));
    }

    #[test]
    fn duplicates_are_refused_by_old_engines_too() {
        let body = schema::NetworkCreateRequest { name: "web".into(), attachable: Some(false), ..Default::default() };
        let body = Create { body: &body, check_duplicate: true };
        let mut call = Call::new(Operation::NetworkCreate, []).json(&body, CREATE_GATES).unwrap();
        let sent = call.take_body(Some(ApiVersion { major: 1, minor: 24 })).unwrap().bytes().unwrap();
        let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent, serde_json::json!({"Name": "web", "CheckDuplicate": true}));
    }

    #[test]
    fn what_was_pruned_may_be_null() {
        assert!(serde_json::from_str::<Pruned>(r#"{"NetworksDeleted":null}"#).unwrap().networks_deleted.is_empty());
        assert_eq!(serde_json::from_str::<Pruned>(r#"{"NetworksDeleted":["a"]}"#).unwrap().networks_deleted, ["a"]);
    }
}
