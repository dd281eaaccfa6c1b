//! Swarms. Each case changes the engine as a whole, but for those that find no swarm.

use std::time::Duration;

use berth_engine::reference::{NetworkRef, ObjectId, VolumeName};
use berth_engine::registry::Secret;
use berth_engine::swarm::{
    ConfigSpec, InspectService, JoinSwarm, ListServices, RotateTokens, SecretSpec, ServiceLogOptions, UpdateService,
    take_details,
};
use berth_engine::volumes::{ClusterVolumeSpec, CreateVolume};
use berth_engine::{Docker, Error, EventKind, EventOptions, Filters, LogLine, schema};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(without_swarm),
        case!(secrets_without_swarm),
        case!(join_is_refused).exclusive(),
        case!(leave_without_swarm),
        case!(unlock_without_swarm),
        case!(init_and_leave).exclusive(),
        case!(update).exclusive(),
        case!(tokens).exclusive(),
        case!(autolock).exclusive(),
        case!(nodes).exclusive(),
        case!(services).exclusive(),
        case!(service_update).exclusive(),
        case!(service_refusals).exclusive(),
        case!(tasks).exclusive(),
        case!(service_logs).exclusive(),
        case!(service_logs_of_terminal).exclusive(),
        case!(jobs).exclusive(),
        case!(secrets).exclusive(),
        case!(configs).exclusive(),
        case!(secret_and_config_in_service).exclusive(),
        case!(swarm_networks).exclusive(),
        case!(cluster_volumes).exclusive(),
        case!(swarm_events).exclusive(),
    ]
}

/// The words of the table, for the engine that has none.
const NO_SWARM: Outcome = Outcome::Differs("Podman has no swarm");

fn lacks_swarm(error: &Error) -> bool {
    matches!(error, Error::Api { status: 503, message, .. } if message.contains("Podman does not support"))
}

/// Makes a swarm of the engine, or ends the case with what it says that has none.
macro_rules! swarm {
    ($docker:expr) => {
        match init($docker, json!({})).await {
            Ok(node) => node,
            Err(error) if lacks_swarm(&error) => return NO_SWARM,
            Err(error) => panic!("{error:?}"),
        }
    };
}

async fn init(docker: &Docker, extra: Value) -> Result<ObjectId, Error> {
    let mut body = json!({ "ListenAddr": "127.0.0.1:0", "AdvertiseAddr": "127.0.0.1" });
    if let (Value::Object(body), Value::Object(extra)) = (&mut body, extra) {
        body.extend(extra);
    }
    docker.init_swarm(&serde_json::from_value(body).unwrap()).await
}

/// A service of the test image, whose tasks need no network of the swarm.
fn spec(cx: &CaseContext, prefix: &str, command: &[&str], container: Value) -> schema::ServiceSpec {
    let mut inner = json!({ "Image": "busybox:test", "Command": command, "StopGracePeriod": 1_000_000_000 });
    if let (Value::Object(inner), Value::Object(container)) = (&mut inner, container) {
        inner.extend(container);
    }
    serde_json::from_value(json!({
        "Name": cx.name(prefix),
        "Labels": { "web": "<b>" },
        "TaskTemplate": {
            "ContainerSpec": inner,
            "RestartPolicy": { "Condition": "none" },
            "Networks": [{ "Target": "host" }],
        },
        "Mode": { "Replicated": { "Replicas": 1 } },
        "EndpointSpec": { "Mode": "dnsrr" },
    }))
    .unwrap()
}

/// The first task of a service that got as far as `wanted`.
async fn task(docker: &Docker, service: &ObjectId, wanted: &[schema::TaskState]) -> schema::Task {
    let filters = Filters::default().with("service", service.as_str());
    let look = async {
        loop {
            let tasks = docker.list_tasks(&filters).await.unwrap();
            let there = |task: &schema::Task| {
                let state = task.status.as_ref().and_then(|status| status.state);
                state.is_some_and(|state| wanted.contains(&state))
            };
            if let Some(task) = tasks.into_iter().find(there) {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(task) => task,
        Err(_) => panic!("never {wanted:?}: {:?}", docker.list_tasks(&filters).await),
    }
}

const RUNNING: &[schema::TaskState] = &[schema::TaskState::RUNNING];
const COMPLETE: &[schema::TaskState] = &[schema::TaskState::COMPLETE];

async fn service(docker: &Docker, service: &ObjectId) -> (u64, schema::ServiceSpec) {
    let seen = docker.inspect_service(service, &InspectService::default()).await.unwrap();
    (seen.version.unwrap().index.unwrap(), seen.spec.unwrap())
}

async fn without_swarm(docker: Docker, _cx: &CaseContext) -> Outcome {
    let (nobody, none) = ("nobody".parse::<ObjectId>().unwrap(), Filters::default());
    let refusals = [
        docker.inspect_swarm().await.unwrap_err(),
        docker.swarm_unlock_key().await.unwrap_err(),
        docker.list_nodes(&none).await.unwrap_err(),
        docker.inspect_node(&nobody).await.unwrap_err(),
        docker.list_services(&ListServices::default()).await.unwrap_err(),
        docker.remove_service(&nobody).await.unwrap_err(),
        docker.list_tasks(&none).await.unwrap_err(),
        docker.inspect_task(&nobody).await.unwrap_err(),
        docker.list_configs(&none).await.unwrap_err(),
        docker.remove_config(&nobody).await.unwrap_err(),
    ];
    if refusals.iter().all(lacks_swarm) {
        return NO_SWARM;
    }
    for refused in refusals {
        assert!(refused.is_not_swarm_manager(), "{refused:?}");
        assert!(!refused.is_retryable() && !refused.is_unreachable(), "{refused:?}");
    }
    Outcome::Pass
}

/// Podman has secrets without a swarm.
async fn secrets_without_swarm(docker: Docker, cx: &CaseContext) -> Outcome {
    let spec = SecretSpec::default().name(cx.name("lone"));
    let id = match docker.create_secret(&spec, b"marker").await {
        Ok(id) => id,
        Err(refused) => {
            assert!(refused.is_not_swarm_manager(), "{refused:?}");
            assert!(docker.list_secrets(&Filters::default()).await.unwrap_err().is_not_swarm_manager());
            return Outcome::Pass;
        }
    };
    cx.remove_later(format!("/secrets/{id}"));
    assert!(docker.create_secret(&spec, b"marker").await.is_err(), "the name is taken");
    let seen = docker.inspect_secret(&id).await.unwrap();
    assert_eq!((seen.id.as_str(), &seen.spec.name), (id.as_str(), &spec.name));
    let listed = docker.list_secrets(&Filters::default().with("name", spec.name.as_str())).await.unwrap();
    assert_eq!(listed.len(), 1);
    docker.update_secret(&id, seen.version.index, &spec).await.unwrap_err();
    docker.remove_secret(&id).await.unwrap();
    assert!(docker.inspect_secret(&id).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn join_is_refused(docker: Docker, _cx: &CaseContext) -> Outcome {
    let join = JoinSwarm::new(Secret::new("SWMTKN-1-marker".into()), "127.0.0.1:1");
    let refused = docker.join_swarm(&join).await.unwrap_err();
    if lacks_swarm(&refused) {
        return NO_SWARM;
    }
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    assert!(refused.to_string().contains("join token"), "{refused}");
    assert!(!format!("{refused:?} {join:?}").contains("marker"), "a token is nowhere in words");
    Outcome::Pass
}

async fn leave_without_swarm(docker: Docker, _cx: &CaseContext) -> Outcome {
    let refused = docker.leave_swarm(false).await.unwrap_err();
    if lacks_swarm(&refused) {
        return NO_SWARM;
    }
    assert!(refused.is_not_swarm_manager(), "{refused:?}");
    Outcome::Pass
}

async fn unlock_without_swarm(docker: Docker, _cx: &CaseContext) -> Outcome {
    let refused = docker.unlock_swarm(&Secret::new("SWMKEY-1-marker".into())).await.unwrap_err();
    if lacks_swarm(&refused) {
        return NO_SWARM;
    }
    assert!(refused.is_not_swarm_manager(), "{refused:?}");
    assert!(!format!("{refused:?}").contains("marker"));
    Outcome::Pass
}

async fn init_and_leave(docker: Docker, _cx: &CaseContext) -> Outcome {
    let node = swarm!(&docker);
    let info = docker.system_info().await.unwrap().swarm.unwrap();
    assert_eq!(info.node_id.as_deref(), Some(node.as_str()));
    assert_eq!(info.local_node_state, Some(schema::LocalNodeState::ACTIVE));
    let again = init(&docker, json!({})).await.unwrap_err();
    assert!(again.to_string().contains("already part of a swarm"), "{again:?}");
    let refused = docker.leave_swarm(false).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    docker.leave_swarm(true).await.unwrap();
    assert!(docker.inspect_swarm().await.unwrap_err().is_not_swarm_manager());
    Outcome::Pass
}

async fn update(docker: Docker, _cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let before = docker.inspect_swarm().await.unwrap();
    let mut spec = before.spec.clone();
    spec.labels = Some([("colour".to_owned(), "<blue>".to_owned())].into());
    docker.update_swarm(before.version.index, &spec, &RotateTokens::default()).await.unwrap();
    let after = docker.inspect_swarm().await.unwrap();
    assert_eq!(after.spec.labels, spec.labels);
    assert!(after.version.index > before.version.index);
    assert_eq!(after.join_tokens, before.join_tokens);
    assert_eq!(after.id, before.id);
    let stale = docker.update_swarm(before.version.index, &spec, &RotateTokens::default()).await.unwrap_err();
    assert!(stale.is_out_of_sequence(), "{stale:?}");
    Outcome::Pass
}

async fn tokens(docker: Docker, _cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let before = docker.inspect_swarm().await.unwrap();
    let (worker, manager) = (before.join_tokens.worker.unwrap(), before.join_tokens.manager.unwrap());
    assert!(worker.expose().starts_with("SWMTKN-") && worker != manager);
    let rotate = RotateTokens::default().worker(true);
    docker.update_swarm(before.version.index, &before.spec, &rotate).await.unwrap();
    let after = docker.inspect_swarm().await.unwrap();
    assert_ne!(after.join_tokens.worker.as_ref(), Some(&worker));
    assert_eq!(after.join_tokens.manager, Some(manager));
    assert!(!format!("{after:?}").contains("SWMTKN"), "a swarm can be printed");
    // The engine joins no other swarm while it is in this one, whatever the token.
    let refused = docker.join_swarm(&JoinSwarm::new(worker, "127.0.0.1:1")).await.unwrap_err();
    assert!(refused.to_string().contains("already part of a swarm"), "{refused:?}");
    Outcome::Pass
}

async fn autolock(docker: Docker, _cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    assert_eq!(docker.swarm_unlock_key().await.unwrap(), None, "managers do not lock unless told to");
    let before = docker.inspect_swarm().await.unwrap();
    let mut spec = before.spec.clone();
    spec.encryption_config = Some(schema::SwarmSpecEncryptionConfig { auto_lock_managers: Some(true) });
    docker.update_swarm(before.version.index, &spec, &RotateTokens::default()).await.unwrap();
    let key = docker.swarm_unlock_key().await.unwrap().unwrap();
    assert!(key.expose().starts_with("SWMKEY-"));
    let now = docker.inspect_swarm().await.unwrap();
    docker.update_swarm(now.version.index, &now.spec, &RotateTokens::default().unlock_key(true)).await.unwrap();
    let rotated = docker.swarm_unlock_key().await.unwrap().unwrap();
    assert_ne!(key, rotated);
    let refused = docker.unlock_swarm(&rotated).await.unwrap_err();
    assert!(refused.is_conflict(), "nothing is locked before a restart: {refused:?}");
    Outcome::Pass
}

async fn nodes(docker: Docker, _cx: &CaseContext) -> Outcome {
    let id = swarm!(&docker);
    let node = docker.inspect_node(&id).await.unwrap();
    assert_eq!(node.id.as_deref(), Some(id.as_str()));
    let mut spec = node.spec.clone().unwrap();
    assert_eq!(spec.role, Some(schema::NodeSpecRoleEnum::MANAGER));
    spec.availability = Some(schema::NodeSpecAvailabilityEnum::DRAIN);
    spec.labels = Some([("zone".to_owned(), "a b".to_owned())].into());
    let version = node.version.unwrap().index.unwrap();
    docker.update_node(&id, version, &spec).await.unwrap();
    let filters = Filters::default().with("role", "manager").with("node.label", "zone=a b");
    let nodes = docker.list_nodes(&filters).await.unwrap();
    let [node] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!(node.spec.as_ref().unwrap().labels, spec.labels);
    assert_eq!(node.spec.as_ref().unwrap().availability, spec.availability);
    assert!(docker.list_nodes(&Filters::default().with("role", "worker")).await.unwrap().is_empty());
    let stale = docker.update_node(&id, version, &spec).await.unwrap_err();
    assert!(stale.is_out_of_sequence(), "{stale:?}");
    spec.role = Some(schema::NodeSpecRoleEnum::WORKER);
    let version = node.version.as_ref().unwrap().index.unwrap();
    let last = docker.update_node(&id, version, &spec).await.unwrap_err();
    assert!(matches!(last, Error::Api { .. }) && !last.is_out_of_sequence(), "the last manager stays one: {last:?}");
    let refused = docker.remove_node(&id, false).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    let nobody: ObjectId = "nobody".parse().unwrap();
    assert!(docker.inspect_node(&nobody).await.unwrap_err().is_not_found());
    assert!(docker.remove_node(&nobody, true).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn services(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let spec = spec(cx, "web", &["sleep", "600"], json!({}));
    let created = docker.create_service(&spec, None).await.unwrap();
    task(&docker, &created.id, RUNNING).await;
    let taken = docker.create_service(&spec, None).await.unwrap_err();
    assert!(taken.is_conflict(), "{taken:?}");
    let by_name: ObjectId = cx.name("web").parse().unwrap();
    let seen = docker.inspect_service(&by_name, &InspectService::default().insert_defaults(true)).await.unwrap();
    assert_eq!(seen.id.as_deref(), Some(created.id.as_str()));
    assert_eq!(seen.spec.as_ref().unwrap().labels, spec.labels);
    let options = ListServices::default().status(true).filters(Filters::default().with("mode", "replicated"));
    let listed = docker.list_services(&options).await.unwrap();
    let [row] = listed.as_slice() else { panic!("{listed:?}") };
    let status = row.service_status.as_ref().unwrap();
    assert_eq!((status.running_tasks, status.desired_tasks), (Some(1), Some(1)));
    assert!(docker.list_services(&ListServices::default().filters(cx.filters())).await.unwrap().is_empty());
    docker.remove_service(&by_name).await.unwrap();
    assert!(docker.inspect_service(&by_name, &InspectService::default()).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn service_update(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let id = docker.create_service(&spec(cx, "web", &["sleep", "600"], json!({})), None).await.unwrap().id;
    let replicas = |spec: &schema::ServiceSpec| spec.mode.as_ref()?.replicated.as_ref()?.replicas;
    let (version, before) = service(&docker, &id).await;
    let mut changed = before.clone();
    changed.mode = serde_json::from_value(json!({ "Replicated": { "Replicas": 0 } })).unwrap();
    docker.update_service(&id, version, &changed, &UpdateService::default()).await.unwrap();
    let stale = docker.update_service(&id, version, &changed, &UpdateService::default()).await.unwrap_err();
    assert!(stale.is_out_of_sequence(), "{stale:?}");
    let (version, after) = service(&docker, &id).await;
    assert_eq!(replicas(&after), Some(0));
    docker.update_service(&id, version, &after, &UpdateService::default().rollback(true)).await.unwrap();
    let (_, back) = service(&docker, &id).await;
    assert_eq!(replicas(&back), replicas(&before));
    assert_eq!(back, before, "nothing of a spec is lost on the way through this client");
    Outcome::Pass
}

async fn service_refusals(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let mut bad = spec(cx, "", &["true"], json!({}));
    bad.name = Some("../../etc".into());
    let refused = docker.create_service(&bad, None).await.unwrap_err();
    assert!(matches!(refused, Error::Api { status: 400, .. }), "{refused:?}");
    let nobody: ObjectId = cx.name("nobody").parse().unwrap();
    let good = spec(cx, "good", &["true"], json!({}));
    let found = docker.update_service(&nobody, 1, &good, &UpdateService::default()).await;
    assert!(found.unwrap_err().is_not_found());
    assert!(docker.remove_service(&nobody).await.unwrap_err().is_not_found());
    assert!(docker.inspect_task(&nobody).await.unwrap_err().is_not_found());
    let log: Result<Vec<_>, _> = docker.service_logs(&nobody, &ServiceLogOptions::default()).try_collect().await;
    assert!(log.unwrap_err().is_not_found());
    let log: Result<Vec<_>, _> = docker.task_logs(&nobody, &ServiceLogOptions::default()).try_collect().await;
    assert!(log.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn tasks(docker: Docker, cx: &CaseContext) -> Outcome {
    let node = swarm!(&docker);
    let id = docker.create_service(&spec(cx, "web", &["sleep", "600"], json!({})), None).await.unwrap().id;
    let task = task(&docker, &id, RUNNING).await;
    assert_eq!(task.node_id.as_deref(), Some(node.as_str()));
    let container = task.status.as_ref().unwrap().container_status.as_ref().unwrap().container_id.clone().unwrap();
    let inspected = docker.inspect_container(&container.parse().unwrap()).await.unwrap();
    assert_eq!(inspected.config.labels["com.docker.swarm.service.id"], id.as_str());
    let by_id: ObjectId = task.id.as_deref().unwrap().parse().unwrap();
    let again = docker.inspect_task(&by_id).await.unwrap();
    assert_eq!((again.id, again.service_id), (task.id, task.service_id));
    let shut = Filters::default().with("service", id.as_str()).with("desired-state", "shutdown");
    assert!(docker.list_tasks(&shut).await.unwrap().is_empty());
    Outcome::Pass
}

async fn lines(stream: futures_util::stream::BoxStream<'static, Result<Vec<LogLine>, Error>>) -> Vec<LogLine> {
    let batches: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect()).await.unwrap();
    batches.into_iter().flat_map(|batch| batch.unwrap()).collect()
}

async fn service_logs(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let script = ["sh", "-c", "echo one; echo bad >&2; echo last"];
    let id = docker.create_service(&spec(cx, "talk", &script, json!({})), None).await.unwrap().id;
    let task = task(&docker, &id, COMPLETE).await;
    let task_id: ObjectId = task.id.as_deref().unwrap().parse().unwrap();
    let options = ServiceLogOptions { timestamps: true, ..ServiceLogOptions::default() };
    let said = lines(docker.service_logs(&id, &options)).await;
    let of = |lines: &[LogLine], stderr| {
        lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!((of(&said, false), of(&said, true)), (vec!["one".into(), "last".into()], vec!["bad".to_owned()]));
    assert!(said.iter().all(|line| line.nanos.is_some()), "{said:?}");
    assert_eq!(of(&lines(docker.task_logs(&task_id, &options)).await, false), ["one", "last"]);
    let end = ServiceLogOptions { tail: Some(1), ..options.clone() };
    assert_eq!(lines(docker.service_logs(&id, &end)).await.len(), 1);
    let told = ServiceLogOptions { details: true, stderr: false, ..options };
    let mut said = lines(docker.service_logs(&id, &told)).await;
    let [_, line] = said.as_mut_slice() else { panic!("{said:?}") };
    let details = take_details(line);
    assert_eq!(line.text, "last");
    assert_eq!(details["com.docker.swarm.task.id"], task_id.as_str());
    assert_eq!(details["com.docker.swarm.service.id"], id.as_str());
    Outcome::Pass
}

async fn service_logs_of_terminal(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let spec = spec(cx, "talk", &["sh", "-c", "echo one; echo two >&2"], json!({ "TTY": true }));
    let id = docker.create_service(&spec, None).await.unwrap().id;
    task(&docker, &id, COMPLETE).await;
    let said = lines(docker.service_logs(&id, &ServiceLogOptions::default())).await;
    assert_eq!(said.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(said.iter().all(|line| !line.stderr));
    Outcome::Pass
}

async fn jobs(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    for (prefix, mode) in
        [("every", json!({ "GlobalJob": {} })), ("some", json!({ "ReplicatedJob": { "TotalCompletions": 2 } }))]
    {
        let mut spec = spec(cx, prefix, &["true"], json!({}));
        spec.mode = serde_json::from_value(mode).unwrap();
        let id = docker.create_service(&spec, None).await.unwrap().id;
        task(&docker, &id, COMPLETE).await;
        let seen = docker.inspect_service(&id, &InspectService::default()).await.unwrap();
        assert!(seen.job_status.is_some(), "{seen:?}");
        assert_eq!(seen.spec.unwrap().mode.unwrap().global_job.is_some(), prefix == "every");
    }
    Outcome::Pass
}

async fn secrets(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let spec = SecretSpec::default().name(cx.name("db")).labels([("a".to_owned(), "<b>".to_owned())]);
    let id = docker.create_secret(&spec, b"\x00marker").await.unwrap();
    assert!(docker.create_secret(&spec, b"x").await.unwrap_err().is_conflict());
    let seen = docker.inspect_secret(&id).await.unwrap();
    assert_eq!(SecretSpec::from(seen.spec.clone()), spec);
    assert!(seen.created.is_some());
    let mut changed = spec.clone();
    changed.labels.insert("c".into(), "d".into());
    docker.update_secret(&id, seen.version.index, &changed).await.unwrap();
    let stale = docker.update_secret(&id, seen.version.index, &changed).await.unwrap_err();
    assert!(stale.is_out_of_sequence(), "{stale:?}");
    let listed = docker.list_secrets(&Filters::default().with("label", "c=d")).await.unwrap();
    assert_eq!(listed.iter().map(|secret| secret.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    let now = listed.first().unwrap().version.index;
    let renamed = docker.update_secret(&id, now, &SecretSpec::default().name("other")).await.unwrap_err();
    assert!(matches!(renamed, Error::Api { .. }) && !renamed.is_out_of_sequence(), "{renamed:?}");
    let big = docker.create_secret(&SecretSpec::default().name("big"), &vec![b'x'; 600 * 1024]).await.unwrap_err();
    assert!(matches!(big, Error::Api { .. }) && !format!("{big:?}").contains("eHh4"), "{big:?}");
    docker.remove_secret(&id).await.unwrap();
    assert!(docker.inspect_secret(&id).await.unwrap_err().is_not_found());
    assert!(docker.remove_secret(&id).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn configs(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let data: Vec<u8> = (0..=255).collect();
    let spec = ConfigSpec::default().name(cx.name("site")).labels([("a".to_owned(), "<b>".to_owned())]);
    let id = docker.create_config(&spec, &data).await.unwrap();
    assert!(docker.create_config(&spec, b"x").await.unwrap_err().is_conflict());
    let seen = docker.inspect_config(&id).await.unwrap();
    assert_eq!(seen.spec.data, data, "every byte comes back");
    assert_eq!(ConfigSpec::from(seen.spec.clone()), spec);
    let mut changed = spec.clone();
    changed.labels.insert("c".into(), "d".into());
    docker.update_config(&id, seen.version.index, &changed).await.unwrap();
    let stale = docker.update_config(&id, seen.version.index, &changed).await.unwrap_err();
    assert!(stale.is_out_of_sequence(), "{stale:?}");
    let listed = docker.list_configs(&Filters::default().with("name", cx.name("site"))).await.unwrap();
    assert_eq!(listed.first().unwrap().spec.data, data, "an update of labels leaves the data alone");
    docker.remove_config(&id).await.unwrap();
    assert!(docker.inspect_config(&id).await.unwrap_err().is_not_found());
    assert!(docker.remove_config(&id).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn secret_and_config_in_service(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let secret = docker.create_secret(&SecretSpec::default().name("key"), b"hidden").await.unwrap();
    let config = docker.create_config(&ConfigSpec::default().name("site"), b"shown").await.unwrap();
    let file = |name: &str| json!({ "Name": name, "UID": "0", "GID": "0", "Mode": 0o444 });
    let extra = json!({
        "Secrets": [{ "SecretID": secret, "SecretName": "key", "File": file("key") }],
        "Configs": [{ "ConfigID": config, "ConfigName": "site", "File": file("/site") }],
    });
    let script = ["sh", "-c", "cat /run/secrets/key /site"];
    let id = docker.create_service(&spec(cx, "reads", &script, extra), None).await.unwrap().id;
    task(&docker, &id, COMPLETE).await;
    let said = lines(docker.service_logs(&id, &ServiceLogOptions::default())).await;
    assert_eq!(said.iter().map(|line| line.text.as_str()).collect::<String>(), "hiddenshown");
    for refused in [docker.remove_secret(&secret).await, docker.remove_config(&config).await] {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains(&cx.name("reads")), "who uses it is told: {refused:?}");
    }
    Outcome::Pass
}

async fn swarm_networks(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let body = json!({ "Name": cx.name("wide"), "Driver": "overlay", "Attachable": true, "Labels": cx.labels() });
    let created = docker.create_network(&serde_json::from_value(body).unwrap()).await.unwrap();
    let by_id: NetworkRef = created.id;
    let options = berth_engine::networks::InspectNetwork::default().scope("swarm").verbose(true);
    let seen = docker.inspect_network(&by_id, &options).await.unwrap();
    assert_eq!((seen.scope.as_str(), seen.attachable), ("swarm", true));
    let ingress: Vec<_> = docker.list_networks(&Filters::default().with("scope", "swarm")).await.unwrap();
    assert!(ingress.iter().any(|network| network.ingress), "{ingress:?}");
    docker.remove_network(&by_id).await.unwrap();
    Outcome::Pass
}

async fn cluster_volumes(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let access = json!({ "Scope": "single", "Sharing": "none", "MountVolume": {} });
    let spec =
        ClusterVolumeSpec { access_mode: serde_json::from_value(access).unwrap(), ..ClusterVolumeSpec::default() };
    let options = CreateVolume::default().name(cx.name("far")).driver("none-such").cluster(Some(spec));
    let made = match docker.create_volume(&options).await {
        Ok(made) => made,
        Err(Error::Unsupported { .. }) => return Outcome::Differs("there are no volumes of a cluster"),
        Err(error) => panic!("{error:?}"),
    };
    let cluster = made.cluster_volume.unwrap();
    let id: VolumeName = cluster.id.parse().unwrap();
    let spec = ClusterVolumeSpec { availability: "pause".into(), ..cluster.spec };
    docker.update_volume(&id, cluster.version.index, &spec).await.unwrap();
    let stale = docker.update_volume(&id, cluster.version.index, &spec).await.unwrap_err();
    assert!(stale.is_out_of_sequence(), "{stale:?}");
    assert_eq!(docker.inspect_volume(&id).await.unwrap().cluster_volume.unwrap().spec, spec);
    Outcome::Pass
}

async fn swarm_events(docker: Docker, cx: &CaseContext) -> Outcome {
    swarm!(&docker);
    let kinds = [EventKind::Secret, EventKind::Config, EventKind::Service];
    let options =
        EventOptions::default().since(Some(0)).kinds(kinds.clone()).filters(Filters::default().with("scope", "swarm"));
    let mut events = docker.events_of(&options);
    let secret = docker.create_secret(&SecretSpec::default().name("s"), b"hidden").await.unwrap();
    let config = docker.create_config(&ConfigSpec::default().name("c"), b"x").await.unwrap();
    let service = docker.create_service(&spec(cx, "web", &["true"], json!({})), None).await.unwrap().id;
    for (kind, id) in kinds.into_iter().zip([secret, config, service]) {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((event.verb(), event.id.as_str()), ("create", id.as_str()));
        assert_eq!(event.kind, kind);
    }
    Outcome::Pass
}
