//! The session's task: reads, writes and looks at the clock until the end.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use crate::{
    End,
    shared::Shared,
    wire::{batch::Batch, frame::Seal, greeting::Established, intake::Intake},
};

/// Bytes that are taken out of the state at a time. What is urgent waits for no more than these and what the pipe holds.
const BATCH: usize = 256 * 1024;

/// Reads and writes in a row before other tasks get their turn.
const ROUNDS: usize = 16;

/// How long the good-bye may take.
const LINGER: Duration = Duration::from_secs(1);

struct Pump<T> {
    transport: T,
    shared: Arc<Shared>,
    intake: Intake,
    receives: Seal,
    /// There are whole frames that the state does not take yet.
    is_paused: bool,
    batch: Batch,
    needs_flush: bool,
    /// The good-bye was taken out.
    last_batch: bool,
    close_by: Option<Duration>,
    timer: Pin<Box<Sleep>>,
}

/// Also tells the holders when the task is dropped with its runtime.
struct Announcement {
    shared: Arc<Shared>,
    end: End,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.shared.announce(self.end.clone());
    }
}

/// Runs until the session ends.
pub(super) fn run<T: AsyncRead + AsyncWrite + Unpin>(
    transport: T,
    shared: Arc<Shared>,
    intake: Intake,
    established: &Established,
) -> impl Future<Output = ()> + use<T> {
    let mut batch = Batch::new(established.sends, transport.is_write_vectored());
    batch.raw(&established.unsent);
    let timer = Box::pin(sleep_until(shared.epoch()));
    let mut announcement = Announcement { shared: Arc::clone(&shared), end: End::Closed };
    let mut pump = Pump {
        transport,
        shared,
        intake,
        receives: established.receives,
        // Frames may have come right behind the greeting.
        is_paused: true,
        batch,
        needs_flush: false,
        last_batch: false,
        close_by: None,
        timer,
    };
    async move {
        let end = poll_fn(|context| pump.poll(context)).await;
        tracing::debug!(%end, "the session ended");
        announcement.end = end;
        drop(pump);
        drop(announcement);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Pump<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS {
            match self.round(context) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Says whether there is more to do at once.
    fn round(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let read = self.read(context)?;
        let written = self.write(context)?;
        self.look_at_the_clock(context)?;
        Ok(read || written || !self.may_wait(context)?)
    }

    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.is_paused {
            self.take_in()?;
        }
        if self.is_paused {
            return Ok(false);
        }
        let mut space = ReadBuf::new(self.intake.space());
        let Poll::Ready(outcome) = Pin::new(&mut self.transport).poll_read(context, &mut space) else {
            return Ok(false);
        };
        outcome.map_err(broken)?;
        let count = space.filled().len();
        if count == 0 {
            return Err(End::Eof);
        }
        self.intake.filled(count);
        self.take_in()?;
        Ok(true)
    }

    fn take_in(&mut self) -> Result<(), End> {
        let (now, intake, seal) = (self.shared.now(), &mut self.intake, self.receives);
        self.is_paused = self.shared.with(|core| {
            core.driver_runs();
            while core.may_receive() {
                match intake.next(seal)? {
                    Some(item) => core.receive(&item, now)?,
                    None => return Ok(false),
                }
            }
            Ok::<_, End>(true)
        })?;
        Ok(())
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.batch.is_empty() && !self.last_batch {
            let batch = &mut self.batch;
            self.last_batch = self.shared.with(|core| {
                core.driver_runs();
                core.fill(batch, BATCH);
                core.said_goodbye()
            });
        }
        let mut has_written = false;
        while !self.batch.is_empty() {
            let (slices, count) = self.batch.slices();
            let slices = slices.get(..count).unwrap_or_default();
            match Pin::new(&mut self.transport).poll_write_vectored(context, slices) {
                Poll::Pending => return Ok(has_written),
                Poll::Ready(Ok(0)) => return Err(broken(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.batch.written(count),
                Poll::Ready(Err(error)) => return Err(broken(error)),
            }
            (has_written, self.needs_flush) = (true, true);
        }
        if self.needs_flush
            && let Poll::Ready(outcome) = Pin::new(&mut self.transport).poll_flush(context)
        {
            outcome.map_err(broken)?;
            self.needs_flush = false;
        }
        if self.last_batch && !self.needs_flush { Err(End::Closed) } else { Ok(has_written) }
    }

    fn look_at_the_clock(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = self.shared.now();
            if self.close_by.is_some_and(|by| now >= by) {
                return Err(End::Closed);
            }
            let next = self.shared.with(|core| {
                core.handle_time(now)?;
                Ok::<_, End>(core.deadline())
            })?;
            let next = self.close_by.map_or(next, |by| by.min(next));
            self.timer.as_mut().reset(self.shared.epoch() + next);
        }
        Ok(())
    }

    /// Whether nothing is left to do until somebody wakes the task.
    fn may_wait(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let (is_written, is_paused) = (self.batch.is_empty(), self.is_paused);
        let (may_wait, is_closing) = self.shared.with(|core| {
            core.driver_waits(context.waker());
            if let Some(end) = core.end() {
                return Err(end.clone());
            }
            let more = (is_written && core.has_output()) || (is_paused && core.may_receive());
            Ok((!more, core.is_closing()))
        })?;
        if is_closing && self.close_by.is_none() {
            let by = self.shared.now() + LINGER;
            self.close_by = Some(by);
            self.timer.as_mut().reset(self.shared.epoch() + by);
            return Ok(false);
        }
        Ok(may_wait)
    }
}

fn broken(error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => End::Eof,
        _ => End::Transport(Arc::new(error)),
    }
}
