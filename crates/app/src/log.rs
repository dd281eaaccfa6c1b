//! What the programs of Berth write while they work.

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Libraries that write out at their finest levels what passes through them: the frames of a WebSocket hold the logs of
/// containers, with whatever is secret in them.
const REPEATS_WHAT_IT_CARRIES: &[&str] = &["tungstenite"];

/// Begins to write to standard error what `BERTH_LOG` asks for, and without it warnings and errors.
///
/// # Panics
/// When it was called before.
pub fn start_log() {
    let wanted = EnvFilter::try_from_env("BERTH_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    subscriber(wanted, std::io::stderr).init();
}

fn subscriber<W>(wanted: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt().with_env_filter(wanted).with_writer(writer).finish().with(filter_fn(is_harmless))
}

fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !REPEATS_WHAT_IT_CARRIES.contains(&library)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_passes_through_a_socket_is_not_written_whatever_is_asked_for() {
        for wanted in ["trace", "tungstenite=trace,other=trace", "tungstenite::protocol::frame=trace,other=trace"] {
            let written = Written::default();
            let writer = written.clone();
            let subscriber = subscriber(EnvFilter::new(wanted), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                tracing::trace!(target: "tungstenite::protocol::frame", "received frame marker");
                tracing::debug!(target: "tungstenite", "received close marker");
                tracing::warn!(target: "tungstenite", "is wrong");
                tracing::trace!(target: "other", "is fine");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("marker") && text.contains("is fine"), "{wanted}: {text}");
            assert_eq!(text.contains("is wrong"), wanted != "tungstenite::protocol::frame=trace,other=trace");
        }
    }
}
