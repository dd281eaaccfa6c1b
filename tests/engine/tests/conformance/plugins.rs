//! Plugins. They can have no label, so that each case removes its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use berth_engine::plugins::PullPlugin;
use berth_engine::progress::TransferEvent;
use berth_engine::reference::PluginName;
use berth_engine::registry::RegistryAuth;
use berth_engine::{Docker, Error, Filters};
use berth_testkit::engines::EngineKind;
use berth_testkit::registry::found;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;

use crate::harness::{Case, CaseContext, Outcome, PATIENCE, case};
use crate::images::{PASSWORD, login, registry};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(create_inspect_remove),
        case!(create_conflicts),
        case!(create_of_nonsense),
        case!(list_filters),
        case!(set),
        case!(set_refuses),
        case!(enable_and_disable),
        case!(enable_tells_why_not),
        case!(disable_refuses_disabled),
        case!(remove_refuses_enabled),
        case!(push_and_pull),
        case!(pull_needs_its_privileges),
        case!(pull_with_login),
        case!(upgrade),
        case!(push_without_registry),
        case!(pull_without_registry),
        case!(not_found),
    ]
}

static MADE: AtomicU32 = AtomicU32::new(0);

/// What makes a plugin of `files`, each with where it is on this machine. No two are the same: engines mix up plugins of the same content that
/// are made and removed at the same time.
fn archive(cx: &CaseContext, entrypoint: &[&str], files: &[(&str, PathBuf)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("rootfs");
    std::fs::create_dir(&root).unwrap();
    for (file, source) in files {
        let place = root.join(file);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(source, place).unwrap();
    }
    let config = "version: 0.1\nstorage: {inmemory: {}}\nhttp: {net: unix, addr: /run/docker/plugins/p.sock}\n";
    std::fs::write(root.join("listen.yml"), config).unwrap();
    let made = MADE.fetch_add(1, Ordering::Relaxed).to_string();
    std::fs::write(root.join("unique"), cx.name(&made)).unwrap();
    let config = json!({
        "description": "<b>for a test</b>", "documentation": cx.name(&made),
        "interface": { "types": ["berth.test/1.0"], "socket": "p.sock" },
        "entrypoint": entrypoint, "workdir": "/", "network": { "type": "host" },
        "env": [
            { "name": "LEVEL", "description": "how loud", "settable": ["value"], "value": "1" },
            { "name": "FIXED", "description": "", "settable": [], "value": "2" },
        ],
        "linux": { "capabilities": ["CAP_SYS_ADMIN"] },
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut command = Command::new("tar");
    let output = command.args(["--numeric-owner", "-c", "-C"]).arg(folder.path()).arg(".").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// One that cannot run, since there is nothing in it.
fn idle(cx: &CaseContext) -> Vec<u8> {
    archive(cx, &["/no/such/program"], &[])
}

/// One that listens on its socket, which is all that an engine wants of a kind it does not know.
fn listening(cx: &CaseContext) -> Vec<u8> {
    let program = found().unwrap();
    let [loader, library] = ["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"];
    let here = |file: &str| Path::new("/").join(file);
    let files = [("usr/bin/docker-registry", program), (loader, here(loader)), (library, here(library))];
    archive(cx, &["/usr/bin/docker-registry", "serve", "/listen.yml"], &files)
}

fn named(cx: &CaseContext, text: &str) -> PluginName {
    cx.remove_later(format!("/plugins/{text}?force=1"));
    text.parse().unwrap()
}

async fn plugin(docker: &Docker, cx: &CaseContext, archive: Vec<u8>) -> PluginName {
    let name = named(cx, &cx.name("plugin"));
    docker.create_plugin(&name, archive).await.unwrap();
    name
}

async fn to_the_end(stream: impl Stream<Item = Result<TransferEvent, Error>>) -> Result<Vec<TransferEvent>, Error> {
    let items: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect()).await.unwrap();
    items.into_iter().collect()
}

async fn create_inspect_remove(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, idle(cx)).await;
    let seen = docker.inspect_plugin(&name).await.unwrap();
    assert_eq!(seen.name, format!("{name}:latest"));
    assert_eq!(seen.config.description, "<b>for a test</b>");
    assert_eq!(seen.config.interface.types, ["berth.test/1.0"]);
    assert_eq!(seen.config.interface.socket, "p.sock");
    assert_eq!(seen.config.entrypoint, ["/no/such/program"]);
    assert_eq!((seen.config.network.kind.as_str(), seen.enabled), ("host", false));
    assert_eq!(seen.config.linux.capabilities, ["CAP_SYS_ADMIN"]);
    assert_eq!(seen.settings.env, ["LEVEL=1", "FIXED=2"]);
    let by_id: PluginName = seen.id.parse().unwrap();
    assert_eq!(docker.inspect_plugin(&by_id).await.unwrap(), seen);
    docker.remove_plugin(&name, false).await.unwrap();
    assert!(docker.inspect_plugin(&name).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn create_conflicts(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, idle(cx)).await;
    let refused = docker.create_plugin(&name, idle(cx)).await.unwrap_err();
    assert!(matches!(refused, Error::Api { status: 409 | 500, .. }), "{refused:?}");
    assert!(refused.to_string().contains("already exists"), "{refused}");
    Outcome::Pass
}

async fn create_of_nonsense(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = named(cx, &cx.name("nonsense"));
    let refused = docker.create_plugin(&name, vec![0; 1024]).await.unwrap_err();
    assert!(matches!(refused, Error::Api { status: 400 | 500, .. }), "{refused:?}");
    assert!(docker.inspect_plugin(&name).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn list_filters(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, idle(cx)).await;
    let full = format!("{name}:latest");
    let has =
        async |filters: Filters| docker.list_plugins(&filters).await.unwrap().iter().any(|plugin| plugin.name == full);
    assert!(has(Filters::default()).await);
    assert!(has(Filters::default().with("enabled", "false")).await);
    assert!(!has(Filters::default().with("enabled", "true")).await);
    assert!(!has(Filters::default().with("capability", "volumedriver")).await);
    Outcome::Pass
}

async fn set(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, idle(cx)).await;
    docker.set_plugin(&name, &["LEVEL=a=b <c>".to_owned()]).await.unwrap();
    let seen = docker.inspect_plugin(&name).await.unwrap();
    assert!(seen.settings.env.contains(&"LEVEL=a=b <c>".to_owned()), "{:?}", seen.settings.env);
    Outcome::Pass
}

async fn set_refuses(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, idle(cx)).await;
    for setting in ["FIXED=3", "NOTHING=1"] {
        let refused = docker.set_plugin(&name, &[setting.to_owned()]).await.unwrap_err();
        assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    }
    Outcome::Pass
}

async fn enable_and_disable(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, listening(cx)).await;
    docker.enable_plugin(&name, 30).await.unwrap();
    assert!(docker.inspect_plugin(&name).await.unwrap().enabled);
    let again = docker.enable_plugin(&name, 30).await.unwrap_err();
    assert!(again.to_string().contains("already enabled"), "{again:?}");
    let set = docker.set_plugin(&name, &["LEVEL=3".to_owned()]).await.unwrap_err();
    assert!(set.to_string().contains("active"), "{set:?}");
    docker.disable_plugin(&name, false).await.unwrap();
    assert!(!docker.inspect_plugin(&name).await.unwrap().enabled);
    docker.enable_plugin(&name, 30).await.unwrap();
    docker.disable_plugin(&name, true).await.unwrap();
    docker.remove_plugin(&name, false).await.unwrap();
    Outcome::Pass
}

async fn enable_tells_why_not(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, idle(cx)).await;
    let refused = docker.enable_plugin(&name, 5).await.unwrap_err();
    assert!(matches!(refused, Error::Api { .. }), "{refused:?}");
    assert!(refused.to_string().contains("no such file"), "the engine's reason is kept: {refused}");
    assert!(!docker.inspect_plugin(&name).await.unwrap().enabled);
    Outcome::Pass
}

async fn disable_refuses_disabled(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, idle(cx)).await;
    let refused = docker.disable_plugin(&name, false).await.unwrap_err();
    assert!(refused.to_string().contains("already disabled"), "{refused:?}");
    Outcome::Pass
}

async fn remove_refuses_enabled(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = plugin(&docker, cx, listening(cx)).await;
    docker.enable_plugin(&name, 30).await.unwrap();
    let refused = docker.remove_plugin(&name, false).await.unwrap_err();
    assert!(refused.to_string().contains("enabled"), "{refused:?}");
    docker.remove_plugin(&name, true).await.unwrap();
    assert!(docker.inspect_plugin(&name).await.unwrap_err().is_not_found());
    Outcome::Pass
}

/// It is not asked: what shares the engine would go down with it.
const CRASHES: Outcome = Outcome::Differs("dockerd 20.10 crashes now and then when it pushes a plugin without TLS");

/// Engines try a registry with TLS first, and sometimes do not get as far as to try it without.
async fn push(docker: &Docker, remote: &PluginName, login: Option<&RegistryAuth>) {
    loop {
        match to_the_end(docker.push_plugin(remote, login)).await {
            Ok(_) => return,
            Err(Error::Stream(words)) if words.contains("HTTP response to HTTPS client") => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Pushes a plugin to a registry of this case, and removes it here.
async fn pushed(docker: &Docker, cx: &CaseContext) -> PluginName {
    let host = registry(cx, false).await;
    let remote = named(cx, &format!("{host}/{}:v1", cx.name("plugin")));
    docker.create_plugin(&remote, idle(cx)).await.unwrap();
    push(docker, &remote, None).await;
    docker.remove_plugin(&remote, false).await.unwrap();
    remote
}

async fn push_and_pull(docker: Docker, cx: &CaseContext) -> Outcome {
    if cx.engine() == EngineKind::Old {
        return CRASHES;
    }
    let remote = pushed(&docker, cx).await;
    let privileges = docker.plugin_privileges(&remote, None).await.unwrap();
    let mut names: Vec<_> = privileges.iter().map(|privilege| privilege.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["capabilities", "network"]);
    let alias = named(cx, &cx.name("alias"));
    let options = PullPlugin::default().privileges(privileges).name(Some(alias.clone()));
    let events = to_the_end(docker.pull_plugin(&remote, &options).unwrap()).await.unwrap();
    assert!(!events.is_empty());
    let seen = docker.inspect_plugin(&alias).await.unwrap();
    assert_eq!((seen.name, seen.reference), (format!("{alias}:latest"), remote.to_string()));
    Outcome::Pass
}

async fn pull_needs_its_privileges(docker: Docker, cx: &CaseContext) -> Outcome {
    if cx.engine() == EngineKind::Old {
        return CRASHES;
    }
    let remote = pushed(&docker, cx).await;
    let refused = to_the_end(docker.pull_plugin(&remote, &PullPlugin::default()).unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("privileges"), "{refused:?}");
    assert!(docker.inspect_plugin(&remote).await.unwrap_err().is_not_found());
    Outcome::Pass
}

async fn pull_with_login(docker: Docker, cx: &CaseContext) -> Outcome {
    if cx.engine() == EngineKind::Old {
        return CRASHES;
    }
    let host = registry(cx, true).await;
    let remote = named(cx, &format!("{host}/{}:v1", cx.name("plugin")));
    docker.create_plugin(&remote, idle(cx)).await.unwrap();
    to_the_end(docker.push_plugin(&remote, None)).await.unwrap_err();
    let login = login(&host, PASSWORD);
    push(&docker, &remote, Some(&login)).await;
    docker.remove_plugin(&remote, false).await.unwrap();
    assert!(docker.plugin_privileges(&remote, None).await.is_ok_and(|privileges| privileges.is_empty()), "no login");
    let privileges = docker.plugin_privileges(&remote, Some(&login)).await.unwrap();
    let options = PullPlugin::default().privileges(privileges).login(Some(login));
    to_the_end(docker.pull_plugin(&remote, &options).unwrap()).await.unwrap();
    docker.inspect_plugin(&remote).await.unwrap();
    Outcome::Pass
}

async fn upgrade(docker: Docker, cx: &CaseContext) -> Outcome {
    if cx.engine() == EngineKind::Old {
        return CRASHES;
    }
    let remote = pushed(&docker, cx).await;
    let privileges = docker.plugin_privileges(&remote, None).await.unwrap();
    let options = PullPlugin::default().privileges(privileges);
    to_the_end(docker.pull_plugin(&remote, &options).unwrap()).await.unwrap();
    to_the_end(docker.upgrade_plugin(&remote, &remote, &options).unwrap()).await.unwrap();
    assert_eq!(docker.inspect_plugin(&remote).await.unwrap().reference, remote.to_string());
    let nobody: PluginName = cx.name("nobody").parse().unwrap();
    let refused = to_the_end(docker.upgrade_plugin(&nobody, &remote, &options).unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("not found"), "{refused:?}");
    Outcome::Pass
}

async fn push_without_registry(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = named(cx, &format!("127.0.0.1:1/{}", cx.name("plugin")));
    docker.create_plugin(&name, idle(cx)).await.unwrap();
    let refused = to_the_end(docker.push_plugin(&name, None)).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused:?}");
    Outcome::Pass
}

async fn pull_without_registry(docker: Docker, cx: &CaseContext) -> Outcome {
    let name = named(cx, &format!("127.0.0.1:1/{}", cx.name("plugin")));
    match docker.plugin_privileges(&name, None).await {
        // Newer engines say nothing of what went wrong here.
        Ok(privileges) => assert!(privileges.is_empty(), "{privileges:?}"),
        Err(refused) => assert!(refused.to_string().contains("refused"), "{refused:?}"),
    }
    let refused = to_the_end(docker.pull_plugin(&name, &PullPlugin::default()).unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused:?}");
    Outcome::Pass
}

async fn not_found(docker: Docker, cx: &CaseContext) -> Outcome {
    let nobody: PluginName = cx.name("nobody").parse().unwrap();
    assert!(docker.inspect_plugin(&nobody).await.unwrap_err().is_not_found());
    assert!(docker.enable_plugin(&nobody, 1).await.unwrap_err().is_not_found());
    assert!(docker.disable_plugin(&nobody, false).await.unwrap_err().is_not_found());
    assert!(docker.remove_plugin(&nobody, false).await.unwrap_err().is_not_found());
    assert!(docker.set_plugin(&nobody, &[]).await.unwrap_err().is_not_found());
    Outcome::Pass
}
