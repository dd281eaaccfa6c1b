//! What of the machine the fake QEMU was asked for matters to it: its disks, and the agent's port.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::Agent;

/// What the command line asks for.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// The files behind the disks, in their order.
    pub(super) disks: Vec<PathBuf>,
    /// Where the agent's socket is to be.
    pub(super) agent: Option<PathBuf>,
}

impl Options {
    pub(super) fn of(arguments: &[String]) -> Self {
        let mut options = Self::default();
        for pair in arguments.windows(2) {
            let [option, value] = pair else { continue };
            match option.as_str() {
                "-blockdev" => options.disks.extend(property(value, "filename").map(PathBuf::from)),
                "-chardev" if value.starts_with("socket,id=agent,") => {
                    options.agent = property(value, "path").map(PathBuf::from);
                }
                _ => {}
            }
        }
        options
    }
}

/// The value of a property: up to the next comma, two of which are one in it.
fn property(text: &str, name: &str) -> Option<String> {
    const COMMA: &str = "\0";
    let single = text.replace(",,", COMMA);
    let found = single.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    found.map(|value| value.replace(COMMA, ","))
}

/// Makes the agent's socket and serves one connection at a time, as QEMU does.
pub(super) fn serve_agent(socket: Option<&Path>, agent: &Agent) -> io::Result<()> {
    let Some(socket) = socket else { return Ok(()) };
    let listener = UnixListener::bind(socket)?;
    let agent = agent.clone();
    thread::spawn(move || {
        for connection in listener.incoming() {
            if let Err(error) = connection.and_then(|connection| speak(connection, &agent)) {
                eprintln!("the agent's port: {error}");
            }
        }
    });
    Ok(())
}

fn speak(connection: UnixStream, agent: &Agent) -> io::Result<()> {
    match agent {
        Agent::Echo => {
            let mut back = connection.try_clone()?;
            copy(connection, &mut back);
            Ok(())
        }
        Agent::Socket(path) => {
            let peer = UnixStream::connect(path)?;
            let (mut there, mut here) = (peer.try_clone()?, connection.try_clone()?);
            let going = thread::spawn(move || {
                copy(connection, &mut there);
                let _ = there.shutdown(Shutdown::Write);
            });
            copy(peer, &mut here);
            let _ = here.shutdown(Shutdown::Both);
            let _ = going.join();
            Ok(())
        }
        Agent::Program(words) => {
            let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let mut child =
                Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let (Some(mut there), Some(back)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            let mut here = connection.try_clone()?;
            let going = thread::spawn(move || copy(connection, &mut there));
            copy(back, &mut here);
            let _ = here.shutdown(Shutdown::Both);
            let _ = going.join();
            child.wait().map(drop)
        }
    }
}

/// To the end, or until either side is gone.
fn copy(mut from: impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..read) else { return };
        if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, property};

    #[test]
    fn properties_are_read_as_they_are_escaped() {
        let text = "driver=file,node-name=a,,b,filename=/x,,y/,,,discard=unmap";
        assert_eq!(property(text, "filename").as_deref(), Some("/x,y/,"));
        assert_eq!(property(text, "node-name").as_deref(), Some("a,b"));
        assert_eq!(property(text, "name"), None);
        let words = ["-chardev", "socket,id=agent,path=/r,,n/a,server=on", "-blockdev", "driver=raw,file=a"];
        let options = Options::of(&words.map(str::to_owned));
        assert_eq!(options.agent.unwrap().to_str(), Some("/r,n/a"));
        assert!(options.disks.is_empty());
    }
}
