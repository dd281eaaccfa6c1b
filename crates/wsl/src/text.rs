//! What `wsl.exe` writes. It is asked for UTF-8, which a version of before 2022 does not know: that one writes UTF-16.

const BOM: [u8; 2] = [0xff, 0xfe];

/// Whatever it is, as text.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let marked = bytes.strip_prefix(&BOM);
    let wide = marked.or_else(|| bytes.contains(&0).then_some(bytes));
    let text = wide.map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), wide_text);
    text.trim_start_matches('\u{feff}').replace('\0', "")
}

/// One line of it, which was cut at the byte of its end: the rest of that character begins the next line.
pub(crate) fn line(bytes: &[u8]) -> String {
    let aligned = if bytes.len() % 2 == 1 { bytes.strip_prefix(&[0]).unwrap_or(bytes) } else { bytes };
    decode(aligned).trim_end().to_owned()
}

fn wide_text(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Names of distributions, one a line. A sentence in the user's language is none, for it has blanks.
pub(crate) fn names(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| is_name(line));
    lines.map(str::to_owned).collect()
}

/// Whether a distribution can be called that.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 256 && !text.starts_with('-') && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::{decode, is_name, line, names};

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn utf_16_is_read_with_its_mark_and_without() {
        let marked = [[0xff, 0xfe].to_vec(), wide("Übuntu\r\n")].concat();
        assert_eq!(decode(&marked), "Übuntu\r\n");
        assert_eq!(decode(&wide("Ubuntu\r\nberth\r\n")), "Ubuntu\r\nberth\r\n");
        assert_eq!(decode("Übuntu\n".as_bytes()), "Übuntu\n");
        assert_eq!(decode(b"\xef\xbb\xbfUbuntu"), "Ubuntu");
        assert_eq!(decode(&[0xff, 0xfe, 0x00, 0xd8, 0x41]), "\u{fffd}", "what is cut or nonsense is no error");
    }

    #[test]
    fn lines_of_utf_16_are_cut_in_the_middle_of_a_character() {
        let text = wide("a\r\nbc\r\n");
        let lines: Vec<String> = text.split(|byte| *byte == b'\n').map(line).collect();
        assert_eq!(lines, ["a", "bc", ""]);
        assert_eq!(line(b"plain"), "plain");
    }

    #[test]
    fn a_sentence_is_no_name() {
        let text =
            "Windows-Subsystem für Linux hat keine installierten Distributionen.\r\nberth\r\n\r\nUbuntu-24.04\r\n";
        assert_eq!(names(text), ["berth", "Ubuntu-24.04"]);
        assert!(!is_name("--shutdown") && !is_name("") && !is_name("a b") && !is_name("a/b"));
    }
}
