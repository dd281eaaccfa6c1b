#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use berth_engine::LogLine;
use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000_000;
/// A moment far from the epoch.
const NOON: i64 = 1_700_000_000 * SECOND;

fn line(nanos: i64, stderr: bool, text: &str) -> LogLine {
    LogLine { nanos: Some(nanos), stderr, cut: false, text: text.to_owned() }
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// How engines read `since`.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// Everything from the first line of that time on.
    FromTheFirst,
    /// Every line of that time or later.
    EachLine,
}

fn sent(log: &[LogLine], since: Option<i64>, reading: Reading) -> Vec<LogLine> {
    let old = |line: &&LogLine| since.is_some_and(|since| line.nanos.unwrap() < since);
    match reading {
        Reading::FromTheFirst => log.iter().skip_while(old).cloned().collect(),
        Reading::EachLine => log.iter().filter(|line| !old(line)).cloned().collect(),
    }
}

/// Reads a log that grows to `written` lines of it before each break, which comes after `read` lines of what is sent, and
/// whole in the end.
fn read_with_breaks(
    resume: &mut Resume,
    log: &[LogLine],
    reading: Reading,
    breaks: &[(usize, usize)],
) -> (Vec<LogLine>, bool) {
    let (mut shown, mut may_repeat) = (Vec::new(), false);
    let mut read = |resume: &mut Resume, written: usize, read: usize| {
        let since = resume.begin();
        let mut lines = sent(&log[..written.min(log.len())], since, reading);
        lines.truncate(read);
        for batch in lines.chunks(3) {
            let news = resume.sift(batch.to_vec());
            may_repeat |= news.may_repeat;
            shown.extend(news.lines);
        }
    };
    for (written, count) in breaks {
        read(resume, *written, *count);
    }
    read(resume, usize::MAX, usize::MAX);
    (shown, may_repeat)
}

fn exactly_once(shown: &[LogLine], log: &[LogLine]) {
    let sorted = |lines: &[LogLine]| {
        let mut lines: Vec<_> = lines.iter().map(|line| (line.nanos, line.stderr, line.text.clone())).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(shown), sorted(log));
    for stderr in [false, true] {
        let of = |lines: &[LogLine]| {
            lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(shown), of(log), "each output stays in its order");
    }
}

#[test]
fn a_line_of_the_other_output_that_comes_late_is_not_lost() {
    let log = [line(NOON, false, "a"), line(NOON + 5, true, "newest"), line(NOON + 3, false, "late")];
    let (shown, _) = read_with_breaks(&mut Resume::new(), &log, Reading::EachLine, &[(2, 2)]);
    assert_eq!(texts(&shown), ["a", "newest", "late"]);
}

#[test]
fn equal_lines_of_the_same_time_are_counted() {
    let log: Vec<_> = (0..5).map(|_| line(NOON, false, "same")).collect();
    for read in 0..=5 {
        let (shown, _) = read_with_breaks(&mut Resume::new(), &log, Reading::FromTheFirst, &[(read, read), (5, 1)]);
        assert_eq!(shown.len(), 5, "{read} were seen");
    }
    let both = [line(NOON, false, "same"), line(NOON, true, "same")];
    let (shown, _) = read_with_breaks(&mut Resume::new(), &both, Reading::FromTheFirst, &[(1, 1)]);
    assert_eq!(shown.iter().map(|line| line.stderr).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn lines_of_before_the_part_that_was_asked_for_stay_out() {
    // The tail was one line, and all were written within a moment.
    let log: Vec<_> = (0..100).map(|number| line(NOON + number, number % 2 == 0, &number.to_string())).collect();
    let mut resume = Resume::new();
    assert_eq!(resume.begin(), None);
    assert_eq!(resume.sift(log[98..99].to_vec()).lines.len(), 1);
    assert_eq!(resume.begin(), Some(NOON + 98 - SECOND));
    assert_eq!(texts(&resume.sift(log).lines), ["99"]);
    // Older and yet later in the log: a line of the other output.
    assert_eq!(texts(&resume.sift(vec![line(NOON + 97, true, "late")]).lines), ["late"]);
}

#[test]
fn a_clock_that_is_set_back_leads_to_no_wait_for_its_return() {
    let hour = 3600 * SECOND;
    let mut log: Vec<_> =
        (0..50).map(|number| line(NOON + number * SECOND, false, &format!("before {number}"))).collect();
    log.extend((0..50).map(|number| line(NOON - hour + number * SECOND, number % 2 == 0, &format!("after {number}"))));
    for reading in [Reading::FromTheFirst, Reading::EachLine] {
        for written in 51..100 {
            let mut resume = Resume::new();
            let (shown, may_repeat) = read_with_breaks(&mut resume, &log, reading, &[(written, written)]);
            assert_eq!(resume.begin(), Some(NOON - hour + 49 * SECOND - SECOND));
            exactly_once(&shown, &log);
            assert!(!may_repeat, "all of it is remembered");
        }
    }
    // An engine that sends what follows the first line loses nothing even if the break comes with the change.
    exactly_once(&read_with_breaks(&mut Resume::new(), &log, Reading::FromTheFirst, &[(50, 50)]).0, &log);
}

#[test]
fn what_is_no_longer_remembered_comes_twice_and_is_said_to() {
    let log: Vec<_> = (0..100).map(|number| line(NOON + number, number % 3 == 0, &number.to_string())).collect();
    let mut resume = Resume::with_capacity(10);
    let (shown, may_repeat) = read_with_breaks(&mut resume, &log, Reading::FromTheFirst, &[(50, 50)]);
    assert!(may_repeat);
    assert_eq!(shown.len(), 100 + 40, "ten are remembered");
    for line in &log {
        assert!(shown.contains(line), "none is lost: {line:?}");
    }
    assert!(resume.seen.len() <= 10 && resume.again.lines.len() <= 10, "and no more is kept");
    // Lines of more than a second ago need not be remembered.
    let log: Vec<_> = (0..100).map(|number| line(NOON + number * SECOND, false, &number.to_string())).collect();
    let (shown, may_repeat) =
        read_with_breaks(&mut Resume::with_capacity(10), &log, Reading::FromTheFirst, &[(50, 50), (80, 5)]);
    exactly_once(&shown, &log);
    assert!(!may_repeat);
}

#[test]
fn a_line_without_its_time_is_shown() {
    let mut resume = Resume::new();
    let bare = LogLine { nanos: None, stderr: false, cut: false, text: "bare".to_owned() };
    assert_eq!(resume.sift(vec![bare.clone()]).lines.len(), 1);
    assert_eq!((resume.begin(), resume.seen()), (None, 1));
    resume.sift(vec![line(i64::MIN, false, "far"), line(i64::MAX, false, "farther")]);
    assert_eq!(resume.begin(), Some(i64::MAX - SECOND));
    assert_eq!(resume.sift(vec![bare]).lines.len(), 1);
}

/// Lines of both outputs as an engine keeps them: each output in the order of its times, of which many are the same, and one
/// up to half a second behind the other.
fn logs() -> impl Strategy<Value = Vec<LogLine>> {
    let entry = (any::<bool>(), prop_oneof![Just(0), 0..1000_i64, 0..SECOND / 2], 0..3_u8);
    proptest::collection::vec(entry, 0..60).prop_map(|entries| {
        let mut clock = NOON;
        let mut newest = [NOON; 2];
        let in_order = |(stderr, step, text): (bool, i64, u8)| {
            clock += step;
            let behind = if stderr { step } else { 0 };
            let own = &mut newest[usize::from(stderr)];
            *own = (*own).max(clock - behind);
            line(*own, stderr, &format!("line {text}"))
        };
        entries.into_iter().map(in_order).collect()
    })
}

proptest! {
    #[test]
    fn every_line_is_shown_once_wherever_it_breaks(
        log in logs(),
        mut breaks in proptest::collection::vec((0..60_usize, 0..60_usize), 0..8),
        from_the_first in any::<bool>(),
    ) {
        // A log grows.
        breaks.sort_by_key(|(written, _)| *written);
        let reading = if from_the_first { Reading::FromTheFirst } else { Reading::EachLine };
        let (shown, may_repeat) = read_with_breaks(&mut Resume::new(), &log, reading, &breaks);
        exactly_once(&shown, &log);
        prop_assert!(!may_repeat);
    }

    #[test]
    fn none_is_lost_however_little_is_remembered(
        log in logs(),
        capacity in 1..20_usize,
        mut breaks in proptest::collection::vec((0..60_usize, 0..60_usize), 0..8),
    ) {
        breaks.sort_by_key(|(written, _)| *written);
        let (shown, may_repeat) =
            read_with_breaks(&mut Resume::with_capacity(capacity), &log, Reading::FromTheFirst, &breaks);
        let count = |lines: &[LogLine], wanted: &LogLine| lines.iter().filter(|line| *line == wanted).count();
        for line in &log {
            prop_assert!(count(&shown, line) >= count(&log, line), "{line:?}");
        }
        prop_assert!(may_repeat || shown.len() == log.len(), "what comes twice is said to");
    }
}
