//! Networks, from their creation to their removal.

use berth_engine::networks::InspectNetwork;
use berth_engine::reference::NetworkRef;
use berth_engine::{ContainerRef, Docker, Error, Filters, schema};
use berth_testkit::engines::EngineKind;
use serde_json::{Value, json};

use crate::harness::{Case, CaseContext, Outcome, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(create_inspect_remove),
        case!(list_filters),
        case!(duplicate_is_refused),
        case!(hostile_name),
        case!(hostile_labels),
        case!(addresses_are_kept),
        case!(internal_and_options),
        case!(without_ipv4),
        case!(connect_and_disconnect),
        case!(connect_with_address),
        case!(connect_by_priority),
        case!(disconnect_stranger),
        case!(remove_in_use_is_refused),
        case!(own_networks_stay),
        case!(prune),
        case!(not_found),
        case!(unknown_driver),
        case!(scope_of_inspect),
    ]
}

fn body(cx: &CaseContext, prefix: &str, extra: Value) -> schema::NetworkCreateRequest {
    let mut body = json!({ "Name": cx.name(prefix), "Labels": cx.labels() });
    if let (Value::Object(body), Value::Object(extra)) = (&mut body, extra) {
        body.extend(extra);
    }
    serde_json::from_value(body).unwrap()
}

async fn network(docker: &Docker, cx: &CaseContext, prefix: &str, extra: Value) -> NetworkRef {
    docker.create_network(&body(cx, prefix, extra)).await.unwrap().id
}

/// A range of addresses that hardly any other case has at the same time.
fn subnet(cx: &CaseContext) -> String {
    let unique = u32::from_str_radix(cx.name("").trim_start_matches('-'), 16).unwrap();
    format!("10.{}.{}", 128 + unique % 128, (unique >> 8) % 256)
}

const PLAIN: InspectNetwork = InspectNetwork { verbose: false, scope: String::new() };

async fn create_inspect_remove(docker: Docker, cx: &CaseContext) -> Outcome {
    let created = docker.create_network(&body(cx, "web", json!({}))).await.unwrap();
    assert_eq!(created.warning, "");
    let by_name: NetworkRef = cx.name("web").parse().unwrap();
    let seen = docker.inspect_network(&by_name, &PLAIN).await.unwrap();
    assert_eq!((seen.name.as_str(), seen.driver.as_str()), (by_name.as_str(), "bridge"));
    assert_eq!(seen.reference().unwrap(), created.id);
    assert_eq!(seen.scope, "local");
    assert!(seen.has_ipv4() && !seen.ipv6 && !seen.internal);
    assert!(!seen.ipam.pools.is_empty(), "the engine chose addresses: {:?}", seen.ipam);
    assert!(seen.created.is_some_and(|moment| moment > 1.6e12), "{:?}", seen.created);
    assert_eq!(seen.containers.len(), 0);
    docker.remove_network(&created.id).await.unwrap();
    assert!(docker.inspect_network(&by_name, &PLAIN).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn list_filters(docker: Docker, cx: &CaseContext) -> Outcome {
    network(&docker, cx, "one", json!({})).await;
    network(&docker, cx, "two", json!({ "Labels": { "role": "two" } })).await;
    cx.remove_later(format!("/networks/{}", cx.name("two")));
    let names = async |filters: Filters| {
        let found = docker.list_networks(&filters).await.unwrap();
        let mut names: Vec<String> = found.into_iter().map(|network| network.name).collect();
        names.sort();
        names
    };
    assert_eq!(names(cx.filters()).await, [cx.name("one")]);
    assert_eq!(names(Filters::default().with("name", cx.name("two"))).await, [cx.name("two")]);
    assert!(names(cx.filters().with("driver", "host")).await.is_empty());
    let all = names(Filters::default()).await;
    assert!(all.contains(&cx.name("one")) && all.contains(&cx.name("two")), "{all:?}");
    Outcome::Pass
}

async fn duplicate_is_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    network(&docker, cx, "taken", json!({})).await;
    let refused = docker.create_network(&body(cx, "taken", json!({}))).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused:?}");
    assert!(refused.to_string().contains(&cx.name("taken")), "{refused}");
    Outcome::Pass
}

async fn hostile_name(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = format!("<img src=x onerror=alert(1)>?a=b&c#%2e é {}", cx.name("x"));
    let created = docker.create_network(&body(cx, "x", json!({ "Name": name }))).await.unwrap();
    let listed = docker.list_networks(&cx.filters()).await.unwrap();
    assert_eq!(listed.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), [name.as_str()]);
    let by_name: NetworkRef = name.parse().unwrap();
    assert_eq!(docker.inspect_network(&by_name, &PLAIN).await.unwrap().reference().unwrap(), created.id);
    docker.remove_network(&by_name).await.unwrap();
    assert!(docker.list_networks(&cx.filters()).await.unwrap().is_empty());
    Outcome::Pass
}

async fn hostile_labels(docker: Docker, cx: &CaseContext) -> Outcome {
    let odd =
        json!({ "__proto__": "x", "a\u{202e}b": "\u{1b}]52;c;x\u{7}", "<svg onload=x>": "../../etc", "": "empty" });
    let network = network(&docker, cx, "odd", json!({ "Labels": odd })).await;
    cx.remove_later(format!("/networks/{network}"));
    let seen = docker.inspect_network(&network, &PLAIN).await.unwrap();
    assert_eq!(serde_json::to_value(&seen.labels).unwrap(), odd);
    Outcome::Pass
}

async fn addresses_are_kept(docker: Docker, cx: &CaseContext) -> Outcome {
    let net = subnet(cx);
    let pool =
        json!({ "Subnet": format!("{net}.0/24"), "Gateway": format!("{net}.9"), "IPRange": format!("{net}.128/25") });
    let network = network(&docker, cx, "range", json!({ "IPAM": { "Config": [pool] } })).await;
    let seen = docker.inspect_network(&network, &PLAIN).await.unwrap();
    let [pool] = seen.ipam.pools.as_slice() else { panic!("{:?}", seen.ipam) };
    assert_eq!(pool.subnet, format!("{net}.0/24"));
    assert_eq!(pool.gateway, format!("{net}.9"));
    assert_eq!(pool.range, format!("{net}.128/25"), "the range is kept");
    let clash = json!({ "IPAM": { "Config": [{ "Subnet": "10.0.0.0/33" }] } });
    let refused = docker.create_network(&body(cx, "bad", clash)).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    Outcome::Pass
}

async fn internal_and_options(docker: Docker, cx: &CaseContext) -> Outcome {
    let extra = json!({ "Internal": true, "Options": { "com.docker.network.driver.mtu": "1400" } });
    let network = network(&docker, cx, "inside", extra).await;
    let seen = docker.inspect_network(&network, &PLAIN).await.unwrap();
    assert!(seen.internal);
    assert!(seen.options.values().any(|value| value == "1400"), "{:?}", seen.options);
    Outcome::Pass
}

/// What an engine would do otherwise than asked is refused before it is asked.
async fn without_ipv4(docker: Docker, cx: &CaseContext) -> Outcome {
    let body = body(
        cx,
        "six",
        json!({ "EnableIPv4": false, "EnableIPv6": true, "Internal": true,
        "IPAM": { "Config": [{ "Subnet": "fd00:be47::/64" }] } }),
    );
    match docker.create_network(&body).await {
        Ok(created) => {
            let seen = docker.inspect_network(&created.id, &PLAIN).await.unwrap();
            assert!(seen.ipv6 && !seen.has_ipv4(), "{seen:?}");
            Outcome::Pass
        }
        Err(Error::Unsupported { what, .. }) => {
            assert!(what.contains("EnableIPv4"), "{what}");
            Outcome::Differs("networks always have IPv4 addresses")
        }
        // A kernel without IPv6 is no fault of the engine.
        Err(Error::Api { message, .. }) if message.contains("IPv6") || message.contains("ip6") => Outcome::Pass,
        Err(error) => panic!("{error:?}"),
    }
}

async fn connect_and_disconnect(docker: Docker, cx: &CaseContext) -> Outcome {
    let first = network(&docker, cx, "first", json!({})).await;
    let second = network(&docker, cx, "second", json!({})).await;
    let extra = json!({ "HostConfig": { "NetworkMode": first.as_str() } });
    let container = cx.running("member", &["sleep", "600"], extra).await;
    docker.connect_network(&second, &container, None).await.unwrap();
    let seen = docker.inspect_network(&second, &PLAIN).await.unwrap();
    let member = &seen.containers[container.as_str()];
    assert_eq!(member.name, cx.name("member"));
    assert!(member.ipv4_address.contains('/') && !member.mac_address.is_empty(), "{member:?}");
    let again = docker.connect_network(&second, &container, None).await.unwrap_err();
    assert!(matches!(again, Error::Api { status: 403, .. }), "a second time is refused: {again:?}");
    docker.disconnect_network(&second, &container, false).await.unwrap();
    assert!(docker.inspect_network(&second, &PLAIN).await.unwrap().containers.is_empty());
    Outcome::Pass
}

async fn connect_with_address(docker: Docker, cx: &CaseContext) -> Outcome {
    let net = subnet(cx);
    let extra = json!({ "IPAM": { "Config": [{ "Subnet": format!("{net}.0/24") }] } });
    let network = network(&docker, cx, "fixed", extra).await;
    let first = self::network(&docker, cx, "first", json!({})).await;
    let container =
        cx.running("at", &["sleep", "600"], json!({ "HostConfig": { "NetworkMode": first.as_str() } })).await;
    let endpoint = schema::EndpointSettings {
        ipam_config: Some(schema::EndpointIpamConfig {
            ipv4_address: Some(format!("{net}.77")),
            ..schema::EndpointIpamConfig::default()
        }),
        aliases: Some(vec!["other-name".into()]),
        ..schema::EndpointSettings::default()
    };
    docker.connect_network(&network, &container, Some(&endpoint)).await.unwrap();
    let seen = docker.inspect_network(&network, &PLAIN).await.unwrap();
    assert_eq!(seen.containers[container.as_str()].ipv4_address, format!("{net}.77/24"));
    Outcome::Pass
}

/// A field that decides where packets go is not dropped in silence.
async fn connect_by_priority(docker: Docker, cx: &CaseContext) -> Outcome {
    let network = network(&docker, cx, "way", json!({})).await;
    let first = self::network(&docker, cx, "first", json!({})).await;
    let container =
        cx.container("at", &["sleep", "600"], json!({ "HostConfig": { "NetworkMode": first.as_str() } })).await;
    let endpoint = schema::EndpointSettings { gw_priority: Some(7), ..schema::EndpointSettings::default() };
    match docker.connect_network(&network, &container, Some(&endpoint)).await {
        Ok(()) => Outcome::Pass,
        Err(Error::Unsupported { what, .. }) => {
            assert!(what.contains("GwPriority"), "{what}");
            Outcome::Differs("a network's priority as the way out is not known")
        }
        Err(error) => panic!("{error:?}"),
    }
}

async fn disconnect_stranger(docker: Docker, cx: &CaseContext) -> Outcome {
    let network = network(&docker, cx, "alone", json!({})).await;
    let stranger: ContainerRef = cx.name("nobody").parse().unwrap();
    let refused = docker.disconnect_network(&network, &stranger, false).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused:?}");
    let refused = docker.connect_network(&network, &stranger, None).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused:?}");
    Outcome::Pass
}

async fn remove_in_use_is_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    let network = network(&docker, cx, "busy", json!({})).await;
    let extra = json!({ "HostConfig": { "NetworkMode": network.as_str() } });
    cx.running("user", &["sleep", "600"], extra).await;
    let refused = docker.remove_network(&network).await.unwrap_err();
    assert!(matches!(refused, Error::Api { status: 403, .. }), "{refused:?}");
    assert!(!refused.is_retryable());
    Outcome::Pass
}

async fn own_networks_stay(docker: Docker, _cx: &CaseContext) -> Outcome {
    let host: NetworkRef = "host".parse().unwrap();
    let refused = docker.remove_network(&host).await.unwrap_err();
    assert!(matches!(refused, Error::Api { status: 403, .. }), "{refused:?}");
    Outcome::Pass
}

async fn prune(docker: Docker, cx: &CaseContext) -> Outcome {
    let used = network(&docker, cx, "used", json!({})).await;
    network(&docker, cx, "idle", json!({})).await;
    cx.running("user", &["sleep", "600"], json!({ "HostConfig": { "NetworkMode": used.as_str() } })).await;
    assert_eq!(pruned(&docker, cx).await, [cx.name("idle")]);
    assert!(pruned(&docker, cx).await.is_empty());
    docker.inspect_network(&used, &PLAIN).await.unwrap();
    Outcome::Pass
}

/// Podman looks at every container there is, one after another, and gives up when one of another case goes meanwhile.
async fn pruned(docker: &Docker, cx: &CaseContext) -> Vec<String> {
    for _ in 0..50 {
        match docker.prune_networks(&cx.filters()).await {
            Err(Error::Api { status: 500, message, .. }) if message.contains("no such container") => {
                assert_eq!(cx.engine(), EngineKind::Podman, "{message}");
            }
            pruned => return pruned.unwrap(),
        }
    }
    panic!("a container always went meanwhile");
}

async fn not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: NetworkRef = cx.name("nobody").parse().unwrap();
    assert!(docker.inspect_network(&nobody, &PLAIN).await.unwrap_err().is_not_found());
    assert!(docker.remove_network(&nobody).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn unknown_driver(docker: Docker, cx: &CaseContext) -> Outcome {
    let refused = docker.create_network(&body(cx, "odd", json!({ "Driver": "no-such-driver" }))).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused:?}");
    Outcome::Pass
}

async fn scope_of_inspect(docker: Docker, cx: &CaseContext) -> Outcome {
    let network = network(&docker, cx, "near", json!({})).await;
    let local = InspectNetwork::default().scope("local").verbose(true);
    assert_eq!(docker.inspect_network(&network, &local).await.unwrap().name, cx.name("near"));
    let swarm = InspectNetwork::default().scope("swarm");
    assert!(docker.inspect_network(&network, &swarm).await.unwrap_err().is_not_found(), "it is in no swarm");
    Outcome::Pass
}
