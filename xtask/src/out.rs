//! What xtask says: short lines for a person on stdout, without colour.
#![expect(clippy::print_stdout, reason = "the one place where xtask speaks")]

use std::time::Duration;

/// A plain line.
pub(crate) fn line(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
}

/// What is about to be done.
pub(crate) fn step(text: impl AsRef<str>) {
    println!("-- {}", text.as_ref());
}

/// The start of a group of tests.
pub(crate) fn header(text: impl AsRef<str>) {
    println!("\n== {} ==", text.as_ref());
}

/// `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(duration(Duration::from_millis(440)), "0.4 s");
        assert_eq!(duration(Duration::from_secs(12)), "12 s");
        assert_eq!(duration(Duration::from_secs(185)), "3 min 05 s");
    }
}
