//! Volumes, from their creation to their removal.

use berth_engine::reference::VolumeName;
use berth_engine::volumes::{ClusterVolumeSpec, CreateVolume, PruneVolumes, Volume};
use berth_engine::{Docker, Error, Filters};
use serde_json::json;

use crate::harness::{Case, CaseContext, Outcome, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(create_inspect_remove),
        case!(name_of_the_engines_choice),
        case!(create_again_is_the_same),
        case!(list_filters),
        case!(hostile_labels),
        case!(options_are_kept),
        case!(in_use_is_not_removed),
        case!(force_removes_what_is_gone),
        case!(prune_all),
        case!(prune_by_several),
        case!(prune_spares_names),
        case!(not_found),
        case!(bad_name),
        case!(unknown_driver),
        case!(cluster_volume_without_swarm),
        case!(update_without_swarm),
    ]
}

fn body(cx: &CaseContext, prefix: &str) -> CreateVolume {
    CreateVolume::default().name(cx.name(prefix)).labels(serde_json::from_value::<Labels>(cx.labels()).unwrap())
}

type Labels = std::collections::BTreeMap<String, String>;

async fn volume(docker: &Docker, cx: &CaseContext, prefix: &str) -> VolumeName {
    docker.create_volume(&body(cx, prefix)).await.unwrap().name.parse().unwrap()
}

async fn create_inspect_remove(docker: Docker, cx: &CaseContext) -> Outcome {
    let made = docker.create_volume(&body(cx, "data")).await.unwrap();
    assert_eq!(
        (made.name.as_str(), made.driver.as_str(), made.scope.as_str()),
        (cx.name("data").as_str(), "local", "local")
    );
    let name: VolumeName = made.name.parse().unwrap();
    let seen = docker.inspect_volume(&name).await.unwrap();
    assert_eq!(Volume { status: made.status.clone(), ..seen.clone() }, made);
    assert!(seen.mount_point.starts_with('/'), "{}", seen.mount_point);
    assert!(seen.created.is_some_and(|moment| moment > 1.6e12), "{:?}", seen.created);
    docker.remove_volume(&name, false).await.unwrap();
    assert!(docker.inspect_volume(&name).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn name_of_the_engines_choice(docker: Docker, cx: &CaseContext) -> Outcome {
    let made = docker.create_volume(&body(cx, "").name("")).await.unwrap();
    assert_eq!(made.name.len(), 64, "{}", made.name);
    let name: VolumeName = made.name.parse().unwrap();
    docker.remove_volume(&name, false).await.unwrap();
    Outcome::Pass
}

async fn create_again_is_the_same(docker: Docker, cx: &CaseContext) -> Outcome {
    let body = body(cx, "same");
    let first = docker.create_volume(&body).await.unwrap();
    let second = docker.create_volume(&body).await.unwrap();
    assert_eq!((first.name, first.created), (second.name, second.created), "one of this name is what comes back");
    Outcome::Pass
}

async fn list_filters(docker: Docker, cx: &CaseContext) -> Outcome {
    let one = volume(&docker, cx, "one").await;
    let two = volume(&docker, cx, "two").await;
    cx.container(
        "user",
        &["true"],
        json!({ "HostConfig": { "NetworkMode": "none", "Binds": [format!("{two}:/data")] } }),
    )
    .await;
    let names = async |filters: Filters| {
        let list = docker.list_volumes(&filters).await.unwrap();
        assert!(list.warnings.is_empty(), "{:?}", list.warnings);
        let mut names: Vec<String> = list.volumes.into_iter().map(|volume| volume.name).collect();
        names.sort();
        names
    };
    assert_eq!(names(cx.filters()).await, [one.to_string(), two.to_string()]);
    assert_eq!(names(cx.filters().with("dangling", "true")).await, [one.to_string()]);
    assert_eq!(names(Filters::default().with("name", two.as_str())).await, [two.to_string()]);
    assert!(names(cx.filters().with("driver", "none-such")).await.is_empty());
    Outcome::Pass
}

async fn hostile_labels(docker: Docker, cx: &CaseContext) -> Outcome {
    let odd = json!({ "__proto__": "x", "a\u{202e}b": "\u{1b}]52;c;x\u{7}", "<svg onload=x>": "../../etc" });
    let labels: Labels = serde_json::from_value(odd.clone()).unwrap();
    let made = docker.create_volume(&body(cx, "odd").labels(labels)).await.unwrap();
    cx.remove_later(format!("/volumes/{}", made.name));
    let seen = docker.inspect_volume(&made.name.parse().unwrap()).await.unwrap();
    assert_eq!(serde_json::to_value(&seen.labels).unwrap(), odd);
    Outcome::Pass
}

async fn options_are_kept(docker: Docker, cx: &CaseContext) -> Outcome {
    let pairs = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "noexec")];
    let options: Labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let made = docker.create_volume(&body(cx, "memory").driver_options(options.clone())).await.unwrap();
    let seen = docker.inspect_volume(&made.name.parse().unwrap()).await.unwrap();
    assert_eq!(seen.options, options);
    let refused = docker
        .create_volume(&body(cx, "bad").driver_options([("no-such".to_owned(), "x".to_owned())]))
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    Outcome::Pass
}

async fn in_use_is_not_removed(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = volume(&docker, cx, "busy").await;
    let binds = json!({ "HostConfig": { "NetworkMode": "none", "Binds": [format!("{name}:/data")] } });
    let user = cx.container("user", &["true"], binds).await;
    let refused = docker.remove_volume(&name, false).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused:?}");
    assert!(refused.to_string().contains(user.as_str()), "who uses it is told: {refused}");
    Outcome::Pass
}

async fn force_removes_what_is_gone(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: VolumeName = cx.name("nobody").parse().unwrap();
    docker.remove_volume(&nobody, true).await.unwrap();
    Outcome::Pass
}

async fn prune_all(docker: Docker, cx: &CaseContext) -> Outcome {
    let used = volume(&docker, cx, "used").await;
    let idle = volume(&docker, cx, "idle").await;
    let binds = json!({ "HostConfig": { "NetworkMode": "none", "Binds": [format!("{used}:/data")] } });
    cx.container("user", &["true"], binds).await;
    let pruned = docker.prune_volumes(&PruneVolumes::default().all(true).filters(cx.filters())).await.unwrap();
    assert_eq!(pruned.removed, [idle.to_string()]);
    docker.inspect_volume(&used).await.unwrap();
    Outcome::Pass
}

/// What fits one filter alone stays, or the call is not made.
async fn prune_by_several(docker: Docker, cx: &CaseContext) -> Outcome {
    let one = volume(&docker, cx, "one").await;
    let mut options = body(cx, "two");
    options.labels.insert("b".into(), "2".into());
    let two = docker.create_volume(&options).await.unwrap().name;
    let options = PruneVolumes::default().all(true).filters(cx.filters().with("label", "b=2"));
    let result = docker.prune_volumes(&options).await;
    docker.inspect_volume(&one).await.unwrap();
    match result {
        Ok(pruned) => {
            assert_eq!(pruned.removed, [two]);
            Outcome::Pass
        }
        Err(Error::Unsupported { .. }) => Outcome::Differs("what fits any of the filters is pruned"),
        Err(error) => panic!("{error:?}"),
    }
}

/// On an engine that would remove volumes with names as well, the call is not made.
async fn prune_spares_names(docker: Docker, cx: &CaseContext) -> Outcome {
    let named = volume(&docker, cx, "named").await;
    let result = docker.prune_volumes(&PruneVolumes::default().filters(cx.filters())).await;
    docker.inspect_volume(&named).await.unwrap();
    match result {
        Ok(pruned) => {
            assert!(pruned.removed.is_empty(), "{pruned:?}");
            Outcome::Pass
        }
        Err(Error::Unsupported { .. }) => Outcome::Differs("volumes with names are pruned like any other"),
        Err(error) => panic!("{error:?}"),
    }
}

async fn not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: VolumeName = cx.name("nobody").parse().unwrap();
    assert!(docker.inspect_volume(&nobody).await.unwrap_err().is_not_found());
    assert!(docker.remove_volume(&nobody, false).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn bad_name(docker: Docker, cx: &CaseContext) -> Outcome {
    let refused = docker.create_volume(&body(cx, "x").name("../../etc")).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    Outcome::Pass
}

async fn unknown_driver(docker: Docker, cx: &CaseContext) -> Outcome {
    let refused = docker.create_volume(&body(cx, "odd").driver("no-such-driver")).await.unwrap_err();
    assert!(matches!(refused, Error::Api { status: 400..=599, .. }), "{refused:?}");
    assert!(refused.to_string().contains("no-such-driver"), "{refused}");
    Outcome::Pass
}

async fn cluster_volume_without_swarm(docker: Docker, cx: &CaseContext) -> Outcome {
    let spec = ClusterVolumeSpec { group: "g".into(), ..ClusterVolumeSpec::default() };
    let body = body(cx, "far").driver("no-such-driver").cluster(Some(spec));
    match docker.create_volume(&body).await.unwrap_err() {
        Error::Unsupported { what, .. } => {
            assert!(what.contains("ClusterVolumeSpec"), "{what}");
            Outcome::Differs("there are no volumes of a cluster")
        }
        error => {
            assert!(error.is_not_swarm_manager(), "{error:?}");
            Outcome::Pass
        }
    }
}

async fn update_without_swarm(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = volume(&docker, cx, "near").await;
    match docker.update_volume(&name, 1, &ClusterVolumeSpec::default()).await.unwrap_err() {
        Error::Unsupported { .. } => Outcome::Differs("there are no volumes of a cluster"),
        error => {
            assert!(error.is_not_swarm_manager(), "{error:?}");
            Outcome::Pass
        }
    }
}
