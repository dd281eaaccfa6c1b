//! Containers, from their creation to their removal.

use berth_engine::{
    Changed, ContainerRef, ContainerState, CreateContainer, Docker, Error, Filters, ListContainers, RemoveContainer,
    StopContainer, TerminalSize, WaitCondition, schema,
};
use serde_json::{Value, json};

use crate::exec::{read, until};
use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(lives_and_dies),
        case!(starts_and_stops_once),
        case!(list_filters),
        case!(inspect),
        case!(create_conflicts),
        case!(create_without_image),
        case!(not_found),
        case!(remove_refuses_running),
        case!(start_tells_why_not),
        case!(wait_tells_the_code),
        case!(list_size),
        case!(list_limit),
        case!(inspect_size),
        case!(inspect_as_it_is),
        case!(typed_body),
        case!(no_name),
        case!(platform_of_the_engine),
        case!(names_of_every_letter),
        case!(names_refused),
        case!(odd_texts),
        case!(ten_thousand_labels),
        case!(resize_not_running),
        case!(start_with_keys),
        case!(stop_with_a_signal),
        case!(stop_without_killing),
        case!(kill_with_signals),
        case!(kill_refusals),
        case!(update),
        case!(update_refused),
        case!(rename),
        case!(rename_refused),
        case!(pause_refused),
        case!(wait_for_the_next_exit),
        case!(wait_for_the_removal),
        case!(wait_for_nobody),
        case!(prune),
        case!(prune_without_label),
        case!(removes_anonymous_volumes),
        case!(removes_a_link),
        case!(made_anew_under_the_same_name),
        case!(exit_codes),
        case!(auto_remove),
        case!(health),
    ]
}

async fn state(docker: &Docker, container: &ContainerRef) -> ContainerState {
    docker.inspect_container(container).await.unwrap().state.status
}

async fn lives_and_dies(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("life", &["sleep", "600"], json!({})).await;
    assert_eq!(state(&docker, &container).await, ContainerState::Created);
    docker.start_container(&container).await.unwrap();
    docker.pause_container(&container).await.unwrap();
    assert_eq!(state(&docker, &container).await, ContainerState::Paused);
    docker.unpause_container(&container).await.unwrap();
    docker.restart_container(&container, Some(0)).await.unwrap();
    assert_eq!(state(&docker, &container).await, ContainerState::Running);
    docker.kill_container(&container, Some("SIGKILL")).await.unwrap();
    assert_eq!(docker.wait_container(&container).await.unwrap().status_code, 137);
    assert_eq!(state(&docker, &container).await, ContainerState::Exited);
    docker.remove_container(&container, &RemoveContainer::default()).await.unwrap();
    assert!(docker.inspect_container(&container).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn starts_and_stops_once(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("once", &["sleep", "600"], json!({})).await;
    assert_eq!(docker.start_container(&container).await.unwrap(), Changed::Yes);
    assert_eq!(docker.start_container(&container).await.unwrap(), Changed::Already);
    assert_eq!(docker.stop_container(&container, Some(0)).await.unwrap(), Changed::Yes);
    assert_eq!(docker.stop_container(&container, Some(0)).await.unwrap(), Changed::Already);
    Outcome::Pass
}

async fn list_filters(docker: Docker, cx: &CaseContext) -> Outcome {
    let one = cx.container("one", &["true"], json!({ "Labels": { "role": "one" } })).await;
    let two = cx.running("two", &["sleep", "600"], json!({ "Labels": { "role": "two" } })).await;
    let list = async |all, role: Option<&str>| {
        let mut filters = cx.filters();
        if let Some(role) = role {
            filters = filters.with("label", format!("role={role}"));
        }
        let options = ListContainers { all, filters, ..ListContainers::default() };
        let mut ids: Vec<String> =
            docker.list_containers(&options).await.unwrap().iter().map(|row| row.id.to_string()).collect();
        ids.sort();
        ids
    };
    let mut both = [one.to_string(), two.to_string()];
    both.sort();
    assert_eq!(list(true, None).await, both);
    assert_eq!(list(true, Some("one")).await, [one.to_string()]);
    assert_eq!(list(false, None).await, [two.to_string()]);
    assert!(list(true, Some("three")).await.is_empty());
    Outcome::Pass
}

async fn inspect(docker: Docker, cx: &CaseContext) -> Outcome {
    let extra = json!({ "Env": ["COLOUR=blue"], "WorkingDir": "/tmp", "Labels": { "a": "b" } });
    let container = cx.container("seen", &["sleep", "600"], extra).await;
    let by_name: ContainerRef = cx.name("seen").parse().unwrap();
    let seen = docker.inspect_container(&by_name).await.unwrap();
    assert_eq!(seen.id.to_string(), container.as_str());
    assert_eq!(seen.plain_name(), cx.name("seen"));
    // Podman spells it out.
    assert!(seen.config.image.ends_with("busybox:test"), "{}", seen.config.image);
    assert_eq!(seen.config.labels["a"], "b");
    assert!(seen.config.env.iter().any(|variable| variable == "COLOUR=blue"), "{:?}", seen.config.env);
    assert_eq!((seen.path.as_str(), seen.args.as_slice()), ("sleep", ["600".to_owned()].as_slice()));
    assert!(!seen.config.tty);
    Outcome::Pass
}

async fn create_conflicts(docker: Docker, cx: &CaseContext) -> Outcome {
    cx.container("taken", &["true"], json!({})).await;
    let body = cx.container_body(&["true"], json!({}));
    let refused = docker.create_container(&cx.name("taken"), &body).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    assert!(refused.to_string().contains(&cx.name("taken")), "who has it is told: {refused}");
    Outcome::Pass
}

async fn create_without_image(docker: Docker, cx: &CaseContext) -> Outcome {
    let body = cx.container_body(&["true"], json!({ "Image": "nowhere:none" }));
    let refused = docker.create_container(&cx.name("bare"), &body).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    Outcome::Pass
}

async fn not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.inspect_container(&nobody).await.unwrap_err().is_not_found());
    assert!(docker.start_container(&nobody).await.unwrap_err().is_not_found());
    assert!(docker.stop_container(&nobody, Some(0)).await.unwrap_err().is_not_found());
    assert!(docker.remove_container(&nobody, &RemoveContainer::default()).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn remove_refuses_running(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("busy", &["sleep", "600"], json!({})).await;
    let refused = docker.remove_container(&container, &RemoveContainer::default()).await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused}");
    assert!(refused.is_conflict(), "{refused}");
    docker.remove_container(&container, &RemoveContainer { force: true, volumes: false }).await.unwrap();
    Outcome::Pass
}

async fn start_tells_why_not(docker: Docker, cx: &CaseContext) -> Outcome {
    let broken = cx.container("broken", &["/no/such/program"], json!({})).await;
    let refused = docker.start_container(&broken).await.unwrap_err();
    assert!(refused.to_string().contains("o such file"), "the engine's reason is kept: {refused}");
    Outcome::Pass
}

async fn wait_tells_the_code(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("seven", &["sh", "-c", "exit 7"], json!({})).await;
    let exit = docker.wait_container(&container).await.unwrap();
    assert_eq!((exit.status_code, exit.error), (7, None));
    Outcome::Pass
}

async fn list_size(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("size", &["sh", "-c", "head -c 1000000 /dev/zero > /big; sleep 600"], json!({})).await;
    let list = async |size| {
        let options = ListContainers::default().all(true).filters(cx.filters()).size(size);
        docker.list_containers(&options).await.unwrap().remove(0)
    };
    assert_eq!(list(false).await.size_rw.filter(|size| *size > 0), None);
    while list(true).await.size_rw < Some(1_000_000) {}
    assert_eq!(list(true).await.id.to_string(), container.as_str());
    assert!(list(true).await.size_root_fs > Some(1_000_000));
    Outcome::Pass
}

async fn list_limit(docker: Docker, cx: &CaseContext) -> Outcome {
    for prefix in ["a", "b", "c"] {
        cx.container(prefix, &["true"], json!({})).await;
    }
    let options = ListContainers::default().all(true).limit(2).filters(cx.filters());
    let listed = docker.list_containers(&options).await.unwrap();
    let names: Vec<_> = listed.iter().flat_map(|row| row.names.clone()).collect();
    assert_eq!(names, [format!("/{}", cx.name("c")), format!("/{}", cx.name("b"))], "the newest");
    Outcome::Pass
}

async fn inspect_size(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("size", &["true"], json!({})).await;
    assert_eq!(docker.inspect_container(&container).await.unwrap().size_root_fs.filter(|size| *size > 0), None);
    assert!(docker.inspect_container_size(&container).await.unwrap().size_root_fs > Some(100_000));
    Outcome::Pass
}

async fn inspect_as_it_is(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("raw", &["true"], json!({})).await;
    let words: Value = docker.inspect_container_as(&container).await.unwrap();
    assert_eq!(words["Id"], container.as_str());
    let typed: schema::ContainerInspectResponse = docker.inspect_container_as(&container).await.unwrap();
    assert_eq!(typed.id.as_deref(), Some(container.as_str()));
    assert!(typed.config.unwrap().image.is_some_and(|image| image.ends_with("busybox:test")));
    Outcome::Pass
}

fn typed(cx: &CaseContext) -> schema::ContainerCreateBody {
    let labels =
        cx.labels().as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
    schema::ContainerCreateBody {
        image: Some("busybox:test".into()),
        cmd: Some(vec!["sleep".into(), "600".into()]),
        labels: Some(labels),
        host_config: Some(schema::HostConfig { network_mode: Some("none".into()), ..Default::default() }),
        ..Default::default()
    }
}

async fn typed_body(docker: Docker, cx: &CaseContext) -> Outcome {
    let mut body = typed(cx);
    body.working_dir = Some("/tmp".into());
    body.exposed_ports = Some(vec!["80/tcp".into()]);
    let host = body.host_config.as_mut().unwrap();
    host.memory = Some(64 << 20);
    host.cap_drop = Some(vec!["ALL".into()]);
    host.annotations = Some([("a".to_owned(), "b".to_owned())].into());
    let container = docker.create_container(&cx.name("typed"), &body).await.unwrap().into();
    let seen = docker.inspect_container(&container).await.unwrap();
    assert_eq!((seen.config.working_dir.as_str(), seen.host_config.memory), ("/tmp", 64 << 20));
    docker.start_container(&container).await.unwrap();
    assert_eq!(seen.config.exposed_ports, ["80/tcp"]);
    Outcome::Pass
}

async fn no_name(docker: Docker, cx: &CaseContext) -> Outcome {
    let created = docker.create_container_with(&CreateContainer::default(), &typed(cx)).await.unwrap();
    assert!(!docker.inspect_container(&created.id.into()).await.unwrap().plain_name().is_empty());
    Outcome::Pass
}

async fn platform_of_the_engine(docker: Docker, cx: &CaseContext) -> Outcome {
    let platform = docker.info().await.unwrap().platform();
    let options = CreateContainer::default().name(cx.name("here")).platform(platform);
    docker.create_container_with(&options, &typed(cx)).await.unwrap();
    let elsewhere = CreateContainer::default().name(cx.name("there")).platform("linux/s390x".to_owned());
    // Either refused, or made with a warning: never made silently.
    match docker.create_container_with(&elsewhere, &typed(cx)).await {
        Ok(created) => assert!(!created.warnings.is_empty(), "made without a warning"),
        Err(refused) => assert!(matches!(refused, Error::Api { .. }), "{refused:?}"),
    }
    Outcome::Pass
}

async fn names_of_every_letter(docker: Docker, cx: &CaseContext) -> Outcome {
    let letters: String = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("_.-".chars()).collect();
    let name = format!("{letters}-{}", cx.name("x"));
    docker.create_container(&name, &typed(cx)).await.unwrap();
    let by_name: ContainerRef = name.parse().unwrap();
    assert_eq!(docker.inspect_container(&by_name).await.unwrap().plain_name(), name);
    docker.start_container(&by_name).await.unwrap();
    let start: ContainerRef = docker.inspect_container(&by_name).await.unwrap().id.short().parse().unwrap();
    assert_eq!(docker.inspect_container(&start).await.unwrap().plain_name(), name, "by the start of its id");
    Outcome::Pass
}

async fn names_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("name", &["true"], json!({})).await;
    for bad in ["", "/x", "a b", "a/b", "../../version", "-x", "ü", "a?b", "a\r\nX: y", "%2e"] {
        assert!(bad.parse::<ContainerRef>().is_err(), "{bad}");
        let created = docker.create_container(bad, &typed(cx)).await;
        assert!(matches!(created, Err(Error::InvalidReference { .. })), "{bad}");
        let renamed = docker.rename_container(&container, bad).await;
        assert!(matches!(renamed, Err(Error::InvalidReference { .. })), "{bad}");
    }
    Outcome::Pass
}

async fn odd_texts(docker: Docker, cx: &CaseContext) -> Outcome {
    let odd = "a'b\"c $(x) `y` %s \n\t\u{1b}]52;c;x\u{7} ü\u{202e}\u{1f600} <script>&amp;\u{7f}";
    let extra =
        json!({ "Env": [format!("ODD={odd}"), "EMPTY="], "Labels": { odd: odd, "__proto__": "x", "constructor": "" } });
    let container = cx.container("odd", &["sh", "-c", "printf %s \"$ODD$1\"", "-", odd], extra).await;
    let seen = docker.inspect_container(&container).await.unwrap();
    assert!(seen.config.env.contains(&format!("ODD={odd}")));
    assert_eq!((seen.config.labels[odd].as_str(), seen.config.labels["__proto__"].as_str()), (odd, "x"));
    let attached = docker.attach_container(&container, &berth_engine::AttachContainer::output()).await.unwrap();
    docker.start_container(&container).await.unwrap();
    assert_eq!(read(attached.output).await.0, format!("{odd}{odd}"));
    Outcome::Pass
}

async fn ten_thousand_labels(docker: Docker, cx: &CaseContext) -> Outcome {
    let mut body = typed(cx);
    body.labels.as_mut().unwrap().extend((0..10_000).map(|n| (format!("label.{n}"), "x".repeat(100))));
    let container: ContainerRef = docker.create_container(&cx.name("labels"), &body).await.unwrap().into();
    assert_eq!(docker.inspect_container(&container).await.unwrap().config.labels.len(), 10_001);
    let listed = docker.list_containers(&ListContainers::default().all(true).filters(cx.filters())).await.unwrap();
    assert_eq!(listed[0].labels.len(), 10_001);
    Outcome::Pass
}

async fn resize_not_running(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("off", &["true"], json!({ "Tty": true })).await;
    let size = TerminalSize { rows: 1, columns: 1 };
    assert!(matches!(docker.resize_container(&container, size).await, Err(Error::Api { .. })));
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.resize_container(&nobody, size).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn start_with_keys(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("keys", &["sleep", "600"], json!({ "Tty": true })).await;
    assert_eq!(docker.start_container_with_keys(&container, "ctrl-x,x").await.unwrap(), Changed::Yes);
    Outcome::Pass
}

const TRAP: &str =
    "trap 'exit 11' TERM; trap 'exit 12' INT; trap 'exit 13' HUP; echo ready; while :; do sleep 0.1; done";

async fn trapped(docker: &Docker, cx: &CaseContext, prefix: &str) -> ContainerRef {
    let container = cx.container(prefix, &["sh", "-c", TRAP], json!({ "StopTimeout": 30 })).await;
    let mut attached = docker.attach_container(&container, &berth_engine::AttachContainer::output()).await.unwrap();
    docker.start_container(&container).await.unwrap();
    until(&mut attached.output, "ready").await;
    container
}

async fn stop_with_a_signal(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = trapped(&docker, cx, "trap").await;
    let options = StopContainer::default().timeout(30).signal("SIGINT".to_owned());
    docker.stop_container(&container, options.clone()).await.unwrap();
    assert_eq!(docker.inspect_container(&container).await.unwrap().state.exit_code, 12);
    docker.restart_container(&container, options).await.unwrap();
    Outcome::Pass
}

async fn stop_without_killing(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = trapped(&docker, cx, "trap").await;
    let options = StopContainer::default().never_kill(true);
    assert_eq!(docker.stop_container(&container, options).await.unwrap(), Changed::Yes);
    assert_eq!(docker.inspect_container(&container).await.unwrap().state.exit_code, 11);
    Outcome::Pass
}

async fn kill_with_signals(docker: Docker, cx: &CaseContext) -> Outcome {
    for (signal, code) in [(Some("SIGTERM"), 11), (Some("INT"), 12), (Some("1"), 13), (None, 137)] {
        let container = trapped(&docker, cx, &format!("kill-{code}")).await;
        docker.kill_container(&container, signal).await.unwrap();
        assert_eq!(docker.wait_container(&container).await.unwrap().status_code, code);
    }
    Outcome::Pass
}

async fn kill_refusals(docker: Docker, cx: &CaseContext) -> Outcome {
    let off = cx.container("off", &["true"], json!({})).await;
    let refused = docker.kill_container(&off, None).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    let on = cx.running("on", &["sleep", "600"], json!({})).await;
    let refused = docker.kill_container(&on, Some("SIGNOPE")).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    assert!(matches!(docker.kill_container(&on, Some("KILL&x=1")).await, Err(Error::InvalidReference { .. })));
    Outcome::Pass
}

async fn update(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("update", &["sleep", "600"], json!({})).await;
    let body = schema::ContainerUpdateBody {
        memory: Some(64 << 20),
        memory_swap: Some(128 << 20),
        cpu_shares: Some(512),
        restart_policy: Some(schema::RestartPolicy {
            name: Some(schema::RestartPolicyNameEnum::ON_FAILURE),
            maximum_retry_count: Some(3),
        }),
        ..Default::default()
    };
    docker.update_container(&container, &body).await.unwrap();
    let host = docker.inspect_container(&container).await.unwrap().host_config;
    assert_eq!((host.memory, host.cpu_shares), (64 << 20, 512));
    assert_eq!((host.restart_policy.name.as_str(), host.restart_policy.maximum_retry_count), ("on-failure", 3));
    Outcome::Pass
}

async fn update_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("update", &["sleep", "600"], json!({})).await;
    let refused = docker.update_container(&container, &json!({ "Memory": 1 })).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    assert_eq!(docker.inspect_container(&container).await.unwrap().host_config.memory, 0);
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.update_container(&nobody, &json!({ "CpuShares": 2 })).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn rename(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.running("before", &["sleep", "600"], json!({})).await;
    docker.rename_container(&container, &cx.name("after")).await.unwrap();
    assert_eq!(docker.inspect_container(&container).await.unwrap().plain_name(), cx.name("after"));
    let before: ContainerRef = cx.name("before").parse().unwrap();
    assert!(docker.inspect_container(&before).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn rename_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("one", &["true"], json!({})).await;
    cx.container("two", &["true"], json!({})).await;
    let refused = docker.rename_container(&container, &cx.name("two")).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    assert!(docker.rename_container(&nobody, &cx.name("three")).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn pause_refused(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("pause", &["sleep", "600"], json!({})).await;
    assert!(matches!(docker.pause_container(&container).await, Err(Error::Api { status: 409 | 500, .. })));
    docker.start_container(&container).await.unwrap();
    assert!(matches!(docker.unpause_container(&container).await, Err(Error::Api { status: 409 | 500, .. })));
    docker.pause_container(&container).await.unwrap();
    assert!(matches!(docker.pause_container(&container).await, Err(Error::Api { status: 409 | 500, .. })));
    docker.unpause_container(&container).await.unwrap();
    Outcome::Pass
}

async fn wait_for_the_next_exit(docker: Docker, cx: &CaseContext) -> Outcome {
    let container = cx.container("next", &["sh", "-c", "sleep 0.3; exit 9"], json!({})).await;
    let waiting = docker.wait_container_until(&container, WaitCondition::NextExit);
    let (exit, started) =
        futures_util::join!(tokio::time::timeout(PATIENCE, waiting), docker.start_container(&container));
    started.unwrap();
    assert_eq!(exit.unwrap().unwrap().status_code, 9);
    Outcome::Pass
}

async fn wait_for_the_removal(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = json!({ "NetworkMode": "none", "AutoRemove": true });
    let container = cx.running("removed", &["sh", "-c", "sleep 1; exit 6"], json!({ "HostConfig": host })).await;
    let waiting = docker.wait_container_until(&container, WaitCondition::Removed);
    let exit = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!((exit.status_code, exit.error), (6, None));
    assert!(docker.inspect_container(&container).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn wait_for_nobody(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: ContainerRef = cx.name("nobody").parse().unwrap();
    for condition in [WaitCondition::NotRunning, WaitCondition::NextExit, WaitCondition::Removed] {
        assert!(docker.wait_container_until(&nobody, condition).await.unwrap_err().is_not_found());
    }
    Outcome::Pass
}

async fn prune(docker: Docker, cx: &CaseContext) -> Outcome {
    let script = "head -c 1000000 /dev/zero > /big";
    let ended = cx.running("ended", &["sh", "-c", script], json!({})).await;
    docker.wait_container(&ended).await.unwrap();
    let running = cx.running("running", &["sleep", "600"], json!({})).await;
    let pruned = docker.prune_containers(&cx.filters()).await.unwrap();
    assert_eq!(pruned.containers, [ended.to_string()]);
    assert!(pruned.freed_bytes >= 1_000_000, "{}", pruned.freed_bytes);
    assert!(docker.inspect_container(&running).await.is_ok());
    let none = docker.prune_containers(&cx.filters()).await.unwrap();
    assert_eq!((none.containers.len(), none.freed_bytes), (0, 0));
    Outcome::Pass
}

async fn prune_without_label(docker: Docker, cx: &CaseContext) -> Outcome {
    let kept = cx.container("kept", &["true"], json!({ "Labels": { "keep": "1" } })).await;
    let gone = cx.container("gone", &["true"], json!({})).await;
    let pruned = docker.prune_containers(&cx.filters().with("label!", "keep")).await.unwrap();
    assert_eq!(pruned.containers, [gone.to_string()]);
    assert!(docker.inspect_container(&kept).await.is_ok());
    let refused = docker.prune_containers(&Filters::default().with("no-such-filter", "x")).await;
    assert!(matches!(refused, Err(Error::Api { .. })), "{refused:?}");
    Outcome::Pass
}

async fn removes_anonymous_volumes(docker: Docker, cx: &CaseContext) -> Outcome {
    for (prefix, volumes) in [("kept", false), ("gone", true)] {
        let container = cx.container(prefix, &["true"], json!({ "Volumes": { "/data": {} } })).await;
        let volume = docker.inspect_container(&container).await.unwrap().mounts[0].name.clone();
        cx.remove_later(format!("/volumes/{volume}?force=1"));
        docker.remove_container(&container, &RemoveContainer::default().volumes(volumes)).await.unwrap();
        assert_eq!(cx.raw().get(&format!("/volumes/{volume}")).await.is_err(), volumes);
    }
    Outcome::Pass
}

async fn removes_a_link(docker: Docker, cx: &CaseContext) -> Outcome {
    let other = cx.running("other", &["sleep", "600"], json!({ "HostConfig": { "NetworkMode": "bridge" } })).await;
    let host = json!({ "NetworkMode": "bridge", "Links": [format!("{}:alias", cx.name("other"))] });
    let one = cx.container("one", &["true"], json!({ "HostConfig": host })).await;
    let (by_name, alias): (ContainerRef, ContainerRef) = (cx.name("one").parse().unwrap(), "alias".parse().unwrap());
    docker.remove_link(&by_name, &alias).await.unwrap();
    let seen: Value = docker.inspect_container_as(&one).await.unwrap();
    assert!(seen["HostConfig"]["Links"].as_array().is_none_or(Vec::is_empty), "{}", seen["HostConfig"]["Links"]);
    assert!(docker.inspect_container(&other).await.is_ok());
    assert!(docker.remove_link(&by_name, &alias).await.is_err());
    Outcome::Pass
}

async fn made_anew_under_the_same_name(docker: Docker, cx: &CaseContext) -> Outcome {
    let name: ContainerRef = cx.name("same").parse().unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = docker.create_container(name.as_str(), &typed(cx)).await.unwrap();
        docker.start_container(&name).await.unwrap();
        assert_eq!(docker.inspect_container(&name).await.unwrap().id, id);
        docker.remove_container(&name, &RemoveContainer::default().force(true)).await.unwrap();
        assert!(docker.inspect_container(&id.into()).await.unwrap_err().is_not_found());
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    Outcome::Pass
}

async fn exit_codes(docker: Docker, cx: &CaseContext) -> Outcome {
    for code in [0, 1, 126, 127, 137, 255] {
        let container = cx.running(&format!("exit-{code}"), &["sh", "-c", &format!("exit {code}")], json!({})).await;
        assert_eq!(docker.wait_container(&container).await.unwrap().status_code, code);
        assert_eq!(docker.inspect_container(&container).await.unwrap().state.exit_code, code);
    }
    Outcome::Pass
}

async fn auto_remove(docker: Docker, cx: &CaseContext) -> Outcome {
    let host = json!({ "NetworkMode": "none", "AutoRemove": true });
    let container = cx.running("auto", &["true"], json!({ "HostConfig": host })).await;
    let gone = async {
        while !docker.inspect_container(&container).await.is_err_and(|error| error.is_not_found()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    Outcome::Pass
}

async fn health(docker: Docker, cx: &CaseContext) -> Outcome {
    let check = json!({ "Test": ["CMD-SHELL", "echo fine"], "Interval": 1_000_000_000_u64, "StartInterval": 1_000_000_000_u64 });
    let body = cx.container_body(&["sleep", "600"], json!({ "Healthcheck": check }));
    let container: ContainerRef = docker.create_container(&cx.name("health"), &body).await.unwrap().into();
    docker.start_container(&container).await.unwrap();
    let healthy = async {
        loop {
            let health = docker.inspect_container(&container).await.unwrap().state.health.unwrap_or_default();
            if health.status == "healthy" {
                return health;
            }
        }
    };
    let health = tokio::time::timeout(PATIENCE / 2, healthy).await.expect("it never was healthy");
    assert!(health.log.iter().any(|run| run.output.contains("fine")), "{health:?}");
    Outcome::Pass
}
