//! The engine as a whole.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_engine::usage::UsageKind;
use berth_engine::volumes::CreateVolume;
use berth_engine::{ApiVersion, Docker, Error, Event, EventKind, EventOptions, schema};
use berth_testkit::engines::EngineKind;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};
use crate::images::{PASSWORD, login, registry};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(ping),
        case!(ping_head),
        case!(version),
        case!(full_version),
        case!(info),
        case!(full_info),
        case!(negotiates),
        case!(events),
        case!(events_until_now),
        case!(events_of_networks),
        case!(events_of_volumes),
        case!(usage_of_everything),
        case!(usage_of_volumes),
        case!(usage_of_images_and_containers),
        case!(login_is_tried),
        case!(login_is_refused),
        case!(login_without_registry),
    ]
}

async fn ping(docker: Docker, _cx: &CaseContext) -> Outcome {
    docker.ping().await.unwrap();
    Outcome::Pass
}

async fn version(docker: Docker, cx: &CaseContext) -> Outcome {
    let version = docker.version().await.unwrap();
    let expected = match cx.engine() {
        EngineKind::Bundled => "28.",
        EngineKind::Old => "20.10.",
        EngineKind::Podman => "4.",
    };
    assert!(version.version.starts_with(expected), "{}", version.version);
    assert_eq!((version.os.as_str(), version.arch.as_str()), ("linux", "amd64"));
    assert!(!version.kernel.is_empty());
    Outcome::Pass
}

async fn info(docker: Docker, _cx: &CaseContext) -> Outcome {
    let info = docker.info().await.unwrap();
    assert!(info.processors > 0 && info.memory_bytes > 0, "{info:?}");
    assert_eq!(info.platform(), "linux/amd64");
    assert!(!info.storage_driver.is_empty());
    Outcome::Pass
}

async fn negotiates(docker: Docker, cx: &CaseContext) -> Outcome {
    let minor = if cx.engine() == EngineKind::Bundled { 51 } else { 41 };
    assert_eq!(docker.negotiate().await.unwrap(), ApiVersion { major: 1, minor });
    Outcome::Pass
}

/// In the order in which they happened, and none of another's container.
async fn events(docker: Docker, cx: &CaseContext) -> Outcome {
    // From before the container on, so that it does not matter when the engine begins to listen.
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(2);
    let since = i64::try_from(before.as_nanos()).unwrap();
    let mut events = docker.events(Some(since), &cx.filters().with("type", "container"));
    let container = cx.running("told", &["true"], json!({})).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|action| action != "die") {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.kind, EventKind::Container);
        assert_eq!(event.id, container.as_str());
        seen.push(event.action);
    }
    seen.retain(|action| ["create", "start", "die"].contains(&action.as_str()));
    assert_eq!(seen, ["create", "start", "die"]);
    Outcome::Pass
}

async fn ping_head(docker: Docker, cx: &CaseContext) -> Outcome {
    let ping = docker.ping_head().await.unwrap();
    let minor = if cx.engine() == EngineKind::Podman { 41 } else { ping.api_version.unwrap().minor };
    assert_eq!(ping.api_version, Some(ApiVersion { major: 1, minor }));
    assert!(minor >= 41);
    if cx.engine() != EngineKind::Podman {
        assert_eq!(ping.os, "linux");
    }
    assert!(["", "1", "2"].contains(&ping.builder_version.as_str()), "{ping:?}");
    Outcome::Pass
}

async fn full_version(docker: Docker, _cx: &CaseContext) -> Outcome {
    let (short, full) = (docker.version().await.unwrap(), docker.system_version().await.unwrap());
    assert_eq!(full.version.as_deref(), Some(short.version.as_str()));
    assert_eq!(full.api_version.as_deref(), Some(short.api_version.as_str()));
    assert!(full.min_api_version.is_some());
    let components = full.components.unwrap();
    assert!(components.iter().any(|component| component.name.contains("Engine")), "{components:?}");
    Outcome::Pass
}

async fn full_info(docker: Docker, _cx: &CaseContext) -> Outcome {
    let (short, full) = (docker.info().await.unwrap(), docker.system_info().await.unwrap());
    assert_eq!(full.ncpu.and_then(|n| u32::try_from(n).ok()), Some(short.processors));
    assert_eq!(full.driver.as_deref(), Some(short.storage_driver.as_str()));
    assert!(full.images.is_some_and(|images| images > 0) && full.plugins.is_some());
    Outcome::Pass
}

fn nanos(moment: SystemTime) -> i64 {
    i64::try_from(moment.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

async fn collect(docker: &Docker, options: &EventOptions) -> Vec<Event> {
    let items: Vec<_> = tokio::time::timeout(PATIENCE, docker.events_of(options).collect()).await.unwrap();
    items.into_iter().map(|item| item.unwrap()).collect()
}

/// With an end that has come, the stream ends by itself.
async fn events_until_now(docker: Docker, cx: &CaseContext) -> Outcome {
    let since = nanos(SystemTime::now() - Duration::from_secs(2));
    let container = cx.running("ended", &["true"], json!({})).await;
    docker.wait_container(&container).await.unwrap();
    let options = EventOptions::default()
        .since(Some(since))
        .until(Some(nanos(SystemTime::now() + Duration::from_secs(1))))
        .kinds([EventKind::Container])
        .actions(["start".to_owned(), "create".to_owned()])
        .filters(cx.filters());
    let events = collect(&docker, &options).await;
    assert_eq!(events.iter().map(|event| event.action.as_str()).collect::<Vec<_>>(), ["create", "start"]);
    assert!(events.iter().all(|event| event.id == container.as_str() && event.time_nano >= since));
    Outcome::Pass
}

/// The actions told of one object within the last seconds.
async fn told(docker: &Docker, kind: EventKind, id: &str) -> Vec<String> {
    let options = EventOptions::default()
        .since(Some(nanos(SystemTime::now() - Duration::from_secs(30))))
        .until(Some(nanos(SystemTime::now() + Duration::from_secs(1))))
        .kinds([kind.clone()]);
    let mut events = collect(docker, &options).await;
    assert!(events.iter().all(|event| event.kind == kind), "{events:?}");
    events.retain(|event| event.id == id);
    events.into_iter().map(|event| event.action).collect()
}

async fn events_of_networks(docker: Docker, cx: &CaseContext) -> Outcome {
    let body = schema::NetworkCreateRequest { name: cx.name("told"), ..schema::NetworkCreateRequest::default() };
    let network = docker.create_network(&body).await.unwrap().id;
    docker.remove_network(&network).await.unwrap();
    assert_eq!(told(&docker, EventKind::Network, network.as_str()).await, ["create", "destroy"]);
    Outcome::Pass
}

async fn events_of_volumes(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = cx.name("told");
    docker.create_volume(&CreateVolume::default().name(name.clone())).await.unwrap();
    docker.remove_volume(&name.parse().unwrap(), false).await.unwrap();
    assert_eq!(told(&docker, EventKind::Volume, &name).await, ["create", "destroy"]);
    Outcome::Pass
}

/// Engines of old measure one at a time and refuse another meanwhile; Podman fails when a container goes away meanwhile.
async fn measured(docker: &Docker, kinds: &[UsageKind]) -> berth_engine::usage::DataUsage {
    loop {
        match docker.data_usage(kinds).await {
            Ok(usage) => return usage,
            Err(Error::Api { message, .. })
                if message.contains("already running") || message.contains("no such container") =>
            {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn usage_of_everything(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("fat", &["sh", "-c", "head -c 100000 /dev/zero >/big; sleep 600"], json!({})).await;
    let usage = tokio::time::timeout(PATIENCE, async {
        loop {
            let usage = measured(&docker, &[]).await;
            let mine = usage.containers.iter().find(|row| row.id == container.as_str()).cloned();
            if mine.is_some_and(|row| row.written.is_some_and(|bytes| bytes >= 100_000)) {
                return usage;
            }
        }
    })
    .await
    .unwrap();
    assert!(usage.layers_size.is_some_and(|bytes| bytes > 100_000), "{:?}", usage.layers_size);
    assert!(usage.images.iter().any(|image| image.size.is_some_and(|bytes| bytes > 100_000)), "{:?}", usage.images);
    Outcome::Pass
}

async fn usage_of_volumes(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = cx.name("filled");
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_value(cx.labels()).unwrap();
    let body = CreateVolume::default().name(name.clone()).labels(labels);
    docker.create_volume(&body).await.unwrap();
    let binds = json!({ "HostConfig": { "NetworkMode": "none", "Binds": [format!("{name}:/data")] } });
    let container = cx.running("fills", &["sh", "-c", "head -c 100000 /dev/zero >/data/big"], binds).await;
    docker.wait_container(&container).await.unwrap();
    let usage = measured(&docker, &[UsageKind::Volumes]).await;
    assert!(usage.images.is_empty() && usage.containers.is_empty() && usage.layers_size.is_none());
    let volume = usage.volumes.iter().find(|volume| volume.name == name).unwrap();
    let data = volume.usage_data.as_ref().unwrap();
    assert!(data.size.is_some_and(|bytes| bytes >= 100_000), "{data:?}");
    assert_eq!(data.ref_count, Some(1));
    Outcome::Pass
}

async fn usage_of_images_and_containers(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("thin", &["true"], json!({})).await;
    let usage = measured(&docker, &[UsageKind::Images, UsageKind::Containers, UsageKind::BuildCache]).await;
    assert!(usage.volumes.is_empty());
    let row = usage.containers.iter().find(|row| row.id == container.as_str()).unwrap();
    assert_eq!(row.image, "busybox:test");
    assert_eq!(row.state, berth_engine::ContainerState::Created);
    let image = usage.images.iter().find(|image| image.repo_tags.iter().any(|tag| tag == "busybox:test")).unwrap();
    assert!(image.containers.is_some_and(|containers| containers > 0), "{image:?}");
    Outcome::Pass
}

async fn login_is_tried(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, true).await;
    let accepted = docker.try_login(&login(&host, PASSWORD)).await.unwrap();
    assert_eq!(accepted.status, "Login Succeeded");
    assert_eq!(accepted.identity_token, None);
    Outcome::Pass
}

async fn login_is_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, true).await;
    let refused = docker.try_login(&login(&host, "marker-of-a-password")).await.unwrap_err();
    assert!(!format!("{refused:?}").contains("marker"), "no word of it anywhere");
    assert!(refused.is_permission_denied(), "{refused:?}");
    Outcome::Pass
}

async fn login_without_registry(docker: Docker, _cx: &CaseContext) -> Outcome {
    let refused = docker.try_login(&login("127.0.0.1:1", "marker-of-a-password")).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    assert!(refused.to_string().contains("refused"), "the reason is kept: {refused}");
    assert!(!format!("{refused:?}").contains("marker"));
    Outcome::Pass
}
