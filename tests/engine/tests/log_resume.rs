//! A log that breaks and is gone on with, as a page sees it: every line once, whatever the engine and the clock do.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tests use more of it")]
mod ground;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;

use berth_app::wire::log_flags;
use berth_engine_tests::page::Page;
use berth_testkit::fault::{Fault, Plan};
use ground::{Ground, PATIENCE};
use serde_json::json;

/// Bursts of both outputs, so that a second holds many lines and more of them than one answer brings.
const BURSTS: &str = "
i=0
while [ $i -lt 4000 ]; do
    echo \"$i\"; echo \"$i\" >&2; [ $((i % 3)) = 0 ] && echo same
    i=$((i + 1))
    [ $((i % 50)) = 0 ] && usleep 100000
done
echo last
exec sleep 600";

/// A small generator; the seed is told when the test fails.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

async fn patient<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("it took too long: {what}"))
}

/// What each output wrote, in order.
fn outputs(page: &Page) -> BTreeMap<bool, Vec<&str>> {
    let mut outputs: BTreeMap<bool, Vec<&str>> = BTreeMap::new();
    for line in &page.lines {
        outputs.entry(line.1 & log_flags::STDERR != 0).or_default().push(&line.2);
    }
    outputs
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_once_wherever_it_breaks() {
    let seed = RandomState::new().build_hasher().finish() | 1;
    let mut random = Random(seed);
    let ground = Ground::new().await;
    let folder = tempfile::tempdir().unwrap();
    let mut page = Page::open(&ground.proxy.socket(), folder.path().to_owned()).await;
    let id = ground.container("bursts", &["sh", "-c", BURSTS], json!({})).await;
    patient("the row", async {
        while !page.containers.contains_key(id.as_str()) {
            page.poll().await;
        }
    })
    .await;
    ground.proxy.set(Plan::response(Fault::cut(random.below(5000))).only("/logs"));
    ground.docker.start_container(&id).await.unwrap();
    page.open_log(id.as_str()).await;
    let mut out: Vec<String> = Vec::new();
    for number in 0..4000 {
        out.push(number.to_string());
        out.extend((number % 3 == 0).then(|| "same".to_owned()));
    }
    out.push("last".to_owned());
    let err: Vec<String> = (0..4000).map(|number| number.to_string()).collect();
    let (mut asked, mut breaks) = (1, 0);
    patient("all lines", async {
        while page.lines.len() < out.len() + err.len() {
            page.poll().await;
            // Each request is cut at another place; only the one that is awaited is cut, and some before their first line.
            if ground.asked("/logs") > asked {
                asked = ground.asked("/logs");
                breaks += 1;
                let plan = Plan::response(Fault::cut(random.below(120_000))).only("/logs");
                ground.proxy.set(if breaks < 30 { plan } else { Plan::pass() });
            }
        }
    })
    .await;
    page.poll().await;
    let seen = outputs(&page);
    assert!(breaks > 0, "nothing broke, seed {seed}");
    assert!(seen[&false] == out, "standard output, {} lines of {}, seed {seed}", seen[&false].len(), out.len());
    assert!(seen[&true] == err, "standard error, {} lines of {}, seed {seed}", seen[&true].len(), err.len());
    assert_eq!((page.left_out, &page.notes[..]), (0, &[][..]), "seed {seed}");
}

/// The engine's clock goes back by an hour while the container writes. Its log is changed on the disk, for the machine's
/// clock is everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn case_21_clock_set_back_in_a_log() {
    let ground = Ground::new().await;
    let script = "for i in $(seq 60); do echo out $i; echo err $i >&2; done; echo last";
    let id = ground.container("clock", &["sh", "-c", script], json!({})).await;
    ground.docker.start_container(&id).await.unwrap();
    ground.docker.wait_container(&id).await.unwrap();
    set_back_in_the_middle(&ground.daemon.socket(), id.as_str());

    let total = {
        let (_, before) = ground.proxy.bytes();
        let options = berth_engine::LogOptions { timestamps: true, tty: Some(false), ..Default::default() };
        let (lines, end) = ground.log(&id, &options).await;
        end.unwrap();
        assert_eq!(lines.len(), 121);
        let back = lines.windows(2).filter(|pair| pair[1].nanos < pair[0].nanos.map(|nanos| nanos - 1_000_000_000));
        assert_eq!(back.count(), 1, "the clock goes back once");
        ground.proxy.bytes().1 - before
    };
    for after in (0..total).step_by(331) {
        let folder = tempfile::tempdir().unwrap();
        let mut page = Page::open(&ground.proxy.socket(), folder.path().to_owned()).await;
        patient("the row", async {
            while !page.containers.contains_key(id.as_str()) {
                page.poll().await;
            }
        })
        .await;
        ground.proxy.set(Plan::response(Fault::cut(after)).only("/logs").times(1));
        page.open_log(id.as_str()).await;
        patient("all lines", async {
            while page.lines.len() < 121 {
                page.poll().await;
            }
        })
        .await;
        let seen = outputs(&page);
        let wanted = |output: &str| (1..=60).map(|number| format!("{output} {number}")).collect::<Vec<_>>();
        assert!(seen[&false][..60] == wanted("out") && seen[&false].len() == 61, "cut after {after}: {seen:?}");
        assert!(seen[&true] == wanted("err"), "cut after {after}: {seen:?}");
    }
}

fn set_back_in_the_middle(socket: &Path, id: &str) {
    let log = socket.parent().unwrap().join(format!("data/containers/{id}/{id}-json.log"));
    let text = std::fs::read_to_string(&log).unwrap();
    let half = text.lines().count() / 2;
    let mut changed = String::new();
    for (number, line) in text.lines().enumerate() {
        // 2026-11-24T02:30:00.123456789Z, of which the day of the month before is always one of 01 to 28.
        let (before, time) = line.split_once("\"time\":\"").unwrap();
        let time = if number < half { time.to_owned() } else { format!("2020-01-01T00:{}", &time[14..]) };
        changed.push_str(&format!("{before}\"time\":\"{time}\n"));
    }
    std::fs::write(log, changed).unwrap();
}
