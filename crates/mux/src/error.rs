//! What can go wrong, and how a session ends.

use std::{io, sync::Arc};

/// No session came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The channel failed.
    #[error("the channel to the peer failed during the greeting: {0}")]
    Transport(#[from] io::Error),
    /// The channel was closed before the greeting was complete.
    #[error("the peer closed the channel before it had answered the greeting; connect again")]
    Eof,
    /// The peer speaks another version.
    #[error(
        "the peer speaks version {theirs} of the protocol, this side speaks {ours}; host and guest must be of one release"
    )]
    Version {
        /// This side's version.
        ours: u16,
        /// The peer's.
        theirs: u16,
    },
    /// The system has no random bytes.
    #[error("no random number for the session could be had: {0}")]
    Random(getrandom::Error),
}

/// Why a session ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum End {
    /// This side closed it, or dropped the last handle of it.
    #[error("the session was closed")]
    Closed,
    /// The peer said good-bye.
    #[error("the peer closed the session{}", told(.message))]
    ClosedByPeer {
        /// What it said.
        message: String,
    },
    /// The channel was closed.
    #[error("the channel to the peer was closed")]
    Eof,
    /// The channel failed.
    #[error("the channel to the peer failed: {0}")]
    Transport(Arc<io::Error>),
    /// The peer broke the protocol, or bytes were lost on the way. Connecting again finds a common beginning.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// Nothing was heard in [`crate::Config::silence`].
    #[error("nothing was heard from the peer for {} s", .0.as_secs())]
    Silent(std::time::Duration),
    /// The peer began a new session on the same channel. Connect again.
    #[error("the peer began a new session")]
    Replaced,
}

fn told(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// How the peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No frame has this type.
    #[error("no frame has type {0}")]
    UnknownType(u8),
    /// A flag or a reserved field that must not be set.
    #[error("a frame of type {kind} has a flag or a reserved field set")]
    Reserved {
        /// The frame's type.
        kind: u8,
    },
    /// A payload longer or shorter than the type allows.
    #[error("a frame of type {kind} has {length} bytes")]
    Length {
        /// The frame's type.
        kind: u8,
        /// The length that it claims.
        length: u32,
    },
    /// The seal at the end of a frame is not that of this session: bytes were lost, or damaged.
    #[error("a frame does not end with the session's seal")]
    Seal,
    /// A stream that was never opened, or that this type is not for.
    #[error("a frame of type {kind} names stream {stream}, which cannot be")]
    Stream {
        /// The frame's type.
        kind: u8,
        /// The stream it names.
        stream: u32,
    },
    /// More bytes than the stream had credit for.
    #[error("stream {stream} got more bytes than it had credit for")]
    Credit {
        /// The stream.
        stream: u32,
    },
    /// Credit beyond every measure.
    #[error("stream {stream} was given more credit than there can be")]
    Window {
        /// The stream.
        stream: u32,
    },
    /// A message on the control stream that is longer than it may be, or no message at all.
    #[error("a control message of {length} bytes cannot be read")]
    Control {
        /// The length that it claims.
        length: u32,
    },
}

/// The session has ended; [`crate::Ended`] says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct Closed;

/// A stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer refused.
    #[error("the other side refused the stream ({code}): {message}")]
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        message: String,
    },
    /// There are as many streams as there may be.
    #[error("there are already {limit} streams; close some first")]
    Full {
        /// How many there may be.
        limit: usize,
    },
    /// The target takes too many bytes.
    #[error("the target takes {length} bytes, and may take {limit}")]
    TooLong {
        /// What it takes.
        length: usize,
        /// What it may take.
        limit: usize,
    },
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
}

impl From<Closed> for OpenError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// Why a stream was refused, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// Something failed; the message says what.
    Failed,
    /// This side may not open such a stream.
    NotAllowed,
    /// The kind of target, or streams of this form to it, are not known.
    Unsupported,
    /// There is no such target.
    NotFound,
    /// The target refused the connection.
    Refused,
    /// The target did not answer in time.
    TimedOut,
    /// There are too many streams.
    Full,
}

impl RefusalCode {
    const ALL: [(Self, u16, &'static str); 7] = [
        (Self::Failed, 1, "failed"),
        (Self::NotAllowed, 2, "not allowed"),
        (Self::Unsupported, 3, "unsupported"),
        (Self::NotFound, 4, "not found"),
        (Self::Refused, 5, "refused"),
        (Self::TimedOut, 6, "timed out"),
        (Self::Full, 7, "full"),
    ];

    pub(crate) fn to_wire(self) -> u16 {
        Self::ALL.iter().find(|(code, ..)| *code == self).map_or(1, |(_, number, _)| *number)
    }

    /// A code of a later version counts as a plain failure.
    pub(crate) fn from_wire(number: u16) -> Self {
        Self::ALL.iter().find(|(_, wire, _)| *wire == number).map_or(Self::Failed, |(code, ..)| *code)
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(Self::ALL.iter().find(|(code, ..)| code == self).map_or("failed", |(.., name)| *name))
    }
}

impl From<io::ErrorKind> for RefusalCode {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}
