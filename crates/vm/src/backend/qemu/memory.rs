//! Memory that the guest does not use is taken back. A guest reports free pages by itself, but only whole blocks of them and a
//! sixteenth of those every two seconds; the balloon takes all at once, and lets go of them when this computer has them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::{Machine, QemuError};

/// Left free, for what begins in this very moment. What needs more gets it: the balloon gives way before anything is killed.
const LEFT: u64 = 64 << 20;
/// Less is not worth the work.
const WORTH: u64 = 32 << 20;
/// A balloon that did not grow for so long does not grow any more.
const STILL: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(30);

/// Takes what is available to the guest's programs, of which the guest has the use again afterwards.
///
/// # Errors
///
/// QEMU does not answer or is gone.
pub(super) async fn take(machine: &Machine, available: u64) -> Result<(), QemuError> {
    let _one = machine.memory.balloon.lock().await;
    let whole = machine.memory.whole;
    let Some(target) = target(whole, available) else { return Ok(()) };
    let mut told = machine.memory.told.clone();
    told.mark_unchanged();
    machine.balloon(target).await?;
    let _ = timeout(LONGEST, shrunk(&mut told, target)).await;
    machine.balloon(whole).await
}

/// What the guest is left with; none when there is nothing to take.
fn target(whole: u64, available: u64) -> Option<u64> {
    let taken = available.min(whole).saturating_sub(LEFT);
    (taken >= WORTH).then(|| whole - taken)
}

/// Waits until the guest has no more than that, or does not come nearer.
async fn shrunk(told: &mut watch::Receiver<u64>, target: u64) {
    while let Ok(Ok(())) = timeout(STILL, told.changed()).await {
        if *told.borrow_and_update() <= target {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::watch;

    use super::{shrunk, target};

    const MIB: u64 = 1 << 20;

    #[test]
    fn some_is_left_and_little_is_not_taken() {
        assert_eq!(target(2048 * MIB, 1500 * MIB), Some(612 * MIB));
        assert_eq!(target(2048 * MIB, 90 * MIB), None);
        assert_eq!(target(2048 * MIB, u64::MAX), Some(64 * MIB), "a guest may say anything");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_waited_for_as_long_as_it_grows() {
        let (tell, mut told) = watch::channel(9_u64);
        let growing = tokio::spawn(async move {
            for bytes in [8, 7, 6, 5] {
                tokio::time::sleep(Duration::from_secs(1)).await;
                tell.send_replace(bytes);
            }
            std::future::pending::<()>().await;
        });
        shrunk(&mut told, 6).await;
        assert_eq!(*told.borrow(), 6);
        shrunk(&mut told, 1).await;
        assert_eq!(*told.borrow(), 5, "it ended although the target was never reached");
        growing.abort();
    }
}
