use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const STAMP: &str = "2024-02-29T12:34:56.123456789Z ";
const NANOS: i64 = 1_709_210_096_123_456_789;

fn frame(kind: u8, payload: &str) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 0, 0], &length[..], payload.as_bytes()].concat()
}

fn decode(tty: bool, timestamps: bool, input: &[u8], chunk: usize) -> LogBatch {
    let mut decoder = LogDecoder::new(tty, timestamps);
    let mut lines = Vec::new();
    for bytes in input.chunks(chunk) {
        decoder.push(bytes, &mut lines).unwrap();
    }
    decoder.finish(&mut lines).unwrap();
    lines
}

fn line(nanos: Option<i64>, stderr: bool, text: &str) -> LogLine {
    LogLine { nanos, stderr, cut: false, text: text.to_owned() }
}

#[test]
fn streams_keep_their_own_unfinished_lines() {
    let input = [frame(1, "on"), frame(2, "oops\nun"), frame(1, "e\r\n\ntwo"), frame(2, "done\n")].concat();
    let expected = [
        line(None, true, "oops"),
        line(None, false, "one\r"),
        line(None, false, ""),
        line(None, true, "undone"),
        line(None, false, "two"),
    ];
    for chunk in 1..input.len() {
        assert_eq!(decode(false, false, &input, chunk), expected, "chunks of {chunk}");
    }
}

#[test]
fn timestamps_come_off_at_any_chunking() {
    let input = [
        frame(1, &format!("{STAMP}hello\n")),
        frame(2, &format!("{STAMP}\n")),
        frame(1, "2024-02-29T13:34:56+01:00 podman\n"),
        frame(1, "12 monkeys\n"),
        frame(1, "2024-02-29T12:34:56Zed\n"),
        frame(1, &format!("{}\n", "7".repeat(50))),
    ]
    .concat();
    let expected = [
        line(Some(NANOS), false, "hello"),
        line(Some(NANOS), true, ""),
        line(Some(1_709_210_096_000_000_000), false, "podman"),
        line(None, false, "12 monkeys"),
        line(None, false, "2024-02-29T12:34:56Zed"),
        line(None, false, &"7".repeat(50)),
    ];
    for chunk in 1..input.len() {
        assert_eq!(decode(false, true, &input, chunk), expected, "chunks of {chunk}");
    }
}

#[test]
fn a_long_line_loses_the_timestamps_of_its_parts() {
    let part = "x".repeat(MESSAGE_SIZE);
    let multiplexed = [
        frame(1, &format!("{STAMP}{part}")),
        frame(1, &format!("2024-02-29T12:34:57.000000000Z {part}")),
        frame(1, &format!("{STAMP}end\n")),
        frame(1, &format!("{STAMP}next\n")),
    ]
    .concat();
    let raw = format!("{STAMP}{part}{STAMP}{part}{STAMP}end\r\n{STAMP}next\r\n");
    let expected = [line(Some(NANOS), false, &format!("{part}{part}end")), line(Some(NANOS), false, "next")];
    for chunk in [1, 7, 31, 4_096, 16_384, usize::MAX] {
        assert_eq!(decode(false, true, &multiplexed, chunk), expected, "multiplexed, chunks of {chunk}");
        assert_eq!(decode(true, true, raw.as_bytes(), chunk), expected, "terminal, chunks of {chunk}");
    }
}

#[test]
fn a_terminal_line_that_merely_looks_like_it_keeps_its_text() {
    let text = format!("{}{STAMP}still text", "x".repeat(100));
    let raw = format!("{STAMP}{text}\r\n");
    assert_eq!(decode(true, true, raw.as_bytes(), 9), [line(Some(NANOS), false, &text)]);
}

#[test]
fn long_lines_are_cut_between_characters() {
    // An odd first byte puts the cap into the middle of a two-byte character.
    let input = format!("a{}\nnext\n", "é".repeat(LINE_CAP));
    let lines = decode(true, false, input.as_bytes(), 1_000);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].cut && lines[0].text.len() == LINE_CAP - 1 && !lines[0].text.contains('\u{fffd}'));
    assert_eq!(lines[1], line(None, false, "next"));
    assert_eq!(decode(true, false, input.as_bytes(), usize::MAX), lines, "whole or in parts, the cap is the same");
    let exact = format!("{}\n", "x".repeat(LINE_CAP));
    assert!(!decode(true, false, exact.as_bytes(), usize::MAX)[0].cut);
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    assert_eq!(decode(true, false, b"\xff\xfe\0a\r\n", 1), [line(None, false, "\u{fffd}\u{fffd}\0a")]);
}

#[test]
fn an_engine_error_follows_the_lines_before_it() {
    let input = [frame(1, "ok\n"), frame(3, "no more\n")].concat();
    let mut lines = Vec::new();
    let error = LogDecoder::new(false, false).push(&input, &mut lines).unwrap_err();
    assert_eq!(lines, [line(None, false, "ok")]);
    assert!(matches!(error, Error::Stream(text) if text == "no more"));
}

#[test]
fn a_cut_frame_is_an_error_and_its_line_is_not_shown() {
    let input = frame(1, "whole\npart");
    let mut decoder = LogDecoder::new(false, false);
    let mut lines = Vec::new();
    decoder.push(&input[..input.len() - 1], &mut lines).unwrap();
    assert!(matches!(decoder.finish(&mut lines), Err(Error::Frame(FrameError::Truncated))));
    assert_eq!(lines, [line(None, false, "whole")]);
}

/// `cargo test --release -p berth-engine -- --ignored --nocapture decode_rate` prints the rate; nothing depends on it.
#[test]
#[ignore = "a measurement"]
fn decode_rate() {
    let mut input = Vec::new();
    for n in 0..1_000_000 {
        let mut text = STAMP.to_owned();
        writeln!(text, "line {n} of a container that writes about a hundred bytes a line, as most of them do").unwrap();
        input.extend(frame(1, &text));
    }
    let begun = std::time::Instant::now();
    let mut decoder = LogDecoder::new(false, true);
    let mut lines = 0;
    let mut batch = Vec::new();
    for bytes in input.chunks(64 * 1024) {
        decoder.push(bytes, &mut batch).unwrap();
        lines += batch.len();
        batch.clear();
    }
    eprintln!("{lines} lines in {:?}", begun.elapsed());
    assert_eq!(lines, 1_000_000);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_lines(
        tty in any::<bool>(),
        timestamps in any::<bool>(),
        parts in prop::collection::vec((1_u8..3, "(2024-02-29T12:34:56\\.1Z )?[a\r\n 2-]{0,12}"), 0..10),
        chunk in 1_usize..9,
    ) {
        let input: Vec<u8> = if tty {
            parts.iter().flat_map(|(_, text)| text.bytes()).collect()
        } else {
            parts.iter().flat_map(|(kind, text)| frame(*kind, text)).collect()
        };
        prop_assert_eq!(decode(tty, timestamps, &input, chunk), decode(tty, timestamps, &input, usize::MAX));
    }

    #[test]
    fn never_panics(tty in any::<bool>(), timestamps in any::<bool>(), input in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = LogDecoder::new(tty, timestamps);
        let mut lines = Vec::new();
        let _ = decoder.push(&input, &mut lines);
        let _ = decoder.finish(&mut lines);
    }
}
