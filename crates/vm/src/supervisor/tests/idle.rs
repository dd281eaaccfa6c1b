//! An engine that nobody uses.

use std::time::Duration;

use tokio::net::UnixStream;

use super::{Ground, LONG, Plan};
use crate::status::State;

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn it_goes_to_sleep_and_the_first_who_connects_wakes_it() {
    let mut ground = Ground::new(Plan { idle_after: Some(SHORT), ..Plan::default() }).await;
    ground.state(State::Asleep).await;
    ground.nothing_runs().await;
    for run in 2..=3 {
        // This process's own connections are no use; another's are.
        let client = tokio::task::spawn_blocking({
            let socket = ground.paths.socket().to_path_buf();
            move || {
                let curl = std::process::Command::new("curl")
                    .args(["-sS", "--max-time", "60", "--unix-socket"])
                    .arg(socket)
                    .arg("http://berth/_ping")
                    .output();
                String::from_utf8(curl.unwrap().stdout).unwrap()
            }
        });
        assert!(tokio::time::timeout(LONG, client).await.unwrap().unwrap().contains("OK"));
        assert_eq!(ground.starts().len(), run);
        let status = ground.state(State::Asleep).await;
        assert_eq!(status.stages.iter().filter(|stage| stage.name == "booting").count(), 1, "{status:?}");
    }
    ground.stop().await;
}

#[tokio::test]
async fn who_only_looks_on_neither_keeps_it_awake_nor_wakes_it() {
    let mut ground = Ground::new(Plan { idle_after: Some(SHORT), ..Plan::default() }).await;
    // Of this process, which is not counted, as one at the other socket is not.
    ground.state(State::Ready).await;
    let looking = UnixStream::connect(ground.paths.socket()).await.unwrap();
    ground.state(State::Asleep).await;
    drop(looking);
    let _later = UnixStream::connect(ground.paths.socket()).await.unwrap();
    tokio::time::sleep(SHORT).await;
    assert_eq!(ground.starts().len(), 1);
    ground.wake.notify_one();
    ground.state(State::Ready).await;
    assert_eq!(ground.starts().len(), 2);
    ground.state(State::Asleep).await;
    ground.stop().await;
}

#[tokio::test]
async fn it_stops_from_its_sleep_at_once() {
    let mut ground = Ground::new(Plan { idle_after: Some(SHORT), ..Plan::default() }).await;
    ground.state(State::Asleep).await;
    assert_eq!(ground.stop().await.state, State::Stopping);
}
