//! Refusing compressed uploads.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};

use super::ArchiveError;

/// Bytes that are enough to recognise every format.
const ENOUGH: usize = 6;

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// LZ4.
    Lz4,
    /// The `compress` of Unix.
    Compress,
    /// lzip.
    Lzip,
    /// A ZIP archive.
    Zip,
}

impl Compression {
    /// Recognises a format by its first bytes, as an engine does: it looks at nothing else.
    #[must_use]
    pub fn of(start: &[u8]) -> Option<Self> {
        Some(match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // The second is a frame to be skipped, which may stand before the content.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Self::Lz4,
            [0x1f, 0x9d | 0xa0, ..] => Self::Compress,
            [b'L', b'Z', b'I', b'P', ..] => Self::Lzip,
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            _ => return None,
        })
    }

    /// A command that unpacks it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Gzip | Self::Compress => "gzip -d FILE",
            Self::Bzip2 => "bzip2 -d FILE",
            Self::Xz => "xz -d FILE",
            Self::Zstd => "zstd -d FILE",
            Self::Lz4 => "lz4 -d FILE",
            Self::Lzip => "lzip -d FILE",
            Self::Zip => "unzip FILE",
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Compress => "compress",
            Self::Lzip => "lzip",
            Self::Zip => "zip",
        })
    }
}

/// Looks at the start of an upload and refuses it if it is compressed; otherwise gives all of it back.
///
/// A tar whose first name looks like such a start is refused too, because the engine would not know the difference.
///
/// # Errors
/// [`ArchiveError::Compressed`] says how it is compressed and what unpacks it.
pub async fn refuse_compressed<S, E>(
    stream: S,
) -> Result<impl Stream<Item = Result<Bytes, E>> + use<S, E>, ArchiveError>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut stream = Box::pin(stream);
    let mut start = BytesMut::new();
    let mut first = Vec::new();
    while start.len() < ENOUGH {
        let Some(item) = stream.next().await else { break };
        if let Ok(bytes) = &item {
            start.extend_from_slice(bytes.get(..ENOUGH).unwrap_or(bytes));
        }
        // Empty pieces say nothing, and a stream of them must not fill the memory.
        let failed = item.is_err();
        if !matches!(&item, Ok(bytes) if bytes.is_empty()) {
            first.push(item);
        }
        if failed {
            break;
        }
    }
    match Compression::of(&start) {
        Some(compression) => Err(ArchiveError::Compressed(compression)),
        None => Ok(stream::iter(first).chain(stream)),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn check(pieces: &[&'static [u8]]) -> Result<Vec<u8>, ArchiveError> {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece))).collect();
        let stream = refuse_compressed(stream::iter(pieces)).await?;
        Ok(stream.map(|piece| piece.unwrap().to_vec()).concat().await)
    }

    #[tokio::test]
    async fn refuses_every_format_in_any_pieces() {
        for start in [
            &b"\x1f\x8b\x08\0\0\0"[..],
            b"BZh91AY",
            b"\xfd7zXZ\0\0",
            b"\x28\xb5\x2f\xfdxyz",
            b"\x50\x2a\x4d\x18xyz",
            b"\x04\x22\x4d\x18xyz",
            b"\x1f\x9d\x90",
            b"LZIP\x01x",
            b"PK\x03\x04xx",
        ] {
            for cut in 0..start.len() {
                let (a, b) = start.split_at(cut);
                let error = check(&[b"", a, b, b"rest"]).await.unwrap_err();
                assert!(matches!(error, ArchiveError::Compressed(_)), "{start:?}");
                assert!(error.to_string().contains("Unpack it first, for example with `"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn gives_back_everything_else() {
        assert_eq!(check(&[b"", b"a", b"bc", b"", b"defghijk", b"l"]).await.unwrap(), b"abcdefghijkl");
        assert_eq!(check(&[]).await.unwrap(), b"");
        assert_eq!(check(&[b"\x1f"]).await.unwrap(), b"\x1f");
    }
}
