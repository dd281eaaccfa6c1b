//! Requests to the engine's machine: what it uses, and giving back what it does not.

use super::{ANSWER_LIMIT, Answer, ControlClient, Request, Subject, VERSION, Verb, conversation};
use crate::backend::UpkeepError;
use crate::error::Error;
use crate::lines;
use crate::status::Metrics;

const GIB: u64 = 1 << 30;

/// Why the machine was not asked, or what came of it.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error("there is no machine that runs: the engine is stopped or asleep, or runs without one")]
    NoMachine,
    #[error("it was not said how large the disk is to be")]
    NoSize,
    #[error(transparent)]
    Upkeep(#[from] UpkeepError),
}

/// Does it, and makes the answer.
pub(super) async fn answer(subject: &Subject, request: &Request) -> Answer {
    match act(subject, request).await {
        Ok(answer) => Answer { v: VERSION, ..answer },
        Err(why) => Answer { v: VERSION, error: Some(why.to_string()), ..Answer::default() },
    }
}

async fn act(subject: &Subject, request: &Request) -> Result<Answer, NotDone> {
    let upkeep = subject.upkeep.borrow().clone().ok_or(NotDone::NoMachine)?;
    Ok(match request.request {
        Verb::Trim => Answer { freed_bytes: Some(upkeep.trim().await?), ..Answer::default() },
        Verb::Reclaim => Answer { freed_bytes: Some(upkeep.reclaim().await?), ..Answer::default() },
        Verb::Grow => {
            upkeep.grow(request.disk_gib.ok_or(NotDone::NoSize)?.saturating_mul(GIB)).await?;
            Answer::default()
        }
        _ => {
            let metrics = upkeep.metrics().await?;
            let activity = *subject.activity.borrow();
            let idle_ms = activity.last.elapsed().as_secs_f64() * 1000.0;
            let metrics = Metrics { connections: activity.connections, idle_ms, ..metrics };
            Answer { metrics: Some(metrics), ..Answer::default() }
        }
    })
}

impl ControlClient {
    /// Gives unused blocks of the data disk back; says how many bytes this machine has gained.
    ///
    /// # Errors
    ///
    /// It could not be done ([`Error::NotDone`]), or the supervisor ended.
    pub async fn trim(&mut self) -> Result<u64, Error> {
        Ok(self.done(Verb::Trim, None).await?.freed_bytes.unwrap_or_default())
    }

    /// Gives unused memory back; says how many bytes this machine has gained.
    ///
    /// # Errors
    ///
    /// It could not be done ([`Error::NotDone`]), or the supervisor ended.
    pub async fn reclaim(&mut self) -> Result<u64, Error> {
        Ok(self.done(Verb::Reclaim, None).await?.freed_bytes.unwrap_or_default())
    }

    /// What the engine and its machine use.
    ///
    /// # Errors
    ///
    /// It could not be found out ([`Error::NotDone`]), or the supervisor ended.
    pub async fn metrics(&mut self) -> Result<Metrics, Error> {
        let missing = || Error::Protocol("it sent no metrics".to_owned());
        self.done(Verb::Metrics, None).await?.metrics.ok_or_else(missing)
    }

    /// Makes the data disk larger while the engine runs.
    ///
    /// # Errors
    ///
    /// It could not be done ([`Error::NotDone`]): a disk never becomes smaller. Or the supervisor ended.
    pub async fn grow(&mut self, disk_gib: u64) -> Result<(), Error> {
        self.done(Verb::Grow, Some(disk_gib)).await.map(drop)
    }

    async fn done(&mut self, request: Verb, disk_gib: Option<u64>) -> Result<Answer, Error> {
        self.request(Request { v: VERSION, request, disk_gib }).await?;
        let answer =
            lines::read::<Answer>(&mut self.input, ANSWER_LIMIT).await.map_err(|error| conversation(&error))?;
        match answer {
            Some(Answer { error: Some(why), .. }) => Err(Error::NotDone(why)),
            Some(answer) => Ok(answer),
            None => Err(Error::HungUp),
        }
    }
}
