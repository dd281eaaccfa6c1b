//! Where an engine listens.

use std::{fmt, path::PathBuf, str::FromStr};

/// Address of an engine.
///
/// Parsed from `unix:///path`, a bare absolute path, `tcp://host:port` or `http://host:port`; IPv6 hosts stand in
/// brackets. `host` is kept without the brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port without TLS.
    Tcp {
        /// Host name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// Nothing was given.
    #[error("The engine address is empty; {SUPPORTED}")]
    Empty,
    /// A scheme that this client does not speak, such as `ssh` or `https`.
    #[error("Engine addresses of the kind `{0}://` are not supported; {SUPPORTED}")]
    Scheme(String),
    /// A unix socket without an absolute path.
    #[error("The path of the engine socket must begin with `/`; {SUPPORTED}")]
    RelativePath,
    /// A host or a port is missing or malformed.
    #[error("The engine address needs a host and a port; {SUPPORTED}")]
    HostPort,
    /// A name or a password in the address.
    #[error("An engine address must not hold a user name or a password")]
    UserInfo,
    /// A space or a control character.
    #[error("The engine address holds a character that is not allowed there")]
    Character,
}

const SUPPORTED: &str = "use `unix:///path`, `tcp://host:port` or `http://host:port`";

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidEndpoint::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidEndpoint::Character);
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // `npipe:////./pipe/x` has its slashes, but `ssh:host` and `unix:run/x` do not.
            return Err(match text.split_once(':') {
                Some(("unix", _)) => InvalidEndpoint::RelativePath,
                _ => InvalidEndpoint::HostPort,
            });
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(InvalidEndpoint::RelativePath),
            "tcp" | "http" => host_and_port(rest.strip_suffix('/').unwrap_or(rest)),
            _ => Err(InvalidEndpoint::Scheme(scheme.to_owned())),
        }
    }
}

fn host_and_port(text: &str) -> Result<Endpoint, InvalidEndpoint> {
    if text.contains('@') {
        return Err(InvalidEndpoint::UserInfo);
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:").ok_or(InvalidEndpoint::HostPort)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| InvalidEndpoint::HostPort)?;
        (host, port)
    } else {
        let (host, port) = text.split_once(':').ok_or(InvalidEndpoint::HostPort)?;
        if host.is_empty() {
            return Err(InvalidEndpoint::HostPort);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !host.chars().all(plain) {
            return Err(InvalidEndpoint::Character);
        }
        (host, port)
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidEndpoint::HostPort);
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok(Endpoint::Tcp { host: host.to_owned(), port }),
        _ => Err(InvalidEndpoint::HostPort),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_supports_and_prints_it_back() {
        for (text, printed) in [
            ("unix:///run/docker.sock", "unix:///run/docker.sock"),
            ("/run/docker.sock", "unix:///run/docker.sock"),
            ("tcp://localhost:2375", "tcp://localhost:2375"),
            ("http://10.0.0.1:80/", "tcp://10.0.0.1:80"),
            ("tcp://[::1]:2375", "tcp://[::1]:2375"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), printed);
            assert_eq!(printed.parse::<Endpoint>().unwrap(), endpoint, "printing loses nothing");
        }
    }

    #[test]
    fn refuses_the_rest() {
        use InvalidEndpoint as E;
        for (text, error) in [
            ("", E::Empty),
            ("ssh://me@host", E::Scheme("ssh".into())),
            ("npipe:////./pipe/docker_engine", E::Scheme("npipe".into())),
            ("https://host:2376", E::Scheme("https".into())),
            ("unix://run/docker.sock", E::RelativePath),
            ("unix:run/docker.sock", E::RelativePath),
            ("docker.sock", E::HostPort),
            ("tcp://me:secret@host:1", E::UserInfo),
            ("tcp://host", E::HostPort),
            ("tcp://:1", E::HostPort),
            ("tcp://host:0", E::HostPort),
            ("tcp://host:+1", E::HostPort),
            ("tcp://host:65536", E::HostPort),
            ("tcp://::1:2375", E::HostPort),
            ("tcp://[host]:1", E::HostPort),
            ("tcp://host:1/path", E::HostPort),
            ("tcp://ho st:1", E::Character),
            ("unix:///run/a\nb", E::Character),
            ("/run/\0", E::Character),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text:?}");
        }
    }
}
