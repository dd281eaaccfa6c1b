//! The greeting, over a pipe.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    ConnectError,
    wire::{
        greeting::{Established, Greeting},
        hello::VERSION,
        intake::Intake,
    },
};

/// Shakes hands. What follows the peer's greeting is left in `intake`.
pub(super) async fn greet<T: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut T,
    greeting: &mut Greeting,
    intake: &mut Intake,
    epoch: Instant,
) -> Result<Established, ConnectError> {
    let mut timer = pin!(sleep_until(epoch));
    poll_fn(|context| {
        loop {
            repeat(greeting, timer.as_mut(), epoch, context);
            write(transport, greeting, context)?;
            let mut space = ReadBuf::new(intake.space());
            ready!(Pin::new(&mut *transport).poll_read(context, &mut space))?;
            let count = space.filled().len();
            if count == 0 {
                return Poll::Ready(Err(ConnectError::Eof));
            }
            intake.filled(count);
            let established =
                greeting.receive(intake).map_err(|other| ConnectError::Version { ours: VERSION, theirs: other.0 })?;
            if let Some(established) = established {
                return Poll::Ready(Ok(established));
            }
        }
    })
    .await
}

fn repeat(greeting: &mut Greeting, mut timer: Pin<&mut Sleep>, epoch: Instant, context: &mut Context<'_>) {
    while let Some(at) = greeting.deadline() {
        if timer.deadline() != epoch + at {
            timer.as_mut().reset(epoch + at);
        }
        if timer.as_mut().poll(context).is_pending() {
            return;
        }
        greeting.handle_time(epoch.elapsed());
    }
}

fn write<T: AsyncWrite + Unpin>(
    transport: &mut T,
    greeting: &mut Greeting,
    context: &mut Context<'_>,
) -> io::Result<()> {
    while !greeting.output().is_empty() {
        match Pin::new(&mut *transport).poll_write(context, greeting.output())? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => greeting.sent(count),
            Poll::Pending => return Ok(()),
        }
    }
    match Pin::new(transport).poll_flush(context) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Ok(()),
    }
}
