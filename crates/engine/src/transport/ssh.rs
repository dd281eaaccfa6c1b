//! An engine on another machine, through the system's `ssh` and the `docker` command there.

use std::{
    ffi::OsString,
    fmt, io,
    path::Path,
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::problem::Problem;
use crate::endpoint::check_ssh;

/// What is kept of what `ssh` complains about: its end, where the reason is.
const SAID_CAP: usize = 4 * 1024;

/// How long `ssh` may take to end after its output did.
const ENDING: Duration = Duration::from_secs(2);

/// Starts `ssh`. Whether it reaches the engine shows when the first bytes come, or its complaint.
pub(super) fn connect(
    program: &Path,
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    deadline: Duration,
) -> io::Result<SshSocket> {
    let mut command = Command::new(program);
    command
        .args(arguments(user, host, port, deadline).map_err(|error| Problem::SshAddress(error).into_io())?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Ctrl-C at a terminal is for Berth, which still needs its connections to end well.
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(windows)]
    {
        const CREATE_NO_WINDOW: u32 = 0x0800_0000;
        command.creation_flags(CREATE_NO_WINDOW);
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Problem::NoSsh { program: program.display().to_string() }.into_io(),
        _ => error,
    })?;
    let (Some(input), Some(output), Some(complaints)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("ssh was started without its streams"));
    };
    let said = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::spawn(listen(complaints, Arc::clone(&said)));
    let running = Running { child, listener: Listener(listener), said };
    Ok(SshSocket { input: Some(input), output, state: State::Open(running) })
}

/// The command line. Nothing in it is read by a shell of this machine, and no part of the address can be an option.
fn arguments(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    deadline: Duration,
) -> Result<Vec<OsString>, crate::InvalidEndpoint> {
    // Again, for an `Endpoint` that was not parsed.
    check_ssh(user, host)?;
    let mut arguments = vec!["-T".to_owned()];
    for option in [
        &format!("ConnectTimeout={}", deadline.as_secs().max(1)),
        // Nobody sits at the other end of a question.
        "BatchMode=yes",
        // What a person's configuration may add for a session at a terminal, and every connection would do again.
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "RemoteCommand=none",
        // A machine that vanished is noticed within a minute.
        "ServerAliveInterval=15",
        "ServerAliveCountMax=3",
    ] {
        arguments.extend(["-o".to_owned(), option.to_owned()]);
    }
    if let Some(user) = user {
        arguments.extend(["-l".to_owned(), user.to_owned()]);
    }
    if let Some(port) = port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    arguments.extend(["--", host, "docker", "system", "dial-stdio"].map(str::to_owned));
    Ok(arguments.into_iter().map(OsString::from).collect())
}

async fn listen(mut complaints: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = complaints.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let surplus = said.len().saturating_sub(SAID_CAP);
        said.drain(..surplus);
    }
}

/// Stops listening when dropped: a shared connection that `ssh` leaves in the background keeps its stderr open.
struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Running {
    child: Child,
    listener: Listener,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    /// What the end of the output means.
    async fn end(mut self) -> io::Result<()> {
        let status = match timeout(ENDING, self.child.wait()).await {
            Ok(status) => status?,
            // It has nothing more to say and does not go: the end of the output is all there is to know.
            Err(_) => return Ok(()),
        };
        if status.success() {
            return Ok(());
        }
        // The last words may still be in the pipe.
        let _ = timeout(ENDING / 4, &mut self.listener.0).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Err(complaint(&said, status).into_io())
    }
}

fn complaint(said: &[u8], status: ExitStatus) -> Problem {
    let text: String =
        String::from_utf8_lossy(said).replace("\r\n", "\n").chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    let text = text.trim();
    let said = if text.is_empty() { format!("nothing ({status})") } else { text.to_owned() };
    let advice = advice(&said, status.code());
    Problem::Ssh { said, advice }
}

fn advice(said: &str, code: Option<i32>) -> Option<&'static str> {
    let has = |needle: &str| said.contains(needle);
    if has("Host key verification failed") {
        Some("Connect once with `ssh` in a terminal to see and accept the key of that machine.")
    } else if has("Permission denied (") || has("Too many authentication failures") {
        Some("Berth cannot ask for passwords: load a key into the ssh agent, or set one up for that machine.")
    } else if has("Could not resolve hostname") {
        Some("Check the spelling of the host, and the network.")
    } else if code == Some(127) || has("docker: not found") || has("docker: command not found") {
        Some("Install the `docker` command on that machine, where a session without a terminal finds it.")
    } else if has("permission denied while trying to connect to the Docker daemon")
        || has("permission denied while trying to connect to the docker API")
    {
        Some("The user on that machine has to be in the group `docker`, or another user be taken.")
    } else {
        None
    }
}

enum State {
    Open(Running),
    Ending(Pin<Box<dyn Future<Output = io::Result<()>> + Send>>),
    Ended,
}

/// The connection that `docker system dial-stdio` makes of its standard streams.
pub(super) struct SshSocket {
    /// Gone after half-close; the pipe closes only by dropping it.
    input: Option<ChildStdin>,
    output: ChildStdout,
    state: State,
}

impl fmt::Debug for SshSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshSocket").finish_non_exhaustive()
    }
}

impl SshSocket {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending(end) => {
                    let result = ready!(end.as_mut().poll(cx));
                    self.state = State::Ended;
                    return Poll::Ready(result);
                }
                State::Open(_) => {
                    // `ssh` ends only when its input did.
                    self.input = None;
                    if let State::Open(running) = std::mem::replace(&mut self.state, State::Ended) {
                        self.state = State::Ending(Box::pin(running.end()));
                    }
                }
            }
        }
    }
}

impl AsyncRead for SshSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.output).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        self.poll_end(cx)
    }
}

impl AsyncWrite for SshSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(input) = &mut self.input {
            match ready!(Pin::new(input).poll_write(cx, bytes)) {
                // `ssh` has gone, and its own words tell why, which a broken pipe does not.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ready!(self.poll_end(cx))?,
                written => return Poll::Ready(written),
            }
        } else if let State::Ending(_) = self.state {
            ready!(self.poll_end(cx))?;
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| Pin::new(input).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "ssh_tests.rs"]
mod tests;
