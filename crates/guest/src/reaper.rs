use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::Error;
use crate::init::Message;

/// Waits for every process of the namespace: PID 1 inherits all whose parent died.
pub(crate) struct Reaper {
    wake: SyncSender<()>,
}

impl Reaper {
    pub(crate) fn start(messages: SyncSender<Message>) -> Result<Self, Error> {
        // One token is enough: it only says that there may be children again.
        let (wake, woken) = sync_channel(1);
        thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(move || reap(&messages, &woken))
            .map_err(Error::io("starting a thread"))?;
        Ok(Self { wake })
    }

    /// To be called after a child was started.
    pub(crate) fn child_started(&self) {
        match self.wake.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

fn reap(messages: &SyncSender<Message>, woken: &Receiver<()>) {
    loop {
        let message = match waitpid(None::<Pid>, None) {
            Ok(WaitStatus::Exited(pid, code)) => Message::Exited { pid, how: format!("exit code {code}") },
            Ok(WaitStatus::Signaled(pid, signal, _)) => Message::Exited { pid, how: format!("killed by {signal}") },
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => {
                if messages.send(Message::NoChildren).is_err() || woken.recv().is_err() {
                    return;
                }
                continue;
            }
        };
        if messages.send(message).is_err() {
            return;
        }
    }
}
