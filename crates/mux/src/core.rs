//! The state of one session: streams, credit, what is to be sent. No IO and no clock; bytes, times and wakers are passed in.
//!
//! What the peer can make this side hold is bounded, whatever it sends (figures with the default [`Config`]):
//! - bytes that nobody read yet: [`LEAN_WINDOW`] for each stream and the receive budget for all together (64 MiB + 64 MiB);
//! - datagrams: [`DATAGRAM_BUDGET`] (16 MiB);
//! - targets of streams that nobody answered yet: 4 KiB each, the backlog many (16 MiB);
//! - answers that wait to be sent: [`MAX_URGENT`] small frames, then nothing more is taken in;
//! - for each stream its record and up to one partly read piece of 64 KiB.

mod entry;
mod liveness;
mod local;
mod receive;
mod transmit;

use std::{
    collections::{HashMap, VecDeque},
    task::Waker,
    time::Duration,
};

use self::{entry::Entry, liveness::Liveness};
use crate::{Config, End, LEAN_WINDOW, Role, wire::greeting::Established};

pub(crate) use self::entry::Form;
pub(crate) use self::local::Broken;

/// The control stream.
pub(crate) const CONTROL: u32 = 0;

/// Credit of the control stream. It is there from the beginning and never grows.
const CONTROL_WINDOW: u32 = 256 * 1024;

/// Small frames that wait to be sent before nothing more is taken in.
const MAX_URGENT: usize = 8192;

/// Credit for sending beyond this is no credit but an attack.
const MAX_CREDIT: u32 = 1 << 30;

/// Bytes of datagrams that wait to be read, over all streams.
const DATAGRAM_BUDGET: usize = 16 * 1024 * 1024;

/// Datagrams of one stream that wait, in each direction.
const DATAGRAM_QUEUE: usize = 256;

/// A frame that is sent before all data.
#[derive(Debug, PartialEq, Eq)]
enum Urgent {
    Open { stream: u32, form: Form, window: u32, target: Vec<u8> },
    OpenOk { stream: u32, window: u32 },
    OpenErr { stream: u32, code: u16, message: String },
    Rst { stream: u32 },
    Ping { number: u64 },
    Pong { number: u64 },
}

/// A ping that somebody waits for.
#[derive(Debug)]
struct Ping {
    number: u64,
    sent: Duration,
    took: Option<Duration>,
    waker: Option<Waker>,
}

/// How far the good-bye of this side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    None,
    Wanted,
    Sent,
}

#[derive(Debug)]
pub(crate) struct Core {
    role: Role,
    config: Config,
    nonce: [u8; 16],
    streams: HashMap<u32, Entry>,
    /// The next stream that this side opens.
    next_stream: u32,
    /// The highest stream that the peer opened, 0 for none.
    peer_highest: u32,
    urgent: VecDeque<Urgent>,
    /// Streams with something to send, in the order of their turns. The control stream is not among them.
    ready: VecDeque<u32>,
    /// Streams whose reader gives credit back.
    returns: VecDeque<u32>,
    /// Streams that nobody has looked at yet.
    offers: VecDeque<u32>,
    offers_waker: Option<Waker>,
    /// Nobody will ever look at an offer.
    deaf: bool,
    pings: Vec<Ping>,
    next_ping: u64,
    /// The ping of the heartbeat that is not taken out yet.
    heartbeat: Option<u64>,
    pongs_waiting: usize,
    /// Credit that was given beyond [`LEAN_WINDOW`] for each stream.
    granted: u64,
    datagram_bytes: usize,
    liveness: Liveness,
    goodbye: Goodbye,
    end: Option<End>,
    /// Who is to be woken once the lock is released.
    wakes: Vec<Waker>,
    driver: Option<Waker>,
    driver_wanted: bool,
}

impl Core {
    pub(crate) fn new(role: Role, config: Config, established: &Established, now: Duration) -> Self {
        let mut config = config;
        config.max_streams = config.max_streams.clamp(1, 65_536);
        config.backlog = config.backlog.clamp(1, config.max_streams);
        config.window = config.window.clamp(1, MAX_CREDIT / 2);
        config.max_window = config.max_window.clamp(config.window, MAX_CREDIT / 2);
        config.send_buffer = config.send_buffer.max(1);
        Self {
            role,
            nonce: established.nonce,
            streams: HashMap::from([(CONTROL, Entry::open(Form::Bytes, CONTROL_WINDOW, CONTROL_WINDOW))]),
            next_stream: match role {
                Role::Host => 1,
                Role::Guest => 2,
            },
            peer_highest: 0,
            urgent: VecDeque::new(),
            ready: VecDeque::new(),
            returns: VecDeque::new(),
            offers: VecDeque::new(),
            offers_waker: None,
            deaf: false,
            pings: Vec::new(),
            next_ping: 0,
            heartbeat: None,
            pongs_waiting: 0,
            granted: 0,
            datagram_bytes: 0,
            liveness: Liveness::new(config.heartbeat, config.silence, now),
            goodbye: Goodbye::None,
            end: None,
            wakes: Vec::new(),
            driver: None,
            driver_wanted: false,
            config,
        }
    }

    pub(crate) const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Ends the session: whoever waits for anything of it gets to know.
    pub(crate) fn finish(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.urgent.clear();
        self.ready.clear();
        self.returns.clear();
        self.offers.clear();
        self.wakes.extend(self.offers_waker.take());
        self.wakes.extend(self.pings.iter_mut().filter_map(|ping| ping.waker.take()));
        for entry in self.streams.values_mut() {
            entry.cut();
            self.wakes.extend(entry.receiving.waker.take());
            self.wakes.extend(entry.sending.waker.take());
        }
        self.streams.retain(|_, entry| entry.held);
        self.driver_wanted = true;
    }

    /// Says good-bye as the next thing and ends.
    pub(crate) fn close(&mut self) {
        if self.goodbye == Goodbye::None && self.end.is_none() {
            self.goodbye = Goodbye::Wanted;
            self.driver_wanted = true;
        }
    }

    /// The session is about to end by this side's will.
    pub(crate) fn is_closing(&self) -> bool {
        self.goodbye != Goodbye::None
    }

    /// The good-bye is among what was taken out by [`Self::fill`].
    pub(crate) fn said_goodbye(&self) -> bool {
        self.goodbye == Goodbye::Sent
    }

    /// The driver is about to wait for a wake.
    pub(crate) fn driver_waits(&mut self, waker: &Waker) {
        self.driver = Some(waker.clone());
        self.driver_wanted = false;
    }

    /// The driver runs and will look by itself.
    pub(crate) fn driver_runs(&mut self) {
        self.driver = None;
    }

    /// Whom to wake, now that the lock is about to be released.
    pub(crate) fn take_wakes(&mut self) -> (Option<Waker>, Vec<Waker>) {
        let driver = if std::mem::take(&mut self.driver_wanted) { self.driver.take() } else { None };
        (driver, std::mem::take(&mut self.wakes))
    }

    /// Sends a ping if it is time.
    ///
    /// # Errors
    /// The end of the session if the peer has been silent for too long.
    pub(crate) fn handle_time(&mut self, now: Duration) -> Result<(), End> {
        let verdict = self.liveness.judge(now);
        match verdict {
            liveness::Verdict::Fine => Ok(()),
            liveness::Verdict::Ping => {
                if self.heartbeat.is_none() {
                    self.heartbeat = Some(self.queue_ping());
                }
                Ok(())
            }
            liveness::Verdict::Silent => Err(End::Silent(self.config.silence)),
        }
    }

    /// When [`Self::handle_time`] is due.
    pub(crate) fn deadline(&self) -> Duration {
        self.liveness.deadline()
    }

    fn queue_ping(&mut self) -> u64 {
        let number = self.next_ping;
        self.next_ping += 1;
        self.urgent.push_back(Urgent::Ping { number });
        self.driver_wanted = true;
        number
    }

    /// What every stream may get, and what it may get beyond that out of the budget.
    fn lean(&self) -> u32 {
        self.config.window.min(LEAN_WINDOW)
    }

    /// The credit of a new stream.
    fn first_window(&mut self) -> u32 {
        let lean = self.lean();
        lean + self.grant(self.config.window - lean)
    }

    /// Takes `wanted` out of the budget, or nothing.
    fn grant(&mut self, wanted: u32) -> u32 {
        if self.granted + u64::from(wanted) > self.config.receive_budget {
            return 0;
        }
        self.granted += u64::from(wanted);
        wanted
    }

    /// Forgets a stream.
    fn remove(&mut self, stream: u32) {
        let lean = self.lean();
        let Some(mut entry) = self.streams.remove(&stream) else { return };
        self.granted = self.granted.saturating_sub(u64::from(entry.receiving.window.saturating_sub(lean)));
        self.datagram_bytes = self.datagram_bytes.saturating_sub(entry.packets.received_bytes());
        self.wakes.extend(entry.receiving.waker.take());
        self.wakes.extend(entry.sending.waker.take());
    }

    /// Whether this side opens streams of that number. The control stream belongs to neither.
    const fn is_own(&self, stream: u32) -> bool {
        match self.role {
            Role::Host => stream % 2 == 1,
            Role::Guest => stream != CONTROL && stream.is_multiple_of(2),
        }
    }

    /// Whether a stream of that number was ever opened.
    const fn was_opened(&self, stream: u32) -> bool {
        if self.is_own(stream) { stream < self.next_stream } else { stream <= self.peer_highest }
    }

    /// Bytes that the peer made this side hold.
    pub(crate) fn held_bytes(&self) -> usize {
        let of_streams: usize = self.streams.values().map(Entry::held_bytes).sum();
        of_streams + self.urgent.len() * size_of::<Urgent>()
    }

    /// What [`Self::held_bytes`] never exceeds.
    pub(crate) fn bound(&self) -> usize {
        let budget = usize::try_from(self.config.receive_budget).unwrap_or(usize::MAX);
        let control = CONTROL_WINDOW as usize;
        let each = LEAN_WINDOW as usize + crate::wire::frame::MAX_TARGET + size_of::<Entry>();
        budget
            .saturating_add(control + DATAGRAM_BUDGET + (self.config.max_streams + 1) * each)
            .saturating_add((MAX_URGENT + self.config.max_streams * 2) * size_of::<Urgent>())
    }
}
