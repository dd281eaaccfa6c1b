//! Pulls and pushes, with a registry that the engine reaches.

use berth_engine::Docker;
use berth_engine::images::{InspectImage, PullImage, PushImage};
use berth_engine::progress::{LayerPhase, LayerProgress};

use futures_util::StreamExt as _;

use super::{PASSWORD, done, exists, failure, image, login, pushed, reference, registry};
use crate::harness::{CaseContext, Outcome};

pub(super) async fn pull_without_registry(docker: Docker, _cx: &CaseContext) -> Outcome {
    let image = reference("127.0.0.1:9/nobody/there:1");
    let error = failure(docker.pull_image(&image, &PullImage::default()).unwrap()).await;
    assert!(error.to_string().contains("connection refused"), "{error}");
    Outcome::Pass
}

pub(super) async fn push_and_pull(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let (far, pushed) = pushed(&docker, cx, &host).await;
    let (events, pulled) = done(docker.pull_image(&far, &PullImage::default()).unwrap()).await;
    assert!(exists(cx, far.as_str()).await);
    assert!(pushed.digest.is_some(), "a push tells the digest");
    assert!(!pulled.layers().is_empty(), "{events:?}");
    assert!(pulled.layers().iter().all(|layer| layer.phase.is_final()), "every layer comes to an end: {events:?}");
    assert_eq!((&pulled.digest, pulled.changed), (&pushed.digest, Some(true)), "{events:?}");
    Outcome::Pass
}

pub(super) async fn push_again(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let (far, _) = pushed(&docker, cx, &host).await;
    done(docker.pull_image(&far, &PullImage::default()).unwrap()).await;
    let (events, progress) = done(docker.push_image(&far, &PushImage::default()).unwrap()).await;
    let there = |layer: &LayerProgress| layer.phase == LayerPhase::LayerAlreadyExists;
    assert!(!progress.layers().is_empty() && progress.layers().iter().all(there), "{events:?}");
    Outcome::Pass
}

pub(super) async fn pull_again(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let (far, _) = pushed(&docker, cx, &host).await;
    done(docker.pull_image(&far, &PullImage::default()).unwrap()).await;
    let (events, progress) = done(docker.pull_image(&far, &PullImage::default()).unwrap()).await;
    assert_eq!(progress.changed, Some(false), "{events:?}");
    Outcome::Pass
}

pub(super) async fn pull_by_digest(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let (far, pushed) = pushed(&docker, cx, &host).await;
    let by_digest = reference(&format!("{}@{}", far.without_tag().unwrap(), pushed.digest.unwrap()));
    done(docker.pull_image(&by_digest, &PullImage::default()).unwrap()).await;
    let seen = docker.inspect_image(&by_digest, &InspectImage::default()).await.unwrap();
    assert_eq!(seen.digests, [by_digest.as_str()]);
    cx.remove_later(format!("/images/{by_digest}?force=1"));
    Outcome::Pass
}

pub(super) async fn pull_all_tags(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let image = image(cx, "many").await;
    let repository = format!("{host}/{}", cx.name("many"));
    for tag in ["1", "2"] {
        let far = reference(&format!("{repository}:{tag}"));
        docker.tag_image(&image, &far).await.unwrap();
        done(docker.push_image(&far, &PushImage::default()).unwrap()).await;
        cx.raw().delete(&format!("/images/{far}")).await;
        cx.remove_later(format!("/images/{far}?force=1"));
    }
    let options = PullImage::default().all_tags(true);
    done(docker.pull_image(&reference(&repository), &options).unwrap()).await;
    assert!(exists(cx, &format!("{repository}:1")).await && exists(cx, &format!("{repository}:2")).await);
    Outcome::Pass
}

pub(super) async fn pull_missing(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let error =
        failure(docker.pull_image(&reference(&format!("{host}/no/such:1")), &PullImage::default()).unwrap()).await;
    let text = error.to_string().to_lowercase();
    assert!(text.contains("manifest") || text.contains("not found"), "{error}");
    assert!(error.is_not_found(), "it is told by its status: {error:?}");
    Outcome::Pass
}

pub(super) async fn pull_is_dropped(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let (far, _) = pushed(&docker, cx, &host).await;
    let mut events = Box::pin(docker.pull_image(&far, &PullImage::default()).unwrap());
    assert!(events.next().await.unwrap().is_ok());
    drop(events);
    // What it left behind must not keep the next one from it.
    done(docker.pull_image(&far, &PullImage::default()).unwrap()).await;
    assert!(exists(cx, far.as_str()).await);
    Outcome::Pass
}

pub(super) async fn push_missing(docker: Docker, cx: &CaseContext) -> Outcome {
    let image = reference(&format!("127.0.0.1:9/{}:1", cx.name("missing")));
    let error = failure(docker.push_image(&image, &PushImage::default()).unwrap()).await;
    assert!(error.to_string().contains("exist") || error.is_not_found(), "{error:?}");
    Outcome::Pass
}

pub(super) async fn login_is_needed(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, true).await;
    let image = image(cx, "locked").await;
    let far = reference(&format!("{host}/{image}"));
    docker.tag_image(&image, &far).await.unwrap();
    let wrong = Some(login(&host, "marker-wrong"));
    for login in [None, wrong] {
        let push = failure(docker.push_image(&far, &PushImage::default().login(login.clone())).unwrap()).await;
        let pull = failure(docker.pull_image(&far, &PullImage::default().login(login)).unwrap()).await;
        for error in [push, pull] {
            let text = format!("{error} {error:?}");
            assert!(text.contains("auth") && !text.contains("marker"), "{text}");
        }
    }
    Outcome::Pass
}

pub(super) async fn login_is_given(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, true).await;
    let image = image(cx, "opened").await;
    let far = reference(&format!("{host}/{image}"));
    docker.tag_image(&image, &far).await.unwrap();
    let login = login(&host, PASSWORD);
    let (pushed, _) = done(docker.push_image(&far, &PushImage::default().login(login.clone())).unwrap()).await;
    for name in [&far, &image] {
        cx.raw().delete(&format!("/images/{name}?force=1")).await;
    }
    let options = PullImage::default().login(login);
    let (pulled, _) = done(docker.pull_image(&far, &options).unwrap()).await;
    assert!(exists(cx, far.as_str()).await);
    let printed = format!("{pushed:?} {pulled:?} {options:?}");
    assert!(!printed.contains(PASSWORD), "{printed}");
    Outcome::Pass
}
