//! What containerd and dockerd are configured with.

use serde_json::{Value, json};

pub(crate) const DAEMON_JSON: &str = "/etc/docker/daemon.json";
pub(crate) const CONTAINERD_TOML: &str = "/etc/containerd/config.toml";
pub(crate) const DOCKER_SOCKET: &str = "/run/berth/docker.sock";
pub(crate) const DOCKER_PID: &str = "/run/docker.pid";
pub(crate) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// The stand-in for docker-proxy: beside the host's namespaces, and in a machine of its own.
pub(crate) const PROXY: &str = "/berth/berth-docker-proxy";
pub(crate) const MACHINE_PROXY: &str = "/run/berth/berth-docker-proxy";
pub(crate) const PORTS_SOCKET: &str = "/run/berth/ports.sock";

/// What differs between engines.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The cgroup below which every container lives; none where it cannot be written, so that no limits hold.
    pub(crate) cgroup: Option<String>,
    pub(crate) proxy: &'static str,
}

/// `daemon.json`. Live restore keeps containers running when dockerd dies; an orderly shutdown turns it off
/// first, because with it on dockerd would leave them behind.
pub(crate) fn daemon(settings: &Settings, live_restore: bool) -> Value {
    let Settings { cgroup, proxy } = settings;
    let mut value = json!({
        "hosts": [format!("unix://{DOCKER_SOCKET}")],
        "data-root": "/var/lib/docker",
        "exec-root": "/run/docker",
        "pidfile": DOCKER_PID,
        // The appliance's `docker` group has a number that is some other group's on the host.
        "group": "root",
        "containerd": CONTAINERD_SOCKET,
        "userland-proxy": true,
        "userland-proxy-path": proxy,
        "log-driver": "json-file",
        "log-opts": {"max-size": "100m", "max-file": "3"},
        "live-restore": live_restore,
    });
    let Some(settings) = value.as_object_mut() else { return value };
    match cgroup {
        Some(cgroup) => {
            settings.insert("cgroup-parent".to_owned(), json!(format!("/{cgroup}")));
            settings.insert("exec-opts".to_owned(), json!(["native.cgroupdriver=cgroupfs"]));
        }
        None => drop(settings.insert("rootless".to_owned(), json!(true))),
    }
    value
}

/// containerd's configuration, in the version both 1.7 and 2.x read. Kubernetes' interface is off, and what
/// would be installed into `/opt` goes where it can be written.
pub(crate) fn containerd() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::{PROXY, Settings, daemon};

    #[test]
    fn the_engine_never_listens_on_tcp() {
        let config = daemon(&Settings { cgroup: Some("berth-1".to_owned()), proxy: PROXY }, true);
        let hosts = config["hosts"].as_array().unwrap();
        assert!(hosts.iter().all(|host| host.as_str().unwrap().starts_with("unix://")));
        assert_eq!(config["cgroup-parent"], "/berth-1");
        assert_eq!(config["live-restore"], true);
    }

    #[test]
    fn without_cgroups_dockerd_is_told_that_it_is_not_root() {
        let config = daemon(&Settings { cgroup: None, proxy: PROXY }, true);
        assert_eq!(config["rootless"], true);
        assert!(config.get("cgroup-parent").is_none() && config.get("exec-opts").is_none());
    }
}
