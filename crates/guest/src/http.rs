//! As much HTTP/1.0 as asking dockerd two questions takes. Every read is bounded in size and in time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::error::Error;

const BODY_LIMIT: u64 = 4 << 20;
const LINE_LIMIT: u64 = 64 << 10;

/// An answer whose head was read and was a success.
pub(crate) struct Answer {
    reader: BufReader<UnixStream>,
}

/// Asks, and reads the answer's head.
pub(crate) fn get(socket: &Path, path: &str, patience: Duration) -> Result<Answer, Error> {
    let mut stream = UnixStream::connect(socket).map_err(Error::io("dockerd does not answer"))?;
    stream.set_read_timeout(Some(patience)).map_err(Error::io("setting a deadline"))?;
    stream.set_write_timeout(Some(patience)).map_err(Error::io("setting a deadline"))?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: berth\r\n\r\n").as_bytes())
        .map_err(Error::io("asking dockerd"))?;
    let mut answer = Answer { reader: BufReader::new(stream) };
    let status = answer.line()?;
    if status.split(' ').nth(1) != Some("200") {
        return Err(Error::Answer("it is no success"));
    }
    while !answer.line()?.is_empty() {}
    Ok(answer)
}

impl Answer {
    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        let read =
            self.reader.by_ref().take(LINE_LIMIT).read_line(&mut line).map_err(Error::io("reading from dockerd"))?;
        if read == 0 || !line.ends_with('\n') {
            return Err(Error::Answer("it ends early"));
        }
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn json(self) -> Result<Value, Error> {
        serde_json::from_reader(self.reader.take(BODY_LIMIT)).map_err(|_| Error::Answer("it is no JSON"))
    }
}
