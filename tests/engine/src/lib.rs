//! What the test programs share: the record of operations that were called against a real engine, and a page.

pub mod page;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

const TARGET: &str = "berth_engine::operation";

/// From now on appends the id of every operation that this process calls to the file named by
/// `BERTH_OPERATIONS_FILE`, each id once. Does nothing without that variable, or when called again.
pub fn record_operations() {
    let Some(path) = std::env::var_os("BERTH_OPERATIONS_FILE").filter(|path| !path.is_empty()) else { return };
    record_operations_in(path.into());
}

/// The same into a file that the caller names.
pub fn record_operations_in(path: PathBuf) {
    let layer = Operations { path, seen: Mutex::default() };
    // Only the first call can set it.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
}

struct Operations {
    path: PathBuf,
    seen: Mutex<BTreeSet<String>>,
}

impl<S: Subscriber> Layer<S> for Operations {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == TARGET { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        metadata.target() == TARGET
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut id = Id(None);
        event.record(&mut id);
        let Some(id) = id.0 else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.insert(id.clone()) {
            append(&self.path, &id);
        }
    }
}

struct Id(Option<String>);

impl Visit for Id {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "id" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "id" {
            self.0 = Some(format!("{value:?}").trim_matches('"').to_owned());
        }
    }
}

/// Appends a line to a file that other processes append to as well: one write, so that no line is torn.
///
/// # Panics
/// When the file cannot be written: a record with holes would be worse than none.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn append(path: &std::path::Path, line: &str) {
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        panic!("{} could not be written: {error}", path.display());
    }
}
