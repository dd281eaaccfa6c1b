//! Images: what there is, how they are made, and their ways in and out.

mod transfers;

use std::process::Command;

use berth_engine::images::{
    CommitContainer, ImageSummary, ImportImage, InspectImage, ListImages, LoadImages, PullImage, PushImage,
    RemoveImage, SearchImages,
};
use berth_engine::progress::{PullProgress, TransferEvent};
use berth_engine::reference::ImageReference;
use berth_engine::registry::{RegistryAuth, Secret};
use berth_engine::{Docker, Error, Filters, schema};
use berth_testkit::engines::EngineKind;
use berth_testkit::raw::encode;
use berth_testkit::registry_container;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use self::transfers::{
    login_is_given, login_is_needed, pull_again, pull_all_tags, pull_by_digest, pull_is_dropped, pull_missing,
    pull_without_registry, push_again, push_and_pull, push_missing,
};
use crate::harness::{Case, CaseContext, Outcome, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(list),
        case!(list_of_references),
        case!(list_of_dangling),
        case!(list_counts_what_is_shared),
        case!(list_before_and_since),
        case!(inspect),
        case!(inspect_not_found),
        case!(inspect_another_platform),
        case!(history),
        case!(history_not_found),
        case!(tag_and_untag),
        case!(tag_moves),
        case!(tag_not_found),
        case!(ids_are_no_names),
        case!(remove_by_id),
        case!(remove_refuses_used),
        case!(remove_forced),
        case!(remove_not_found),
        case!(prune),
        case!(commit),
        case!(commit_with_changes),
        case!(commit_with_configuration),
        case!(commit_not_found),
        case!(import),
        case!(import_of_changes),
        case!(import_of_garbage),
        case!(save_and_load),
        case!(save_many),
        case!(save_not_found),
        case!(save_is_dropped),
        case!(load_quietly),
        case!(load_of_garbage),
        case!(search_without_network),
        case!(pull_without_registry),
        case!(push_and_pull),
        case!(push_again),
        case!(pull_again),
        case!(pull_by_digest),
        case!(pull_all_tags),
        case!(pull_missing),
        case!(pull_is_dropped),
        case!(push_missing),
        case!(login_is_needed),
        case!(login_is_given),
    ]
}

pub(crate) const PASSWORD: &str = registry_container::LOGIN.1;

pub(crate) fn reference(text: &str) -> ImageReference {
    text.parse().unwrap()
}

/// A tar archive of these files.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output =
        Command::new("tar").args(["--numeric-owner", "-c", "-C"]).arg(folder.path()).arg(".").output().unwrap();
    output.stdout
}

/// An image with a layer that no other case has: named `prefix` and tagged `1`, with the case's label.
///
/// Podman 4 loses a layer that two images share while one of them is being removed, so that what is committed or built in
/// a case must stand on such a layer.
pub(crate) async fn image(cx: &CaseContext, prefix: &str) -> ImageReference {
    let name = format!("{}:1", cx.name(prefix));
    let script = format!("echo {name} > /tmp/name");
    let container = cx.running(&format!("made-{prefix}"), &["sh", "-c", &script], json!({})).await;
    cx.raw().post(&format!("/containers/{container}/wait"), &Value::Null).await.unwrap();
    // The labels are the container's. Podman heeds a command only here.
    let (repository, command) = (encode(&cx.name(prefix)), encode("CMD [\"true\"]"));
    let path = format!("/commit?container={container}&repo={repository}&tag=1&author={prefix}&changes={command}");
    cx.raw().post(&path, &json!({})).await.unwrap();
    cx.raw().delete(&format!("/containers/{container}?force=1")).await;
    cx.remove_later(format!("/images/{name}?force=1"));
    reference(&name)
}

/// A registry that the engine reaches, as `127.0.0.1:port`: a container on the engine's own network.
pub(crate) async fn registry(cx: &CaseContext, login: bool) -> String {
    registry_container::import(cx.socket()).await.unwrap();
    // Ports that the kernel gives away for nothing else; the engine's network is its own.
    let digits = u32::from_str_radix(cx.name("x").trim_start_matches("x-"), 16).unwrap();
    let host = format!("127.0.0.1:{}", 10_000 + digits % 20_000);
    let container = cx.running("registry", &[], registry_container::body(&host, login)).await;
    registry_container::listening(&cx.raw(), container.as_str()).await.unwrap();
    host
}

pub(crate) fn login(host: &str, password: &str) -> RegistryAuth {
    RegistryAuth::password(host.parse().unwrap(), registry_container::LOGIN.0, Secret::new(password.to_owned()))
        .unwrap()
}

/// All events of a transfer that ends well, and their sum.
async fn done(events: impl Stream<Item = Result<TransferEvent, Error>>) -> (Vec<TransferEvent>, PullProgress) {
    let mut progress = PullProgress::default();
    let mut seen = Vec::new();
    let mut events = Box::pin(events);
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        progress.apply(&event);
        seen.push(event);
    }
    (seen, progress)
}

async fn failure(events: impl Stream<Item = Result<TransferEvent, Error>>) -> Error {
    let all: Vec<_> = events.collect().await;
    let errors = all.iter().filter(|event| event.is_err()).count();
    assert_eq!(errors, 1, "one error, and nothing after it: {all:?}");
    all.into_iter().last().unwrap().unwrap_err()
}

async fn id(cx: &CaseContext, image: &ImageReference) -> String {
    cx.raw().get(&format!("/images/{image}/json")).await.unwrap()["Id"].as_str().unwrap().to_owned()
}

async fn exists(cx: &CaseContext, image: &str) -> bool {
    cx.raw().get(&format!("/images/{image}/json")).await.is_ok()
}

/// An image that a registry of this case has, and this engine no longer.
async fn pushed(docker: &Docker, cx: &CaseContext, host: &str) -> (ImageReference, PullProgress) {
    let image = image(cx, "far").await;
    let far = reference(&format!("{host}/{image}"));
    docker.tag_image(&image, &far).await.unwrap();
    let (_, progress) = done(docker.push_image(&far, &PushImage::default()).unwrap()).await;
    for name in [&far, &image] {
        cx.raw().delete(&format!("/images/{name}?force=1")).await;
    }
    cx.remove_later(format!("/images/{far}?force=1"));
    (far, progress)
}

/// A list. Podman 4 fails it while an image of another case is being removed.
async fn listed(docker: &Docker, cx: &CaseContext, options: &ListImages) -> Vec<ImageSummary> {
    loop {
        match docker.list_images(options).await {
            Err(Error::Api { status: 500, .. }) if cx.engine() == EngineKind::Podman => {}
            listed => return listed.unwrap(),
        }
    }
}

async fn list(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "listed").await;
    let found = listed(&docker, cx, &ListImages::default().filters(cx.filters())).await;
    assert_eq!(found.len(), 1);
    let row = &found[0];
    assert_eq!(row.id, id(cx, &image).await);
    assert!(row.tags.iter().any(|tag| tag.ends_with(image.as_str())), "{:?}", row.tags);
    assert!(row.labels.iter().any(|(key, value)| cx.label() == format!("{key}={value}")));
    assert!(row.size.unwrap() > 1_000_000 && row.created.unwrap() > 1.6e12);
    Outcome::Pass
}

async fn list_of_references(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "wanted").await;
    let filters = Filters::default().with("reference", format!("{}*", cx.name("wanted")));
    let found = listed(&docker, cx, &ListImages::default().filters(filters)).await;
    assert_eq!(found.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [id(cx, &image).await]);
    let nothing = Filters::default().with("reference", cx.name("unwanted"));
    assert!(listed(&docker, cx, &ListImages::default().filters(nothing)).await.is_empty());
    Outcome::Pass
}

async fn list_of_dangling(docker: Docker, cx: &CaseContext) -> Outcome {
    let base = image(cx, "named").await;
    let container = cx.container("nameless", &["true"], json!({ "Image": base.as_str() })).await;
    let config = schema::ContainerConfig { labels: Some(labels(cx)), ..schema::ContainerConfig::default() };
    let options = CommitContainer::default().config(config);
    let made = docker.commit_container(&container, &options).await.unwrap();
    let filters = cx.filters().with("dangling", "true");
    let found = listed(&docker, cx, &ListImages::default().filters(filters)).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].id.ends_with(made.trim_start_matches("sha256:")));
    assert!(found[0].tags.is_empty() && found[0].digests.is_empty(), "{:?}", found[0]);
    Outcome::Pass
}

fn labels(cx: &CaseContext) -> std::collections::HashMap<String, String> {
    serde_json::from_value(cx.labels()).unwrap()
}

async fn list_counts_what_is_shared(docker: Docker, cx: &CaseContext) -> Outcome {
    image(cx, "shared").await;
    let options = ListImages::default().filters(cx.filters()).shared_size(true).manifests(true);
    let found = listed(&docker, cx, &options).await;
    if docker.negotiate().await.unwrap().minor < 42 && found[0].shared_size.unwrap_or_default() == 0 {
        return Outcome::Differs("it does not count what images share");
    }
    assert!(found[0].shared_size.unwrap() > 1_000_000, "busybox's layer");
    Outcome::Pass
}

async fn list_before_and_since(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "late").await;
    let since = cx.filters().with("since", "busybox:test");
    assert_eq!(listed(&docker, cx, &ListImages::default().filters(since)).await.len(), 1);
    let before = cx.filters().with("before", image.as_str());
    assert!(listed(&docker, cx, &ListImages::default().filters(before)).await.is_empty());
    Outcome::Pass
}

async fn inspect(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "seen").await;
    let seen = docker.inspect_image(&image, &InspectImage::default()).await.unwrap();
    assert_eq!((seen.os.as_str(), seen.author.as_str()), ("linux", "seen"));
    assert_eq!(seen.config.cmd, ["true"]);
    assert_eq!(seen.id, id(cx, &image).await);
    assert!(!seen.root.layers.is_empty() && seen.size.unwrap() > 1_000_000 && seen.created.is_some());
    assert!(!seen.graph_driver.name.is_empty());
    let again = docker.inspect_image(&reference(&seen.id), &InspectImage::default()).await.unwrap();
    assert_eq!(again.id, seen.id);
    Outcome::Pass
}

async fn inspect_not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let missing = reference(&cx.name("missing"));
    let error = docker.inspect_image(&missing, &InspectImage::default()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    Outcome::Pass
}

async fn inspect_another_platform(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "ours").await;
    let other = berth_engine::registry::Platform { os: "linux".into(), architecture: "s390x".into(), variant: None };
    let error = docker.inspect_image(&image, &InspectImage::default().platform(other)).await.unwrap_err();
    match error {
        Error::Unsupported { .. } => Outcome::Differs("it cannot be asked for one platform of an image"),
        error => {
            assert!(error.is_not_found(), "{error}");
            Outcome::Pass
        }
    }
}

async fn history(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "old").await;
    let steps = docker.image_history(&image, None).await.unwrap();
    assert!(steps.len() >= 2, "{steps:?}");
    assert!(steps.iter().all(|step| step.created.is_some() && step.size.is_some()));
    assert!(steps.last().unwrap().size.unwrap() > 1_000_000);
    Outcome::Pass
}

async fn history_not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let error = docker.image_history(&reference(&cx.name("missing")), None).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    Outcome::Pass
}

async fn tag_and_untag(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "one").await;
    let other = reference(&format!("localhost/{}:two", cx.name("deep/other")));
    docker.tag_image(&image, &other).await.unwrap();
    assert_eq!(id(cx, &other).await, id(cx, &image).await);
    let removed = docker.remove_image(&other, &RemoveImage::default()).await.unwrap();
    assert!(removed.iter().all(|removed| removed.deleted.is_none()), "{removed:?}");
    assert!(removed.iter().any(|r| r.untagged.as_deref() == Some(other.as_str())), "{removed:?}");
    assert!(exists(cx, image.as_str()).await && !exists(cx, other.as_str()).await);
    Outcome::Pass
}

async fn tag_moves(docker: Docker, cx: &CaseContext) -> Outcome {
    let (first, second) = (image(cx, "first").await, image(cx, "second").await);
    docker.tag_image(&second, &first).await.unwrap();
    assert_eq!(id(cx, &first).await, id(cx, &second).await);
    Outcome::Pass
}

async fn tag_not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let error = docker.tag_image(&reference(&cx.name("missing")), &reference("x:1")).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    Outcome::Pass
}

async fn ids_are_no_names(docker: Docker, _cx: &CaseContext) -> Outcome {
    let id = reference(&format!("sha256:{}", "0".repeat(64)));
    let invalid = |error: Error| assert!(matches!(error, Error::InvalidReference { .. }), "{error}");
    invalid(docker.tag_image(&reference("busybox:test"), &id).await.unwrap_err());
    invalid(docker.pull_image(&id, &PullImage::default()).map(drop).unwrap_err());
    invalid(docker.push_image(&id, &PushImage::default()).map(drop).unwrap_err());
    Outcome::Pass
}

async fn remove_by_id(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "gone").await;
    let known = reference(&id(cx, &image).await);
    let removed = docker.remove_image(&known, &RemoveImage::default()).await.unwrap();
    let short = known.as_str().trim_start_matches("sha256:");
    assert!(removed.iter().any(|r| r.deleted.as_deref().is_some_and(|id| id.ends_with(short))), "{removed:?}");
    assert!(removed.iter().any(|r| r.untagged.is_some()), "{removed:?}");
    assert!(!exists(cx, image.as_str()).await);
    Outcome::Pass
}

async fn remove_refuses_used(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "used").await;
    let container = cx.running("user", &["sleep", "600"], json!({ "Image": image.as_str() })).await;
    let error = docker.remove_image(&image, &RemoveImage::default()).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert!(error.to_string().contains(&container.as_str()[..12]), "whose it is is told: {error}");
    Outcome::Pass
}

async fn remove_forced(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "forced").await;
    cx.container("stopped", &["true"], json!({ "Image": image.as_str() })).await;
    assert!(docker.remove_image(&image, &RemoveImage::default()).await.unwrap_err().is_conflict());
    docker.remove_image(&image, &RemoveImage::default().force(true)).await.unwrap();
    assert!(!exists(cx, image.as_str()).await);
    Outcome::Pass
}

async fn remove_not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let error = docker.remove_image(&reference(&cx.name("missing")), &RemoveImage::default()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    Outcome::Pass
}

async fn prune(docker: Docker, cx: &CaseContext) -> Outcome {
    let (kept, unnamed) = (image(cx, "kept").await, image(cx, "unnamed").await);
    let gone = id(cx, &unnamed).await;
    docker.tag_image(&kept, &unnamed).await.unwrap();
    let pruned = docker.prune_images(&cx.filters()).await.unwrap();
    let short = gone.trim_start_matches("sha256:");
    assert!(pruned.removed.iter().any(|r| r.deleted.as_deref().is_some_and(|id| id.ends_with(short))), "{pruned:?}");
    assert!(pruned.freed_bytes.is_some() && exists(cx, kept.as_str()).await && !exists(cx, &gone).await);
    Outcome::Pass
}

async fn commit(docker: Docker, cx: &CaseContext) -> Outcome {
    let base = image(cx, "base").await;
    let container = cx.running("changed", &["sleep", "600"], json!({ "Image": base.as_str() })).await;
    let name = reference(&format!("{}:2", cx.name("committed")));
    let options = CommitContainer::default().name(name.clone()).comment("a remark").author("a maker");
    let made = docker.commit_container(&container, &options).await.unwrap();
    assert!(id(cx, &name).await.ends_with(made.trim_start_matches("sha256:")));
    let seen = docker.inspect_image(&name, &InspectImage::default()).await.unwrap();
    assert_eq!((seen.comment.as_str(), seen.author.as_str()), ("a remark", "a maker"));
    let state = cx.raw().get(&format!("/containers/{container}/json")).await.unwrap();
    assert_eq!(state["State"]["Status"], "running", "it is thawed");
    Outcome::Pass
}

async fn commit_with_changes(docker: Docker, cx: &CaseContext) -> Outcome {
    let base = image(cx, "base").await;
    let container = cx.container("plain", &["true"], json!({ "Image": base.as_str() })).await;
    let name = reference(&format!("{}:1", cx.name("changed")));
    let changes = vec!["ENV COLOUR=blue".to_owned(), "EXPOSE 80".to_owned(), "CMD [\"sleep\", \"1\"]".to_owned()];
    docker.commit_container(&container, &CommitContainer::default().name(name.clone()).changes(changes)).await.unwrap();
    let seen = docker.inspect_image(&name, &InspectImage::default()).await.unwrap().config;
    assert!(seen.env.contains(&"COLOUR=blue".to_owned()), "{seen:?}");
    assert_eq!((seen.cmd, seen.exposed_ports), (vec!["sleep".into(), "1".into()], vec!["80/tcp".to_owned()]));
    Outcome::Pass
}

async fn commit_with_configuration(docker: Docker, cx: &CaseContext) -> Outcome {
    let base = image(cx, "base").await;
    let container = cx.container("bare", &["true"], json!({ "Image": base.as_str() })).await;
    let name = reference(&format!("{}:1", cx.name("configured")));
    cx.remove_later(format!("/images/{name}?force=1"));
    let config = schema::ContainerConfig {
        working_dir: Some("/tmp".into()),
        labels: Some(labels(cx)),
        ..schema::ContainerConfig::default()
    };
    docker.commit_container(&container, &CommitContainer::default().name(name.clone()).config(config)).await.unwrap();
    let seen = docker.inspect_image(&name, &InspectImage::default()).await.unwrap().config;
    assert_eq!(seen.working_dir, "/tmp");
    Outcome::Pass
}

async fn commit_not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.name("missing").parse().unwrap();
    let error = docker.commit_container(&container, &CommitContainer::default()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    Outcome::Pass
}

async fn import(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = format!("{}:3", cx.name("imported"));
    cx.remove_later(format!("/images/{name}?force=1"));
    let options = ImportImage::default().name(&*name).message("from afar");
    let made = docker.import_image(options, tar(&[("a", &name)])).await.unwrap();
    let seen = docker.inspect_image(&reference(&made), &InspectImage::default()).await.unwrap();
    cx.remove_later(format!("/images/{}?force=1", seen.id));
    assert_eq!(seen.comment, "from afar");
    assert!(seen.tags.iter().any(|tag| tag.ends_with(&name)), "named as asked: {:?}", seen.tags);
    Outcome::Pass
}

async fn import_of_changes(docker: Docker, cx: &CaseContext) -> Outcome {
    let options = ImportImage::default().name(cx.name("set")).changes(vec![
        "ENV A=b".to_owned(),
        "CMD [\"x\"]".to_owned(),
        format!("LABEL {}", cx.label()),
    ]);
    docker.import_image(options, tar(&[("a", &cx.name("b"))])).await.unwrap();
    let seen = docker.inspect_image(&reference(&cx.name("set")), &InspectImage::default()).await.unwrap().config;
    assert!(seen.env.contains(&"A=b".to_owned()) && seen.cmd == ["x"], "{seen:?}");
    Outcome::Pass
}

async fn import_of_garbage(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = cx.name("garbage");
    cx.remove_later(format!("/images/{name}?force=1"));
    let error = docker.import_image(&*name, vec![0xa5; 4096]).await.unwrap_err();
    assert!(matches!(error, Error::Stream(_) | Error::Api { .. }), "{error:?}");
    Outcome::Pass
}

async fn saved(docker: &Docker, image: &ImageReference) -> Vec<u8> {
    let parts: Vec<_> = docker.save_image(image, None).try_collect().await.unwrap();
    parts.concat()
}

fn loaded(events: &[TransferEvent]) -> Vec<&str> {
    events.iter().filter_map(|e| if let TransferEvent::Loaded(name) = e { Some(name.as_str()) } else { None }).collect()
}

async fn save_and_load(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "saved").await;
    let before = id(cx, &image).await;
    let archive = saved(&docker, &image).await;
    cx.raw().delete(&format!("/images/{image}?force=1")).await;
    assert!(!exists(cx, image.as_str()).await);
    let (events, _) = done(docker.load_images(archive, &LoadImages::default())).await;
    assert!(matches!(loaded(&events)[..], [name] if name.ends_with(image.as_str())), "{events:?}");
    assert_eq!(id(cx, &image).await, before);
    Outcome::Pass
}

async fn save_many(docker: Docker, cx: &CaseContext) -> Outcome {
    let images = [image(cx, "left").await, image(cx, "right").await];
    let parts: Vec<_> = docker.save_images(&images, None).try_collect().await.unwrap();
    for image in &images {
        cx.raw().delete(&format!("/images/{image}?force=1")).await;
    }
    let (events, _) = done(docker.load_images(parts.concat(), &LoadImages::default().quiet(true))).await;
    // Podman tells both in one line.
    let names = loaded(&events).join(",");
    assert!(images.iter().all(|image| names.contains(image.as_str())), "{events:?}");
    assert!(exists(cx, images[0].as_str()).await && exists(cx, images[1].as_str()).await);
    Outcome::Pass
}

async fn save_not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let missing = reference(&cx.name("missing"));
    let error = docker.save_image(&missing, None).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    Outcome::Pass
}

async fn save_is_dropped(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "cut").await;
    let mut bytes = Box::pin(docker.save_image(&image, None));
    assert!(!bytes.next().await.unwrap().unwrap().is_empty());
    drop(bytes);
    docker.ping().await.unwrap();
    Outcome::Pass
}

async fn load_quietly(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = image(cx, "quiet").await;
    let archive = saved(&docker, &image).await;
    let (events, progress) = done(docker.load_images(archive, &LoadImages::default().quiet(true))).await;
    assert!(progress.layers().is_empty() && loaded(&events).len() == 1, "{events:?}");
    Outcome::Pass
}

async fn load_of_garbage(docker: Docker, _cx: &CaseContext) -> Outcome {
    let error = failure(docker.load_images(vec![0xa5; 4096], &LoadImages::default())).await;
    assert!(matches!(error, Error::Stream(_) | Error::Api { .. }), "{error:?}");
    Outcome::Pass
}

async fn search_without_network(docker: Docker, _cx: &CaseContext) -> Outcome {
    let options = SearchImages::default().term("berth").limit(3_u32);
    let error = docker.search_images(&options).await.unwrap_err();
    assert!(matches!(error, Error::Api { status: 500, .. }), "{error:?}");
    Outcome::Pass
}
