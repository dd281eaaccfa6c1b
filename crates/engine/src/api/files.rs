//! Files of containers, as archives.

use base64::Engine as _;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::{
    ContainerRef, Docker, Error, RequestBody,
    api::{containers::fused, model::nullable, options::options},
    archive::{ArchiveError, Compression, refuse_compressed},
    decode::timestamp::millis,
    http::{Call, Older, SLOW},
    operation::Operation,
};

/// What a path of a container is. API: header `X-Docker-Container-Path-Stat`.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathStat {
    /// The last part of the path.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Size in bytes; says nothing of folders.
    #[serde(deserialize_with = "nullable")]
    pub size: i64,
    /// Kind and permissions in the bits of Go's `os.FileMode`; see [`PathStat::kind`] and [`PathStat::permissions`].
    #[serde(deserialize_with = "nullable")]
    pub mode: u32,
    /// When it was changed, in milliseconds since the epoch.
    #[serde(rename = "mtime", deserialize_with = "millis")]
    pub modified: Option<f64>,
    /// Where a symbolic link leads, within the container; empty otherwise.
    #[serde(deserialize_with = "nullable")]
    pub link_target: String,
}

/// What kind of file a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A file of bytes.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, pipe, socket or anything else.
    Other,
}

impl PathStat {
    /// What kind of file it is.
    #[must_use]
    pub fn kind(&self) -> FileKind {
        const FOLDER: u32 = 1 << 31;
        const LINK: u32 = 1 << 27;
        const OTHERS: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;
        match self.mode {
            mode if mode & FOLDER != 0 => FileKind::Folder,
            mode if mode & LINK != 0 => FileKind::Link,
            mode if mode & OTHERS != 0 => FileKind::Other,
            _ => FileKind::File,
        }
    }

    /// Its permissions, such as `0o644`, with the bits of set-user-id, set-group-id and stickiness where Unix has them.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        let bit = |theirs: u32, ours| if self.mode & 1 << theirs != 0 { ours } else { 0 };
        self.mode & 0o777 | bit(23, 0o4000) | bit(22, 0o2000) | bit(20, 0o1000)
    }
}

options! {
    /// How to unpack what is uploaded.
    pub struct UploadArchive {
        /// Fail rather than put a file in place of a folder or a folder in place of a file.
        pub keep_kinds: bool,
        /// Owners as in the archive, by number. Since API 1.30; otherwise the container's user.
        pub keep_owners: bool,
    }
}

impl Docker {
    /// What a path of a container is. A symbolic link at its end is not followed. `path` may hold any bytes but 0.
    /// API: `ContainerArchiveInfo`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no path; [`Error::is_not_found`] if there is no such container or path;
    /// whatever a call may fail with.
    pub async fn container_path(&self, container: &ContainerRef, path: impl AsRef<[u8]>) -> Result<PathStat, Error> {
        let call = Call::new(Operation::ContainerArchiveInfo, [container.as_str()]);
        let call = call.query_bytes("path", checked(path.as_ref())?).deadline(Some(SLOW));
        let what = call.what();
        stat(&self.call(call).await?.headers, what)
    }

    /// A file or folder of a container, whether it runs or not, as an uncompressed tar archive, and what its path is.
    /// `path` may hold any bytes but 0; one that ends in `/.` is the content of a folder. Names in the archive are
    /// outside data: unpack it with [`crate::archive::extract`]. API: `ContainerArchive`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::archive::{ListLimits, list};
    ///
    /// # let container = running(&docker, "doc-files").await?;
    /// let (stat, archive) = docker.download_archive(&container, "/www").await?;
    /// assert_eq!(stat.name, "www");
    /// let listing = list(archive, &ListLimits::default()).await?;
    /// assert!(listing.entries.iter().any(|entry| entry.path_lossy() == "www/index.html"));
    /// # docker.kill_container(&container, None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no path; [`Error::is_not_found`] if there is no such container or path;
    /// whatever a call may fail with, of which the stream yields one and then ends.
    pub async fn download_archive(
        &self,
        container: &ContainerRef,
        path: impl AsRef<[u8]>,
    ) -> Result<(PathStat, BoxStream<'static, Result<Bytes, Error>>), Error> {
        let call = Call::new(Operation::ContainerArchive, [container.as_str()]);
        let call = call.query_bytes("path", checked(path.as_ref())?).deadline(Some(SLOW));
        let what = call.what();
        let (headers, body) = self.open(call).await?;
        let stat = stat(&headers, what)?;
        let bytes =
            stream::try_unfold(
                body,
                |mut body| async move { Ok(body.data().await.transpose()?.map(|data| (data, body))) },
            );
        Ok((stat, fused(bytes).boxed()))
    }

    /// Unpacks an uncompressed tar archive in a folder of a container that is there already. `path` may hold any bytes
    /// but 0. Has no deadline: drop it to give up, and what was unpacked by then stays. API: `PutContainerArchive`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if that is no path; [`Error::Compressed`] if the archive is compressed, for which
    /// engines run programs of the container; [`Error::is_not_found`] if there is no such container or path;
    /// an [`Error::Api`] if it is no folder or read only; [`Error::Unsupported`] if owners are to be kept and the engine
    /// is too old; whatever a call may fail with.
    pub async fn upload_archive(
        &self,
        container: &ContainerRef,
        path: impl AsRef<[u8]>,
        archive: impl Into<RequestBody>,
        options: &UploadArchive,
    ) -> Result<(), Error> {
        let mut call = Call::new(Operation::PutContainerArchive, [container.as_str()])
            .query_bytes("path", checked(path.as_ref())?)
            .flag("noOverwriteDirNonDir", options.keep_kinds);
        if options.keep_owners {
            call = call.query_since(30, Older::Refuse, "copyUIDGID", "1");
        }
        let archive = uncompressed(archive.into()).await?;
        self.done(call.body("application/x-tar", archive).deadline(None)).await
    }
}

fn checked(path: &[u8]) -> Result<&[u8], Error> {
    if path.is_empty() || path.contains(&0) {
        return Err(Error::invalid(&String::from_utf8_lossy(path), "path in a container"));
    }
    Ok(path)
}

fn stat(headers: &HeaderMap, what: String) -> Result<PathStat, Error> {
    let text = headers.get("x-docker-container-path-stat").map(http::HeaderValue::as_bytes).unwrap_or_default();
    // Podman writes the alphabet of URLs.
    let text: Vec<u8> = text
        .iter()
        .filter(|byte| **byte != b'=')
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    let json = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).unwrap_or_default();
    serde_json::from_slice(&json).map_err(|source| Error::Decode { what, source })
}

/// `archive` again, if it is not compressed.
async fn uncompressed(mut archive: RequestBody) -> Result<RequestBody, Error> {
    if archive.size_hint().exact().is_some() {
        let bytes = match archive.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            _ => Bytes::new(),
        };
        return match Compression::of(&bytes) {
            Some(compression) => Err(Error::Compressed(compression)),
            None => Ok(bytes.into()),
        };
    }
    match refuse_compressed(archive.into_data_stream()).await {
        Ok(stream) => Ok(RequestBody::stream(stream)),
        Err(ArchiveError::Compressed(compression)) => Err(Error::Compressed(compression)),
        Err(error) => Err(Error::Stream(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    fn read(text: &str) -> Result<PathStat, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("x-docker-container-path-stat", text.parse().unwrap());
        stat(&headers, "a test".into())
    }

    #[test]
    fn stats_of_both_makes_are_read() {
        let json = r#"{"name":"pässwd??>>","size":1234,"mode":134218239,"mtime":"2024-02-29T12:34:56Z","linkTarget":"/etc/x"}"#;
        for text in [STANDARD.encode(json), URL_SAFE.encode(json)] {
            let stat = read(&text).unwrap();
            assert_eq!((stat.name.as_str(), stat.size, stat.kind()), ("pässwd??>>", 1234, FileKind::Link));
            assert_eq!((stat.permissions(), stat.modified), (0o777, Some(1_709_210_096_000.0)));
        }
        let of = |mode| PathStat { mode, ..PathStat::default() };
        assert_eq!(of(2_147_484_141).kind(), FileKind::Folder);
        assert_eq!(of(1 << 26 | 1 << 21).kind(), FileKind::Other);
        assert_eq!(of(1 << 23 | 0o755).permissions(), 0o4755);
        assert_eq!(of(1 << 23 | 0o755).kind(), FileKind::File);
    }

    #[test]
    fn hostile_stats_are_errors() {
        for text in ["", "!!!!", &STANDARD.encode("[]x"), &STANDARD.encode(r#"{"mode":-1}"#)] {
            assert!(matches!(read(text), Err(Error::Decode { .. })), "{text}");
        }
        assert_eq!(read(&STANDARD.encode(r#"{"name":null,"mtime":null}"#)).unwrap(), PathStat::default());
    }

    #[test]
    fn paths_hold_anything_but_nothing() {
        assert!(checked(b"").is_err() && checked(b"/a\0b").is_err());
        assert!(checked(b"/../a\r\n\xff?&#").is_ok());
    }

    #[tokio::test]
    async fn compressed_archives_are_refused() {
        let gzip = Bytes::from_static(b"\x1f\x8b\x08\0\0\0\0\0");
        assert!(matches!(uncompressed(gzip.clone().into()).await, Err(Error::Compressed(Compression::Gzip))));
        let pieces: Vec<_> = gzip.chunks(1).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let streamed = RequestBody::stream(stream::iter(pieces));
        assert!(matches!(uncompressed(streamed).await, Err(Error::Compressed(Compression::Gzip))));
        let kept = uncompressed(Bytes::from_static(b"plain").into()).await.unwrap();
        assert_eq!(kept.bytes().unwrap(), "plain");
    }
}
