//! Sessions with a machine's agent, one after another: what it tells is passed on, the ports it asks for are published, its
//! clock is kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_mux::control::{Event, HelloReply, Reply, Request, ServiceState as Told};
use berth_mux::{
    Config, ConnectError, ControlError, ControlSender, Inbound, Offer, Opener, RefusalCode, Role, Session, Target,
};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::wall_clock::WallClock;
use super::{AbortOnDrop, Companion, MachineError, RunningMachine, upkeep};
use crate::backend::{GuestEvent, Pace, ServiceState};
use crate::ports::{Reach, publish};

/// Version of the agent's messages that this program speaks.
const PROTOCOL: u32 = 1;
/// And the oldest of an agent's that it gets along with.
const OLDEST_PROTOCOL: u32 = 1;
const CLOCK_PERIOD: Duration = Duration::from_secs(10);
const GROW_PATIENCE: Duration = Duration::from_secs(120);
/// What goes along with dockerd begins no sooner than this after it began before.
const READY_AGAIN: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One that ended sooner was hardly one.
const SHORT_SESSION: Duration = Duration::from_secs(10);
/// After which it is no longer only a moment that the agent is away.
const TRIES: u32 = 3;
/// What a guest says is shown, and a guest may say anything.
const TEXT: usize = 600;
const DISK_STAGE: &str = "disk";
const DISK_FIX: &str = "nothing was changed on it: restore vm/data.raw in the data folder from a backup, or move it away to \
                        begin with an empty one";
/// Ports that are asked for at a time.
const PUBLICATIONS: usize = 4096;

/// Why there is no session with an agent.
#[derive(Debug, thiserror::Error)]
enum MeetError {
    #[error(transparent)]
    Channel(#[from] MachineError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("its agent did not answer within {0:?}")]
    Late(Duration),
    #[error(
        "its agent speaks version {theirs} of the protocol, and {needed} is the least: the appliance's files are of different \
         versions"
    )]
    Protocol { theirs: u32, needed: u32 },
    #[error("the guest answered something else than it was asked")]
    OtherAnswer,
    #[error("{0}")]
    NoAnswer(#[source] ControlError),
}

/// What sessions are held with.
pub(crate) struct Link {
    pub(crate) machine: Arc<dyn RunningMachine>,
    /// The agent's, as the appliance says.
    pub(crate) protocol: u32,
    pub(crate) pace: Pace,
    pub(crate) tell: mpsc::Sender<GuestEvent>,
    pub(crate) opener: watch::Sender<Option<Opener>>,
    pub(crate) control: watch::Sender<Option<ControlSender>>,
    pub(crate) companion: Option<Arc<dyn Companion>>,
}

/// Why a session ended, and whether it ever was one.
struct Held {
    greeted: bool,
    why: String,
}

/// Holds sessions for as long as it is let.
pub(crate) async fn keep_link(link: Link) {
    let mut met = false;
    let mut tries = 0_u32;
    let mut pause = AGAIN;
    loop {
        let began = Instant::now();
        let held = match link.meet(met).await {
            Ok(session) => link.hold(session).await,
            Err(error) => Held { greeted: false, why: error.to_string() },
        };
        link.opener.send_replace(None);
        link.control.send_replace(None);
        tracing::warn!(why = held.why, greeted = held.greeted, "there is no session with the guest");
        met |= held.greeted;
        if held.greeted {
            tries = 0;
            let _ = link.tell.send(GuestEvent::Lost { why: held.why }).await;
        } else if met {
            tries = tries.saturating_add(1);
            if tries == TRIES {
                let why = format!(
                    "{} (asked {TRIES} times; its containers may well run on: stop and start the engine if it stays so)",
                    held.why
                );
                let _ = link.tell.send(GuestEvent::Lost { why }).await;
            }
        }
        // A guest whose agent dies over and over is not to keep this machine busy.
        pause = if held.greeted && began.elapsed() > SHORT_SESSION { AGAIN } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::time::sleep(pause).await;
    }
}

impl Link {
    /// Connects. An agent that was never there is waited for: how long a start may take others decide.
    async fn meet(&self, met: bool) -> Result<Session, MeetError> {
        let channel = self.machine.channel().await?;
        let config = Config { silence: self.pace.silence, ..Config::default() };
        let connecting = berth_mux::connect(channel, Role::Host, config);
        let connected = if met {
            timeout(self.pace.meet, connecting).await.map_err(|_| MeetError::Late(self.pace.meet))?
        } else {
            connecting.await
        };
        if let Err(error @ ConnectError::Version { .. }) = &connected {
            self.fail("greeting the guest", error.to_string(), Some(crate::appliance::FIX)).await;
        }
        Ok(connected?)
    }

    async fn fail(&self, stage: &str, cause: String, fix: Option<&str>) {
        let (stage, fix) = (stage.to_owned(), fix.map(str::to_owned));
        let _ = self.tell.send(GuestEvent::Failed { stage, cause, fix, log: Vec::new(), outside: false }).await;
    }

    /// Holds one session to its end.
    async fn hold(&self, session: Session) -> Held {
        let Session { opener, mut incoming, control, ended } = session;
        let (sender, mut receiver) = control.split();
        let greeting = sender.clone();
        let mut greeting = std::pin::pin!(self.greet(&greeting));
        let mut greeted = false;
        let mut publications = JoinSet::new();
        let mut clock = interval(CLOCK_PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Without it the next tick does.
        let wall_clock = WallClock::new().ok();
        // It lives as long as dockerd, which tells what it needs, and ends with the session.
        let mut _companion = None;
        let mut ready_before: Option<Instant> = None;
        // Each of them one at a time, however often the guest says so; it is not ended halfway with the session.
        let (mut taking, mut growing): (Option<JoinHandle<()>>, Option<JoinHandle<()>>) = (None, None);
        let is_own = self.machine.is_own();
        loop {
            tokio::select! {
                end = ended.wait() => return Held { greeted, why: end.to_string() },
                outcome = &mut greeting, if !greeted => match outcome {
                    Ok(hello) => {
                        tracing::info!(os = hello.os, kernel = hello.kernel, agent = hello.agent_version, "guest");
                        greeted = true;
                        self.control.send_replace(Some(sender.clone()));
                        self.opener.send_replace(Some(opener.clone()));
                    }
                    Err(error) => return Held { greeted, why: error.to_string() },
                },
                _ = clock.tick(), if greeted && is_own => drop(tokio::spawn(set_clock(sender.clone(), self.pace.answer))),
                () = jumped(wall_clock.as_ref()), if greeted => {
                    tracing::info!("the clock of this machine jumped");
                    clock.reset_immediately();
                }
                // Only once dockerd can be reached may anybody hear that it is ready.
                inbound = receiver.next(), if greeted => match inbound {
                    Some(Inbound::Event(event)) => {
                        if is_dockerd_ready(&event) {
                            if is_own && growing.as_ref().is_none_or(JoinHandle::is_finished) {
                                growing = Some(tokio::spawn(grow(sender.clone())));
                            }
                            let pause = ready_before.map_or(Duration::ZERO, |at| READY_AGAIN.saturating_sub(at.elapsed()));
                            ready_before = Some(Instant::now());
                            _companion = self.companion.as_ref().map(|companion| {
                                let going_along = companion.run(opener.clone(), sender.clone(), self.tell.clone());
                                AbortOnDrop(tokio::spawn(async move {
                                    tokio::time::sleep(pause).await;
                                    going_along.await;
                                }))
                            });
                        }
                        if matches!(event, Event::Freed) && taking.as_ref().is_none_or(JoinHandle::is_finished) {
                            let work = upkeep::take_what_is_free(Arc::clone(&self.machine), sender.clone());
                            taking = Some(tokio::spawn(work));
                        }
                        if let Some(event) = understood(event) {
                            tracing::info!(?event, "guest");
                            let _ = self.tell.send(event).await;
                        }
                    }
                    Some(Inbound::Request { responder, .. }) => drop(responder),
                    None => return Held { greeted, why: ended.wait().await.to_string() },
                },
                offer = incoming.next() => match offer {
                    Some(offer) => self.accept(offer, &mut publications),
                    None => return Held { greeted, why: ended.wait().await.to_string() },
                },
                Some(_) = publications.join_next() => {}
            }
        }
    }

    async fn greet(&self, control: &ControlSender) -> Result<HelloReply, MeetError> {
        let request = Request::Hello { protocol: PROTOCOL, host_version: env!("CARGO_PKG_VERSION").to_owned() };
        match control.request(request, self.pace.answer).await {
            Ok(Reply::Hello(hello)) if hello.protocol >= OLDEST_PROTOCOL.max(self.protocol) => Ok(hello),
            Ok(Reply::Hello(hello)) => {
                let needed = OLDEST_PROTOCOL.max(self.protocol);
                let error = MeetError::Protocol { theirs: hello.protocol, needed };
                self.fail("greeting the guest", error.to_string(), Some(crate::appliance::FIX)).await;
                Err(error)
            }
            Ok(_) => Err(MeetError::OtherAnswer),
            Err(error) => Err(MeetError::NoAnswer(error)),
        }
    }

    /// The guest may ask for ports, and for nothing else.
    fn accept(&self, offer: Offer, publications: &mut JoinSet<()>) {
        match offer.target() {
            Target::Ports if offer.is_datagram() || publications.len() >= PUBLICATIONS => {
                offer.refuse(RefusalCode::Full, "no more ports can be published");
            }
            Target::Ports => {
                let reach = Reach::Machine(self.opener.subscribe());
                publications.spawn(publish(offer.accept(), reach));
            }
            _ => offer.refuse(RefusalCode::NotAllowed, "a guest may ask the host for ports alone"),
        }
    }
}

async fn jumped(clock: Option<&WallClock>) {
    match clock {
        Some(clock) => clock.jumped().await,
        None => std::future::pending().await,
    }
}

async fn set_clock(control: ControlSender, patience: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request = Request::TimeSet { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() };
    if let Err(error) = control.request(request, patience).await {
        tracing::debug!(%error, "the guest's clock was not set");
    }
}

fn is_dockerd_ready(event: &Event) -> bool {
    matches!(event, Event::Service { service, state: Told::Ready, .. } if service == "dockerd")
}

/// The disk may be larger than it was at the last start; by now it is mounted.
async fn grow(control: ControlSender) {
    if let Err(error) = control.request(Request::Grow, GROW_PATIENCE).await {
        tracing::info!(%error, "the data disk's file system was not grown");
    }
}

/// The guest's words in the supervisor's; what this version does not know is passed over.
fn understood(event: Event) -> Option<GuestEvent> {
    Some(match event {
        Event::Service { service, state, detail, .. } => GuestEvent::Service {
            service: said(&service),
            state: match state {
                Told::Started => ServiceState::Started,
                Told::Ready => ServiceState::Ready,
                Told::Exited => ServiceState::Exited,
                Told::Unknown => ServiceState::Other,
            },
            detail: detail.as_deref().map(said),
        },
        Event::CrashLoop { service, exits, detail } => {
            GuestEvent::CrashLoop { service: said(&service), exits, detail: said(&detail) }
        }
        Event::Warning { message } => GuestEvent::Warning { message: said(&message) },
        Event::Failed { stage, cause } => {
            let fix = (stage == DISK_STAGE).then(|| DISK_FIX.to_owned());
            GuestEvent::Failed { stage: said(&stage), cause: said(&cause), fix, log: Vec::new(), outside: false }
        }
        Event::Stage { name } => GuestEvent::Stage { name: said(&name) },
        Event::Freed | Event::Stopped => return None,
    })
}

/// A bounded part of it, in one line and without what a terminal would obey.
fn said(text: &str) -> String {
    let readable = |character: char| if character.is_control() { ' ' } else { character };
    let mut short: String = text.chars().take(TEXT).map(readable).collect();
    if text.chars().nth(TEXT).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use berth_mux::control::Event;

    use super::{DISK_FIX, TEXT, said, understood};
    use crate::backend::GuestEvent;

    #[test]
    fn what_a_guest_says_is_bounded_and_obeyed_by_no_terminal() {
        assert_eq!(said("a\u{1b}[2Jb\nc"), "a [2Jb c");
        let long = said(&"ä".repeat(100_000));
        assert_eq!(long.chars().count(), TEXT + 1);
    }

    #[test]
    fn a_damaged_disk_comes_with_what_to_do() {
        let event = Event::Failed { stage: "disk".to_owned(), cause: "no ext4".to_owned() };
        let Some(GuestEvent::Failed { fix, .. }) = understood(event) else { panic!("another event") };
        assert_eq!(fix.as_deref(), Some(DISK_FIX));
    }
}
