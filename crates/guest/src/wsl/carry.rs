//! The agent's way to the host: a socket in the engine's runtime folder, whose bytes are those of this process's standard
//! input and output. As on a machine's serial port, what comes while no agent is there is lost, and the host is not told
//! that another one came: the mux was made for that.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::error::Error;

const PIECE: usize = 64 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket, on which nobody is served yet.
pub(super) struct Way {
    listener: UnixListener,
    input: File,
    output: File,
}

pub(super) fn listen(at: &Path) -> Result<Way, Error> {
    let _ = fs::remove_file(at);
    let listener = UnixListener::bind(at).map_err(Error::file("cannot listen on", at))?;
    fs::set_permissions(at, fs::Permissions::from_mode(0o600)).map_err(Error::file("cannot protect", at))?;
    let what = "using standard input and output as the way to the host";
    // Not as `Stdin` and `Stdout`, which keep bytes back.
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::io(what))?;
    let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(Error::io(what))?;
    Ok(Way { listener, input: input.into(), output: output.into() })
}

impl Way {
    /// Carries from now on; `over` is called when the input has ended.
    pub(super) fn carry(self, over: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let Self { listener, input, output } = self;
        let (came, agents) = sync_channel(8);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map(drop).map_err(Error::io("starting a thread"))
        };
        spawn("to-host", Box::new(move || to_host(&listener, &came, output)))?;
        spawn(
            "from-host",
            Box::new(move || {
                from_host(input, &agents);
                over();
            }),
        )
    }
}

fn to_host(listener: &UnixListener, came: &SyncSender<UnixStream>, mut output: File) {
    let mut buffer = vec![0; PIECE];
    loop {
        let Ok((mut agent, _)) = listener.accept() else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        let Ok(same) = agent.try_clone() else { continue };
        if came.send(same).is_err() {
            return;
        }
        loop {
            match agent.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    // A host that is gone shows at the input.
                    let _ = output.write_all(buffer.get(..read).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
}

fn from_host(mut input: File, agents: &Receiver<UnixStream>) {
    let mut agent: Option<UnixStream> = None;
    let mut buffer = vec![0; PIECE];
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        while let Ok(newer) = agents.try_recv() {
            agent = Some(newer);
        }
        if let Some(present) = &mut agent
            && present.write_all(buffer.get(..read).unwrap_or_default()).is_err()
        {
            agent = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc::sync_channel;

    use super::Way;

    #[test]
    fn one_agent_after_another_has_the_way_and_the_end_of_the_input_is_told() {
        let folder = std::env::temp_dir().join(format!("berth-carry-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("host.sock");
        let (mut host, ours) = UnixStream::pair().unwrap();
        let same = || OwnedFd::from(ours.try_clone().unwrap()).into();
        let way = Way { listener: UnixListener::bind(&path).unwrap(), input: same(), output: same() };
        let (over, told) = sync_channel(1);
        way.carry(move || over.send(()).unwrap()).unwrap();
        for round in 0..3_u8 {
            let mut agent = UnixStream::connect(&path).unwrap();
            agent.write_all(&[round]).unwrap();
            let mut byte = [0];
            host.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round], "what an agent says is heard");
            host.write_all(&[round + 100]).unwrap();
            agent.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round + 100], "and the present one hears");
        }
        host.write_all(b"to nobody").unwrap();
        host.shutdown(std::net::Shutdown::Write).unwrap();
        told.recv().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
