//! Builds: by the engine's call with both of its builders, and by buildx.

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_engine::build::{
    BuildEvent, BuildGraph, BuildImage, BuildSecret, Builder, Buildx, BuildxBuild, BuildxError, PruneBuilds, StepState,
};
use berth_engine::images::InspectImage;
use berth_engine::registry::Secret;
use berth_engine::{Docker, Endpoint, Error};
use futures_util::{Stream, StreamExt as _};

use crate::harness::{Case, CaseContext, Outcome, case};
use crate::images::{reference, tar};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(classic),
        case!(classic_options),
        case!(classic_cache),
        case!(classic_failure),
        case!(classic_is_dropped),
        case!(no_dockerfile),
        case!(broken_dockerfile),
        case!(garbage_as_context),
        case!(buildkit),
        case!(buildkit_options),
        case!(buildkit_failure),
        case!(buildkit_has_no_secrets),
        case!(prune).exclusive(),
        case!(buildx),
        case!(buildx_failure),
        case!(buildx_secret),
        case!(buildx_files),
        case!(buildx_is_cancelled),
    ]
}

/// With a layer that no other case has below all others; see [`crate::images::image`].
fn dockerfile(cx: &CaseContext, rest: &str) -> String {
    format!("FROM busybox:test AS base\nLABEL {}\nRUN echo {} > /tmp/name\n{rest}", cx.label(), cx.name("of"))
}

async fn run(events: impl Stream<Item = Result<BuildEvent, Error>>) -> (Vec<BuildEvent>, Option<Error>) {
    let mut events = Box::pin(events);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => seen.push(event),
            Err(error) => {
                assert!(events.next().await.is_none(), "nothing after an error");
                return (seen, Some(error));
            }
        }
    }
    (seen, None)
}

async fn build(docker: &Docker, options: &BuildImage, files: &[(&str, &str)]) -> (Vec<BuildEvent>, Option<Error>) {
    run(docker.build_image(options, tar(files)).unwrap()).await
}

fn graph(events: &[BuildEvent]) -> BuildGraph {
    let mut graph = BuildGraph::default();
    for event in events {
        if let BuildEvent::Trace(update) = event {
            graph.apply(update);
        }
    }
    graph
}

fn has_output(events: &[BuildEvent], text: &str) -> bool {
    events.iter().any(|event| matches!(event, BuildEvent::Output(line) if line == text))
}

fn tagged(cx: &CaseContext) -> BuildImage {
    BuildImage::default().tags(vec![reference(&cx.name("built"))])
}

async fn classic(docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN echo hello\nCOPY a /a\nCMD [\"cat\", \"/a\"]\n");
    let (events, error) = build(&docker, &tagged(cx), &[("Dockerfile", &file), ("a", "b")]).await;
    assert!(error.is_none(), "{error:?}");
    let steps: Vec<_> = events
        .iter()
        .filter_map(|e| if let BuildEvent::Step { number, of, .. } = e { Some((*number, *of)) } else { None })
        .collect();
    assert_eq!(steps, [(1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]);
    assert!(has_output(&events, "hello"), "{events:?}");
    let id = events.iter().find_map(|e| if let BuildEvent::Image(id) = e { Some(id.as_str()) } else { None }).unwrap();
    let seen = docker.inspect_image(&reference(&cx.name("built")), &InspectImage::default()).await.unwrap();
    assert_eq!((seen.id.as_str(), seen.config.cmd.as_slice()), (id, ["cat".to_owned(), "/a".to_owned()].as_slice()));
    let named = |e: &BuildEvent| matches!(e, BuildEvent::Tagged(name) if name.ends_with(&format!("{}:latest", cx.name("built"))));
    assert!(events.iter().any(named), "{events:?}");
    Outcome::Pass
}

async fn classic_options(docker: Docker, cx: &CaseContext) -> Outcome {
    let rest = "ARG WHO\nRUN echo \"for $WHO\" && cat /etc/hosts\nFROM base AS last\nRUN echo never\n";
    let options = tagged(cx)
        .dockerfile("other")
        .target("base")
        .build_args(BTreeMap::from([("WHO".to_owned(), Some("you & <me>".to_owned()))]))
        .labels(BTreeMap::from([("a".to_owned(), "b c".to_owned())]))
        .extra_hosts(vec!["far.test:192.0.2.7".to_owned(), "near.test:192.0.2.8".to_owned()])
        .network("none")
        .no_cache(true)
        .memory(200_000_000_u64)
        .remove_failed(true);
    let (events, error) = build(&docker, &options, &[("other", &dockerfile(cx, rest))]).await;
    assert!(error.is_none(), "{error:?}");
    assert!(has_output(&events, "for you & <me>") && !has_output(&events, "never"), "{events:?}");
    let hosts = |e: &BuildEvent| matches!(e, BuildEvent::Output(line) if line.contains("192.0.2.7") && line.contains("far.test"));
    assert!(events.iter().any(hosts), "{events:?}");
    let seen = docker.inspect_image(&reference(&cx.name("built")), &InspectImage::default()).await.unwrap();
    assert_eq!(seen.config.labels["a"], "b c");
    Outcome::Pass
}

async fn classic_cache(docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN echo once\n");
    let files = [("Dockerfile", file.as_str())];
    assert!(has_output(&build(&docker, &tagged(cx), &files).await.0, "once"));
    let (events, _) = build(&docker, &tagged(cx), &files).await;
    assert!(!has_output(&events, "once"), "{events:?}");
    assert!(has_output(&build(&docker, &tagged(cx).no_cache(true), &files).await.0, "once"));
    Outcome::Pass
}

async fn classic_failure(docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN echo before; exit 3\nRUN echo after\n");
    let (events, error) = build(&docker, &tagged(cx).remove_failed(true), &[("Dockerfile", &file)]).await;
    let error = error.unwrap();
    assert!(matches!(&error, Error::Stream(text) if text.contains('3')), "{error:?}");
    assert!(has_output(&events, "before") && !has_output(&events, "after"), "{events:?}");
    Outcome::Pass
}

async fn classic_is_dropped(docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN echo begun; sleep 600\n");
    let mut events = Box::pin(docker.build_image(&tagged(cx), tar(&[("Dockerfile", &file)])).unwrap());
    while !matches!(events.next().await.unwrap().unwrap(), BuildEvent::Output(line) if line == "begun") {}
    drop(events);
    // The container of the step has the label of the case.
    let filters = berth_testkit::raw::encode(&format!("{{\"label\":[\"{}\"]}}", cx.label()));
    while !cx.raw().get(&format!("/containers/json?filters={filters}")).await.unwrap().as_array().unwrap().is_empty() {}
    assert!(docker.inspect_image(&reference(&cx.name("built")), &InspectImage::default()).await.is_err());
    Outcome::Pass
}

async fn no_dockerfile(docker: Docker, cx: &CaseContext) -> Outcome {
    let (_, error) = build(&docker, &tagged(cx), &[("a", "b")]).await;
    let text = error.unwrap().to_string();
    assert!(text.contains("Dockerfile"), "{text}");
    Outcome::Pass
}

async fn broken_dockerfile(docker: Docker, cx: &CaseContext) -> Outcome {
    let (_, error) = build(&docker, &tagged(cx), &[("Dockerfile", "FROM busybox:test\nFLY away\n")]).await;
    let text = error.unwrap().to_string();
    assert!(text.to_lowercase().contains("fly"), "{text}");
    Outcome::Pass
}

async fn garbage_as_context(docker: Docker, cx: &CaseContext) -> Outcome {
    let (_, error) = run(docker.build_image(&tagged(cx), vec![0xa5; 4096]).unwrap()).await;
    assert!(matches!(error, Some(Error::Stream(_) | Error::Api { .. })), "{error:?}");
    Outcome::Pass
}

async fn buildkit(docker: Docker, cx: &CaseContext) -> Outcome {
    // Not what another case runs, whose cache would answer.
    let hello = cx.name("hello");
    let file = dockerfile(cx, &format!("RUN echo {hello}\nCOPY a /a\n"));
    let (events, error) =
        build(&docker, &tagged(cx).builder(Builder::BuildKit), &[("Dockerfile", &file), ("a", "b")]).await;
    assert!(error.is_none(), "{error:?}");
    let graph = graph(&events);
    let step = graph.vertices().iter().find(|vertex| vertex.name.contains(&hello));
    let step = step.unwrap_or_else(|| panic!("no graph: {events:?}"));
    assert!(matches!(step.state(), StepState::Done) && step.inputs.len() == 1, "{step:?}");
    assert!(step.output.iter().any(|line| line.text == hello), "{step:?}");
    assert!(graph.vertex(&step.inputs[0]).is_some());
    let (done, all) = graph.counts();
    assert!(done == all && all > 3, "{graph:?}");
    let seen = docker.inspect_image(&reference(&cx.name("built")), &InspectImage::default()).await.unwrap();
    let id = events.iter().find_map(|e| if let BuildEvent::Image(id) = e { Some(id.as_str()) } else { None });
    assert_eq!(id, Some(seen.id.as_str()), "it tells the id");
    Outcome::Pass
}

async fn buildkit_options(docker: Docker, cx: &CaseContext) -> Outcome {
    let rest = "ARG WHO\nRUN echo \"for $WHO\"\nFROM base AS last\nRUN echo never\n";
    let options = tagged(cx)
        .builder(Builder::BuildKit)
        .dockerfile("other")
        .target("base")
        .build_args(BTreeMap::from([("WHO".to_owned(), Some("you".to_owned()))]))
        .labels(BTreeMap::from([("a".to_owned(), "b c".to_owned())]))
        .network("none")
        .no_cache(true);
    let (events, error) = build(&docker, &options, &[("other", &dockerfile(cx, rest))]).await;
    assert!(error.is_none(), "{error:?}");
    let lines: Vec<String> =
        graph(&events).vertices().iter().flat_map(|v| v.output.iter().map(|line| line.text.clone())).collect();
    assert_eq!(lines, ["for you"]);
    let seen = docker.inspect_image(&reference(&cx.name("built")), &InspectImage::default()).await.unwrap();
    assert_eq!(seen.config.labels["a"], "b c");
    Outcome::Pass
}

async fn buildkit_failure(docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN echo before; exit 3\n");
    let (events, error) = build(&docker, &tagged(cx).builder(Builder::BuildKit), &[("Dockerfile", &file)]).await;
    assert!(matches!(&error, Some(Error::Stream(text)) if text.contains('3')), "{error:?}");
    let graph = graph(&events);
    let failed = graph.failed().unwrap_or_else(|| panic!("no graph: {events:?}"));
    assert!(failed.name.contains("exit 3") && failed.output[0].text == "before", "{failed:?}");
    Outcome::Pass
}

async fn buildkit_has_no_secrets(docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN --mount=type=secret,id=s,required=true cat /run/secrets/s\n");
    let (_, error) = build(&docker, &tagged(cx).builder(Builder::BuildKit), &[("Dockerfile", &file)]).await;
    let text = error.unwrap().to_string();
    assert!(text.contains("no active sessions"), "{text}");
    Outcome::Pass
}

async fn prune(docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN echo kept > /kept\n");
    build(&docker, &tagged(cx).builder(Builder::BuildKit), &[("Dockerfile", &file)]).await;
    cx.raw().delete(&format!("/images/{}?force=1", cx.name("built"))).await;
    let pruned = docker.prune_builds(&PruneBuilds::default().all(true)).await.unwrap();
    assert!(!pruned.removed.is_empty(), "{pruned:?}");
    assert!(docker.prune_builds(&PruneBuilds::default().all(true)).await.unwrap().removed.is_empty());
    Outcome::Pass
}

fn program(cx: &CaseContext) -> Buildx {
    let appliance = std::env::var_os("BERTH_APPLIANCE").expect("run the tests through `cargo xtask test engine`");
    let program = PathBuf::from(appliance).join("root/usr/libexec/docker/cli-plugins/docker-buildx");
    Buildx { program, endpoint: Endpoint::Unix(cx.socket().to_owned()) }
}

async fn buildx_run(
    cx: &CaseContext,
    options: BuildxBuild,
    file: &str,
) -> (BuildGraph, Result<Option<String>, BuildxError>) {
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), file).unwrap();
    std::fs::write(context.path().join("a"), "b").unwrap();
    let options = options.context(context.path()).tags(vec![reference(&cx.name("built"))]);
    let mut run = program(cx).start(&options).unwrap();
    let mut graph = BuildGraph::default();
    loop {
        match run.next().await {
            Ok(Some(update)) => graph.apply(&update),
            Ok(None) => return (graph, Ok(run.image().map(str::to_owned))),
            Err(error) => return (graph, Err(error)),
        }
    }
}

async fn buildx(docker: Docker, cx: &CaseContext) -> Outcome {
    let hello = cx.name("hello");
    let file = dockerfile(cx, &format!("RUN echo {hello}\nCOPY a /a\n"));
    let options = BuildxBuild::default().labels(BTreeMap::from([("a".to_owned(), "b c".to_owned())]));
    let (graph, end) = buildx_run(cx, options, &file).await;
    let id = end.unwrap().unwrap();
    let seen = docker.inspect_image(&reference(&cx.name("built")), &InspectImage::default()).await.unwrap();
    assert_eq!((seen.id, seen.config.labels["a"].as_str()), (id, "b c"));
    assert!(graph.vertices().iter().any(|v| v.output.iter().any(|line| line.text == hello)), "{graph:?}");
    Outcome::Pass
}

async fn buildx_failure(_docker: Docker, cx: &CaseContext) -> Outcome {
    let file = dockerfile(cx, "RUN echo before; exit 3\n");
    let (graph, end) = buildx_run(cx, BuildxBuild::default(), &file).await;
    assert!(
        matches!(&end, Err(BuildxError::Failed { code: Some(1), message }) if message.contains("exit code: 3")),
        "{end:?}"
    );
    assert!(graph.failed().unwrap().output.iter().any(|line| line.text == "before"));
    Outcome::Pass
}

async fn buildx_secret(_docker: Docker, cx: &CaseContext) -> Outcome {
    // BuildKit's cache does not look at secrets.
    let step = format!("RUN --mount=type=secret,id=s : {}; echo \"$(head -c 6 /run/secrets/s)...\"\n", cx.name("own"));
    let file = dockerfile(cx, &step);
    let secret = BuildSecret { id: "s".into(), value: Secret::new("marker-of-a-build".into()) };
    let seen = tokio::task::spawn_blocking(|| {
        // While it runs, nothing that any process was started with shows the secret.
        let mut looked = false;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            looked |= !arguments.is_empty();
            assert!(!String::from_utf8_lossy(&arguments).contains("marker-of-a-build"));
        }
        looked
    });
    let (graph, end) = buildx_run(cx, BuildxBuild::default().secrets(vec![secret]), &file).await;
    end.unwrap();
    assert!(seen.await.unwrap());
    assert!(graph.vertices().iter().any(|v| v.output.iter().any(|line| line.text == "marker...")), "{graph:?}");
    assert!(!format!("{graph:?}").contains("marker-of-a-build"));
    let history = cx.raw().get(&format!("/images/{}/history", cx.name("built"))).await.unwrap();
    assert!(!history.to_string().contains("marker"));
    Outcome::Pass
}

async fn buildx_files(_docker: Docker, cx: &CaseContext) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let mut output = std::ffi::OsString::from("type=local,dest=");
    output.push(folder.path());
    let options = BuildxBuild::default().outputs(vec![output]);
    let file = "FROM busybox:test AS make\nRUN echo made > /made\nFROM scratch\nCOPY --from=make /made /\n";
    let (_, end) = buildx_run(cx, options, file).await;
    end.unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("made")).unwrap(), "made\n");
    Outcome::Pass
}

async fn buildx_is_cancelled(docker: Docker, cx: &CaseContext) -> Outcome {
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), dockerfile(cx, "RUN echo begun; sleep 600\n")).unwrap();
    let options = BuildxBuild::default().context(context.path()).tags(vec![reference(&cx.name("built"))]);
    let mut run = program(cx).start(&options).unwrap();
    while !run.next().await.unwrap().unwrap().output.iter().any(|output| output.bytes == b"begun\n") {}
    run.cancel().await.unwrap();
    assert!(docker.inspect_image(&reference(&cx.name("built")), &InspectImage::default()).await.is_err());
    Outcome::Pass
}
