//! Identifiers. Each is a type of its own and is checked where it enters, so that nothing that could
//! walk a path or split a header ever reaches a URL.

use std::fmt;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Why a text is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct InvalidId {
    value: String,
    expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
        #[serde(try_from = "String", into = "String")]
        #[ts(type = "string")]
        pub struct $name(String);

        impl $name {
            /// The text of the identifier.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(value: String) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(&value) {
                    Ok(Self(value))
                } else {
                    let value = value.chars().take(80).collect();
                    Err(InvalidId { value, expected: $expected })
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

fn is_token(value: &str, longest: usize) -> bool {
    !value.is_empty()
        && value.len() <= longest
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !value.starts_with('.')
}

text_id!(
    /// One engine Berth knows: `bundled`, or `adopted` for the one given with `--engine`.
    EngineId, "an engine id (letters, digits, '-', '_' or '.', at most 64)", |value| is_token(value, 64)
);
text_id!(
    /// A container's full id: 64 lower-case hexadecimal digits.
    ContainerId, "a container id (64 lower-case hexadecimal digits)",
    |value| value.len() == 64 && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);
text_id!(
    /// One window or page. Minted by the page; a new one on every load.
    ClientId, "a client id (letters, digits, '-', '_' or '.', at most 64)", |value| is_token(value, 64)
);
text_id!(
    /// Makes a repeated `mutate` call recognisable.
    RequestId, "a request id (letters, digits, '-', '_' or '.', at most 64)", |value| is_token(value, 64)
);

/// A container on one of several engines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ContainerKey {
    /// The engine it lives on.
    pub engine: EngineId,
    /// Its id there.
    pub id: ContainerId,
}

/// A stream of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(transparent)]
#[ts(type = "number")]
pub struct StreamId(pub u64);

/// An operation, unique for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(transparent)]
#[ts(type = "number")]
pub struct OperationId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_refuse_everything_that_is_not_a_full_digest() {
        let good = "0123456789abcdef".repeat(4);
        assert!(good.parse::<ContainerId>().is_ok());
        for bad in ["", "web", "../../version?x=", "%2e%2e", "a\r\nX: y", &good.to_uppercase(), &format!("{good}0")] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_refused_id_is_quoted_and_cut() {
        let error = "<b>".repeat(100).parse::<ContainerId>().unwrap_err().to_string();
        assert!(error.len() < 200, "the message stays short: {error}");
    }

    #[test]
    fn tokens_refuse_separators() {
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "é"] {
            assert!(bad.parse::<EngineId>().is_err(), "{bad:?} must be refused");
        }
        assert!("bundled".parse::<EngineId>().is_ok());
    }
}
