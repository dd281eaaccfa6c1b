//! Log output as lines.
//!
//! With timestamps asked for, the engine writes one before every *message* of its log. A line longer than its buffer
//! (16 KiB) is several messages, each with a timestamp of its own in the middle of the line; those are taken out here.

use crate::{
    Error, FrameDecoder, FrameError, StdStream,
    decode::timestamp::{self, Stamp},
};

/// Longest text kept of one line, in bytes; the rest of the line is dropped.
pub const LINE_CAP: usize = 64 * 1024;

/// Payload after which the engine breaks a line into a further message.
const MESSAGE_SIZE: usize = 16 * 1024;

/// Longest timestamp with the space after it.
const PREFIX_CAP: usize = timestamp::LONGEST + 1;

/// One line of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the engine read it, in nanoseconds since the epoch, if timestamps were asked for.
    pub nanos: Option<i64>,
    /// It was written to standard error. Never true for a container with a terminal.
    pub stderr: bool,
    /// It was longer than [`LINE_CAP`], and what came after that is missing.
    pub cut: bool,
    /// The text without its line end; bytes that are no UTF-8 are replaced by U+FFFD.
    pub text: String,
}

/// Lines that became known together, in order of completion.
pub type LogBatch = Vec<LogLine>;

/// Incremental decoder from the body of `/containers/{id}/logs` to lines.
///
/// Standard output and standard error keep separate unfinished lines. Any chunking gives the same lines.
#[derive(Debug)]
pub struct LogDecoder {
    frames: Option<FrameDecoder>,
    out: Splitter,
    err: Splitter,
}

impl LogDecoder {
    /// A decoder for the raw output of a terminal (`tty`) or for multiplexed output, with or without timestamps.
    #[must_use]
    pub fn new(tty: bool, timestamps: bool) -> Self {
        Self {
            frames: (!tty).then(FrameDecoder::default),
            out: Splitter::new(false, tty, timestamps),
            err: Splitter::new(true, tty, timestamps),
        }
    }

    /// Takes the next bytes and appends the lines they complete to `lines`.
    ///
    /// # Errors
    /// [`Error::Stream`] if the engine reported an error in the stream, [`Error::Frame`] if the stream is damaged.
    /// Lines before the error have been appended.
    pub fn push(&mut self, mut bytes: &[u8], lines: &mut LogBatch) -> Result<(), Error> {
        let Some(frames) = &mut self.frames else {
            self.out.push(bytes, false, lines);
            return Ok(());
        };
        while let Some(piece) = frames.next(&mut bytes).map_err(stream_error)? {
            let splitter = match piece.stream {
                StdStream::Out => &mut self.out,
                StdStream::Err => &mut self.err,
            };
            splitter.push(piece.bytes, piece.start, lines);
        }
        Ok(())
    }

    /// Tells the decoder that the stream ended, and appends unfinished lines to `lines`.
    ///
    /// # Errors
    /// [`Error::Frame`] or [`Error::Stream`] if that was inside a frame; unfinished lines are dropped then, for they
    /// come again when the log is resumed.
    pub fn finish(&mut self, lines: &mut LogBatch) -> Result<(), Error> {
        if let Some(frames) = &self.frames {
            frames.finish().map_err(stream_error)?;
        }
        self.out.finish(lines);
        self.err.finish(lines);
        Ok(())
    }
}

fn stream_error(error: FrameError) -> Error {
    match error {
        FrameError::System(text) => Error::Stream(text),
        other => Error::Frame(other),
    }
}

/// Makes lines of the bytes of one stream.
#[derive(Debug)]
struct Splitter {
    stderr: bool,
    tty: bool,
    timestamps: bool,
    /// A timestamp may come next.
    at_prefix: bool,
    /// Start of what may be a timestamp, while its end has not come.
    prefix: Vec<u8>,
    /// A line has begun, if only by its timestamp.
    begun: bool,
    nanos: Option<i64>,
    text: Vec<u8>,
    cut: bool,
    /// Bytes of payload since the last timestamp; a terminal's output shows the ends of messages by nothing else.
    message: usize,
}

impl Splitter {
    fn new(stderr: bool, tty: bool, timestamps: bool) -> Self {
        Self {
            stderr,
            tty,
            timestamps,
            at_prefix: timestamps,
            prefix: Vec::new(),
            begun: false,
            nanos: None,
            text: Vec::new(),
            cut: false,
            message: 0,
        }
    }

    fn push(&mut self, mut bytes: &[u8], message_start: bool, lines: &mut LogBatch) {
        if message_start && self.timestamps {
            self.flush_prefix();
            self.at_prefix = true;
        }
        while !bytes.is_empty() {
            if self.at_prefix {
                bytes = self.take_prefix(bytes);
                continue;
            }
            let limit = if self.tty && self.timestamps { MESSAGE_SIZE - self.message } else { usize::MAX };
            let window = bytes.get(..limit).unwrap_or(bytes);
            if let Some(end) = memchr::memchr(b'\n', window) {
                let (line, rest) = window.split_at(end);
                self.complete(line, lines);
                bytes = bytes.get(line.len() + 1..).unwrap_or(rest);
            } else {
                self.append(window);
                bytes = bytes.get(window.len()..).unwrap_or_default();
                self.message += window.len();
                if self.message == MESSAGE_SIZE && self.tty && self.timestamps {
                    self.message = 0;
                    self.at_prefix = true;
                }
            }
        }
    }

    /// Takes a timestamp, or the part of one that is there, off the front of `bytes`; gives back what follows.
    fn take_prefix<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.prefix.is_empty() {
            if let Some(stamp) = timestamp::parse(bytes)
                && let Some((b' ', rest)) =
                    bytes.get(stamp.length..).and_then(<[u8]>::split_first).map(|(b, r)| (*b, r))
            {
                self.set_stamp(stamp);
                return rest;
            }
            if !bytes.first().is_some_and(u8::is_ascii_digit) {
                self.at_prefix = false;
                return bytes;
            }
        }
        let room = PREFIX_CAP - self.prefix.len();
        let window = bytes.get(..room).unwrap_or(bytes);
        let end = memchr::memchr2(b' ', b'\n', window);
        let (taken, rest) = bytes.split_at(end.unwrap_or(window.len()));
        self.prefix.extend_from_slice(taken);
        if end.is_none() && self.prefix.len() < PREFIX_CAP {
            return rest;
        }
        match timestamp::parse(&self.prefix) {
            Some(stamp) if stamp.length == self.prefix.len() && end.is_some() => {
                self.prefix.clear();
                self.set_stamp(stamp);
                rest.strip_prefix(b" ").unwrap_or(rest)
            }
            _ => {
                self.flush_prefix();
                rest
            }
        }
    }

    fn set_stamp(&mut self, stamp: Stamp) {
        if !self.begun {
            self.nanos = stamp.as_nanos();
        }
        self.begun = true;
        self.at_prefix = false;
        self.message = 0;
    }

    /// What was held back is text after all.
    fn flush_prefix(&mut self) {
        self.at_prefix = false;
        if !self.prefix.is_empty() {
            let prefix = std::mem::take(&mut self.prefix);
            self.append(&prefix);
            self.message += prefix.len();
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.begun = true;
        let room = LINE_CAP.saturating_sub(self.text.len());
        if bytes.len() > room {
            self.cut = true;
        }
        self.text.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn complete(&mut self, end: &[u8], lines: &mut LogBatch) {
        if self.text.is_empty() && end.len() <= LINE_CAP {
            lines.push(self.line(end));
        } else {
            self.append(end);
            let mut text = std::mem::take(&mut self.text);
            lines.push(self.line(&text));
            text.clear();
            self.text = text;
        }
        self.begun = false;
        self.nanos = None;
        self.cut = false;
        self.message = 0;
        self.at_prefix = self.timestamps;
    }

    fn line(&self, mut text: &[u8]) -> LogLine {
        if self.cut {
            text = whole_characters(text);
        } else if self.tty {
            text = text.strip_suffix(b"\r").unwrap_or(text);
        }
        let text = String::from_utf8_lossy(text).into_owned();
        LogLine { nanos: self.nanos, stderr: self.stderr, cut: self.cut, text }
    }

    fn finish(&mut self, lines: &mut LogBatch) {
        if let Some(stamp) = timestamp::parse(&self.prefix)
            && stamp.length == self.prefix.len()
        {
            self.prefix.clear();
            self.set_stamp(stamp);
        }
        self.flush_prefix();
        if self.begun {
            self.complete(b"", lines);
        }
    }
}

/// Drops the start of a character that the cap cut in two.
fn whole_characters(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() => text.get(..error.valid_up_to()).unwrap_or(text),
        _ => text,
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
