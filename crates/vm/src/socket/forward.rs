//! Carries bytes between two connections, each direction for itself, until both have ended.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;

use super::Connection;

/// What is read at once. Larger ones fall out of the processor's cache, smaller ones cost more calls.
const BUFFER: usize = 128 << 10;
/// How many buffers one direction may carry before others have their turn.
const TURN: u32 = 4;
const SPARE: usize = 16;
/// Pieces of this size, so many bytes of them without a smaller one, are a transfer and no conversation.
const PIECE: usize = 16 << 10;
const TRANSFER: usize = 1 << 20;
/// In a transfer the sender is given this time to say more before it is listened to again. Waking for each of its pieces
/// would take more of the processor than carrying them, and on a small machine it is taken from the sender.
const REST: Duration = Duration::from_micros(60);

/// Buffers that all connections share: one has a buffer only while its receiver is slower than its sender, so that an
/// idle one costs none.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    spare: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }
}

/// Bytes that were read and are not written yet.
struct Pending {
    buffer: Box<[u8]>,
    written: usize,
    filled: usize,
}

/// One direction.
struct Flow {
    stage: Stage,
    /// How much came in large pieces since the last small one.
    transferred: usize,
}

enum Stage {
    Flowing(Option<Pending>),
    /// The sender has said everything.
    Ending,
    /// Nobody listens. What the sender had said by then is taken from it, for one that waits to be able to write would
    /// not see that it need not.
    Discarding,
    Over,
}

/// Why nothing more is to be carried in either direction.
enum Stop {
    /// One side closed, and everything that it had said is delivered.
    Closed,
    Broken(io::Error),
}

/// Carries until both sides have ended, or one is gone. `heard` is told whenever the client said something.
///
/// What each side sees is what it would see of the other one: the end of one direction is passed on alone, a side that
/// reads no more makes the other's writes fail, and a side that is gone closes the other connection. Dropping them is
/// what closes them, so a connection that ends with bytes unread is a reset for whoever sent them.
pub(super) async fn forward(
    mut client: Connection,
    mut engine: Connection,
    buffers: &Buffers,
    heard: impl Fn(),
) -> io::Result<()> {
    let (mut up, mut down) = (Flow::new(), Flow::new());
    std::future::poll_fn(|context| {
        let first = up.carry(&mut client, &mut engine, buffers, &heard, context);
        if let Poll::Ready(Err(stop)) = first {
            return Poll::Ready(stop.into());
        }
        let second = down.carry(&mut engine, &mut client, buffers, &|| {}, context);
        match (first, second) {
            (_, Poll::Ready(Err(stop))) => Poll::Ready(stop.into()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await
}

impl From<Stop> for io::Result<()> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Closed => Ok(()),
            Stop::Broken(error) => Err(error),
        }
    }
}

impl Flow {
    fn new() -> Self {
        Self { stage: Stage::Flowing(None), transferred: 0 }
    }

    /// Ready when this direction is over.
    fn carry(
        &mut self,
        from: &mut Connection,
        to: &mut Connection,
        buffers: &Buffers,
        heard: &impl Fn(),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        for _ in 0..TURN {
            match &mut self.stage {
                Stage::Flowing(pending) => {
                    let mut bytes = match pending.take() {
                        Some(bytes) => bytes,
                        None => match ready!(Pending::read(from, buffers, context)).map_err(Stop::Broken)? {
                            Some(bytes) => {
                                heard();
                                bytes
                            }
                            // All that it said is written: nothing is lost by closing the other side as well.
                            None if matches!(to, Connection::Unix(_)) && from.is_closed_by_peer() => {
                                return Poll::Ready(Err(Stop::Closed));
                            }
                            None => {
                                self.stage = Stage::Ending;
                                continue;
                            }
                        },
                    };
                    match bytes.write(to, context) {
                        Poll::Ready(Ok(())) => {
                            let carried = bytes.filled;
                            buffers.give_back(bytes.buffer);
                            self.rest(carried, from);
                        }
                        Poll::Pending => {
                            *pending = Some(bytes);
                            return Poll::Pending;
                        }
                        Poll::Ready(Err(error)) => {
                            buffers.give_back(bytes.buffer);
                            // What the other side still says may well be the reason why it does not listen.
                            if !from.refuse_input() {
                                return Poll::Ready(Err(Stop::Broken(error)));
                            }
                            self.stage = Stage::Discarding;
                        }
                    }
                }
                Stage::Ending => {
                    // That it reads no more is no fault: it was told that there is no more.
                    let _ = ready!(to.poll_shutdown(context));
                    self.stage = Stage::Over;
                }
                Stage::Discarding => match ready!(Pending::read(from, buffers, context)) {
                    Ok(Some(bytes)) => buffers.give_back(bytes.buffer),
                    // How the sender fares is seen in the other direction.
                    Ok(None) | Err(_) => self.stage = Stage::Over,
                },
                Stage::Over => return Poll::Ready(Ok(())),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The thread rests, and with it all that it carries; it is shorter than carrying a few large pieces.
    fn rest(&mut self, carried: usize, from: &Connection) {
        if carried < PIECE {
            self.transferred = 0;
            return;
        }
        self.transferred = self.transferred.saturating_add(carried);
        // A full buffer means that more is there already.
        if self.transferred > TRANSFER && carried < BUFFER && matches!(from, Connection::Unix(_)) {
            std::thread::sleep(REST);
        }
    }
}

impl Pending {
    /// What the sender says next; none at its end.
    fn read(from: &mut Connection, buffers: &Buffers, context: &mut Context<'_>) -> Poll<io::Result<Option<Self>>> {
        let mut buffer = buffers.take();
        let mut target = ReadBuf::new(&mut buffer);
        let read = from.poll_read(context, &mut target);
        let filled = target.filled().len();
        if filled > 0 && matches!(read, Poll::Ready(Ok(()))) {
            return Poll::Ready(Ok(Some(Self { buffer, written: 0, filled })));
        }
        buffers.give_back(buffer);
        read.map_ok(|()| None)
    }

    fn write(&mut self, to: &mut Connection, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.buffer.get(self.written..self.filled).filter(|rest| !rest.is_empty()) {
            match ready!(to.poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        to.poll_flush(context)
    }
}
