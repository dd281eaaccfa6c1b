//! Agreeing on a version of the API.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};

use crate::{
    Docker, Error,
    http::{Answer, Call},
    operation::Operation,
};

/// Version of the Engine API, such as 1.51. Ordered as versions are: 1.9 comes before 1.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The part before the dot.
    pub major: u32,
    /// The part after the dot.
    pub minor: u32,
}

impl ApiVersion {
    /// The newest version this client speaks.
    pub const NEWEST: Self = Self { major: 1, minor: 51 };
    /// The oldest version this client speaks.
    pub const OLDEST: Self = Self { major: 1, minor: 24 };
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let part = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let (major, minor) = text.split_once('.').ok_or_else(|| Error::invalid(text, "API version"))?;
        match (part(major), part(minor)) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(Error::invalid(text, "API version")),
        }
    }
}

impl<'de> Deserialize<'de> for ApiVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is known of the agreement.
#[derive(Debug, Default)]
pub(crate) struct Negotiated {
    version: Option<ApiVersion>,
    /// Rises when the engine was lost, so that a negotiation with the old one does not count for the new one.
    epoch: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Range {
    api_version: ApiVersion,
    #[serde(default, rename = "MinAPIVersion")]
    min_api_version: Option<String>,
}

impl Docker {
    /// The version of the API spoken with this engine: the newest that both sides know. Asked once and remembered
    /// until [`Docker::forget_version`]. API: `GET /_ping`, and `GET /version` where that does not tell.
    ///
    /// # Errors
    /// [`Error::UnsupportedApi`] if there is no such version; whatever a call may fail with.
    pub async fn negotiate(&self) -> Result<ApiVersion, Error> {
        let epoch = {
            let negotiated = self.negotiated();
            if let Some(version) = negotiated.version {
                return Ok(version);
            }
            negotiated.epoch
        };
        let answer = self.call(Call::new(Operation::SystemPing, []).unversioned()).await?;
        let version = match header_version(&answer) {
            Some(engine) if engine <= ApiVersion::NEWEST => agree(engine, None)?,
            // An engine of before 1.25 says nothing, and one newer than this client may have dropped our versions.
            _ => {
                let range: Range = self.json(Call::new(Operation::SystemVersion, []).unversioned()).await?;
                agree(range.api_version, range.min_api_version.and_then(|text| text.parse().ok()))?
            }
        };
        let mut negotiated = self.negotiated();
        if negotiated.epoch == epoch {
            negotiated.version = Some(version);
        }
        Ok(version)
    }

    /// Forgets what was negotiated, because the engine was lost and may come back as another version.
    pub fn forget_version(&self) {
        let mut negotiated = self.negotiated();
        negotiated.version = None;
        negotiated.epoch += 1;
    }
}

fn header_version(answer: &Answer) -> Option<ApiVersion> {
    answer.headers.get("api-version")?.to_str().ok()?.parse().ok()
}

fn agree(newest: ApiVersion, oldest: Option<ApiVersion>) -> Result<ApiVersion, Error> {
    if newest < ApiVersion::OLDEST {
        return Err(Error::UnsupportedApi { engine: newest, ours: ApiVersion::OLDEST });
    }
    if let Some(oldest) = oldest.filter(|oldest| *oldest > ApiVersion::NEWEST) {
        return Err(Error::UnsupportedApi { engine: oldest, ours: ApiVersion::NEWEST });
    }
    Ok(newest.min(ApiVersion::NEWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_not_text() {
        let version = |text: &str| text.parse::<ApiVersion>();
        assert!(version("1.9").unwrap() < version("1.10").unwrap());
        assert_eq!(version("1.41").unwrap().to_string(), "1.41");
        for bad in ["", "1", "1.", ".1", "1.+4", "v1.41", "1.41.0", "1.99999999999"] {
            assert!(version(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn agrees_on_the_newest_common_version() {
        let v = |minor| ApiVersion { major: 1, minor };
        assert_eq!(agree(v(41), None).unwrap(), v(41));
        assert_eq!(agree(v(60), Some(v(44))).unwrap(), v(51));
        assert_eq!(agree(v(24), Some(v(12))).unwrap(), v(24));
        assert!(matches!(agree(v(12), None), Err(Error::UnsupportedApi { .. })));
        assert!(matches!(agree(v(70), Some(v(60))), Err(Error::UnsupportedApi { .. })));
    }
}
