//! Where a stream leads.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What the opener of a stream wants at the other end. Who accepts decides; nothing is reached by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "snake_case")]
pub enum Target {
    /// A unix socket in the guest.
    Unix {
        /// Its path there.
        #[serde(rename = "a")]
        path: String,
    },
    /// A TCP port that the guest reaches.
    Tcp {
        /// Its address there.
        #[serde(rename = "a")]
        address: SocketAddr,
    },
    /// A UDP port that the guest reaches. Only for datagrams.
    Udp {
        /// Its address there.
        #[serde(rename = "a")]
        address: SocketAddr,
    },
    /// The log of one service of the guest.
    Log {
        /// Its name.
        #[serde(rename = "a")]
        service: String,
    },
    /// The host's keeper of published ports. From guest to host.
    Ports,
    /// The host's resolver. From guest to host.
    Dns,
    /// A kind that this version does not know, or an address that it cannot read: refuse it.
    #[serde(other)]
    Unknown,
}

impl Target {
    /// A unix socket in the guest.
    pub fn unix(path: impl Into<String>) -> Self {
        Self::Unix { path: path.into() }
    }

    /// A TCP port that the guest reaches.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self::Tcp { address }
    }

    /// A UDP port that the guest reaches.
    #[must_use]
    pub const fn udp(address: SocketAddr) -> Self {
        Self::Udp { address }
    }

    /// The log of one service of the guest.
    pub fn log(service: impl Into<String>) -> Self {
        Self::Log { service: service.into() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Text keys and values only: it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or(Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_on_the_wire_stays_what_it_is() {
        let written = [
            (Target::unix("/run/docker.sock"), r#"{"k":"unix","a":"/run/docker.sock"}"#),
            (Target::tcp("172.17.0.2:80".parse().unwrap()), r#"{"k":"tcp","a":"172.17.0.2:80"}"#),
            (Target::udp("[fd00::2]:53".parse().unwrap()), r#"{"k":"udp","a":"[fd00::2]:53"}"#),
            (Target::log("dockerd"), r#"{"k":"log","a":"dockerd"}"#),
            (Target::Ports, r#"{"k":"ports"}"#),
            (Target::Dns, r#"{"k":"dns"}"#),
        ];
        for (target, text) in written {
            assert_eq!(String::from_utf8(target.encode()).unwrap(), text);
            assert_eq!(Target::decode(text.as_bytes()), target);
        }
    }

    #[test]
    fn what_is_not_known_is_unknown_and_never_an_error() {
        for text in [r#"{"k":"exec","a":["sh"]}"#, r#"{"k":"tcp","a":"nowhere"}"#, "{}", "", "\u{0}"] {
            assert_eq!(Target::decode(text.as_bytes()), Target::Unknown, "{text}");
        }
        assert_eq!(Target::decode(br#"{"k":"ports","later":1}"#), Target::Ports, "unknown fields are ignored");
    }
}
