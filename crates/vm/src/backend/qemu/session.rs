//! Sessions with a machine's agent, one after another: what it tells is passed on, the ports it asks for are published, its
//! clock is kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_mux::control::{Event, HelloReply, Reply, Request, ServiceState as Told};
use berth_mux::{Config, ControlError, ControlSender, Inbound, Offer, Opener, RefusalCode, Role, Session, Target};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Machine;
use crate::backend::{GuestEvent, ServiceState};
use crate::ports::{Reach, publish};

/// Version of the agent's messages that this program speaks.
const PROTOCOL: u32 = 1;
const HELLO_PATIENCE: Duration = Duration::from_secs(30);
const CLOCK_PERIOD: Duration = Duration::from_secs(10);
const CLOCK_PATIENCE: Duration = Duration::from_secs(5);
const GROW_PATIENCE: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(200);
/// An emulated machine under load may say nothing for long and be well.
const EMULATED_SILENCE: Duration = Duration::from_secs(60);
/// Ports that are asked for at a time.
const PUBLICATIONS: usize = 4096;

/// Why there is no session with an agent that is there.
#[derive(Debug, thiserror::Error)]
enum GreetError {
    #[error(
        "its agent speaks version {theirs} of the protocol, and this Berth needs {PROTOCOL}: the appliance is of another version; \
         build or install it again"
    )]
    Protocol { theirs: u32 },
    #[error("the guest answered something else than it was asked")]
    OtherAnswer,
    #[error("{0}")]
    NoAnswer(#[source] ControlError),
}

/// What sessions are held with.
pub(super) struct Link {
    pub(super) machine: Arc<Machine>,
    /// The agent's, as the appliance says.
    pub(super) protocol: u32,
    pub(super) emulated: bool,
    pub(super) tell: mpsc::Sender<GuestEvent>,
    pub(super) opener: watch::Sender<Option<Opener>>,
    pub(super) control: watch::Sender<Option<ControlSender>>,
}

/// Holds sessions until the machine is gone.
pub(super) async fn keep_link(link: Link) {
    let mut config = Config::default();
    if link.emulated {
        config.silence = EMULATED_SILENCE;
    }
    loop {
        let Ok(channel) = link.machine.channel().await else { return };
        match berth_mux::connect(channel, Role::Host, config.clone()).await {
            Ok(session) => {
                let why = link.hold(session).await;
                link.opener.send_replace(None);
                link.control.send_replace(None);
                tracing::warn!(why, "the session with the guest ended");
                let _ = link.tell.send(GuestEvent::Lost { why }).await;
            }
            Err(error) => tracing::debug!(%error, "the guest cannot be greeted"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Link {
    /// Holds one session to its end, and says why it ended.
    async fn hold(&self, session: Session) -> String {
        let Session { opener, mut incoming, control, ended } = session;
        let (sender, mut receiver) = control.split();
        let greeting = sender.clone();
        let mut greeting = std::pin::pin!(self.greet(&greeting));
        let mut greeted = false;
        let mut publications = JoinSet::new();
        let mut clock = interval(CLOCK_PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                end = ended.wait() => return end.to_string(),
                outcome = &mut greeting, if !greeted => match outcome {
                    Ok(hello) => {
                        tracing::info!(os = hello.os, kernel = hello.kernel, agent = hello.agent_version, "guest");
                        greeted = true;
                        self.control.send_replace(Some(sender.clone()));
                        self.opener.send_replace(Some(opener.clone()));
                    }
                    Err(error) => return error.to_string(),
                },
                _ = clock.tick(), if greeted => drop(tokio::spawn(set_clock(sender.clone()))),
                // Only once dockerd can be reached may anybody hear that it is ready.
                inbound = receiver.next(), if greeted => match inbound {
                    Some(Inbound::Event(event)) => {
                        if is_dockerd_ready(&event) {
                            tokio::spawn(grow(sender.clone()));
                        }
                        if let Some(event) = understood(event) {
                            tracing::info!(?event, "guest");
                            let _ = self.tell.send(event).await;
                        }
                    }
                    Some(Inbound::Request { responder, .. }) => drop(responder),
                    None => return ended.wait().await.to_string(),
                },
                offer = incoming.next() => match offer {
                    Some(offer) => self.accept(offer, &mut publications),
                    None => return ended.wait().await.to_string(),
                },
                Some(_) = publications.join_next() => {}
            }
        }
    }

    async fn greet(&self, control: &ControlSender) -> Result<HelloReply, GreetError> {
        let request = Request::Hello { protocol: PROTOCOL, host_version: env!("CARGO_PKG_VERSION").to_owned() };
        match control.request(request, HELLO_PATIENCE).await {
            Ok(Reply::Hello(hello)) if hello.protocol >= PROTOCOL.min(self.protocol) => Ok(hello),
            Ok(Reply::Hello(hello)) => {
                let error = GreetError::Protocol { theirs: hello.protocol };
                let (stage, cause) = ("greeting the guest".to_owned(), error.to_string());
                let _ = self.tell.send(GuestEvent::Failed { stage, cause, fix: None }).await;
                Err(error)
            }
            Ok(_) => Err(GreetError::OtherAnswer),
            Err(error) => Err(GreetError::NoAnswer(error)),
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

async fn set_clock(control: ControlSender) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request = Request::TimeSet { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() };
    if let Err(error) = control.request(request, CLOCK_PATIENCE).await {
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
            service,
            state: match state {
                Told::Started => ServiceState::Started,
                Told::Ready => ServiceState::Ready,
                Told::Exited => ServiceState::Exited,
                Told::Unknown => ServiceState::Other,
            },
            detail,
        },
        Event::CrashLoop { service, exits, detail } => GuestEvent::CrashLoop { service, exits, detail },
        Event::Warning { message } => GuestEvent::Warning { message },
        Event::Failed { stage, cause } => GuestEvent::Failed { stage, cause, fix: None },
        Event::Stage { name } => GuestEvent::Stage { name },
        Event::Stopped => return None,
    })
}
