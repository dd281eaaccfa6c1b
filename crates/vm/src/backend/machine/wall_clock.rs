//! Jumps of this machine's clock: it was asleep, or somebody set the clock.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::net::unix::pipe;

/// A timer that is never to expire, and that the kernel cancels when the clock jumps.
#[derive(Debug)]
pub(super) struct WallClock {
    timer: TimerFd,
    /// The same once more. It is no pipe, and what is done with a pipe is what can be done with it.
    readable: pipe::Receiver,
}

impl WallClock {
    pub(super) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        arm(&timer)?;
        let same: OwnedFd = timer.as_fd().try_clone_to_owned()?;
        Ok(Self { readable: pipe::Receiver::from_file_unchecked(File::from(same))?, timer })
    }

    /// Returns after the next jump.
    pub(super) async fn jumped(&self) {
        loop {
            if self.readable.readable().await.is_err() {
                return std::future::pending().await;
            }
            match self.readable.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.raw_os_error() == Some(Errno::ECANCELED as i32) => {
                    // A timer that was cancelled is set anew, or it tells nothing more.
                    match arm(&self.timer) {
                        Ok(()) => return,
                        Err(_) => return std::future::pending().await,
                    }
                }
                // The time that is never to come.
                Ok(_) | Err(_) => return std::future::pending().await,
            }
        }
    }
}

fn arm(timer: &TimerFd) -> nix::Result<()> {
    // Some hundred years from 1970 on.
    let never = TimeSpec::from_duration(Duration::from_secs(1 << 33));
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(never), flags)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::WallClock;

    #[tokio::test]
    async fn a_clock_that_runs_as_it_should_tells_nothing() {
        let clock = WallClock::new().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), clock.jumped()).await.is_err());
    }
}
