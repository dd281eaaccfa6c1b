//! RFC 3339 by hand: a log line carries one each, and a general parser costs more than the rest of the line.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer};

/// A moment at the start of some text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Seconds since the epoch.
    pub(crate) seconds: i64,
    /// Nanoseconds within the second.
    pub(crate) nanos: u32,
    /// Bytes it took.
    pub(crate) length: usize,
}

/// Longest form: `YYYY-MM-DDTHH:MM:SS.nnnnnnnnn+HH:MM`.
pub(crate) const LONGEST: usize = 35;

impl Stamp {
    /// Nanoseconds since the epoch, if they fit.
    pub(crate) fn as_nanos(self) -> Option<i64> {
        self.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(self.nanos))
    }

    /// Milliseconds since the epoch; the engine writes the year 1 where it means "never".
    #[expect(clippy::cast_precision_loss, reason = "four-digit years are far below 2^53 ms")]
    fn as_millis(self) -> Option<f64> {
        const YEAR_2: i64 = -62_104_060_800;
        (self.seconds >= YEAR_2).then(|| self.seconds as f64 * 1e3 + f64::from(self.nanos / 1_000) / 1e3)
    }
}

/// Reads the moment that `text` begins with.
pub(crate) fn parse(text: &[u8]) -> Option<Stamp> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2] = *date else {
        return None;
    };
    let year = i64::from(two(y1, y2)? * 100 + two(y3, y4)?);
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(i1, i2)?, two(s1, s2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = rest;
    let mut nanos = 0;
    if let [b'.', fraction @ ..] = rest {
        let mut digits = 0;
        rest = fraction;
        while let [digit @ b'0'..=b'9', tail @ ..] = rest {
            if digits == 9 {
                return None;
            }
            nanos = nanos * 10 + u32::from(digit - b'0');
            digits += 1;
            rest = tail;
        }
        if digits == 0 {
            return None;
        }
        nanos *= 10_u32.pow(9 - digits);
    }
    let offset = match *rest {
        [b'Z', ref tail @ ..] => {
            rest = tail;
            0
        }
        [sign @ (b'+' | b'-'), a, b, b':', c, d, ref tail @ ..] => {
            rest = tail;
            let seconds = i64::from(two(a, b)? * 3_600 + two(c, d)? * 60);
            if sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds =
        days(year, i64::from(month), i64::from(day)) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    Some(Stamp { seconds: seconds - offset, nanos, length: text.len() - rest.len() })
}

fn two(a: u8, b: u8) -> Option<u32> {
    (a.is_ascii_digit() && b.is_ascii_digit()).then(|| u32::from(a - b'0') * 10 + u32::from(b - b'0'))
}

/// Days since the epoch of a Gregorian date (Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// RFC 3339 text, empty text or null as milliseconds since the epoch.
pub(crate) fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    Ok(parse(text.as_bytes()).and_then(Stamp::as_millis))
}

/// Seconds since the epoch, or null, as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "seconds of any real date are far below 2^53")]
pub(crate) fn millis_of_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let seconds = Option::<i64>::deserialize(deserializer)?;
    Ok(seconds.filter(|s| *s > 0).map(|s| s as f64 * 1e3))
}

/// Nanoseconds since the epoch as the API's `since` and `until` want them.
pub(crate) fn as_parameter(nanos: i64) -> String {
    // The API has no moments before the epoch.
    let nanos = nanos.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Now, in milliseconds since the epoch.
pub(crate) fn now_millis() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| (d.as_secs_f64() * 1e3).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        parse(text.as_bytes()).filter(|s| s.length == text.len()).and_then(Stamp::as_nanos)
    }

    #[test]
    fn reads_the_forms_engines_write() {
        assert_eq!(nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanos("2024-02-29T12:34:56.123456789Z"), Some(1_709_210_096_123_456_789));
        assert_eq!(nanos("2024-02-29T12:34:56.1Z"), Some(1_709_210_096_100_000_000));
        assert_eq!(nanos("2024-02-29T14:34:56+02:00"), Some(1_709_210_096_000_000_000));
        assert_eq!(nanos("2024-02-29T10:04:56-02:30"), Some(1_709_210_096_000_000_000));
        assert_eq!(nanos("1969-12-31T23:59:59.5Z"), Some(-500_000_000));
        let stamp = parse(b"2024-02-29T12:34:56.123456789Z hello").unwrap();
        assert_eq!(stamp.length, 30, "what follows is left alone");
    }

    #[test]
    fn refuses_the_rest() {
        for bad in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234567890Z",
            "2024-01-01T00:00:00+0200",
            "2024-01-01T00:00:00+02:0",
            "x024-01-01T00:00:00Z",
            "\u{ff12}024-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn the_year_one_means_never() {
        assert_eq!(parse(b"0001-01-01T00:00:00Z").unwrap().as_millis(), None);
        assert_eq!(parse(b"2024-02-29T12:34:56.123456789Z").unwrap().as_millis(), Some(1_709_210_096_123.456));
        assert_eq!(parse(b"0001-01-01T00:00:00Z").unwrap().as_nanos(), None, "it does not fit");
    }

    #[test]
    fn parameters_keep_every_digit() {
        assert_eq!(as_parameter(1_709_210_096_000_000_001), "1709210096.000000001");
        assert_eq!(as_parameter(-1), "0.000000000");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..48)) {
            let _ = parse(&bytes).and_then(Stamp::as_nanos);
        }

        #[test]
        fn days_rise_by_one(day in 0_i64..200_000) {
            // Walks real dates by counting, an independent way to the same number.
            let mut left = day;
            let mut year = 1970;
            let leap = |y: i64| y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            while left >= 365 + i64::from(leap(year)) {
                left -= 365 + i64::from(leap(year));
                year += 1;
            }
            let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let mut month = 1;
            for length in lengths {
                if left < length { break; }
                left -= length;
                month += 1;
            }
            proptest::prop_assert_eq!(days(year, month, left + 1), day);
        }
    }
}
