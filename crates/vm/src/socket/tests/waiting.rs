//! The wait itself, in a time that passes only when nothing else happens.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{starting, within};
use crate::socket::gate::{Passage, WaitingRoom};
use crate::socket::{Connection, EngineDial, Gate, Settings};

const HOLD: Duration = Duration::from_secs(30);

/// How long a client of that process waited, and whether it got through.
async fn pass(room: &WaitingRoom, process: i32, gate: &watch::Sender<Gate>) -> (Duration, bool) {
    let (client, _other) = UnixStream::pair().unwrap();
    let began = Instant::now();
    let passage = room.pass(&client, Some(process), &mut gate.subscribe()).await;
    (began.elapsed(), matches!(passage, Passage::Through(_)))
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_thirty_seconds_and_what_it_tries_next_does_not() {
    let room = WaitingRoom::new(Settings::default());
    let gate = watch::Sender::new(starting());
    let (waited, through) = pass(&room, 7, &gate).await;
    assert!(!through && waited >= HOLD && waited < HOLD + Duration::from_secs(1), "{waited:?}");
    // The docker command asks three times for one thing.
    assert!(pass(&room, 7, &gate).await.0 < Duration::from_secs(1));
    assert!(pass(&room, 8, &gate).await.0 >= HOLD, "others wait their time");
    // That took longer than the memory of the first one's refusal.
    assert!(pass(&room, 7, &gate).await.0 >= HOLD);
}

struct Silent;

impl EngineDial for Silent {
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

struct Ready;

impl EngineDial for Ready {
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send + '_>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            UnixStream::pair().map(|(stream, _)| Connection::Unix(stream))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_take_the_call_is_given_up_in_time() {
    let room = WaitingRoom::new(Settings::default());
    let gate = watch::Sender::new(Gate::Open(Arc::new(Silent)));
    let (waited, through) = pass(&room, 7, &gate).await;
    assert!(!through && waited >= HOLD && waited < HOLD + Duration::from_secs(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_to_an_engine_that_is_gone_is_made_again_to_the_next() {
    let room = Arc::new(WaitingRoom::new(Settings::default()));
    let gate = Arc::new(watch::Sender::new(Gate::Open(Arc::new(Silent))));
    let (to, of) = (Arc::clone(&room), Arc::clone(&gate));
    let waiting = tokio::spawn(async move { pass(&to, 7, &of).await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    gate.send_replace(starting());
    tokio::time::sleep(Duration::from_secs(10)).await;
    gate.send_replace(Gate::Open(Arc::new(Ready)));
    let (waited, through) = within(waiting).await.unwrap();
    assert!(through && waited < HOLD, "{waited:?}");
}
