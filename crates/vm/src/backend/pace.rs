//! What may be expected of an engine: how long what may take before it counts as failed.

use std::time::Duration;

/// How long what may take before it counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Each stage of a start, from its last sign of progress on.
    pub(crate) stage: Duration,
    /// All stages until dockerd is started, whatever progress they show.
    pub(crate) stages: Duration,
    /// dockerd looks through all its containers before it answers.
    pub(crate) connect: Duration,
    /// The whole of an orderly stop.
    pub(crate) stop: Duration,
    /// A machine's kernel, until there is the first sign of it.
    pub(crate) kernel: Duration,
    /// One try to meet an agent that was there before.
    pub(crate) meet: Duration,
    /// An agent's answer to a small question.
    pub(crate) answer: Duration,
    /// An agent of which nothing is heard, although it was asked.
    pub(crate) silence: Duration,
    /// A machine's own orderly stop, containers included.
    pub(crate) shutdown: Duration,
}

impl Pace {
    /// Its stop is longer than what the guest gives dockerd and the rest.
    pub(crate) const NATIVE: Self = Self {
        stage: Duration::from_secs(30),
        stages: Duration::from_secs(30),
        connect: Duration::from_secs(120),
        stop: Duration::from_secs(80),
        kernel: Duration::from_secs(10),
        meet: Duration::from_secs(15),
        answer: Duration::from_secs(10),
        silence: Duration::from_secs(15),
        shutdown: Duration::from_secs(75),
    };

    /// Its stop has room for a flush and QEMU's end after the guest's own.
    pub(crate) const MACHINE: Self =
        Self { stages: Duration::from_secs(120), stop: Duration::from_secs(120), ..Self::NATIVE };

    /// Its system may have to be unpacked first, while a virus scanner looks at each file.
    pub(crate) const WSL: Self =
        Self { stage: Duration::from_secs(60), stages: Duration::from_secs(900), ..Self::MACHINE };

    /// A tenth of the speed, or less on a host that is busy.
    pub(crate) const EMULATED: Self = Self {
        stage: Duration::from_secs(120),
        stages: Duration::from_secs(480),
        connect: Duration::from_secs(300),
        stop: Duration::from_secs(330),
        kernel: Duration::from_secs(60),
        meet: Duration::from_secs(60),
        answer: Duration::from_secs(40),
        silence: Duration::from_secs(60),
        shutdown: Duration::from_secs(240),
    };

    /// The same, so many times as fast.
    #[cfg(test)]
    pub(crate) fn faster(self, times: u32) -> Self {
        Self {
            stage: self.stage / times,
            stages: self.stages / times,
            connect: self.connect / times,
            stop: self.stop / times,
            kernel: self.kernel / times,
            meet: self.meet / times,
            answer: self.answer / times,
            silence: self.silence / times,
            shutdown: self.shutdown / times,
        }
    }
}
