//! A program in a distribution, whose standard input and output are a pipe of bytes, and whose errors are lines.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{Notify, OwnedMutexGuard, mpsc, watch};
use tokio::time::timeout;

use crate::error::Error;
use crate::program::{Program, words};
use crate::text;

const LINE_LIMIT: u64 = 64 << 10;
const TAIL: usize = 50;
/// For the last of its words, once it has ended: who inherited its errors may hold them open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is heard of it. Nothing comes after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line of its errors, up to 64 KiB.
    Line(String),
    /// It has ended.
    Gone(Gone),
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Its exit code, or that of `wsl.exe`: what a Linux program ends with is from 0 to 255.
    pub code: Option<i32>,
    /// The last lines of its errors.
    pub tail: Vec<String>,
}

/// A running program.
#[derive(Debug)]
pub struct Session {
    ends: Arc<Ends>,
    turn: Arc<tokio::sync::Mutex<()>>,
    kill: Arc<Notify>,
    gone: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Ends {
    stdin: Mutex<Option<ChildStdin>>,
    stdout: Mutex<ChildStdout>,
}

fn held<T>(end: &Mutex<T>) -> MutexGuard<'_, T> {
    end.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Starts `program` with its arguments in the distribution, as root.
    ///
    /// # Errors
    ///
    /// `wsl.exe` cannot be run. What is wrong with the distribution, its end tells.
    pub fn start(wsl: &Program, name: &str, program: &[&str]) -> Result<(Self, mpsc::Receiver<Heard>), Error> {
        let arguments = ["--distribution", name, "--user", "root", "--cd", "/", "--exec"];
        let mut command = wsl.command(arguments.iter().chain(program));
        let what = words(&command);
        let spawn = |source| Error::Spawn { path: wsl.path().to_path_buf(), source };
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().map_err(spawn)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(spawn(io::ErrorKind::BrokenPipe.into()));
        };
        tracing::info!(what, "wsl");
        let (tell, heard) = mpsc::channel(64);
        let kill = Arc::new(Notify::new());
        let (over, gone) = watch::channel(false);
        tokio::spawn(follow(child, stderr, tell, Arc::clone(&kill), over));
        let ends = Arc::new(Ends { stdin: Mutex::new(Some(stdin)), stdout: Mutex::new(stdout) });
        Ok((Self { ends, turn: Arc::default(), kill, gone }, heard))
    }

    /// The pipe, for one who speaks over it. Whoever comes next waits until this one has let go, and may find the middle of
    /// what the one before was sent.
    pub async fn channel(&self) -> Channel {
        Channel { ends: Arc::clone(&self.ends), _turn: Arc::clone(&self.turn).lock_owned().await }
    }

    /// Ends its input, which asks it to stop in order.
    pub fn close(&self) {
        drop(held(&self.ends.stdin).take());
    }

    /// Ends `wsl.exe`. The program in the distribution only loses its input.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill.notify_one();
    }
}

/// The pipe to a running program.
#[derive(Debug)]
pub struct Channel {
    ends: Arc<Ends>,
    _turn: OwnedMutexGuard<()>,
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *held(&self.ends.stdout)).poll_read(context, buffer)
    }
}

impl Channel {
    fn with_input<T>(&self, work: impl FnOnce(Pin<&mut ChildStdin>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match held(&self.ends.stdin).as_mut() {
            Some(stdin) => work(Pin::new(stdin)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with_input(|stdin| stdin.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_input(|stdin| stdin.poll_flush(context))
    }

    /// The pipe stays open for the next who speaks over it.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

async fn follow(
    mut child: Child,
    stderr: ChildStderr,
    tell: mpsc::Sender<Heard>,
    kill: Arc<Notify>,
    over: watch::Sender<bool>,
) {
    let mut tail = VecDeque::new();
    let mut errors = BufReader::new(stderr);
    let mut silent = false;
    let mut part = Vec::new();
    let code = loop {
        tokio::select! {
            status = child.wait() => break status.ok().and_then(|status| status.code()),
            () = kill.notified() => drop(child.start_kill()),
            line = next(&mut errors, &mut part), if !silent => match line {
                Some(line) => said(&tell, &mut tail, line).await,
                None => silent = true,
            },
        }
    };
    if !silent {
        let _ = timeout(LAST_WORDS, async {
            while let Some(line) = next(&mut errors, &mut part).await {
                said(&tell, &mut tail, line).await;
            }
        })
        .await;
    }
    tracing::info!(?code, "wsl.exe ended");
    over.send_replace(true);
    let _ = tell.send(Heard::Gone(Gone { code, tail: tail.into() })).await;
}

/// The next line; `part` has what was read of it when this is dropped.
async fn next(errors: &mut BufReader<ChildStderr>, part: &mut Vec<u8>) -> Option<String> {
    let room = LINE_LIMIT.saturating_sub(part.len() as u64);
    let read = errors.take(room).read_until(b'\n', part).await;
    let ended = !part.ends_with(b"\n") && part.len() as u64 != LINE_LIMIT;
    if (ended || read.is_err()) && part.is_empty() {
        return None;
    }
    let line = text::line(part.strip_suffix(b"\n").unwrap_or(part));
    part.clear();
    Some(line)
}

async fn said(tell: &mpsc::Sender<Heard>, tail: &mut VecDeque<String>, line: String) {
    if line.is_empty() {
        return;
    }
    tail.push_back(line.clone());
    if tail.len() > TAIL {
        tail.pop_front();
    }
    // Nobody may listen any more.
    let _ = tell.send(Heard::Line(line)).await;
}
