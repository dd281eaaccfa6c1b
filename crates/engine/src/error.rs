//! What can go wrong between this client and an engine.

use std::io;

use crate::{ApiVersion, Endpoint, FrameError};

/// Failure of a call to an engine.
///
/// The message says what failed; the cause, where there is one, is the [`source`](std::error::Error::source) and is
/// not repeated in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made.
    #[error("Could not connect to the engine at {endpoint}")]
    Connect {
        /// Where it was tried.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The engine did not answer in time.
    #[error("The engine did not answer within {seconds} s: {what}")]
    Timeout {
        /// What was asked.
        what: String,
        /// How long it was waited, in seconds.
        seconds: u64,
    },
    /// The exchange broke at the level of HTTP.
    #[error("The exchange with the engine broke: {what}")]
    Http {
        /// What was asked.
        what: String,
        /// What broke.
        source: hyper::Error,
    },
    /// A connection that had stopped being HTTP broke.
    #[error("The connection to the engine broke: {what}")]
    Broken {
        /// What it was for.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The request could not be formed.
    #[error("The request to the engine could not be formed: {what}")]
    Request {
        /// What was to be asked.
        what: String,
        /// Why not.
        source: http::Error,
    },
    /// What was to be sent has no form in JSON.
    #[error("The request to the engine could not be written as JSON: {what}")]
    Encode {
        /// What was to be asked.
        what: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The engine is too old for what was asked, and would do something else without it.
    #[error("{what} needs API version {needs}, the engine speaks {engine}")]
    Unsupported {
        /// The call, or the field or parameter of it.
        what: String,
        /// The version that first had it.
        needs: ApiVersion,
        /// The version that is spoken with this engine.
        engine: ApiVersion,
    },
    /// The engine refused or failed.
    #[error("{message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// The engine's own words, bounded.
        message: String,
        /// HTTP method of the call.
        method: String,
        /// Path of the call, without its query.
        path: String,
    },
    /// The answer was not what the API says.
    #[error("The engine's answer could not be understood: {what}")]
    Decode {
        /// What was being read.
        what: String,
        /// Why it could not be read.
        source: serde_json::Error,
    },
    /// The answer was larger than this client is willing to hold.
    #[error("The engine's answer is larger than {limit} bytes: {what}")]
    TooLarge {
        /// What was being read.
        what: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The engine reported an error in the middle of a stream.
    #[error("{0}")]
    Stream(String),
    /// The engine closed the connection too early.
    #[error("The engine closed the connection: {what}")]
    Closed {
        /// What was being read.
        what: String,
    },
    /// A text from outside is no name, id, signal or other parameter of the API.
    #[error("`{text}` is not a valid {expected}")]
    InvalidReference {
        /// The text, shortened and escaped.
        text: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// What was to be uploaded into a container is compressed.
    #[error(
        "The archive is compressed with {0}, and the engine would unpack it with a program of the container. \
         Unpack it first, for example with `{hint}`",
        hint = .0.hint()
    )]
    Compressed(crate::archive::Compression),
    /// There is no version of the API that both sides speak.
    #[error("The engine speaks API version {engine}, this client needs {ours}")]
    UnsupportedApi {
        /// The version of the engine that comes nearest.
        engine: ApiVersion,
        /// The version of this client that comes nearest.
        ours: ApiVersion,
    },
    /// A multiplexed stream broke its own rules.
    #[error("The engine's output stream is damaged")]
    Frame(#[from] FrameError),
}

impl Error {
    /// The same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Api { status, .. } => matches!(status, 429 | 502 | 503 | 504) && !self.is_not_swarm_manager(),
            _ => self.is_unreachable(),
        }
    }

    /// The engine knows no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status: 404, .. })
    }

    /// The object is in a state in which the call makes no sense, or a name is taken.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { status: 409, .. })
    }

    /// An object of a swarm, or a swarm itself, changed after the version that an update named was read: read it
    /// again and repeat the change on what it is now.
    #[must_use]
    pub fn is_out_of_sequence(&self) -> bool {
        // Engines have no status of their own for it: they answered 500 first and answer 400 today.
        matches!(self, Self::Api { message, .. } if message.contains("update out of sequence"))
    }

    /// The engine manages no swarm, or its swarm is locked.
    #[must_use]
    pub fn is_not_swarm_manager(&self) -> bool {
        matches!(self, Self::Api { status: 503, message, .. } if message.contains("swarm") || message.contains("Swarm"))
    }

    /// The engine is not there: nothing listens, the connection closed, or it does not answer in time.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            // Keys and certificates that are not what they should be are there, and stay wrong.
            Self::Connect { source, .. } => {
                let wrong = matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
                !wrong && !self.is_permission_denied()
            }
            Self::Timeout { .. } | Self::Closed { .. } | Self::Broken { .. } => true,
            Self::Http { source, .. } => broke_off(source),
            _ => false,
        }
    }

    /// This user may not talk to the engine.
    #[must_use]
    pub fn is_permission_denied(&self) -> bool {
        match self {
            Self::Connect { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Api { status, .. } => matches!(status, 401 | 403),
            _ => false,
        }
    }

    pub(crate) fn invalid(text: &str, expected: &'static str) -> Self {
        let text = without_password(text).chars().take(64).flat_map(char::escape_debug).collect();
        Self::InvalidReference { text, expected }
    }
}

/// The text without what stands in front of a host: people paste addresses with their password or token in them.
pub(crate) fn without_password(text: &str) -> String {
    let scheme = text.find("://").map(|at| at + "://".len());
    let kept = match (scheme, text.rfind('@')) {
        (_, None) => return text.to_owned(),
        (Some(scheme), Some(at)) if scheme <= at => scheme..at,
        (_, Some(at)) => match text.find(':') {
            Some(colon) if colon < at => colon + 1..at,
            _ => return text.to_owned(),
        },
    };
    let mut text = text.to_owned();
    text.replace_range(kept, "***");
    text
}

/// The connection went away, as opposed to the other side talking nonsense.
pub(crate) fn broke_off(error: &hyper::Error) -> bool {
    error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || error.is_body_write_aborted()
        || std::error::Error::source(error).is_some_and(|source| {
            source.downcast_ref::<io::Error>().is_some_and(|e| {
                // A malformed chunk comes as an I/O error too, but tells of a broken engine, not of an absent one.
                !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
            })
        })
}

/// The error of an HTTP answer that is not a success.
pub(crate) fn from_answer(status: u16, body: &[u8], method: &str, path: &str) -> Error {
    #[derive(serde::Deserialize)]
    struct Body {
        message: String,
    }
    const EXCERPT: usize = 512;
    let message = match serde_json::from_slice::<Body>(body) {
        Ok(body) if !body.message.trim().is_empty() => body.message.trim().to_owned(),
        _ => {
            // Proxies answer in HTML; a start of it tells more than nothing.
            let text = String::from_utf8_lossy(body.get(..4 * EXCERPT).unwrap_or(body));
            let mut words = String::new();
            for word in text.split_whitespace() {
                if words.chars().count() + word.chars().count() >= EXCERPT {
                    words.push('…');
                    break;
                }
                if !words.is_empty() {
                    words.push(' ');
                }
                words.extend(word.chars().filter(|c| !c.is_control()));
            }
            if words.is_empty() { format!("The engine answered {status} without a reason") } else { words }
        }
    };
    Error::Api { status, message, method: method.to_owned(), path: path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: u16, body: &str) -> String {
        from_answer(status, body.as_bytes(), "GET", "/x").to_string()
    }

    #[test]
    fn takes_the_message_of_the_engine() {
        assert_eq!(message(404, r#"{"message":"No such container: x"}"#), "No such container: x");
        assert_eq!(message(500, r#"{"cause":"c","message":"m","response":500}"#), "m");
    }

    #[test]
    fn excerpts_what_is_not_json() {
        let html = "<html>\r\n<h1>503</h1>\u{1b}[2J No server</html>";
        assert_eq!(message(503, html), "<html> <h1>503</h1>[2J No server</html>");
        assert_eq!(message(500, " "), "The engine answered 500 without a reason");
        assert_eq!(message(500, r#"{"message":""}"#), r#"{"message":""}"#);
        assert!(message(500, &"word ".repeat(10_000)).chars().count() <= 513);
    }

    #[test]
    fn a_password_in_front_of_a_host_is_not_repeated() {
        let shown = |text: &str| Error::invalid(text, "name").to_string();
        for (text, expected) in [
            ("me:marker@host/app", "me:***@host/app"),
            ("me:mar@ker/1@host:5000/app", "me:***@host:5000/app"),
            ("https://me:marker@host/v2/", "https://***@host/v2/"),
            ("https://marker@host", "https://***@host"),
            ("app:1@sha256:short", "app:***@sha256:short"),
            ("App@sha256:short", "App@sha256:short"),
            ("host:5000/App", "host:5000/App"),
            ("@://", "@://"),
            ("a:@", "a:***@"),
        ] {
            assert_eq!(shown(text), format!("`{expected}` is not a valid name"));
        }
    }

    #[test]
    fn classes_do_not_overlap_wrongly() {
        let status = |status| from_answer(status, b"", "GET", "/");
        assert!(status(404).is_not_found() && !status(404).is_retryable());
        assert!(status(409).is_conflict());
        assert!(status(503).is_retryable() && !status(503).is_unreachable());
        let api =
            |status, message: &str| from_answer(status, format!(r#"{{"message":"{message}"}}"#).as_bytes(), "", "");
        let conflict = "rpc error: code = Unknown desc = update out of sequence";
        assert!(api(500, conflict).is_out_of_sequence() && api(400, conflict).is_out_of_sequence());
        assert!(!api(500, "out of sorts").is_out_of_sequence());
        let outside = api(503, "This node is not a swarm manager. Use docker swarm init");
        assert!(outside.is_not_swarm_manager() && !outside.is_retryable(), "waiting makes no manager of it");
        assert!(!api(503, "busy").is_not_swarm_manager());
        assert!(status(403).is_permission_denied());
        let connect =
            |kind: io::ErrorKind| Error::Connect { endpoint: Endpoint::Unix("/x".into()), source: kind.into() };
        assert!(connect(io::ErrorKind::NotFound).is_unreachable());
        assert!(connect(io::ErrorKind::ConnectionRefused).is_retryable());
        let denied = connect(io::ErrorKind::PermissionDenied);
        assert!(denied.is_permission_denied() && !denied.is_unreachable(), "help differs from `not running`");
    }
}
