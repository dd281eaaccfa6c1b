//! The way out of the network namespace of an engine without a machine.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::Note;
use crate::backend::native::Namespaces;
use crate::backend::network::WayOut;

const NETWORK_TRIES: u32 = 5;
const NETWORK_PAUSE: Duration = Duration::from_secs(1);
/// One that stayed for so long is no reason to give up the next.
const STEADY: Duration = Duration::from_secs(600);

/// The task that keeps the way out, and what tells it to end: dropping the sender.
pub(super) struct Network {
    task: tokio::task::JoinHandle<()>,
    keep: oneshot::Sender<()>,
}

impl Network {
    pub(super) fn keep(way_out: WayOut, namespaces: Namespaces, notes: mpsc::Sender<Note>) -> Self {
        let (keep, leave) = oneshot::channel();
        Self { task: tokio::spawn(keep_way_out(way_out, namespaces, notes, leave)), keep }
    }

    pub(super) async fn end(self) {
        drop(self.keep);
        let _ = self.task.await;
    }
}

/// Keeps it attached until `leave`; gives up, saying so, when it does not stay.
async fn keep_way_out(
    mut way_out: WayOut,
    namespaces: Namespaces,
    notes: mpsc::Sender<Note>,
    mut leave: oneshot::Receiver<()>,
) {
    let mut tries = 0;
    while tries < NETWORK_TRIES {
        let since = Instant::now();
        let attached = tokio::select! {
            attached = way_out.attach(&namespaces) => attached,
            _ = &mut leave => return,
        };
        let why = match attached {
            Ok(mut attached) => {
                // The supervisor may be stopping and no longer listen; `leave` follows then.
                let _ = notes.send(Note::Network(None)).await;
                let how = tokio::select! {
                    how = attached.ended() => Some(how),
                    _ = &mut leave => None,
                };
                match how {
                    Some(how) => format!("{} ended ({how})", way_out.name()),
                    None => return attached.detach().await,
                }
            }
            Err(error) => match way_out.otherwise(&error) {
                Some(other) => {
                    way_out = other;
                    continue;
                }
                None => error.to_string(),
            },
        };
        tries = if since.elapsed() > STEADY { 0 } else { tries + 1 };
        let warning = format!("containers cannot reach other machines at the moment: {why}");
        if notes.send(Note::Network(Some(warning))).await.is_err() {
            return;
        }
        sleep(NETWORK_PAUSE).await;
    }
}
