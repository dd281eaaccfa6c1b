//! What dockerd starts once per published port, in place of its own `docker-proxy`.
//!
//! The port inside the engine's network is the real `docker-proxy`'s. The port on the host is the supervisor's: it
//! is asked for here, before dockerd hears that all is well, so a port that is taken fails `docker run` itself. The
//! connection it was asked over stays open in the process that becomes the real proxy; its end closes the port.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::Error;

const NAME: &str = "berth-docker-proxy";
const REAL: [&str; 3] = ["/usr/sbin/docker-proxy", "/usr/bin/docker-proxy", "/usr/libexec/docker/docker-proxy"];
/// dockerd's status pipe.
const STATUS: &str = "/proc/self/fd/3";
const ANSWER_LIMIT: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn is_proxy(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new(NAME))
}

/// What dockerd asks `docker-proxy` for. Flags it may add later are passed on and not looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Publication {
    v: u32,
    proto: String,
    host_ip: IpAddr,
    host_port: u16,
    container_ip: IpAddr,
    container_port: u16,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: Option<String>,
}

/// The line that asks for the port of a docker-proxy that was started with these arguments.
pub(crate) fn request(arguments: &[String]) -> Result<Vec<u8>, Error> {
    let publication = parse(arguments)?;
    let mut line = serde_json::to_vec(&publication).map_err(|error| Error::Publish(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// Whether that is the real docker-proxy.
pub(crate) fn is_real_proxy(program: &str) -> bool {
    REAL.contains(&program)
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    match publish(arguments) {
        Ok(connection) => {
            let error = become_real_proxy(arguments, &connection);
            tell_dockerd(&error.to_string());
            Err(error)
        }
        Err(error) => {
            tell_dockerd(&error.to_string());
            Err(error)
        }
    }
}

fn publish(arguments: &[String]) -> Result<UnixStream, Error> {
    let line = request(arguments)?;
    let mut supervisor = UnixStream::connect(config::PORTS_SOCKET)
        .map_err(|error| Error::Publish(format!("Berth's supervisor does not answer ({error})")))?;
    supervisor.set_read_timeout(Some(PATIENCE)).map_err(Error::io("setting a deadline"))?;
    supervisor.write_all(&line).map_err(Error::io("asking Berth's supervisor for the port"))?;
    let mut answer = Vec::new();
    BufReader::new((&supervisor).take(ANSWER_LIMIT))
        .read_until(b'\n', &mut answer)
        .map_err(Error::io("waiting for Berth's supervisor to open the port"))?;
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| Error::Publish("Berth's supervisor ended while opening the port".to_owned()))?;
    if answer.ok {
        Ok(supervisor)
    } else {
        Err(Error::Publish(answer.error.unwrap_or_else(|| "no reason was given".to_owned())))
    }
}

/// Returns only when it failed. File descriptors 3 and 4 are dockerd's and stay as they are.
fn become_real_proxy(arguments: &[String], connection: &UnixStream) -> Error {
    if let Err(source) = fcntl(connection, FcntlArg::F_SETFD(FdFlag::empty())) {
        return Error::System { what: "keeping the port's connection".to_owned(), source };
    }
    let Some(program) = REAL.iter().find(|program| Path::new(program).exists()) else {
        return Error::Publish("the appliance has no docker-proxy".to_owned());
    };
    let source = Command::new(program).args(arguments).exec();
    Error::File { what: "cannot start", path: program.into(), source }
}

fn tell_dockerd(message: &str) {
    // Opened by name: taking over a descriptor by its number would be unsafe.
    if let Ok(mut status) = std::fs::OpenOptions::new().write(true).open(STATUS) {
        let _ = status.write_all(format!("1\n{message}").as_bytes());
    }
}

fn parse(arguments: &[String]) -> Result<Publication, Error> {
    let find = |name: &str| {
        let mut rest = arguments.iter().map(|argument| argument.trim_start_matches('-'));
        loop {
            let argument = rest.next()?;
            if let Some((key, value)) = argument.split_once('=') {
                if key == name {
                    return Some(value);
                }
            } else if argument == name {
                return rest.next();
            }
        }
    };
    let missing = |name: &str| Error::Publish(format!("dockerd asked for it without -{name}"));
    let address = |name: &str| {
        let text = find(name).ok_or_else(|| missing(name))?;
        text.parse::<IpAddr>().map_err(|_| Error::Publish(format!("-{name} {text:?} is no address")))
    };
    let port = |name: &str| {
        let text = find(name).ok_or_else(|| missing(name))?;
        text.parse::<u16>().map_err(|_| Error::Publish(format!("-{name} {text:?} is no port")))
    };
    Ok(Publication {
        v: 1,
        proto: find("proto").unwrap_or("tcp").to_owned(),
        host_ip: address("host-ip")?,
        host_port: port("host-port")?,
        container_ip: address("container-ip")?,
        container_port: port("container-port")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{is_proxy, parse};

    fn arguments(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_dockerd_says_is_understood() {
        let publication = parse(&arguments(
            "-proto tcp -host-ip 127.0.0.1 -host-port 8080 -container-ip 172.17.0.2 -container-port 80 -use-listen-fd",
        ))
        .unwrap();
        assert_eq!(publication.proto, "tcp");
        assert_eq!(publication.host_port, 8080);
        assert_eq!(publication.container_ip.to_string(), "172.17.0.2");
    }

    #[test]
    fn both_ways_to_write_a_flag_are_understood() {
        let publication = parse(&arguments(
            "--use-listen-fd=true --proto=udp --host-ip=:: --host-port=53 --container-ip=172.17.0.2 --container-port=53",
        ))
        .unwrap();
        assert_eq!(publication.proto, "udp");
        assert!(publication.host_ip.is_ipv6());
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["-host-ip x", "", "-host-ip 1.2.3.4 -host-port 70000 -container-ip 1.2.3.4 -container-port 1"] {
            assert!(parse(&arguments(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_name_decides() {
        assert!(is_proxy("/berth/berth-docker-proxy".as_ref()));
        assert!(!is_proxy("/berth/berth-guest".as_ref()));
    }
}
