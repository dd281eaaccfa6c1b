//! What a registry says beside its answers: limits, waits, reasons.

use std::time::SystemTime;

use serde::Deserialize;

use super::{RegistryError, transport::Answer};

/// How many more requests a registry allows, as it last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests left.
    pub remaining: u32,
    /// Requests in each window, where it says so.
    pub limit: Option<u32>,
    /// Length of the window in seconds, where it says so.
    pub window: Option<u32>,
}

/// The first error in a registry's refusal, bounded.
pub(super) fn reason(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let first = serde_json::from_slice::<Refusal>(body).ok()?.errors.into_iter().next()?;
    let text = if first.message.trim().is_empty() { first.code } else { first.message };
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(256).collect();
    (!text.is_empty()).then_some(text)
}

pub(super) fn rate_limited(answer: &Answer, host: String) -> RegistryError {
    RegistryError::RateLimited { host, retry_after: answer.header("retry-after").and_then(retry_after) }
}

/// Seconds, or a date from which they are counted.
fn retry_after(text: &str) -> Option<u32> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let wait = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default();
        u32::try_from(wait.as_secs()).ok()
    })
}

/// `100;w=21600`: so many in so many seconds.
pub(super) fn read_limit(remaining: Option<&str>, limit: Option<&str>) -> Option<RateLimit> {
    let count = |text: &str| text.split(';').next().and_then(|count| count.trim().parse().ok());
    let window = |text: &str| text.split(';').find_map(|part| part.trim().strip_prefix("w=")?.parse().ok());
    let remaining = remaining?;
    Some(RateLimit {
        remaining: count(remaining)?,
        limit: limit.and_then(count),
        window: window(remaining).or_else(|| limit.and_then(window)),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn limits_are_read() {
        let limit = read_limit(Some("76;w=21600"), Some("100;w=21600"));
        assert_eq!(limit, Some(RateLimit { remaining: 76, limit: Some(100), window: Some(21600) }));
        assert_eq!(read_limit(Some("0"), None), Some(RateLimit { remaining: 0, limit: None, window: None }));
        assert_eq!(read_limit(Some("many"), Some("100")), None);
        assert_eq!(read_limit(None, Some("100")), None);
    }

    #[test]
    fn waits_are_read() {
        assert_eq!(retry_after(" 17 "), Some(17));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(retry_after(&date).is_some_and(|wait| (90..=100).contains(&wait)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for bad in ["", "-1", "soon", "99999999999"] {
            assert_eq!(retry_after(bad), None, "{bad}");
        }
    }

    #[test]
    fn reasons_are_bounded() {
        assert_eq!(reason(br#"{"errors":[{"code":"DENIED","message":" no\u0007 access "}]}"#).unwrap(), "no access");
        assert_eq!(reason(br#"{"errors":[{"code":"DENIED"}]}"#).unwrap(), "DENIED");
        assert_eq!(reason(br#"{"errors":[]}"#), None);
        assert_eq!(reason(b"<html>"), None);
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "a".repeat(9999));
        assert_eq!(reason(long.as_bytes()).unwrap().len(), 256);
    }
}
