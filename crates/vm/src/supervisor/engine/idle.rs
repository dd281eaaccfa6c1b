//! Whether anybody needs the engine, and the wait for somebody who does.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::ping;
use crate::socket::Activity;

const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing tells of a container that ends while nobody listens: it is looked for.
const LOOK: Duration = Duration::from_secs(60);

/// The use of one engine.
pub(super) struct Idle {
    activity: watch::Receiver<Activity>,
    /// How long it may go unused; never too long when there is none.
    after: Option<Duration>,
    /// When it was last seen to be busy by itself.
    busy: Instant,
    /// When it is looked again.
    look: Instant,
}

impl Idle {
    pub(super) fn new(activity: watch::Receiver<Activity>, after: Option<Duration>) -> Self {
        let now = Instant::now();
        Self { activity, after, busy: now, look: now }
    }

    /// The engine has just come up.
    pub(super) fn restart(&mut self) {
        self.busy = Instant::now();
        self.look = self.busy;
    }

    /// Returns when it was not used for so long: nobody is connected, nobody was, and nothing runs in it. May be dropped
    /// and called again.
    pub(super) async fn unused(&mut self, socket: &Path) {
        let Some(after) = self.after else { return std::future::pending().await };
        loop {
            let Activity { connections, last } = *self.activity.borrow_and_update();
            if connections > 0 {
                // The sender lives as long as the socket, which outlives every guest.
                let _ = self.activity.changed().await;
                continue;
            }
            let due = (last.max(self.busy) + after).max(self.look);
            tokio::select! {
                () = sleep_until(due) => {}
                _ = self.activity.changed() => continue,
            }
            if ping::is_busy(socket, PATIENCE).await {
                self.busy = Instant::now();
                self.look = self.busy + LOOK.min(after);
            } else if !self.is_used() {
                return;
            }
        }
    }

    /// Whether anybody is connected at this moment.
    pub(super) fn is_used(&self) -> bool {
        self.activity.borrow().connections > 0
    }

    /// Returns when somebody is connected, or was: without a connection, every change is one.
    pub(super) async fn used(&mut self) {
        while !self.is_used() {
            if self.activity.changed().await.is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;
    use tokio::sync::watch;
    use tokio::time::Instant;

    use super::Idle;
    use crate::socket::Activity;

    /// Answers every request with the next of these.
    fn engine(answers: &'static [&'static str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            for answer in answers.iter().cycle() {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let _ = connection.read(&mut head).await;
                let _ = connection.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{answer}").as_bytes()).await;
            }
        });
        (folder, socket)
    }

    #[tokio::test]
    async fn what_nobody_uses_is_found_and_what_runs_is_left() {
        let (_folder, socket) = engine(&["[{}]", "[]", r#"{"Swarm":{"LocalNodeState":"active"}}"#, "[]", "{}"]);
        let (tell, activity) = watch::channel(Activity { connections: 1, last: Instant::now() });
        let after = Duration::from_millis(50);
        let mut idle = Idle::new(activity, Some(after));
        let early = tokio::time::timeout(after * 4, idle.unused(&socket)).await;
        assert!(early.is_err(), "somebody is connected");
        tell.send_replace(Activity { connections: 0, last: Instant::now() });
        // A container, then a swarm, then nothing.
        let began = Instant::now();
        tokio::time::timeout(Duration::from_secs(30), idle.unused(&socket)).await.unwrap();
        assert!(began.elapsed() >= after * 3, "it was busy twice");
        assert!(!idle.is_used());
        let waking = tokio::spawn(async move { idle.used().await });
        tell.send_replace(Activity { connections: 1, last: Instant::now() });
        tokio::time::timeout(Duration::from_secs(30), waking).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn without_a_time_it_is_never_too_long() {
        let (_folder, socket) = engine(&["[]", "{}"]);
        let mut idle = Idle::new(watch::channel(Activity::none()).1, None);
        assert!(tokio::time::timeout(Duration::from_millis(100), idle.unused(&socket)).await.is_err());
    }
}
