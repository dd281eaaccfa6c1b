//! Where an engine listens.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use crate::transport::TlsMaterial;

/// Address of an engine.
///
/// Parsed from `unix:///path`, a bare absolute path, `npipe:////./pipe/name`, `tcp://host:port`, `http://host:port`,
/// `https://host:port` or `ssh://[user@]host[:port]`; IPv6 hosts stand in brackets. `host` is kept without the brackets.
///
/// Neither `Debug` nor `Display` shows a key.
///
/// ```
/// use berth_engine::Endpoint;
///
/// let endpoint: Endpoint = "ssh://me@build.example:2222".parse()?;
/// assert_eq!(endpoint.to_string(), "ssh://me@build.example:2222");
/// // What `ssh` would take for an option is no host.
/// assert!("ssh://-oProxyCommand=x".parse::<Endpoint>().is_err());
/// # Ok::<(), berth_engine::InvalidEndpoint>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A named pipe of Windows, as `//./pipe/name`. Elsewhere connecting to it fails.
    NamedPipe(String),
    /// A TCP port without TLS.
    Tcp {
        /// Host name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A TCP port with TLS.
    Tls {
        /// Host name or address, IPv6 without brackets. The engine's certificate has to be for it.
        host: String,
        /// Port.
        port: u16,
        /// Whom to trust and who we are.
        tls: Arc<TlsMaterial>,
    },
    /// The engine that `docker` on another machine talks to, reached by the system's `ssh`.
    Ssh {
        /// User there, or whom `ssh` takes.
        user: Option<String>,
        /// Host name, address or alias of `ssh`'s configuration, IPv6 without brackets.
        host: String,
        /// Port, or the one `ssh` takes.
        port: Option<u16>,
    },
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// Nothing was given.
    #[error("The engine address is empty; {SUPPORTED}")]
    Empty,
    /// A scheme that this client does not speak, such as `fd`.
    #[error("Engine addresses of the kind `{0}://` are not supported; {SUPPORTED}")]
    Scheme(String),
    /// A unix socket without an absolute path.
    #[error("The path of the engine socket must begin with `/`; {SUPPORTED}")]
    RelativePath,
    /// A host or a port is missing or malformed.
    #[error("The engine address needs a host and a port; {SUPPORTED}")]
    HostPort,
    /// A name or a password in the address.
    #[error("An engine address must not hold a password, nor a user name except with `ssh://`")]
    UserInfo,
    /// A space, a control character, or another one that a program might take for more than a name.
    #[error("The engine address holds a character that is not allowed there")]
    Character,
    /// A pipe of another machine, or no pipe at all.
    #[error("The address of a named pipe must look like `npipe:////./pipe/name`")]
    Pipe,
    /// A host or a user that `ssh` would take for an option.
    #[error("The host and the user of an `ssh://` address must not begin with `-`")]
    SshOption,
    /// A path behind an `ssh://` host.
    #[error("An `ssh://` address ends with the host; the engine there is the one its `docker` command talks to")]
    SshPath,
    /// TLS was asked for where there is none.
    #[error("TLS works with `tcp://` addresses only")]
    TlsElsewhere,
}

const SUPPORTED: &str =
    "use `unix:///path`, `npipe:////./pipe/name`, `tcp://host:port`, `https://host:port` or `ssh://user@host`";

impl Endpoint {
    /// The engine of this machine that needs no configuration.
    #[must_use]
    pub fn system() -> Self {
        if cfg!(windows) {
            Self::NamedPipe("//./pipe/docker_engine".to_owned())
        } else {
            Self::Unix("/var/run/docker.sock".into())
        }
    }

    /// The same TCP port, reached through TLS.
    ///
    /// # Errors
    /// For addresses that are not TCP.
    pub fn with_tls(self, material: TlsMaterial) -> Result<Self, InvalidEndpoint> {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => {
                Ok(Self::Tls { host, port, tls: Arc::new(material) })
            }
            _ => Err(InvalidEndpoint::TlsElsewhere),
        }
    }

    /// The name of the machine it is on; `None` for this one's sockets.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Unix(_) | Self::NamedPipe(_) => None,
            Self::Tcp { host, .. } | Self::Tls { host, .. } | Self::Ssh { host, .. } => Some(host),
        }
    }

    /// What HTTP's `Host` says.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => format!("{}:{port}", bracketed(host)),
            // What `docker` sends, and all that an engine behind ssh has ever seen.
            Self::Unix(_) | Self::NamedPipe(_) | Self::Ssh { .. } => "localhost".to_owned(),
        }
    }
}

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
                Some(("npipe", _)) => InvalidEndpoint::Pipe,
                _ => InvalidEndpoint::HostPort,
            });
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(InvalidEndpoint::RelativePath),
            "npipe" => pipe(rest),
            "tcp" | "http" => {
                let (host, port) = host_and_port(rest)?;
                Ok(Self::Tcp { host, port })
            }
            "https" => {
                let (host, port) = host_and_port(rest)?;
                Ok(Self::Tls { host, port, tls: Arc::default() })
            }
            "ssh" => ssh(rest),
            _ => Err(InvalidEndpoint::Scheme(scheme.to_owned())),
        }
    }
}

fn pipe(text: &str) -> Result<Endpoint, InvalidEndpoint> {
    let path = text.replace('\\', "/");
    // Another machine's pipe would be asked with this user's Windows password as proof.
    let name = path.strip_prefix("//./pipe/").ok_or(InvalidEndpoint::Pipe)?;
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ' ');
    if name.is_empty() || name.len() > 200 || name.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(InvalidEndpoint::Pipe);
    }
    if !name.chars().all(plain) {
        return Err(InvalidEndpoint::Character);
    }
    Ok(Endpoint::NamedPipe(path))
}

fn host_and_port(text: &str) -> Result<(String, u16), InvalidEndpoint> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains('@') {
        return Err(InvalidEndpoint::UserInfo);
    }
    match split_port(text)? {
        (host, Some(port)) => Ok((host, port)),
        (_, None) => Err(InvalidEndpoint::HostPort),
    }
}

/// A host, and a port if there is one.
fn split_port(text: &str) -> Result<(String, Option<u16>), InvalidEndpoint> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(InvalidEndpoint::HostPort)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| InvalidEndpoint::HostPort)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(InvalidEndpoint::HostPort),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if host.is_empty() {
            return Err(InvalidEndpoint::HostPort);
        }
        if !host.chars().all(is_plain) {
            return Err(if host.contains('/') { InvalidEndpoint::HostPort } else { InvalidEndpoint::Character });
        }
        (host, port)
    };
    let Some(port) = port else {
        return Ok((host.to_owned(), None));
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidEndpoint::HostPort);
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((host.to_owned(), Some(port))),
        _ => Err(InvalidEndpoint::HostPort),
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

fn ssh(text: &str) -> Result<Endpoint, InvalidEndpoint> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains('/') {
        return Err(InvalidEndpoint::SshPath);
    }
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err(InvalidEndpoint::UserInfo);
    }
    let (host, port) = split_port(rest)?;
    check_ssh(user, &host)?;
    Ok(Endpoint::Ssh { user: user.map(str::to_owned), host, port })
}

/// What may go onto the command line of `ssh`.
///
/// `ssh` takes a host with a leading `-` for an option such as `-oProxyCommand=…`, and puts host and user into the
/// commands of its own configuration (`%h`, `%r`), where a shell reads them (CVE-2023-51385).
pub(crate) fn check_ssh(user: Option<&str>, host: &str) -> Result<(), InvalidEndpoint> {
    if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return Err(InvalidEndpoint::SshOption);
    }
    if host.is_empty() || user.is_some_and(str::is_empty) {
        return Err(InvalidEndpoint::HostPort);
    }
    let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
    let user_is_plain = user.is_none_or(|user| user.chars().all(|c| is_plain(c) || c == '+'));
    if user_is_plain && (is_address || host.chars().all(is_plain)) { Ok(()) } else { Err(InvalidEndpoint::Character) }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::NamedPipe(path) => write!(f, "npipe://{path}"),
            Self::Tcp { host, port } => write!(f, "tcp://{}:{port}", bracketed(host)),
            Self::Tls { host, port, .. } => write!(f, "https://{}:{port}", bracketed(host)),
            Self::Ssh { user, host, port } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(&bracketed(host))?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Pem;

    #[test]
    fn reads_what_it_supports_and_prints_it_back() {
        for (text, printed) in [
            ("unix:///run/docker.sock", "unix:///run/docker.sock"),
            ("/run/docker.sock", "unix:///run/docker.sock"),
            ("npipe:////./pipe/docker_engine", "npipe:////./pipe/docker_engine"),
            (r"npipe://\\.\pipe\docker_engine", "npipe:////./pipe/docker_engine"),
            ("tcp://localhost:2375", "tcp://localhost:2375"),
            ("http://10.0.0.1:80/", "tcp://10.0.0.1:80"),
            ("tcp://[::1]:2375", "tcp://[::1]:2375"),
            ("https://host:2376", "https://host:2376"),
            ("ssh://host", "ssh://host"),
            ("ssh://me@host/", "ssh://me@host"),
            ("ssh://me+x@host.example:22", "ssh://me+x@host.example:22"),
            ("ssh://me@[fe80::1]:22", "ssh://me@[fe80::1]:22"),
            ("ssh://[::1]", "ssh://[::1]"),
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
            ("fd://", E::Scheme("fd".into())),
            ("npipe:////server/pipe/docker_engine", E::Pipe),
            ("npipe:////./pipe/", E::Pipe),
            ("npipe:////./pipe/../x", E::Pipe),
            ("npipe:////./pipe/a:b", E::Character),
            ("npipe://docker_engine", E::Pipe),
            ("npipe:docker_engine", E::Pipe),
            ("https://host", E::HostPort),
            ("https://me@host:2376", E::UserInfo),
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
            ("tcp://[::1]", E::HostPort),
            ("tcp://[::1]x:1", E::HostPort),
            ("tcp://host:1/path", E::HostPort),
            ("tcp://ho st:1", E::Character),
            ("unix:///run/a\nb", E::Character),
            ("/run/\0", E::Character),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn nothing_gets_onto_the_command_line_of_ssh() {
        use InvalidEndpoint as E;
        for (text, error) in [
            ("ssh://", E::HostPort),
            ("ssh://@host", E::HostPort),
            ("ssh://-oProxyCommand=touch%20x", E::Character),
            ("ssh://-oProxyCommand", E::SshOption),
            ("ssh://me@-oProxyCommand", E::SshOption),
            ("ssh://-lroot@host", E::SshOption),
            ("ssh://host;reboot", E::Character),
            ("ssh://$(reboot)@host", E::Character),
            ("ssh://`reboot`@host", E::Character),
            ("ssh://%r@host", E::Character),
            ("ssh://a b@host", E::Character),
            ("ssh://ho st", E::Character),
            ("ssh://host\n-oProxyCommand=x", E::Character),
            ("ssh://a@b@host", E::Character),
            ("ssh://me:secret@host", E::UserInfo),
            ("ssh://host:-oProxyCommand=x", E::HostPort),
            ("ssh://host:0", E::HostPort),
            ("ssh://host/run/docker.sock", E::SshPath),
            ("ssh://[fe80::1%eth0]", E::HostPort),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn no_key_is_ever_printed() {
        let key = Some(Pem::bytes("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"));
        let material = TlsMaterial { key, ..TlsMaterial::default() };
        let endpoint = "tcp://host:2376".parse::<Endpoint>().unwrap().with_tls(material).unwrap();
        let text = format!("{endpoint} {endpoint:?}");
        assert!(!text.contains("PRIVATE") && !text.contains("c2V") && !text.contains("99, 50"), "{text}");
    }
}
