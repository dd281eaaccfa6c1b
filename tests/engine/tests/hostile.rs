//! Texts that somebody else chose: in names and parameters that go to an engine, and in what comes from one to the page.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tests use more of it")]
mod ground;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use berth_app::wire::{Code, Command};
use berth_engine::images::{CommitContainer, ImportImage, SearchImages};
use berth_engine::reference::{ImageReference, NetworkRef, ObjectId, VolumeName};
use berth_engine::registry::RegistryHost;
use berth_engine::{ContainerId, ContainerRef, Endpoint, ExecOptions, Filters, ListContainers};
use berth_engine_tests::page::Page;
use berth_testkit::fault::{Fault, Plan};
use ground::{Ground, PATIENCE};
use serde_json::json;

/// What must get into no request's head and no path.
const HOSTILE: &[&str] = &[
    "a\r\nX-Injected: y",
    "a\nX-Injected: y",
    "a\rX-Injected: y",
    "a HTTP/1.1\r\nX-Injected: y\r\n\r\n",
    "../../version?x=",
    "..%2f..%2fversion",
    "%2e%2e",
    "a\0b",
    "a?x=y",
    "a#b",
    "-oProxyCommand=x",
    "a\u{202e}b",
    "a\u{200b}b",
    "",
];

/// Everything that clients of the proxy send.
fn recorded(ground: &Ground) -> Arc<Mutex<Vec<u8>>> {
    let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
    let record = Arc::clone(&sent);
    ground.proxy.set(Plan::request(Fault::rewrite(move || {
        let record = Arc::clone(&record);
        move |piece: Vec<u8>| {
            record.lock().unwrap().extend(&piece);
            piece
        }
    })));
    sent
}

/// Case 40 and 41: names are refused before anything is sent.
#[tokio::test(flavor = "multi_thread")]
async fn case_40_names_that_are_none_are_never_sent() {
    for text in HOSTILE {
        assert!(text.parse::<ContainerId>().is_err(), "{text:?}");
        assert!(text.parse::<ContainerRef>().is_err(), "{text:?}");
        assert!(text.parse::<ImageReference>().is_err(), "{text:?}");
        assert!(text.parse::<RegistryHost>().is_err(), "{text:?}");
        assert!(text.parse::<VolumeName>().is_err(), "{text:?}");
        assert!(text.parse::<ObjectId>().is_err(), "{text:?}");
        assert!(format!("tcp://{text}").parse::<Endpoint>().is_err(), "{text:?}");
        assert!(format!("ssh://{text}").parse::<Endpoint>().is_err(), "{text:?}");
        // A network may have any name; the requests of the other test hold theirs.
        let walks = ["", "../../version?x="].contains(text);
        assert!(!walks || text.parse::<NetworkRef>().is_err(), "{text:?}");
    }
    let ground = Ground::new().await;
    let folder = tempfile::tempdir().unwrap();
    let mut page = Page::open(&ground.proxy.socket(), folder.path().to_owned()).await;
    while !page.engine.as_ref().is_some_and(|row| row.listed) {
        page.poll().await;
    }
    let before = ground.proxy.requests().len();
    let mut tried = 0;
    for command in Command::ALL
        .iter()
        .filter(|command| command.name().starts_with("container_") || **command == Command::logs_open)
    {
        for text in HOSTILE {
            let mut payload = json!({ "container": { "engine": "adopted", "id": text } });
            match command {
                Command::logs_open => payload
                    .as_object_mut()
                    .unwrap()
                    .extend([("tail".to_owned(), json!(1)), ("follow".to_owned(), json!(false))]),
                Command::container_remove => payload
                    .as_object_mut()
                    .unwrap()
                    .extend([("force".to_owned(), json!(true)), ("volumes".to_owned(), json!(true))]),
                _ => {}
            }
            let refused = page.call(command.name(), payload).await.unwrap_err();
            assert_eq!(refused.code, Code::Invalid, "{} {text:?}", command.name());
            assert!(refused.operation.is_none(), "nothing was begun");
            tried += 1;
        }
    }
    assert!(tried >= 9 * HOSTILE.len(), "{tried} calls");
    assert_eq!(ground.proxy.requests().len(), before, "none of {tried} calls reached the engine");
}

/// Case 41: what may be any text is data of its request and makes no other one.
#[tokio::test(flavor = "multi_thread")]
async fn case_41_parameters_make_no_header_and_no_request() {
    let ground = Ground::new().await;
    let id = ground.container("web", &["sleep", "600"], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.negotiate().await.unwrap();
    let sent = recorded(&ground);
    let mut calls = 0;
    let docker = &ground.docker;
    for text in HOSTILE.iter().copied() {
        let before = ground.proxy.requests().len();
        let filters = Filters::default().with("label", text).with(text, "x");
        let _ = docker.list_containers(&ListContainers { all: true, filters, ..ListContainers::default() }).await;
        let _ = docker.list_networks(&Filters::default().with("name", text)).await;
        let _ = docker.create_container(text, &json!({ "Image": text, "Cmd": [text], "Labels": { text: text } })).await;
        let _ = docker.rename_container(&id, text).await;
        let _ = docker.kill_container(&id, Some(text)).await;
        let _ = docker.start_container_with_keys(&id, text).await;
        let _ = docker.container_path(&id, text).await;
        let _ = docker.exec(&id, &ExecOptions::run(["true", text])).await;
        let _ = docker.commit_container(&id, &CommitContainer::default().comment(text).author(text)).await;
        let _ = docker.import_image(ImportImage::default().message(text), vec![0; 1024]).await;
        let _ = docker.search_images(&SearchImages::default().term(text)).await;
        if let Ok(network) = text.parse::<NetworkRef>() {
            let _ = docker.remove_network(&network).await;
        }
        calls += ground.proxy.requests().len() - before;
    }
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    let lines: Vec<_> = sent.split(|byte| *byte == b'\n').collect();
    let starts = |what: &str| lines.iter().filter(|line| line.starts_with(what.as_bytes())).count();
    assert_eq!(starts("X-Injected"), 0, "a header of somebody else's");
    assert!(calls > 8 * HOSTILE.len(), "{calls} requests");
    // A body ends without a line's end, so that the next request's line is known by its own end.
    let heads = lines.iter().filter(|line| line.ends_with(b" HTTP/1.1\r")).count();
    assert_eq!(heads, calls, "every request is one of the client's");
    // The line may begin with the body before it, which holds these texts: what is asked for is its second word from the end.
    let targets = lines
        .iter()
        .filter(|line| line.ends_with(b" HTTP/1.1\r"))
        .filter_map(|line| line.rsplit(|byte| *byte == b' ').nth(1));
    let walks: Vec<_> = targets.filter(|target| target.windows(9).any(|part| part == b"/version?")).collect();
    assert!(walks.is_empty(), "a text walks the API: {walks:?}");
    assert!(docker.inspect_container(&id).await.is_ok(), "it is there still");
}

/// Cases 31 to 36: a page gets what was written as text, to the last byte that is text, and makes nothing of it itself.
/// What it does with escape sequences is tested where it does, in `ui/src/streams`.
#[tokio::test(flavor = "multi_thread")]
async fn case_33_to_36_log_lines_reach_the_page_as_text() {
    let lines = [
        "\u{1b}]52;c;ZXZpbA==\u{7}clipboard",
        "\u{1b}]8;;javascript:alert(1)\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{1b}[21t\u{1b}[6n\u{1b}[c answers",
        "\u{1b}]0;title\u{7}",
        "<img src=x onerror=alert(1)>",
        "</script><script>document.title='x'</script>",
        "gnp.\u{202e}exe \u{200b}\u{200f}\u{2066}",
        "{\"__proto__\": {\"a\": 1}}",
        "\u{2028}\u{2029}\u{feff}\u{85}",
        "\u{1b}[9999999999m\u{1b}[2J",
    ];
    let ground = Ground::new().await;
    let mut command = vec!["printf", "%s\\n"];
    command.extend(lines);
    let id = ground.container("hostile", &command, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let mut page = Page::open(&ground.proxy.socket(), folder.path().to_owned()).await;
    ground.docker.start_container(&id).await.unwrap();
    page.open_log(id.as_str()).await;
    let reading = async {
        while page.lines.len() < lines.len() {
            page.poll().await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    let texts: Vec<_> = page.lines.iter().map(|line| line.2.as_str()).collect();
    assert_eq!(texts, lines);
}

/// Case 38: more labels than anybody reads.
#[tokio::test(flavor = "multi_thread")]
async fn case_38_ten_thousand_labels() {
    const LABELS: usize = 10_000;
    let ground = Ground::new().await;
    let mut labels: BTreeMap<String, String> = (0..LABELS)
        .map(|number| (format!("label.{number:05}"), format!("value of {number}: {}", "x".repeat(80))))
        .collect();
    for name in ["__proto__", "constructor", "toString", "<img src=x onerror=alert(1)>", "a\r\nb", "\u{202e}"] {
        labels.insert(name.to_owned(), name.to_owned());
    }
    labels.insert("large".to_owned(), "y".repeat(1 << 20));
    let id = ground.container("labels", &["true"], json!({ "Labels": labels })).await;
    let whole = ground.list().await.unwrap();
    assert!(whole[0].labels == labels, "a list reads them all");
    assert!(ground.docker.inspect_container(&id).await.unwrap().config.labels == labels, "and so does an inspect");
    let folder = tempfile::tempdir().unwrap();
    let mut page = Page::open(&ground.proxy.socket(), folder.path().to_owned()).await;
    let seeing = async {
        while !page.containers.contains_key(id.as_str()) {
            page.poll().await;
        }
        // Another container's row comes past it.
        let other = ground.container("other", &["true"], json!({})).await;
        while !page.containers.contains_key(other.as_str()) {
            page.poll().await;
        }
    };
    tokio::time::timeout(PATIENCE, seeing).await.unwrap();
    let row = &page.containers[id.as_str()];
    assert_eq!(row.name, "labels");
    let bytes = serde_json::to_string(row).unwrap().len();
    assert!(bytes < 3 << 20, "a row of {} labels has {bytes} bytes", row.labels.len());
}
