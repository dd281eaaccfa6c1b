//! Checked names of containers. Only these reach a request path, so no text can walk the API.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use crate::Error;

/// Full id of a container: 64 lower-case hexadecimal digits.
// Inline bytes: the live map is cloned on every publish, and a heap string per key would dominate that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId([u8; 64]);

impl ContainerId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The first twelve digits, as command lines show it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.as_str().get(..12).unwrap_or_default()
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match <[u8; 64]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(digit) => Ok(Self(bytes)),
            _ => Err(Error::invalid(text, "container id")),
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl<'de> Deserialize<'de> for ContainerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = ContainerId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the full id of a container")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ContainerId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerId({})", self.as_str())
    }
}

/// What the API accepts in place of a container: a full id, the start of one, or a name.
///
/// Letters, digits, `_`, `.` and `-`, beginning with a letter or a digit, at most 255 of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerRef(String);

impl ContainerRef {
    /// The reference as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: &str) -> Result<(), Error> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if first && text.len() <= 255 && bytes.all(rest) {
            Ok(())
        } else {
            Err(Error::invalid(text, "container name or id"))
        }
    }
}

impl FromStr for ContainerRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ContainerRef {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::check(&text)?;
        Ok(Self(text))
    }
}

impl From<ContainerId> for ContainerRef {
    fn from(id: ContainerId) -> Self {
        Self(id.as_str().to_owned())
    }
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_lower_hex_digits() {
        let text = "0123456789abcdef".repeat(4);
        let id: ContainerId = text.parse().unwrap();
        assert_eq!(id.as_str(), text);
        assert_eq!(id.short(), "0123456789ab");
        assert_eq!(ContainerRef::from(id).as_str(), text);
        for bad in ["", "abc", &text.to_uppercase(), &text.replace('f', "g"), &format!("{text}0"), &"é".repeat(32)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn references_cannot_walk_the_api() {
        for good in ["web", "0", "a_b.c-d", "project-web-1", &"a".repeat(255)] {
            assert_eq!(good.parse::<ContainerRef>().unwrap().as_str(), good);
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/web",
            "../../version",
            "..",
            ".",
            "-rf",
            "_x",
            "%2e%2e",
            "a/b",
            "a?x=1",
            "a#b",
            "a\r\nX: y",
            "a b",
            "a\0",
            "é",
            "a\u{202e}b",
            &long,
        ] {
            assert!(bad.parse::<ContainerRef>().is_err(), "{bad:?}");
            assert!(ContainerRef::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refusals_do_not_carry_control_characters() {
        let error = "a\r\nb".parse::<ContainerRef>().unwrap_err();
        assert_eq!(error.to_string(), r"`a\r\nb` is not a valid container name or id");
    }
}
