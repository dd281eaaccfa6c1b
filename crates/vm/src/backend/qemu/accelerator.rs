//! Which accelerator runs guests here: the one this system has, if a canary says so, or else emulation.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::canary::{self, Verdict};
use super::program::Program;
use crate::clock::now_ms;

const FORMAT: u32 = 1;
/// A processor needs a hundredth of it.
const CANARY_PATIENCE: Duration = Duration::from_secs(5);
/// A machine may have been too busy for the canary once; one that ends wrongly always does.
const SILENCE_COUNTS_MS: f64 = 24.0 * 3600.0 * 1000.0;
const KVM: &str = "/dev/kvm";
const CACHE_BYTES: u64 = 64 << 10;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accelerator {
    /// Linux's hypervisor.
    Kvm,
    /// macOS's.
    Hvf,
    /// Windows'.
    Whpx,
    /// None: QEMU translates them.
    Tcg,
}

impl Accelerator {
    /// As people know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Hvf => "Hypervisor.framework",
            Self::Whpx => "the Windows Hypervisor Platform",
            Self::Tcg => "emulation",
        }
    }
}

/// What was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) accelerator: Accelerator,
    /// A whole sentence, to be shown when it is emulation.
    pub(crate) why: String,
    /// How long the canary took; of a cached choice, when it was made.
    pub(crate) milliseconds: u64,
    pub(crate) cached: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: u32,
    /// What the choice depends on.
    key: String,
    accelerator: Accelerator,
    why: String,
    milliseconds: u64,
    /// Until when it holds; without one, as long as the key.
    until_ms: Option<f64>,
}

/// Chooses, by what is remembered for this machine, kernel and QEMU, or by a canary of at most a few seconds.
/// `scratch` is a folder for the canary's kernel.
pub(crate) async fn choose_accelerator(
    program: &Program,
    cache_file: &Path,
    scratch: &Path,
    hardware: Accelerator,
) -> Choice {
    choose(program, cache_file, scratch, hardware, CANARY_PATIENCE).await
}

/// Remembers that a machine that should have run did not, although the canary sang; the next choice is emulation.
pub(crate) fn reject_accelerator(program: &Program, cache_file: &Path, accelerator: Accelerator, why: &str) -> Choice {
    let choice = emulation(&format!("{} did not run the engine's machine ({why})", accelerator.name()), 0);
    keep(cache_file, &key(program, accelerator), &choice, None);
    choice
}

/// What this system would have.
pub(super) fn of_this_system() -> Accelerator {
    if cfg!(target_os = "macos") {
        Accelerator::Hvf
    } else if cfg!(windows) {
        Accelerator::Whpx
    } else {
        Accelerator::Kvm
    }
}

async fn choose(
    program: &Program,
    cache_file: &Path,
    scratch: &Path,
    hardware: Accelerator,
    patience: Duration,
) -> Choice {
    // Not remembered: it costs nothing to look again, and the user may just have been let in.
    if hardware == Accelerator::Kvm
        && let Err(error) = OpenOptions::new().read(true).write(true).open(KVM)
    {
        return emulation(&without_kvm(&error), 0);
    }
    let key = key(program, hardware);
    if let Some(choice) = recall(cache_file, &key) {
        return choice;
    }
    let name = hardware.name();
    let (choice, until_ms) = match canary::run(program, hardware, scratch, patience).await {
        Ok(Verdict::Sings { milliseconds }) => {
            let why = format!("{name} runs guests: the test machine took {milliseconds} ms");
            (Choice { accelerator: hardware, why, milliseconds, cached: false }, None)
        }
        Ok(Verdict::Ended(how)) => {
            (emulation(&format!("{name} is there and runs no guest: the test machine ended ({how})"), 0), None)
        }
        Ok(Verdict::Silent { seconds }) => {
            let why = format!("{name} is there and runs no guest: the test machine was not done after {seconds} s");
            (emulation(&why, seconds.saturating_mul(1000)), Some(now_ms() + SILENCE_COUNTS_MS))
        }
        // Nothing was learnt about the accelerator.
        Err(error) => return emulation(&format!("{name} could not be tried: {error}"), 0),
    };
    keep(cache_file, &key, &choice, until_ms);
    choice
}

fn emulation(cause: &str, milliseconds: u64) -> Choice {
    let why = format!("{cause}; the engine's machine is emulated, which is many times slower");
    Choice { accelerator: Accelerator::Tcg, why, milliseconds, cached: false }
}

fn without_kvm(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{KVM} is not there (virtualization is off in the firmware, or this is a machine without it)")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{KVM} is closed to this user (`sudo usermod -aG kvm $USER`, then log in again)")
        }
        _ => format!("{KVM} cannot be opened ({error})"),
    }
}

/// Everything by which a hypervisor may begin or cease to work.
fn key(program: &Program, hardware: Accelerator) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut modules: Vec<_> = std::fs::read_dir("/sys/module")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("kvm"))
        .collect();
    modules.sort();
    let parts = [
        hardware.name().to_owned(),
        program.path.to_string_lossy().into_owned(),
        program.version.clone(),
        read("/proc/sys/kernel/osrelease"),
        read("/proc/sys/kernel/version"),
        read("/etc/machine-id"),
        modules.join(" "),
    ];
    let digest = Sha256::digest(parts.join("\0"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn recall(cache_file: &Path, key: &str) -> Option<Choice> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(cache_file).ok()?.take(CACHE_BYTES).read_to_end(&mut bytes).ok()?;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    let holds = kept.format == FORMAT && kept.key == key && kept.until_ms.is_none_or(|until| now_ms() < until);
    let Kept { accelerator, why, milliseconds, .. } = kept;
    holds.then_some(Choice { accelerator, why, milliseconds, cached: true })
}

/// A choice that cannot be kept is made again next time.
fn keep(cache_file: &Path, key: &str, choice: &Choice, until_ms: Option<f64>) {
    let kept = Kept {
        format: FORMAT,
        key: key.to_owned(),
        accelerator: choice.accelerator,
        why: choice.why.clone(),
        milliseconds: choice.milliseconds,
        until_ms,
    };
    let mut fresh = cache_file.as_os_str().to_owned();
    fresh.push(".new");
    let written = serde_json::to_vec_pretty(&kept)
        .map_err(io::Error::from)
        .and_then(|text| std::fs::write(&fresh, text))
        .and_then(|()| std::fs::rename(&fresh, cache_file));
    if let Err(error) = written {
        tracing::warn!(%error, path = %cache_file.display(), "the choice of the accelerator cannot be kept");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use berth_testkit::fake_qemu::{self, Canary, Script};

    use super::{Accelerator, Choice, choose, choose_accelerator, key, of_this_system, recall, reject_accelerator};
    use crate::backend::qemu::tests::assert_no_process_of;
    use crate::backend::qemu::{Program, find_program};

    struct Fixture {
        folder: tempfile::TempDir,
        program: Program,
    }

    impl Fixture {
        async fn new(canary: Canary) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = fake_qemu::place(folder.path(), &Script { canary, ..Script::default() }).unwrap();
            let program = find_program(Some(&path)).await.unwrap();
            Self { folder, program }
        }

        fn cache(&self) -> PathBuf {
            self.folder.path().join("accelerator.json")
        }

        /// An accelerator of another system has no device to be opened first.
        async fn choose(&self, patience: Duration) -> Choice {
            choose(&self.program, &self.cache(), self.folder.path(), Accelerator::Hvf, patience).await
        }

        fn starts(&self) -> usize {
            fake_qemu::starts(&self.program.path).unwrap().len()
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn one_that_sings_is_chosen_and_remembered() {
        let fixture = Fixture::new(Canary::Sings).await;
        let choice = fixture.choose(LONG).await;
        assert_eq!((choice.accelerator, choice.cached), (Accelerator::Hvf, false), "{choice:?}");
        let starts = fixture.starts();
        let again = fixture.choose(LONG).await;
        assert_eq!(again, Choice { cached: true, ..choice });
        assert_eq!(fixture.starts(), starts);
    }

    #[tokio::test]
    async fn one_that_ends_wrongly_is_not_tried_again_until_something_changes() {
        let mut fixture = Fixture::new(Canary::Aborts).await;
        let choice = fixture.choose(LONG).await;
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.why.contains("SIGABRT") && choice.why.contains("assertion"), "{}", choice.why);
        assert!(fixture.choose(LONG).await.cached);
        fixture.program.version = "99.0".to_owned();
        assert!(!fixture.choose(LONG).await.cached);
        std::fs::write(fixture.cache(), "{\"format\":").unwrap();
        assert!(!fixture.choose(LONG).await.cached);
    }

    #[tokio::test]
    async fn one_that_hangs_counts_for_a_day() {
        let fixture = Fixture::new(Canary::Hangs).await;
        let choice = fixture.choose(Duration::from_millis(300)).await;
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.why.contains("not done"), "{}", choice.why);
        assert!(fixture.choose(LONG).await.cached);
        let text = std::fs::read_to_string(fixture.cache()).unwrap();
        let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
        kept["until_ms"] = 1.0.into();
        std::fs::write(fixture.cache(), kept.to_string()).unwrap();
        assert!(!fixture.choose(Duration::from_millis(300)).await.cached);
        assert_no_process_of(fixture.folder.path());
    }

    #[tokio::test]
    async fn one_that_failed_later_is_remembered_too() {
        let fixture = Fixture::new(Canary::Sings).await;
        assert_eq!(fixture.choose(LONG).await.accelerator, Accelerator::Hvf);
        let rejected = reject_accelerator(&fixture.program, &fixture.cache(), Accelerator::Hvf, "internal error");
        let choice = fixture.choose(LONG).await;
        assert_eq!(choice, Choice { cached: true, ..rejected });
        assert!(choice.why.contains("internal error"), "{}", choice.why);
    }

    /// Whatever this machine has: the choice is made in time, and nothing of the canary is left.
    #[tokio::test]
    async fn this_machine_gets_a_choice() {
        let folder = tempfile::tempdir().unwrap();
        let program = find_program(None).await.unwrap();
        let cache = folder.path().join("accelerator.json");
        let choice = choose_accelerator(&program, &cache, folder.path(), of_this_system()).await;
        assert!(matches!(choice.accelerator, Accelerator::Kvm | Accelerator::Tcg), "{choice:?}");
        // Here the device opens, machines are made, and no guest runs.
        if std::path::Path::new("/sys/module/kvm_pvm").exists() {
            assert_eq!(choice.accelerator, Accelerator::Tcg, "{choice:?}");
            assert!(choice.why.contains("KVM"), "{choice:?}");
            if std::path::Path::new("/dev/kvm").exists() {
                assert!(recall(&cache, &key(&program, Accelerator::Kvm)).is_some());
            }
        }
        assert_no_process_of(folder.path());
    }
}
