//! Looks without a pause at what every process was started with and at the files that come and go.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::marker::Marker;
use crate::places::{Kind, Places, files};

/// Only says when to give up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Programs of Berth's, and the one it runs with secrets in its environment.
const OURS: [&str; 4] = ["berth-guest", "berth", "docker-buildx", "secret"];

/// What was seen.
#[derive(Default)]
struct Seen {
    rounds: u64,
    samples: u64,
    arguments: HashSet<Vec<u8>>,
    files: HashSet<(PathBuf, Vec<u8>)>,
    /// Names of our programs, and of the markers in their environment.
    environments: BTreeMap<String, BTreeSet<&'static str>>,
}

/// The thread that looks. It ends when this is dropped.
pub(crate) struct Sampler {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sampler {
    /// Begins. `temporary` is the folder of files that come and go. Whoever must be seen makes a file in `gate` and goes on
    /// when it is gone.
    pub(crate) fn start(temporary: PathBuf, gate: PathBuf, markers: Arc<Vec<Marker>>) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let asking = files(&gate, &[]);
                    look(&seen, &temporary, &markers);
                    for (path, _) in asking {
                        std::fs::remove_file(path).unwrap();
                    }
                }
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Whether a process was seen whose arguments contain this.
    pub(crate) fn met(&self, part: &str) -> bool {
        self.read(|seen| seen.arguments.iter().any(|one| memmem::find(one, part.as_bytes()).is_some()))
    }

    /// Waits for two whole rounds more: whatever is there now has been seen then.
    pub(crate) fn catch_up(&self) {
        let wanted = self.read(|seen| seen.rounds) + 2;
        let deadline = Instant::now() + PATIENCE;
        while self.read(|seen| seen.rounds) < wanted {
            assert!(Instant::now() < deadline, "it looks no longer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what was seen to the places.
    pub(crate) fn report(&self, places: &mut Places) {
        self.read(|seen| {
            for arguments in &seen.arguments {
                let program = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
                places.add(Kind::Arguments, String::from_utf8_lossy(program), arguments.clone());
            }
            for (path, bytes) in &seen.files {
                places.add(
                    Kind::Temporary,
                    path.to_string_lossy(),
                    [path.as_os_str().as_encoded_bytes(), bytes].concat(),
                );
            }
        });
    }

    /// In words: how much was looked at, and whose environment holds what.
    pub(crate) fn summary(&self) -> String {
        self.read(|seen| {
            format!(
                "{} samples of arguments in {} rounds, {} distinct; {} states of temporary files; environments {:?}",
                seen.samples,
                seen.rounds,
                seen.arguments.len(),
                seen.files.len(),
                seen.environments,
            )
        })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(seen: &Mutex<Seen>, temporary: &std::path::Path, markers: &[Marker]) {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.is_empty() {
            continue;
        }
        let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = OURS.iter().find(|ours| name == **ours || name.starts_with(&format!("{ours}-")));
        let environment = ours.map(|ours| {
            let bytes = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let held = markers.iter().filter(|marker| !marker.forms_in(&bytes).is_empty()).map(|marker| marker.name);
            ((*ours).to_owned(), held.collect::<Vec<_>>())
        });
        found.push((arguments, environment));
    }
    let there = files(temporary, &[]);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for (arguments, environment) in found {
        seen.samples += 1;
        seen.arguments.insert(arguments);
        if let Some((name, held)) = environment {
            seen.environments.entry(name).or_default().extend(held);
        }
    }
    seen.files.extend(there);
    seen.rounds += 1;
}
