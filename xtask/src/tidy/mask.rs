//! Tells Rust code from comments and literals, well enough to search in one of them.

/// What a byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Code,
    Comment,
    Literal,
}

/// The class of each byte of a Rust source.
pub(super) fn classify(source: &str) -> Vec<Class> {
    let bytes = source.as_bytes();
    let mut classes = vec![Class::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let (length, class) = match token(rest, starts_word(bytes, at)) {
            Some((length, class)) => (length.min(rest.len()), class),
            None => (1, Class::Code),
        };
        if let Some(slice) = classes.get_mut(at..at + length) {
            slice.fill(class);
        }
        at += length.max(1);
    }
    classes
}

/// The source with everything blanked that is not code; line breaks stay, so lines keep their numbers.
pub(super) fn code_only(source: &str, classes: &[Class]) -> String {
    let blanked = source.bytes().zip(classes).map(|(byte, class)| match class {
        Class::Code => byte,
        _ if byte == b'\n' => byte,
        _ => b' ',
    });
    String::from_utf8_lossy(&blanked.collect::<Vec<_>>()).into_owned()
}

fn starts_word(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// The comment or literal at the start of the bytes, if there is one.
fn token(rest: &[u8], at_word: bool) -> Option<(usize, Class)> {
    if rest.starts_with(b"//") {
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return Some((length, Class::Comment));
    }
    if rest.starts_with(b"/*") {
        return Some((block_comment(rest), Class::Comment));
    }
    let prefix = if at_word { literal_prefix(rest) } else { 0 };
    let body = rest.get(prefix..).unwrap_or_default();
    let is_raw = rest.get(..prefix).is_some_and(|prefix| prefix.contains(&b'r'));
    let length = match body.first()? {
        b'"' | b'#' if is_raw => raw_string(body)?,
        b'"' => quoted(body),
        b'\'' if !is_raw => character(body)?,
        _ => return None,
    };
    Some((prefix + length, Class::Literal))
}

/// The length of `b`, `c`, `r`, `br` or `cr` before a quote.
fn literal_prefix(rest: &[u8]) -> usize {
    let length = rest.iter().take(2).take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
    match rest.get(length) {
        Some(b'"' | b'#' | b'\'') => length,
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(pair) = rest.get(at..) {
        if pair.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if pair.starts_with(b"*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else if pair.is_empty() {
            break;
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(body: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in body.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    body.len()
}

fn raw_string(body: &[u8]) -> Option<usize> {
    let hashes = body.iter().take_while(|byte| **byte == b'#').count();
    if body.get(hashes) != Some(&b'"') {
        return None;
    }
    let start = hashes + 1;
    let closes = |index: usize| {
        let tail = body.get(index + 1..).unwrap_or_default();
        tail.iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes
    };
    let end = (start..body.len()).find(|index| body.get(*index) == Some(&b'"') && closes(*index));
    Some(end.map_or(body.len(), |index| index + 1 + hashes))
}

/// A character, unless the quote starts a lifetime.
fn character(body: &[u8]) -> Option<usize> {
    if body.get(1) == Some(&b'\\') {
        let end = body.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(end + 4);
    }
    let first = *body.get(1)?;
    let width = match first {
        0x00..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    (body.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        code_only(source, &classify(source))
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code("f(\"a\\\"b\", 1)"), "f(      , 1)");
        assert_eq!(code("r#\"a\"b\"# x"), "         x");
        assert_eq!(code("b\"x\ny\" z"), "   \n   z");
    }

    #[test]
    fn lifetimes_and_characters_are_told_apart() {
        assert_eq!(code("fn f<'a>(x: &'a str)"), "fn f<'a>(x: &'a str)");
        assert_eq!(code("['\"', 'x', '\\'', '\\u{1F600}', 'é'] y"), "[   ,    ,     ,            ,     ] y");
    }

    #[test]
    fn unfinished_literals_end_with_the_file() {
        for source in ["\"abc", "/* abc", "r#\"abc\"", "'", "'\\", "b'", "br"] {
            assert_eq!(code(source).len(), source.len(), "{source:?} must not lose or invent bytes");
        }
    }

    #[test]
    fn names_that_end_in_a_prefix_letter_are_code() {
        assert_eq!(code("var\"x\""), "var   ", "only the quotes are a literal here");
        assert_eq!(code("r#type"), "r#type", "a raw identifier is code");
    }
}
