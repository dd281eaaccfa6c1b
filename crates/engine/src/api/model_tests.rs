use serde_json::{Value, json};

use super::*;

fn id() -> String {
    "ab".repeat(32)
}

#[test]
fn null_everywhere_is_the_default() {
    let bare: ContainerInspect = serde_json::from_value(json!({ "Id": id() })).unwrap();
    let parts = |value: Value| {
        json!({
            "Id": id(), "Name": value, "Created": value, "Path": value, "Args": value, "State": value, "Image": value,
            "RestartCount": value, "Mounts": value, "Config": value, "HostConfig": value, "NetworkSettings": value,
        })
    };
    assert_eq!(serde_json::from_value::<ContainerInspect>(parts(Value::Null)).unwrap(), bare);
    let inner: ContainerInspect = serde_json::from_value(json!({
        "Id": id(),
        "State": { "Status": null, "Health": null, "StartedAt": null, "Pid": null },
        "Config": { "Cmd": null, "Entrypoint": null, "Labels": null, "ExposedPorts": null, "Env": null, "Healthcheck": null },
        "HostConfig": { "PortBindings": null, "RestartPolicy": null, "Binds": null, "PidsLimit": null, "LogConfig": null },
        "NetworkSettings": { "Ports": null, "Networks": null },
    }))
    .unwrap();
    assert_eq!(inner, bare);
}

#[test]
fn an_id_is_required() {
    assert!(serde_json::from_value::<ContainerInspect>(json!({})).is_err());
    assert!(serde_json::from_value::<ContainerSummary>(json!({ "Id": "../../version" })).is_err());
}

#[test]
fn reads_an_inspect() {
    let container: ContainerInspect = serde_json::from_value(json!({
        "Id": id(),
        "Name": "/web",
        "Created": "2024-02-29T12:34:56.5Z",
        "Path": "nginx", "Args": ["-g", "daemon off;"],
        "State": {
            "Status": "exited", "OOMKilled": true, "ExitCode": 137, "Error": "",
            "StartedAt": "2024-02-29T12:34:57Z", "FinishedAt": "0001-01-01T00:00:00Z",
            "Health": { "Status": "unhealthy", "FailingStreak": 3, "Log": [
                { "Start": "2024-02-29T12:34:57+01:00", "End": null, "ExitCode": 1, "Output": "no" }
            ]},
        },
        "RestartCount": 2,
        "Config": {
            "Tty": true, "Env": ["A=b"], "Cmd": "sh", "Entrypoint": ["/entry"], "StopTimeout": 120,
            "ExposedPorts": { "80/tcp": {}, "443/tcp": {} }, "Volumes": { "/data": {} },
        },
        "HostConfig": {
            "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }], "443/tcp": null },
            "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 }, "PidsLimit": -1, "NanoCpus": 1_500_000_000,
        },
        "NetworkSettings": {
            "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }], "443/tcp": null },
            "Networks": { "front": { "Aliases": null, "IPAddress": "172.18.0.2", "IPAMConfig": { "IPv4Address": "172.18.0.2" } } },
        },
        "Unheard": { "of": true },
    }))
    .unwrap();
    assert_eq!(container.plain_name(), "web");
    assert_eq!(container.created, Some(1_709_210_096_500.0));
    assert_eq!(container.state.status, ContainerState::Exited);
    assert_eq!((container.state.exit_code, container.state.finished_at), (137, None));
    let health = container.state.health.unwrap();
    assert_eq!((Health::from_word(&health.status), health.log.len()), (Some(Health::Unhealthy), 1));
    assert_eq!(container.config.cmd, ["sh"]);
    assert_eq!(container.config.entrypoint, ["/entry"]);
    assert_eq!(container.config.exposed_ports, ["443/tcp", "80/tcp"]);
    assert_eq!(container.host_config.port_bindings["80/tcp"][0].host_port, "8080");
    assert!(container.network_settings.ports["443/tcp"].is_empty());
    assert_eq!(container.network_settings.networks["front"].ip_address, "172.18.0.2");
}

#[test]
fn an_unknown_state_is_kept_apart() {
    let state = |word: &str| serde_json::from_value::<ContainerState>(json!(word)).unwrap();
    assert_eq!(state("levitating"), ContainerState::Unknown);
    assert_eq!(state("stopped"), ContainerState::Exited, "Podman's word");
    assert!(state("paused").is_alive() && !state("dead").is_alive());
}
