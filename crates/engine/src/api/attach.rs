//! The streams of a container's or an exec's process: what it prints, and what it reads.

mod websocket;

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf, WriteHalf};

use crate::{
    ApiVersion, ContainerRef, Docker, Error, FrameDecoder, StdStream,
    api::{containers::fused, logs::tty_of, options::options},
    http::Call,
    operation::Operation,
};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// From here on an engine says in the head of its answer whether the output is multiplexed.
const TELLS_CONTENT_TYPE: ApiVersion = ApiVersion { major: 1, minor: 42 };

options! {
    /// What of a container to attach to.
    pub struct AttachContainer {
        /// Begin with what it has printed before.
        pub logs: bool,
        /// Go on with what it prints from now on.
        pub stream: bool,
        /// Its standard input.
        pub stdin: bool,
        /// Its standard output.
        pub stdout: bool,
        /// Its standard error.
        pub stderr: bool,
        /// Keys that detach, such as `ctrl-x,x`; those of the engine if none, `ctrl-p,ctrl-q`. They count in terminals.
        pub detach_keys: Option<String>,
        /// Whether the container has a terminal, if that is known; saves asking the engine.
        pub tty: Option<bool>,
    }
}

impl AttachContainer {
    /// Its input and what it prints from now on.
    #[must_use]
    pub fn all() -> Self {
        Self { stream: true, stdin: true, stdout: true, stderr: true, ..Self::default() }
    }

    /// What it prints from now on.
    #[must_use]
    pub fn output() -> Self {
        Self { stdin: false, ..Self::all() }
    }

    fn apply(&self, call: Call) -> Call {
        call.flag("logs", self.logs)
            .flag("stream", self.stream)
            .flag("stdin", self.stdin)
            .flag("stdout", self.stdout)
            .flag("stderr", self.stderr)
            .text("detachKeys", self.detach_keys.as_deref().unwrap_or_default())
    }
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A process's streams. The connection closes when both halves are dropped.
#[derive(Debug)]
pub struct Attached {
    /// What the process reads.
    pub input: ProcessInput,
    /// What it prints.
    pub output: ProcessOutput,
}

impl Attached {
    pub(crate) fn new(duplex: impl Duplex + 'static, tty: bool, what: String) -> Self {
        let duplex: Box<dyn Duplex> = Box::new(duplex);
        let (reader, writer) = tokio::io::split(duplex);
        let pieces = if tty { raw(reader, what).boxed() } else { multiplexed(reader, what).boxed() };
        Self { input: ProcessInput(writer), output: ProcessOutput { pieces, tty } }
    }
}

/// Standard input of a process. Shutting it down tells the process that no more comes, and what it prints is still read
/// to the end; dropping it does not.
pub struct ProcessInput(WriteHalf<Box<dyn Duplex>>);

impl fmt::Debug for ProcessInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessInput").finish_non_exhaustive()
    }
}

impl AsyncWrite for ProcessInput {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A piece of what a process printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPiece {
    /// Where it printed it; a terminal has standard output alone.
    pub stream: StdStream,
    /// The bytes; pieces end anywhere.
    pub bytes: Bytes,
}

/// What a process prints. Ends when the process closes its output or ends, when the keys to detach are typed, and when
/// the engine goes away, which looks the same from here: only asking the engine tells how a process ended.
///
/// Yields one error and then ends: [`Error::Frame`] if the engine reports one or its stream is damaged,
/// [`Error::Broken`] if the connection breaks.
pub struct ProcessOutput {
    pieces: BoxStream<'static, Result<OutputPiece, Error>>,
    tty: bool,
}

impl ProcessOutput {
    /// The process has a terminal, so that its output is one stream.
    #[must_use]
    pub fn is_tty(&self) -> bool {
        self.tty
    }
}

impl fmt::Debug for ProcessOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessOutput").field("tty", &self.tty).finish_non_exhaustive()
    }
}

impl Stream for ProcessOutput {
    type Item = Result<OutputPiece, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_next_unpin(cx)
    }
}

/// Chunks of `reader` as they come.
fn chunks(reader: impl AsyncRead + Send + Unpin, what: String) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    stream::try_unfold((reader, BytesMut::new(), what), |(mut reader, mut buffer, what)| async move {
        buffer.reserve(READ);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some((buffer.split().freeze(), (reader, buffer, what)))),
            Err(source) => Err(Error::Broken { what, source }),
        }
    })
}

fn raw(reader: ReadHalf<Box<dyn Duplex>>, what: String) -> impl Stream<Item = Result<OutputPiece, Error>> + Send {
    fused(chunks(reader, what)).map(|chunk| Ok(OutputPiece { stream: StdStream::Out, bytes: chunk? }))
}

fn multiplexed(
    reader: impl AsyncRead + Send + Unpin,
    what: String,
) -> impl Stream<Item = Result<OutputPiece, Error>> + Send {
    let decoder = FrameDecoder::default();
    // `None` at last, to see whether the stream ended within a frame.
    let chunks = chunks(reader, what).map(Some).chain(stream::iter([None]));
    let pieces = chunks.scan(decoder, |decoder, chunk| {
        let pieces = match chunk {
            Some(Ok(chunk)) => pieces(decoder, &chunk),
            Some(Err(error)) => vec![Err(error)],
            None => decoder.finish().err().map(|error| Err(error.into())).into_iter().collect(),
        };
        std::future::ready(Some(stream::iter(pieces)))
    });
    fused(pieces.flatten())
}

fn pieces(decoder: &mut FrameDecoder, chunk: &Bytes) -> Vec<Result<OutputPiece, Error>> {
    let mut pieces = Vec::new();
    let mut rest = &chunk[..];
    loop {
        match decoder.next(&mut rest) {
            Ok(Some(piece)) => {
                pieces.push(Ok(OutputPiece { stream: piece.stream, bytes: chunk.slice_ref(piece.bytes) }));
            }
            Ok(None) => return pieces,
            Err(error) => {
                pieces.push(Err(error.into()));
                return pieces;
            }
        }
    }
}

impl Docker {
    /// Attaches to the main process of a container, also of one that is not started yet. Has a deadline until the engine
    /// agrees and none after it. API: `ContainerAttach`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; [`Error::is_conflict`] if it is frozen; whatever a call
    /// may fail with.
    pub async fn attach_container(
        &self,
        container: &ContainerRef,
        options: &AttachContainer,
    ) -> Result<Attached, Error> {
        let mut container = container.clone();
        let mut tty = options.tty;
        if tty.is_none() && self.negotiate().await? < TELLS_CONTENT_TYPE {
            // By the id from here on: a container made anew under the same name may differ in this.
            let inspect = self.inspect_container(&container).await?;
            container = inspect.id.into();
            tty = Some(inspect.config.tty);
        }
        let call = options.apply(Call::new(Operation::ContainerAttach, [container.as_str()]));
        let what = call.what();
        let hijacked = self.hijack(call, "tcp").await?;
        let tty = match tty.or_else(|| tty_of(hijacked.headers())) {
            Some(tty) => tty,
            None => self.inspect_container(&container).await?.config.tty,
        };
        Ok(Attached::new(hijacked, tty, what))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::FrameError;

    async fn read(tty: bool, written: &[&[u8]]) -> Vec<Result<OutputPiece, Error>> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let attached = Attached::new(ours, tty, "a test".into());
        assert_eq!(attached.output.is_tty(), tty);
        for bytes in written {
            theirs.write_all(bytes).await.unwrap();
        }
        drop(theirs);
        attached.output.collect().await
    }

    fn text(pieces: &[Result<OutputPiece, Error>], stream: StdStream) -> String {
        let pieces = pieces.iter().flatten().filter(|piece| piece.stream == stream);
        pieces.map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned()).collect()
    }

    #[tokio::test]
    async fn both_streams_are_told_apart() {
        let pieces = read(false, &[b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03e", b"rr\x01\0\0\0\0\0\0\0"]).await;
        assert_eq!((text(&pieces, StdStream::Out), text(&pieces, StdStream::Err)), ("out".into(), "err".into()));
        assert!(pieces.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn a_terminal_is_never_taken_for_frames() {
        let bytes = b"\x01\0\0\0\0\0\0\x03out";
        let pieces = read(true, &[bytes]).await;
        assert_eq!(text(&pieces, StdStream::Out).as_bytes(), bytes);
    }

    #[tokio::test]
    async fn the_engines_own_error_and_damage_end_the_stream() {
        let pieces = read(false, &[b"\x01\0\0\0\0\0\0\x01a\x03\0\0\0\0\0\0\x02no\x01\0\0\0\0\0\0\x01b"]).await;
        assert!(matches!(&pieces[..], [Ok(_), Err(Error::Frame(FrameError::System(text)))] if text == "no"));
        let pieces = read(false, &[b"\x01\0\0\0\xff\xff\xff\xffabc"]).await;
        assert!(matches!(&pieces[..], [Ok(_), Err(Error::Frame(FrameError::Truncated))]));
        let pieces = read(false, &[b"hello, world"]).await;
        assert!(matches!(&pieces[..], [Err(Error::Frame(FrameError::UnknownStream(b'h')))]));
    }

    #[tokio::test]
    async fn input_ends_and_output_goes_on() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut attached = Attached::new(ours, true, "a test".into());
        attached.input.write_all(b"in").await.unwrap();
        attached.input.shutdown().await.unwrap();
        let mut read = String::new();
        theirs.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "in");
        theirs.write_all(b"out").await.unwrap();
        assert_eq!(attached.output.next().await.unwrap().unwrap().bytes, "out");
    }
}
