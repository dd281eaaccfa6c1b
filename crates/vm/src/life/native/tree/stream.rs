//! The archive's bytes in the parts of a backup, one behind the other.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::pack::Sink;
use crate::life::archive::{BackupReader, BackupWriter, PART, ReadProblem};
use crate::life::{Cancel, LifeError};

/// Bytes on their way into a backup.
pub(in crate::life) struct Parts<'a, W, P> {
    writer: BackupWriter<W>,
    to: &'a Path,
    cancel: &'a Cancel,
    progress: P,
    /// How many bytes there will be.
    of: u64,
    written: u64,
    part: Vec<u8>,
}

impl<'a, W: Write, P: FnMut(u64, u64)> Parts<'a, W, P> {
    pub(in crate::life) fn new(
        writer: BackupWriter<W>,
        to: &'a Path,
        of: u64,
        cancel: &'a Cancel,
        progress: P,
    ) -> Self {
        Self { writer, to, cancel, progress, of, written: 0, part: Vec::with_capacity(PART) }
    }

    /// All of it, if it is as much as it was to be, and the backup's length.
    pub(in crate::life) fn finish(mut self) -> Result<Option<(W, u64)>, LifeError> {
        self.flush()?;
        if self.written != self.of {
            return Ok(None);
        }
        self.writer.finish().map(Some).map_err(LifeError::file("write", self.to))
    }

    fn flush(&mut self) -> Result<(), LifeError> {
        self.cancel.check()?;
        if self.part.is_empty() {
            return Ok(());
        }
        self.writer.part(self.written, &self.part).map_err(LifeError::file("write", self.to))?;
        self.written += self.part.len() as u64;
        self.part.clear();
        (self.progress)(self.written, self.of);
        Ok(())
    }
}

impl<W: Write, P: FnMut(u64, u64)> Sink for Parts<'_, W, P> {
    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), LifeError> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PART - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = rest;
            if self.part.len() == PART {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn content(&mut self, file: &File, path: &Path, mut from: u64, mut length: u64) -> Result<(), LifeError> {
        while length > 0 {
            let filled = self.part.len();
            let now = usize::try_from(length).unwrap_or(PART).min(PART - filled);
            self.part.resize(filled + now, 0);
            let room = self.part.get_mut(filled..).unwrap_or_default();
            match file.read_exact_at(room, from) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(LifeError::Changing(path.to_path_buf()));
                }
                read => read.map_err(LifeError::file("read", path))?,
            }
            from += now as u64;
            length -= now as u64;
            if self.part.len() == PART {
                self.flush()?;
            }
        }
        Ok(())
    }
}

/// The bytes of a backup's parts, one behind the other.
pub(in crate::life) struct Unparted<'a, R, P> {
    reader: BackupReader<R>,
    cancel: &'a Cancel,
    progress: P,
    of: u64,
    taken: u64,
    part: Vec<u8>,
    /// How much of the part was taken.
    at: usize,
}

/// Why bytes did not come.
pub(in crate::life) enum Stopped {
    Problem(ReadProblem),
    Life(LifeError),
}

impl From<ReadProblem> for Stopped {
    fn from(problem: ReadProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<LifeError> for Stopped {
    fn from(error: LifeError) -> Self {
        Self::Life(error)
    }
}

impl<'a, R: Read, P: FnMut(u64, u64)> Unparted<'a, R, P> {
    pub(in crate::life) fn new(reader: BackupReader<R>, cancel: &'a Cancel, progress: P) -> Self {
        let of = reader.manifest.used_bytes;
        Self { reader, cancel, progress, of, taken: 0, part: Vec::new(), at: 0 }
    }

    /// The next bytes, at least one and at most so many.
    pub(super) fn some(&mut self, at_most: usize) -> Result<&[u8], Stopped> {
        if self.at == self.part.len() && !self.next_part()? {
            return Err(ReadProblem::Damaged("its files end too early".to_owned()).into());
        }
        let until = self.part.len().min(self.at.saturating_add(at_most));
        let bytes = self.part.get(self.at..until).unwrap_or_default();
        self.at = until;
        Ok(bytes)
    }

    pub(super) fn exactly(&mut self, mut room: &mut [u8]) -> Result<(), Stopped> {
        while !room.is_empty() {
            let bytes = self.some(room.len())?;
            let (now, rest) = std::mem::take(&mut room).split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            room = rest;
        }
        Ok(())
    }

    /// Nothing may follow; only now the whole backup has been found to be as it was written.
    pub(super) fn end(&mut self) -> Result<(), Stopped> {
        if self.at < self.part.len() || self.next_part()? {
            return Err(ReadProblem::Damaged("something follows its files".to_owned()).into());
        }
        Ok(())
    }

    fn next_part(&mut self) -> Result<bool, Stopped> {
        self.cancel.check()?;
        (self.progress)(self.taken, self.of);
        let Some((offset, bytes)) = self.reader.part()? else { return Ok(false) };
        if offset != self.taken {
            return Err(ReadProblem::Damaged(format!("a part at {offset} cannot be")).into());
        }
        self.part.clear();
        self.part.extend_from_slice(bytes);
        self.taken += bytes.len() as u64;
        self.at = 0;
        Ok(true)
    }
}
