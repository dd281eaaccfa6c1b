//! What is in an archive.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use super::{
    ArchiveError, Entry,
    decode::{Decoder, Event},
};
use crate::Error;

/// How much of an archive is listed.
#[derive(Clone, Debug)]
pub struct ListLimits {
    /// Most entries.
    pub entries: usize,
    /// Longest path or link target that is kept, in bytes.
    pub name: usize,
    /// All paths and link targets together, in bytes.
    pub names: usize,
}

impl Default for ListLimits {
    fn default() -> Self {
        Self { entries: 100_000, name: 64 * 1024, names: 64 * 1024 * 1024 }
    }
}

/// What is in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The entries, in the order of the archive; a path can come more than once.
    pub entries: Vec<Entry>,
    /// A limit was reached, and there may be more.
    pub truncated: bool,
    /// The archive ended with its end marker. Without one, entries may be missing behind the last.
    pub end_marker: bool,
}

/// Lists an uncompressed tar. At a limit it stops reading and says so in [`Listing::truncated`].
///
/// # Errors
/// [`ArchiveError::Stream`] if the stream fails, [`ArchiveError::Damaged`] or [`ArchiveError::Truncated`] if it is no
/// whole archive.
pub async fn list<S>(stream: S, limits: &ListLimits) -> Result<Listing, ArchiveError>
where
    S: Stream<Item = Result<Bytes, Error>>,
{
    let mut listing = Listing::default();
    let mut names = 0_usize;
    let mut pieces = std::pin::pin!(pieces(stream, limits.name));
    while let Some(piece) = pieces.try_next().await? {
        match piece {
            Piece::End { marker } => listing.end_marker = marker,
            Piece::Entry(entry) => {
                names = names.saturating_add(entry.path.len() + entry.link.as_ref().map_or(0, Vec::len));
                if listing.entries.len() >= limits.entries || names > limits.names {
                    listing.truncated = true;
                    break;
                }
                listing.entries.push(*entry);
            }
        }
    }
    Ok(listing)
}

/// The entries of an uncompressed tar as they come, which holds one entry at a time; it ends after the first error.
pub fn entries<S>(stream: S, limits: &ListLimits) -> impl Stream<Item = Result<Entry, ArchiveError>>
where
    S: Stream<Item = Result<Bytes, Error>>,
{
    pieces(stream, limits.name).try_filter_map(|piece| async move {
        Ok(match piece {
            Piece::Entry(entry) => Some(*entry),
            Piece::End { .. } => None,
        })
    })
}

enum Piece {
    Entry(Box<Entry>),
    End { marker: bool },
}

fn pieces<S>(stream: S, name_limit: usize) -> impl Stream<Item = Result<Piece, ArchiveError>>
where
    S: Stream<Item = Result<Bytes, Error>>,
{
    let start = Some((Box::pin(stream), Decoder::new(name_limit), Bytes::new()));
    stream::unfold(start, |state| async move {
        let (mut stream, mut decoder, mut input) = state?;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Event::Entry(entry))) => {
                    return Some((Ok(Piece::Entry(entry)), Some((stream, decoder, input))));
                }
                Ok(Some(_)) => {}
                Ok(None) => match stream.next().await {
                    Some(Ok(bytes)) => input = bytes,
                    Some(Err(error)) => return Some((Err(ArchiveError::Stream(Box::new(error))), None)),
                    None => return Some((decoder.finish().map(|marker| Piece::End { marker }), None)),
                },
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
}
