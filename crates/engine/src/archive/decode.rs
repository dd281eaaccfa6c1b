//! From the bytes of a tar to its entries: pieces of any size in, events out, never a panic.

use bytes::{Buf, Bytes};

use super::{
    ArchiveError, Entry, EntryKind, Modified,
    header::{self, BLOCK, Header, padding},
    pax::{self, Pax},
    sparse::{self, MapReader, Segment},
};

/// What an archive says next.
#[derive(Debug)]
pub(super) enum Event {
    /// An entry begins.
    Entry(Box<Entry>),
    /// A piece of its content. What no piece covers is a hole.
    Data {
        /// Where in the content it belongs.
        offset: u64,
        /// The content.
        bytes: Bytes,
    },
    /// The entry is complete.
    EndOfEntry,
}

/// Incremental decoder. Any chunking gives the same events, but for where content is cut into pieces.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// Bytes taken so far.
    offset: u64,
    name_limit: usize,
    block: [u8; BLOCK],
    filled: usize,
    /// What describes the next entry, gathered from the entries before it.
    pending: Pending,
    global: Pax,
    /// A block of zeros came; the next one ends the archive.
    zeros: bool,
}

#[derive(Debug, Default)]
struct Pending {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    cut: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

#[derive(Debug)]
enum State {
    /// Between entries.
    Header,
    /// Inside an entry that describes another one.
    Meta { kind: Meta, left: u64, padding: u64, buffer: Vec<u8>, cut: bool },
    /// Inside the further blocks of an old GNU sparse map.
    OldSparse { entry: Box<Entry>, stored: u64, map: Vec<u64> },
    /// Inside the map before the content of a sparse file.
    SparseMap { entry: Box<Entry>, stored: u64, reader: MapReader },
    /// Inside content.
    Data(Content),
    /// Behind content.
    Padding { left: u64 },
    /// Behind the end marker.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meta {
    Name,
    Link,
    Pax,
    GlobalPax,
}

#[derive(Debug)]
struct Content {
    left: u64,
    padding: u64,
    /// Where the next byte belongs.
    position: u64,
    /// Bytes of the segment that is being read.
    segment: u64,
    rest: std::vec::IntoIter<Segment>,
}

impl Decoder {
    /// A decoder that keeps paths up to `name_limit` bytes.
    pub(super) fn new(name_limit: usize) -> Self {
        Self {
            state: State::Header,
            offset: 0,
            name_limit,
            block: [0; BLOCK],
            filled: 0,
            pending: Pending::default(),
            global: Pax::default(),
            zeros: false,
        }
    }

    /// Takes from `input` until the next event. `None` if more input is needed.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, ArchiveError> {
        loop {
            match &mut self.state {
                State::Header => {
                    if !self.fill_block(input) {
                        return Ok(None);
                    }
                    if let Some(entry) = self.header()? {
                        return Ok(Some(Event::Entry(entry)));
                    }
                }
                State::Meta { kind, left, padding, buffer, cut } => {
                    if *left > 0 {
                        if input.is_empty() {
                            return Ok(None);
                        }
                        let limit =
                            if matches!(kind, Meta::Pax | Meta::GlobalPax) { pax::LIMIT } else { self.name_limit };
                        let piece = input.split_to(at_most(*left, input.len()));
                        let kept = piece.get(..limit.saturating_sub(buffer.len())).unwrap_or(&piece);
                        *cut |= kept.len() < piece.len();
                        buffer.extend_from_slice(kept);
                        *left -= piece.len() as u64;
                        self.offset += piece.len() as u64;
                        continue;
                    }
                    let (kind, padding, buffer, cut) = (*kind, *padding, std::mem::take(buffer), *cut);
                    self.state = State::Padding { left: padding };
                    self.meta(kind, buffer, cut)?;
                }
                State::OldSparse { .. } => {
                    if !self.fill_block(input) {
                        return Ok(None);
                    }
                    if let Some(entry) = self.old_sparse()? {
                        return Ok(Some(Event::Entry(entry)));
                    }
                }
                State::SparseMap { .. } => {
                    if !self.fill_block(input) {
                        return Ok(None);
                    }
                    if let Some(entry) = self.sparse_map()? {
                        return Ok(Some(Event::Entry(entry)));
                    }
                }
                State::Data(content) => {
                    if content.left == 0 {
                        self.state = State::Padding { left: content.padding };
                        return Ok(Some(Event::EndOfEntry));
                    }
                    if content.segment == 0
                        && let Some(segment) = content.rest.next()
                    {
                        content.position = segment.offset;
                        content.segment = segment.length;
                    }
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = input.split_to(at_most(content.segment.min(content.left), input.len()));
                    let (offset, length) = (content.position, bytes.len() as u64);
                    content.position += length;
                    content.segment -= length;
                    content.left -= length;
                    self.offset += length;
                    return Ok(Some(Event::Data { offset, bytes }));
                }
                State::Padding { left } => {
                    let skipped = at_most(*left, input.len());
                    input.advance(skipped);
                    *left -= skipped as u64;
                    self.offset += skipped as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::End => {
                    self.offset += input.len() as u64;
                    input.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// The input is over. Whether the archive said so too, which it should but some writers leave out.
    pub(super) fn finish(&self) -> Result<bool, ArchiveError> {
        match &self.state {
            State::End => Ok(true),
            State::Header if self.filled == 0 && self.pending.is_empty() => Ok(false),
            _ => Err(ArchiveError::Truncated { offset: self.offset }),
        }
    }

    fn damaged(&self, why: &'static str) -> ArchiveError {
        ArchiveError::Damaged { offset: self.offset.saturating_sub(BLOCK as u64), why }
    }

    fn fill_block(&mut self, input: &mut Bytes) -> bool {
        let rest = self.block.get_mut(self.filled..).unwrap_or_default();
        let taken = rest.len().min(input.len());
        for (to, from) in rest.iter_mut().zip(input.split_to(taken)) {
            *to = from;
        }
        self.filled += taken;
        self.offset += taken as u64;
        if self.filled < BLOCK {
            return false;
        }
        self.filled = 0;
        true
    }

    /// Reads the block between two entries. Some if it begins an entry with content of its own.
    fn header(&mut self) -> Result<Option<Box<Entry>>, ArchiveError> {
        let block = self.block;
        if block.iter().all(|byte| *byte == 0) {
            if !self.pending.is_empty() {
                return Err(self.damaged("an extended header describes no entry"));
            }
            if self.zeros {
                self.state = State::End;
            }
            self.zeros = true;
            return Ok(None);
        }
        if self.zeros {
            return Err(self.damaged("an entry follows half of an end marker"));
        }
        let at = self.offset.saturating_sub(BLOCK as u64);
        let header = Header::read(&block, at)?;
        let size = header.size(at)?;
        let meta = match header.flag() {
            b'L' => Some(Meta::Name),
            b'K' => Some(Meta::Link),
            b'x' | b'X' => Some(Meta::Pax),
            b'g' => Some(Meta::GlobalPax),
            _ => None,
        };
        if let Some(kind) = meta {
            // An extended header overrules the size of the entry it describes, never that of another extended header.
            self.state = State::Meta { kind, left: size, padding: padding(size), buffer: Vec::new(), cut: false };
            return Ok(None);
        }
        self.entry(&header, size)
    }

    fn meta(&mut self, kind: Meta, mut buffer: Vec<u8>, cut: bool) -> Result<(), ArchiveError> {
        if matches!(kind, Meta::Pax | Meta::GlobalPax) {
            if cut {
                return Err(self.damaged("an extended header is larger than 1 MiB"));
            }
            let offset = self.offset;
            if kind == Meta::GlobalPax {
                return self.global.extend(&buffer, true, offset);
            }
            return self.pending.pax.get_or_insert_default().extend(&buffer, false, offset);
        }
        if let Some(end) = memchr::memchr(0, &buffer) {
            buffer.truncate(end);
        }
        buffer.shrink_to_fit();
        self.pending.cut |= cut;
        let place = if kind == Meta::Name { &mut self.pending.long_name } else { &mut self.pending.long_link };
        *place = Some(buffer);
        Ok(())
    }

    fn entry(&mut self, header: &Header<'_>, size: u64) -> Result<Option<Box<Entry>>, ArchiveError> {
        let Pending { pax, long_name, long_link, cut } = std::mem::take(&mut self.pending);
        let pax = pax.unwrap_or_default();
        let stored = pax.size.unwrap_or(size);
        let modified = pax.modified.or(self.global.modified);
        let path = pax.sparse.name.clone().or(long_name).or(pax.path).unwrap_or_else(|| header.path());
        let kind = header::kind(header.flag(), &path);
        let has_target = matches!(kind, EntryKind::Symlink | EntryKind::HardLink);
        let stored = if header::has_no_content(kind) { 0 } else { stored };
        let mut entry = Box::new(Entry {
            path,
            cut,
            kind,
            size: stored,
            sparse: false,
            mode: header.mode(),
            modified: modified.unwrap_or_else(|| Modified { seconds: header.modified(), nanos: 0 }),
            uid: pax.uid.or(self.global.uid).unwrap_or_else(|| header.uid()),
            gid: pax.gid.or(self.global.gid).unwrap_or_else(|| header.gid()),
            link: has_target.then(|| long_link.or(pax.link).unwrap_or_else(|| header.link().to_vec())),
        });
        for text in [Some(&mut entry.path), entry.link.as_mut()].into_iter().flatten() {
            entry.cut |= text.len() > self.name_limit;
            text.truncate(self.name_limit);
        }
        if header.flag() == b'S' {
            let (segments, more, size) = header.sparse();
            entry.sparse = true;
            entry.size = size.ok_or_else(|| self.damaged("the size of a sparse file is no number"))?;
            let mut map = Vec::new();
            sparse::old_segments(segments, &mut map)
                .ok_or_else(|| self.damaged("the map of a sparse file is malformed"))?;
            if more {
                self.state = State::OldSparse { entry, stored, map };
                return Ok(None);
            }
            return self.begin_sparse(entry, stored, stored, &map).map(Some);
        }
        let described = pax.sparse;
        match (kind, described.major.unwrap_or(0), described.minor, described.size) {
            (EntryKind::File, 1, Some(0), size) => {
                entry.sparse = true;
                entry.size = size.ok_or_else(|| self.damaged("a sparse file has no size"))?;
                self.state = State::SparseMap { entry, stored, reader: MapReader::default() };
                Ok(None)
            }
            (EntryKind::File, 0, _, Some(size)) if !described.map.is_empty() => {
                entry.sparse = true;
                entry.size = size;
                self.begin_sparse(entry, stored, stored, &described.map).map(Some)
            }
            (_, 0, _, _) | (EntryKind::Folder | EntryKind::Symlink | EntryKind::HardLink, ..) => {
                let whole = Segment { offset: 0, length: stored };
                self.begin(stored, vec![whole]);
                Ok(Some(entry))
            }
            _ => Err(self.damaged("a sparse file has an unknown format")),
        }
    }

    fn begin(&mut self, stored: u64, segments: Vec<Segment>) {
        self.state = State::Data(Content {
            left: stored,
            padding: padding(stored),
            position: 0,
            segment: 0,
            rest: segments.into_iter(),
        });
    }

    /// Begins a file with holes of which `stored` bytes follow, as the end of content of `whole` bytes.
    fn begin_sparse(
        &mut self,
        entry: Box<Entry>,
        stored: u64,
        whole: u64,
        map: &[u64],
    ) -> Result<Box<Entry>, ArchiveError> {
        let segments = sparse::check(map, entry.size, stored);
        let segments = segments.ok_or_else(|| self.damaged("the map of a sparse file does not fit its content"))?;
        self.begin(stored, segments);
        if let State::Data(content) = &mut self.state {
            content.padding = padding(whole);
        }
        Ok(entry)
    }

    fn old_sparse(&mut self) -> Result<Option<Box<Entry>>, ArchiveError> {
        let malformed = self.damaged("the map of a sparse file is malformed");
        let State::OldSparse { entry, stored, mut map } = std::mem::replace(&mut self.state, State::Header) else {
            return Ok(None);
        };
        let (segments, more) = self.block.split_at(504);
        sparse::old_segments(segments, &mut map).ok_or(malformed)?;
        if more.first().is_some_and(|more| *more != 0) {
            self.state = State::OldSparse { entry, stored, map };
            return Ok(None);
        }
        self.begin_sparse(entry, stored, stored, &map).map(Some)
    }

    fn sparse_map(&mut self) -> Result<Option<Box<Entry>>, ArchiveError> {
        let malformed = |decoder: &Self| decoder.damaged("the map of a sparse file is malformed");
        let State::SparseMap { entry, stored, mut reader } = std::mem::replace(&mut self.state, State::Header) else {
            return Ok(None);
        };
        let stored = stored.checked_sub(BLOCK as u64).ok_or_else(|| malformed(self))?;
        if !reader.take(&self.block).ok_or_else(|| malformed(self))? {
            self.state = State::SparseMap { entry, stored, reader };
            return Ok(None);
        }
        self.begin_sparse(entry, stored, stored, &reader.into_map()).map(Some)
    }
}

fn at_most(wanted: u64, available: usize) -> usize {
    usize::try_from(wanted).unwrap_or(usize::MAX).min(available)
}
