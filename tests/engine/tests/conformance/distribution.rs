//! What registries say, asked by the engine, and sessions.

use berth_engine::images::PushImage;
use berth_engine::session::Session;
use berth_engine::{Docker, Error};
use futures_util::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;

use crate::harness::{Case, CaseContext, Outcome, case};
use crate::images::{PASSWORD, image, login, reference, registry};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(inspect), case!(inspect_missing), case!(inspect_wants_login), case!(session), case!(session_is_checked)]
}

async fn inspect(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, true).await;
    let image = image(cx, "asked").await;
    let far = reference(&format!("{host}/{image}"));
    docker.tag_image(&image, &far).await.unwrap();
    cx.remove_later(format!("/images/{far}?force=1"));
    let login = login(&host, PASSWORD);
    let push = docker.push_image(&far, &PushImage::default().login(login.clone())).unwrap();
    push.try_collect::<Vec<_>>().await.unwrap();
    let seen = docker.inspect_distribution(&far, Some(&login)).await.unwrap();
    assert!(seen.descriptor.digest.starts_with("sha256:") && seen.descriptor.size > 0, "{seen:?}");
    assert_eq!((seen.platforms[0].os.as_str(), seen.platforms.len()), ("linux", 1));
    Outcome::Pass
}

async fn inspect_missing(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, false).await;
    let error = docker.inspect_distribution(&reference(&format!("{host}/no/such:1")), None).await.unwrap_err();
    assert!(error.to_string().contains("manifest unknown"), "{error}");
    Outcome::Pass
}

async fn inspect_wants_login(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = registry(cx, true).await;
    let wrong = login(&host, "marker-wrong");
    for login in [None, Some(&wrong)] {
        let error = docker.inspect_distribution(&reference(&format!("{host}/locked:1")), login).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("auth") && !text.contains("marker"), "{text}");
    }
    Outcome::Pass
}

async fn session(docker: Docker, cx: &CaseContext) -> Outcome {
    let session = Session::default()
        .id(cx.name("session"))
        .name("berth")
        .methods(vec!["/grpc.health.v1.Health/Check".to_owned()]);
    let mut opened = docker.open_session(&session).await.unwrap();
    let mut preface = [0; 24];
    opened.read_exact(&mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the engine is the client of HTTP/2");
    Outcome::Pass
}

async fn session_is_checked(docker: Docker, _cx: &CaseContext) -> Outcome {
    let error = docker.open_session(&Session::default().id("a\r\nb: c")).await.unwrap_err();
    assert!(matches!(error, Error::InvalidReference { .. }), "{error}");
    Outcome::Pass
}
