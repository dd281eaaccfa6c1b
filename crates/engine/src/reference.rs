//! Checked names of everything but containers: images, digests, volumes, networks, plugins, swarm objects, execs.
//!
//! Only these reach a request path. What the API takes as a name, they take; what could walk it (`..`, `%2e`, `?`, `#`,
//! line ends, NUL), they refuse.
//!
//! ```
//! use berth_engine::reference::ImageReference;
//!
//! let image: ImageReference = "registry.example:5000/team/app:1.2".parse()?;
//! assert_eq!(image.tag(), Some("1.2"));
//! assert!("app:1.2\r\nX-Injected: y".parse::<ImageReference>().is_err());
//! # Ok::<(), berth_engine::Error>(())
//! ```

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Host of the registry that a name without one means.
pub const DEFAULT_HOST: &str = "docker.io";

const LEGACY_HOST: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const NAME_CAP: usize = 255;
const TAG_CAP: usize = 128;
const HEX_OF_ID: usize = 64;

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Gives a checked text its common face: `as_str`, parsing, conversion from `String`, `Display`, serde.
macro_rules! checked_text {
    ($name:ident, $field:tt) => {
        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.$field.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $admits:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let admits: fn(&str) -> bool = $admits;
                if admits(text) { Ok(Self(text.to_owned())) } else { Err(Error::invalid(text, $expected)) }
            }
        }

        checked_text!($name, 0);
    };
}

/// Letters, digits, `_`, `.` and `-`, beginning with a letter or a digit.
fn is_restricted(text: &str) -> bool {
    text.len() <= NAME_CAP
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Marks that change how text around them looks or cannot be seen at all.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A network's name is almost any text, so that the odd ones made elsewhere can still be looked at and removed.
fn is_network(text: &str) -> bool {
    text.len() <= NAME_CAP
        && !text.trim().is_empty()
        && !matches!(text, "." | "..")
        && !text.chars().any(|c| matches!(c, '/' | '\\') || is_invisible(c))
}

plain_name! {
    /// Name of a volume: letters, digits, `_`, `.` and `-`, beginning with a letter or a digit, at most 255 of them.
    VolumeName, "volume name", is_restricted
}
plain_name! {
    /// Name or id of a network: any visible text of at most 255 bytes without slashes that is not `.` or `..`.
    ///
    /// Engines let networks be called `<img src=x>`; such a name must be percent-encoded wherever it goes.
    NetworkRef, "network name or id", is_network
}
plain_name! {
    /// Name or id of a swarm's node, service, task, secret or config: letters, digits, `_`, `.` and `-`, beginning with
    /// a letter or a digit, at most 255 of them.
    ObjectId, "name or id", is_restricted
}
plain_name! {
    /// Id of an exec: 64 lower-case hexadecimal digits.
    ExecId, "exec id", |text| text.len() == HEX_OF_ID && is_hex(text)
}

/// Digest of content: `sha256:` or `sha512:` and lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest as text, algorithm and all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// The hexadecimal digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The first twelve digits, as command lines show an image's id.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = |algorithm| match algorithm {
            "sha256" => Some(64),
            "sha512" => Some(128),
            _ => None,
        };
        match text.split_once(':') {
            Some((algorithm, hex)) if digits(algorithm) == Some(hex.len()) && is_hex(hex) => Ok(Self(text.to_owned())),
            _ => Err(Error::invalid(text, "digest")),
        }
    }
}

checked_text!(Digest, 0);

/// What the API takes in place of an image: a name, with or without tag and digest, or an id.
///
/// A short id such as `0123abcd` has the form of a name and is read as one; the text that goes to the engine is the
/// same either way, and the engine looks for both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    text: String,
    /// `None` for an id.
    name: Option<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// The reference as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// It is an image's id (`sha256:…` or 64 digits), not a name.
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.name.is_none()
    }

    /// Host and, where given, port of the registry, [`DEFAULT_HOST`] for names without one; `None` for an id.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.name.as_ref().map(|name| name.host.as_str())
    }

    /// The repository on its registry, `library/alpine` for `alpine`; `None` for an id.
    #[must_use]
    pub fn repository(&self) -> Option<&str> {
        self.name.as_ref().map(|name| name.repository.as_str())
    }

    /// The tag, where one was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.name.as_ref()?.tag.as_deref()
    }

    /// The digest, where one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.name.as_ref()?.digest.as_ref()
    }

    /// The full form, `docker.io/library/alpine:3` for `alpine:3`; an id stays as it is.
    #[must_use]
    pub fn canonical(&self) -> String {
        match &self.name {
            Some(name) => format!("{}/{}{}", name.host, name.repository, name.suffix()),
            None => self.text.clone(),
        }
    }

    /// The shortest form with the same meaning, `alpine:3` for `docker.io/library/alpine:3`; an id stays as it is.
    #[must_use]
    pub fn familiar(&self) -> String {
        let Some(name) = &self.name else { return self.text.clone() };
        let official = name.repository.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
        // A short form can mean something else: `docker.io/my.host/x` is not `my.host/x`.
        official
            .into_iter()
            .chain([name.repository.as_str()])
            .map(|short| format!("{short}{}", name.suffix()))
            .find(|short| short.parse::<Self>().is_ok_and(|again| again.name.as_ref() == Some(name)))
            .unwrap_or_else(|| self.canonical())
    }

    /// The same with the tag `latest`, if it names neither tag nor digest: what pulling it would fetch.
    #[must_use]
    pub fn or_latest(&self) -> Self {
        match &self.name {
            Some(name) if name.tag.is_none() && name.digest.is_none() => Self {
                text: format!("{}:latest", self.text),
                name: Some(Name { tag: Some("latest".to_owned()), ..name.clone() }),
            },
            _ => self.clone(),
        }
    }

    /// The name without tag and digest, as given; `None` for an id.
    #[must_use]
    pub fn without_tag(&self) -> Option<&str> {
        let name = self.name.as_ref()?;
        self.text.get(..self.text.len().checked_sub(name.suffix().len())?)
    }
}

impl Name {
    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().ok()?)),
            None => (text, None),
        };
        // The last colon begins a tag only when no slash follows it: otherwise it begins a port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return None;
        }
        let (host, path) = match path.split_once('/') {
            Some((first, path)) if names_host(first) => (if first == LEGACY_HOST { DEFAULT_HOST } else { first }, path),
            _ => (DEFAULT_HOST, path),
        };
        let official = if host == DEFAULT_HOST && !path.contains('/') { OFFICIAL } else { "" };
        let repository = format!("{official}{path}");
        let fits = path.len() <= NAME_CAP && path.split('/').all(is_component) && !is_bare_id(path);
        (fits && is_host(host)).then(|| Self { host: host.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

impl FromStr for ImageReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_image_id(text) {
            return Ok(Self { text: text.to_owned(), name: None });
        }
        match Name::parse(text) {
            Some(name) => Ok(Self { text: text.to_owned(), name: Some(name) }),
            None => Err(Error::invalid(text, "image name or id")),
        }
    }
}

checked_text!(ImageReference, text);

/// Name of an engine plugin, in the form of an image's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(String);

impl PluginName {
    /// The name as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse::<ImageReference>() {
            Ok(reference) => Ok(Self(reference.text)),
            Err(_) => Err(Error::invalid(text, "plugin name or id")),
        }
    }
}

checked_text!(PluginName, 0);

fn is_bare_id(text: &str) -> bool {
    text.len() == HEX_OF_ID && is_hex(text)
}

/// `sha256:` and up to 64 digits, a whole digest, or 64 digits.
fn is_image_id(text: &str) -> bool {
    let shortened = text.strip_prefix("sha256:").is_some_and(|hex| hex.len() <= HEX_OF_ID && is_hex(hex));
    shortened || is_bare_id(text) || text.parse::<Digest>().is_ok()
}

/// Whether the part of a name before its first slash is a host and not a part of the repository.
fn names_host(first: &str) -> bool {
    first == "localhost" || first.bytes().any(|b| matches!(b, b'.' | b':') || b.is_ascii_uppercase())
}

/// A host name, an IPv4 address or a bracketed IPv6 address, with or without a port.
pub(crate) fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (Err(address), None),
            Some((address, rest)) => match rest.strip_prefix(':') {
                Some(port) => (Err(address), Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (Ok(name), Some(port)),
            None => (Ok(text), None),
        },
    };
    let label = |label: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        edge(label.bytes().next())
            && edge(label.bytes().next_back())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let named = match host {
        Ok(name) => name.split('.').all(label),
        Err(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port != 0));
    text.len() <= NAME_CAP && named && port
}

fn is_tag(text: &str) -> bool {
    text.len() <= TAG_CAP
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'z');
    let edges = text.bytes().next().is_some_and(word) && text.bytes().next_back().is_some_and(word);
    let joints = text.split(|c: char| u8::try_from(c).is_ok_and(word));
    edges && joints.into_iter().all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
#[path = "reference_tests.rs"]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
