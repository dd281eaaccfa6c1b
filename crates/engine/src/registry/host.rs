//! The checked address of a registry, and which other hosts may see its credentials.

use std::{fmt, net::IpAddr, str::FromStr};

use http::Uri;

use crate::{
    Error,
    reference::{DEFAULT_HOST, ImageReference, is_host},
};

const HUB_API: &str = "registry-1.docker.io";
const HUB_CONFIG_KEY: &str = "https://index.docker.io/v1/";
const HUB_ALIASES: [&str; 4] = [DEFAULT_HOST, "index.docker.io", HUB_API, "registry.hub.docker.com"];

/// Host and, where given, port of a registry. All names of Docker Hub are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// The registry that holds an image; `None` for an id.
    #[must_use]
    pub fn of(image: &ImageReference) -> Option<Self> {
        image.host()?.parse().ok()
    }

    /// The host as text, `docker.io` for Docker Hub.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key under which Docker's `config.json` and credential helpers keep its login.
    #[must_use]
    pub fn config_key(&self) -> String {
        if self.0 == DEFAULT_HOST { HUB_CONFIG_KEY.to_owned() } else { self.0.clone() }
    }

    /// The registry meant by a key of `config.json`, which may be a URL.
    pub(super) fn from_config_key(key: &str) -> Option<Self> {
        let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        rest.split('/').next()?.parse().ok()
    }

    pub(super) fn origin(&self, https: bool) -> Option<Origin> {
        let host = if self.0 == DEFAULT_HOST { HUB_API } else { &self.0 };
        Origin::of(&format!("{}://{host}/", if https { "https" } else { "http" }).parse().ok()?)
    }
}

impl FromStr for RegistryHost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if !is_host(text) {
            return Err(Error::invalid(text, "registry host"));
        }
        let host = text.to_ascii_lowercase();
        Ok(Self(if HUB_ALIASES.contains(&host.as_str()) { DEFAULT_HOST.to_owned() } else { host }))
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Scheme, host and port: what decides whether two requests go to the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) https: bool,
    /// Lower case, IPv6 without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` address; `None` for anything else, and where it names a user.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || !is_host(authority.as_str()) {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Some(Self { https, host, port })
    }

    /// As it stands in a `Host` header.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.https { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// A token server at `realm` may see credentials meant for this registry.
    pub(super) fn trusts_realm(&self, realm: &Self) -> bool {
        let related = self.host == realm.host
            || (self.is_loopback() && realm.is_loopback())
            || registrable(&self.host).is_some_and(|ours| registrable(&realm.host) == Some(ours));
        // Plain HTTP is no worse than what was chosen for the registry itself, and never chosen for it by the registry.
        related && (realm.https || !self.https)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

/// The part of a host name that one party registered: `docker.io` of `auth.docker.io`. Addresses have none.
fn registrable(host: &str) -> Option<&str> {
    if host.parse::<IpAddr>().is_ok() { None } else { psl::domain_str(host) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn names_of_docker_hub_are_one() {
        for name in ["docker.io", "index.docker.io", "Registry-1.Docker.IO"] {
            let host: RegistryHost = name.parse().unwrap();
            assert_eq!(host.as_str(), "docker.io");
            assert_eq!(host.config_key(), "https://index.docker.io/v1/");
            assert_eq!(host.origin(true).unwrap().authority(), "registry-1.docker.io");
        }
        for key in ["https://index.docker.io/v1/", "docker.io", "https://docker.io"] {
            assert_eq!(RegistryHost::from_config_key(key).unwrap().as_str(), "docker.io");
        }
        let other: RegistryHost = "[::1]:5000".parse().unwrap();
        assert_eq!(other.origin(false).unwrap().to_string(), "http://[::1]:5000");
        assert!(other.origin(false).unwrap().is_loopback());
        for bad in ["", "a/b", "u@h", "h?x", "h:99999", "a b", "http://h"] {
            assert!(bad.parse::<RegistryHost>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_realm_elsewhere_sees_nothing() {
        for (registry, realm) in [
            ("https://registry-1.docker.io", "https://auth.docker.io"),
            ("https://registry.gitlab.com", "https://gitlab.com"),
            ("https://ghcr.io", "https://ghcr.io"),
            ("https://git.corp.example.co.uk:5050", "https://git.corp.example.co.uk"),
            ("https://10.0.0.1:5000", "https://10.0.0.1:5001"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001"),
            ("http://localhost:5000", "http://127.0.0.1:5001"),
            ("http://registry.lan:5000", "http://registry.lan:5001"),
        ] {
            assert!(origin(registry).trusts_realm(&origin(realm)), "{registry} {realm}");
        }
        for (registry, realm) in [
            ("https://registry-1.docker.io", "https://evil.io"),
            ("https://registry-1.docker.io", "https://auth.docker.io.evil.com"),
            ("https://registry-1.docker.io", "http://auth.docker.io"),
            ("https://a.co.uk", "https://b.co.uk"),
            ("https://a.github.io", "https://b.github.io"),
            ("https://10.0.0.1", "https://10.0.0.2"),
            ("https://10.0.0.1", "https://11.0.0.1"),
            ("https://registry", "https://other"),
            ("https://registry.example.com", "http://127.0.0.1"),
            ("https://registry.example.com", "https://localhost"),
            ("http://registry.lan:5000", "http://evil.example:5001"),
        ] {
            assert!(!origin(registry).trusts_realm(&origin(realm)), "{registry} {realm}");
        }
    }

    #[test]
    fn odd_addresses_have_no_origin() {
        for bad in ["ftp://a/", "/v2/", "https://user@a/", "https://a%2fb/", "https://a_b/"] {
            assert!(bad.parse::<Uri>().ok().is_none_or(|uri| Origin::of(&uri).is_none()), "{bad}");
        }
    }
}
