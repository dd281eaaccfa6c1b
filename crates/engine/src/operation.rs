//! Every operation of the API that this client speaks.
//!
//! No call can be made but through this table, and a variant that no call uses is a compiler warning (`dead_code`), so
//! that coverage is not a matter of opinion. A test compares the table with `operations.txt`.

use http::Method;

use crate::ApiVersion;

macro_rules! operations {
    ($($operation:ident: $method:ident $path:literal since $minor:literal,)*) => {
        /// One operation, named as the API's own description names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation { $($operation,)* }

        impl Operation {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$operation,)*];

            /// The operation id of the API.
            pub(crate) const fn id(self) -> &'static str {
                match self { $(Self::$operation => stringify!($operation),)* }
            }

            pub(crate) const fn method(self) -> Method {
                match self { $(Self::$operation => Method::$method,)* }
            }

            /// Path without the version; what stands in braces is a segment to fill in.
            pub(crate) const fn path(self) -> &'static str {
                match self { $(Self::$operation => $path,)* }
            }

            /// The version of the API that first had it.
            pub(crate) const fn since(self) -> ApiVersion {
                match self { $(Self::$operation => ApiVersion { major: 1, minor: $minor },)* }
            }
        }
    };
}

operations! {
    ContainerList: GET "/containers/json" since 24,
    ContainerCreate: POST "/containers/create" since 24,
    ContainerInspect: GET "/containers/{id}/json" since 24,
    ContainerTop: GET "/containers/{id}/top" since 24,
    ContainerLogs: GET "/containers/{id}/logs" since 24,
    ContainerChanges: GET "/containers/{id}/changes" since 24,
    ContainerExport: GET "/containers/{id}/export" since 24,
    ContainerStats: GET "/containers/{id}/stats" since 24,
    ContainerResize: POST "/containers/{id}/resize" since 24,
    ContainerStart: POST "/containers/{id}/start" since 24,
    ContainerStop: POST "/containers/{id}/stop" since 24,
    ContainerRestart: POST "/containers/{id}/restart" since 24,
    ContainerKill: POST "/containers/{id}/kill" since 24,
    ContainerUpdate: POST "/containers/{id}/update" since 24,
    ContainerRename: POST "/containers/{id}/rename" since 24,
    ContainerPause: POST "/containers/{id}/pause" since 24,
    ContainerUnpause: POST "/containers/{id}/unpause" since 24,
    ContainerAttach: POST "/containers/{id}/attach" since 24,
    ContainerAttachWebsocket: GET "/containers/{id}/attach/ws" since 24,
    ContainerWait: POST "/containers/{id}/wait" since 24,
    ContainerDelete: DELETE "/containers/{id}" since 24,
    ContainerArchiveInfo: HEAD "/containers/{id}/archive" since 24,
    ContainerArchive: GET "/containers/{id}/archive" since 24,
    PutContainerArchive: PUT "/containers/{id}/archive" since 24,
    ContainerPrune: POST "/containers/prune" since 25,
    ImageList: GET "/images/json" since 24,
    ImageBuild: POST "/build" since 24,
    BuildPrune: POST "/build/prune" since 31,
    ImageCreate: POST "/images/create" since 24,
    ImageInspect: GET "/images/{name}/json" since 24,
    ImageHistory: GET "/images/{name}/history" since 24,
    ImagePush: POST "/images/{name}/push" since 24,
    ImageTag: POST "/images/{name}/tag" since 24,
    ImageDelete: DELETE "/images/{name}" since 24,
    ImageSearch: GET "/images/search" since 24,
    ImagePrune: POST "/images/prune" since 25,
    SystemAuth: POST "/auth" since 24,
    SystemInfo: GET "/info" since 24,
    SystemVersion: GET "/version" since 24,
    SystemPing: GET "/_ping" since 24,
    SystemPingHead: HEAD "/_ping" since 40,
    ImageCommit: POST "/commit" since 24,
    SystemEvents: GET "/events" since 24,
    SystemDataUsage: GET "/system/df" since 25,
    ImageGet: GET "/images/{name}/get" since 24,
    ImageGetAll: GET "/images/get" since 24,
    ImageLoad: POST "/images/load" since 24,
    ContainerExec: POST "/containers/{id}/exec" since 24,
    ExecStart: POST "/exec/{id}/start" since 24,
    ExecResize: POST "/exec/{id}/resize" since 24,
    ExecInspect: GET "/exec/{id}/json" since 24,
    VolumeList: GET "/volumes" since 24,
    VolumeCreate: POST "/volumes/create" since 24,
    VolumeInspect: GET "/volumes/{name}" since 24,
    VolumeUpdate: PUT "/volumes/{name}" since 42,
    VolumeDelete: DELETE "/volumes/{name}" since 24,
    VolumePrune: POST "/volumes/prune" since 25,
    NetworkList: GET "/networks" since 24,
    NetworkInspect: GET "/networks/{id}" since 24,
    NetworkDelete: DELETE "/networks/{id}" since 24,
    NetworkCreate: POST "/networks/create" since 24,
    NetworkConnect: POST "/networks/{id}/connect" since 24,
    NetworkDisconnect: POST "/networks/{id}/disconnect" since 24,
    NetworkPrune: POST "/networks/prune" since 25,
    PluginList: GET "/plugins" since 25,
    GetPluginPrivileges: GET "/plugins/privileges" since 25,
    PluginPull: POST "/plugins/pull" since 25,
    PluginInspect: GET "/plugins/{name}/json" since 25,
    PluginDelete: DELETE "/plugins/{name}" since 25,
    PluginEnable: POST "/plugins/{name}/enable" since 25,
    PluginDisable: POST "/plugins/{name}/disable" since 25,
    PluginUpgrade: POST "/plugins/{name}/upgrade" since 26,
    PluginCreate: POST "/plugins/create" since 25,
    PluginPush: POST "/plugins/{name}/push" since 25,
    PluginSet: POST "/plugins/{name}/set" since 25,
    NodeList: GET "/nodes" since 24,
    NodeInspect: GET "/nodes/{id}" since 24,
    NodeDelete: DELETE "/nodes/{id}" since 24,
    NodeUpdate: POST "/nodes/{id}/update" since 24,
    SwarmInspect: GET "/swarm" since 24,
    SwarmInit: POST "/swarm/init" since 24,
    SwarmJoin: POST "/swarm/join" since 24,
    SwarmLeave: POST "/swarm/leave" since 24,
    SwarmUpdate: POST "/swarm/update" since 24,
    SwarmUnlockkey: GET "/swarm/unlockkey" since 25,
    SwarmUnlock: POST "/swarm/unlock" since 25,
    ServiceList: GET "/services" since 24,
    ServiceCreate: POST "/services/create" since 24,
    ServiceInspect: GET "/services/{id}" since 24,
    ServiceDelete: DELETE "/services/{id}" since 24,
    ServiceUpdate: POST "/services/{id}/update" since 24,
    ServiceLogs: GET "/services/{id}/logs" since 25,
    TaskList: GET "/tasks" since 24,
    TaskInspect: GET "/tasks/{id}" since 24,
    TaskLogs: GET "/tasks/{id}/logs" since 29,
    SecretList: GET "/secrets" since 25,
    SecretCreate: POST "/secrets/create" since 25,
    SecretInspect: GET "/secrets/{id}" since 25,
    SecretDelete: DELETE "/secrets/{id}" since 25,
    SecretUpdate: POST "/secrets/{id}/update" since 26,
    ConfigList: GET "/configs" since 30,
    ConfigCreate: POST "/configs/create" since 30,
    ConfigInspect: GET "/configs/{id}" since 30,
    ConfigDelete: DELETE "/configs/{id}" since 30,
    ConfigUpdate: POST "/configs/{id}/update" since 30,
    DistributionInspect: GET "/distribution/{name}/json" since 30,
    Session: POST "/session" since 31,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_list_of_operations() {
        let listed: Vec<&str> =
            include_str!("../operations.txt").lines().filter(|line| !line.starts_with('#')).collect();
        let ours: Vec<String> = Operation::ALL
            .iter()
            .map(|operation| {
                let (method, since) = (operation.method(), operation.since());
                let method = method.as_str();
                format!("{method:<6} {:<34} {:<26} {since}", operation.path(), operation.id())
            })
            .collect();
        assert_eq!(ours, listed);
        assert_eq!(ours.len(), 107);
    }
}
