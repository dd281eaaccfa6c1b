//! Named pipes of Windows.

use std::{io, time::Duration};

use super::{Socket, problem::Problem};

/// Connects, waiting for a free instance of the pipe while all of them are taken.
#[cfg(windows)]
pub(super) async fn connect(path: &str, deadline: Duration) -> io::Result<Box<dyn Socket>> {
    use tokio::{
        net::windows::named_pipe::ClientOptions,
        time::{Instant, sleep},
    };

    const ERROR_PIPE_BUSY: i32 = 231;
    const PAUSE: Duration = Duration::from_millis(20);

    let path = path.replace('/', "\\");
    let began = Instant::now();
    loop {
        match ClientOptions::new().open(&path) {
            Ok(pipe) => return Ok(Box::new(pipe)),
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) => {
                // The caller's deadline would say only that it took too long.
                if began.elapsed() + PAUSE >= deadline.saturating_sub(PAUSE) {
                    return Err(Problem::PipeBusy { seconds: deadline.as_secs() }.into_io());
                }
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(not(windows))]
#[expect(clippy::unused_async, reason = "as where there are pipes")]
pub(super) async fn connect(_path: &str, _deadline: Duration) -> io::Result<Box<dyn Socket>> {
    Err(Problem::NoPipes.into_io())
}
