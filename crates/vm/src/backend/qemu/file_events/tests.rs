//! The folders for real, and the whole with an agent and a dockerd in this process.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_mux::control::{FaultCode, Reply, Request};
use berth_mux::{Config, Inbound, Role, Session, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::FileEvents;
use super::shared::Shared;
use super::tree::Tree;
use crate::backend::machine::Companion as _;
use crate::backend::{GuestEvent, Share};
use crate::status::FileEventsStatus;

const LONG: Duration = Duration::from_secs(60);
/// In which nothing more happens.
const SILENCE: Duration = Duration::from_millis(700);

struct Folder {
    /// Where it is once links are followed.
    path: PathBuf,
    _kept: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        Self { path, _kept: folder }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    fn shares(&self) -> [Share; 1] {
        [Share { path: self.path.clone(), read_only: false }]
    }

    /// Watches some of it, as if containers had mounted it.
    fn tree(&self, mounted: &[&str]) -> Tree {
        let mut tree = Tree::small(Shared::open(&self.shares()), 100);
        tree.aim(&self.sources(mounted));
        tree
    }

    fn sources(&self, mounted: &[&str]) -> BTreeSet<PathBuf> {
        mounted.iter().map(|path| self.at(path)).collect()
    }
}

#[test]
fn every_change_is_heard_of_in_all_folders_and_in_new_ones() {
    let folder = Folder::new();
    let at = |path| folder.at(path);
    fs::create_dir_all(at("src/deep")).unwrap();
    fs::create_dir_all(at("other")).unwrap();
    let mut tree = folder.tree(&["src"]);
    assert_eq!((tree.folders(), tree.note()), (2, None));
    fs::write(at("src/deep/file"), "a").unwrap();
    fs::write(at("other/file"), "a").unwrap();
    assert_eq!(tree.all(), [at("src/deep/file")], "the other is in no container");
    fs::write(at("src/deep/file"), "b").unwrap();
    assert_eq!(tree.all(), [at("src/deep/file")]);
    fs::rename(at("src/deep/file"), at("src/moved")).unwrap();
    assert_eq!(tree.all(), [at("src/deep/file"), at("src/moved")]);
    fs::rename(at("src/moved"), at("other/out")).unwrap();
    assert_eq!(tree.all(), [at("src/moved")]);
    fs::remove_dir(at("src/deep")).unwrap();
    assert_eq!(tree.all(), [at("src/deep")]);
    assert_eq!(tree.folders(), 1);
    // Files that were there before the folder was watched are told.
    fs::create_dir_all(at("src/new/newer")).unwrap();
    fs::write(at("src/new/newer/file"), "").unwrap();
    assert_eq!(tree.all(), [at("src/new"), at("src/new/newer"), at("src/new/newer/file")]);
    fs::write(at("src/new/newer/file"), "later").unwrap();
    assert_eq!(tree.all(), [at("src/new/newer/file")]);
    fs::rename(at("src/new"), at("src/renamed")).unwrap();
    let seen = [at("src/new"), at("src/renamed"), at("src/renamed/newer"), at("src/renamed/newer/file")];
    assert_eq!(tree.all(), seen);
    fs::write(at("src/renamed/newer/file"), "again").unwrap();
    assert_eq!(tree.all(), [at("src/renamed/newer/file")], "it is heard of by its new name");
    fs::rename(at("src/renamed"), at("other/away")).unwrap();
    assert_eq!(tree.all(), [at("src/renamed")]);
    fs::write(at("other/away/newer/file"), "outside").unwrap();
    assert_eq!((tree.all().len(), tree.folders()), (0, 1));
}

#[test]
fn what_waking_does_and_what_only_looks_is_no_change() {
    let folder = Folder::new();
    fs::create_dir_all(folder.at("src")).unwrap();
    fs::write(folder.at("src/file"), "a").unwrap();
    let mut tree = folder.tree(&["src"]);
    let file = fs::File::open(folder.at("src/file")).unwrap();
    let now = file.metadata().unwrap();
    let times = fs::FileTimes::new().set_accessed(now.accessed().unwrap()).set_modified(now.modified().unwrap());
    file.set_times(times).unwrap();
    file.set_permissions(now.permissions()).unwrap();
    fs::read_dir(folder.at("src")).unwrap().count();
    drop(file);
    assert_eq!(tree.all(), Vec::<PathBuf>::new());
}

#[test]
fn only_what_is_mounted_is_watched_and_a_file_by_itself() {
    let folder = Folder::new();
    for path in ["one/deep", "two"] {
        fs::create_dir_all(folder.at(path)).unwrap();
    }
    fs::write(folder.at("two/file"), "a").unwrap();
    fs::write(folder.at("two/other"), "a").unwrap();
    let mut tree = folder.tree(&["one", "one/deep", "two/file", "missing"]);
    assert_eq!(tree.folders(), 3);
    for name in ["file", "other"] {
        fs::write(folder.at("two").join(name), "b").unwrap();
    }
    assert_eq!(tree.all(), [folder.at("two/file")]);
    tree.aim(&folder.sources(&["one/deep"]));
    assert_eq!(tree.folders(), 1);
    fs::write(folder.at("one/file"), "").unwrap();
    fs::write(folder.at("one/deep/file"), "").unwrap();
    assert_eq!(tree.all(), [folder.at("one/deep/file")]);
    // The same name, and another folder.
    fs::rename(folder.at("one/deep"), folder.at("one/old")).unwrap();
    fs::create_dir(folder.at("one/deep")).unwrap();
    tree.aim(&folder.sources(&["one/deep"]));
    tree.all();
    fs::write(folder.at("one/deep/file"), "").unwrap();
    assert_eq!(tree.all(), [folder.at("one/deep/file")]);
    tree.aim(&BTreeSet::new());
    assert_eq!(tree.folders(), 0);
    fs::write(folder.at("one/deep/file"), "b").unwrap();
    assert_eq!(tree.all(), Vec::<PathBuf>::new());
}

#[test]
fn a_link_leads_no_watch_out_of_a_share() {
    let (folder, outside) = (Folder::new(), Folder::new());
    fs::create_dir(folder.at("src")).unwrap();
    fs::create_dir(outside.at("secret")).unwrap();
    std::os::unix::fs::symlink(&outside.path, folder.at("src/link")).unwrap();
    let mut tree = folder.tree(&["src", "src/link", "src/link/secret"]);
    assert_eq!((tree.folders(), tree.note()), (1, None));
    std::os::unix::fs::symlink(&outside.path, folder.at("src/later")).unwrap();
    assert_eq!(tree.all(), [folder.at("src/later")]);
    fs::write(outside.at("secret/file"), "").unwrap();
    assert_eq!((tree.all().len(), tree.folders()), (0, 1));
}

#[test]
fn more_folders_than_there_may_be_are_told_of_and_tried_again() {
    let folder = Folder::new();
    for number in 0..150 {
        fs::create_dir_all(folder.at("many").join(number.to_string())).unwrap();
    }
    fs::create_dir_all(folder.at("few/inside")).unwrap();
    let mut tree = folder.tree(&["many"]);
    assert_eq!(tree.folders(), 100);
    assert!(tree.note().unwrap().contains("more than 100 folders"), "{:?}", tree.note());
    tree.aim(&folder.sources(&["few", "many"]));
    assert_eq!(tree.folders(), 100);
    tree.aim(&folder.sources(&["few"]));
    assert_eq!((tree.folders(), tree.note()), (2, None));
}

#[test]
fn when_the_kernel_lost_count_folders_are_found_anew_and_files_are_not() {
    let folder = Folder::new();
    fs::create_dir_all(folder.at("src/gone")).unwrap();
    let mut tree = folder.tree(&["src"]);
    fs::remove_dir(folder.at("src/gone")).unwrap();
    fs::create_dir_all(folder.at("src/new/deep")).unwrap();
    for number in 0..1000 {
        fs::write(folder.at("src/new/deep").join(number.to_string()), "").unwrap();
    }
    assert_eq!(tree.overflow(), [folder.at("src")]);
    assert_eq!(tree.folders(), 3);
    fs::write(folder.at("src/new/deep/7"), "again").unwrap();
    assert_eq!(tree.all(), [folder.at("src/new/deep/7")]);
}

/// An agent, and a dockerd behind it.
struct Guest {
    mounted: watch::Sender<Vec<PathBuf>>,
    asked: mpsc::Receiver<Vec<String>>,
    told: mpsc::Receiver<GuestEvent>,
    running: tokio::task::JoinHandle<()>,
}

impl Guest {
    async fn new(folder: &Folder, mounted: &[&str], knows_how: bool) -> Self {
        let (one, other) = tokio::io::duplex(1 << 16);
        let connected = tokio::join!(
            berth_mux::connect(one, Role::Host, Config::default()),
            berth_mux::connect(other, Role::Guest, Config::default())
        );
        let (host, guest) = (connected.0.unwrap(), connected.1.unwrap());
        let mounted = watch::Sender::new(folder.sources(mounted).into_iter().collect());
        let (asked, hears) = mpsc::channel(1000);
        tokio::spawn(serve(guest, mounted.subscribe(), asked, knows_how));
        let (tell, told) = mpsc::channel(1000);
        let Session { opener, control, .. } = host;
        let (sender, receiver) = control.split();
        let events = FileEvents::new(&folder.shares(), true).unwrap();
        let running = tokio::spawn(async move {
            let _receiver = receiver;
            events.run(opener, sender, tell).await;
        });
        Self { mounted, asked: hears, told, running }
    }

    async fn status(&mut self, wanted: impl Fn(&FileEventsStatus) -> bool) -> FileEventsStatus {
        loop {
            match timeout(LONG, self.told.recv()).await.unwrap().unwrap() {
                GuestEvent::FileEvents(status) if wanted(&status) => return status,
                _ => {}
            }
        }
    }

    async fn asked(&mut self) -> Vec<String> {
        timeout(LONG, self.asked.recv()).await.unwrap().unwrap()
    }

    async fn silence(&mut self) {
        let more = timeout(SILENCE, self.asked.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

async fn serve(
    session: Session,
    mounted: watch::Receiver<Vec<PathBuf>>,
    asked: mpsc::Sender<Vec<String>>,
    knows_how: bool,
) {
    let Session { opener: _opener, mut incoming, control, ended } = session;
    let (_sender, mut receiver) = control.split();
    loop {
        tokio::select! {
            _ = ended.wait() => return,
            Some(offer) = incoming.next() => drop(tokio::spawn(dockerd(offer.accept(), mounted.clone()))),
            inbound = receiver.next() => match inbound {
                Some(Inbound::Request { request: Request::FilesChanged { paths }, responder, .. }) if knows_how => {
                    asked.send(paths).await.unwrap();
                    responder.reply(Reply::Done).await.unwrap();
                }
                Some(Inbound::Request { responder, .. }) => {
                    responder.fail(FaultCode::UnknownMethod, "there is no such method").await.unwrap();
                }
                _ => return,
            }
        }
    }
}

async fn dockerd(mut stream: Stream, mut mounted: watch::Receiver<Vec<PathBuf>>) {
    let mut asked = vec![0; 4096];
    let read = stream.read(&mut asked).await.unwrap();
    stream.write_all(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n").await.unwrap();
    if asked[..read].starts_with(b"GET /events?") {
        while mounted.changed().await.is_ok() {
            stream.write_all(b"{\"Type\":\"container\",\"Action\":\"start\"}\n").await.unwrap();
        }
    } else {
        let mount = |path: &PathBuf| serde_json::json!({ "Type": "bind", "Source": path });
        let mounts: Vec<_> = mounted.borrow().iter().map(mount).collect();
        let list = serde_json::json!([{ "Id": "a", "Mounts": mounts }]).to_string();
        stream.write_all(list.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_changes_in_a_container_s_folders_is_told_once_and_containers_come_and_go() {
    let folder = Folder::new();
    for path in ["one", "two"] {
        fs::create_dir(folder.at(path)).unwrap();
    }
    let mut guest = Guest::new(&folder, &["one"], true).await;
    guest.status(|status| status.on && status.folders == 1).await;
    for round in 0..10 {
        fs::write(folder.at("one/file"), round.to_string()).unwrap();
        fs::write(folder.at("two/file"), round.to_string()).unwrap();
    }
    assert_eq!(guest.asked().await, [text(&folder.at("one/file"))]);
    guest.silence().await;
    guest.mounted.send_replace(vec![folder.at("two")]);
    fs::create_dir(folder.at("two/inside")).unwrap();
    guest.status(|status| status.folders == 2).await;
    fs::write(folder.at("one/file"), "later").unwrap();
    fs::remove_file(folder.at("two/file")).unwrap();
    let mut told = Vec::new();
    while !told.contains(&text(&folder.at("two/file"))) {
        told.extend(guest.asked().await);
    }
    assert!(!told.contains(&text(&folder.at("one/file"))), "{told:?}");
    guest.silence().await;
    guest.mounted.send_replace(Vec::new());
    let last = guest.status(|status| status.folders == 0).await;
    assert_eq!(last, FileEventsStatus { on: true, folders: 0, note: None });
    guest.running.abort();
}

#[tokio::test]
async fn a_flood_is_told_completely_within_the_bounds_of_a_request() {
    let folder = Folder::new();
    fs::create_dir(folder.at("one")).unwrap();
    let mut guest = Guest::new(&folder, &["one"], true).await;
    guest.status(|status| status.folders == 1).await;
    let count = 6000;
    for number in 0..count {
        fs::write(folder.at("one").join(number.to_string()), "").unwrap();
    }
    let mut told = BTreeSet::new();
    while told.len() < count {
        told.extend(guest.asked().await);
    }
    guest.running.abort();
}

#[tokio::test]
async fn an_older_guest_is_told_of_once_and_left_in_peace() {
    let folder = Folder::new();
    fs::create_dir(folder.at("one")).unwrap();
    let mut guest = Guest::new(&folder, &["one"], false).await;
    guest.status(|status| status.folders == 1).await;
    fs::write(folder.at("one/file"), "").unwrap();
    let status = guest.status(|status| !status.on).await;
    assert!(status.note.unwrap().contains("older than Berth"));
    timeout(LONG, guest.running).await.unwrap().unwrap();
}
