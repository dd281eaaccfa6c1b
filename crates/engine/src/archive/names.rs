//! From a path in an archive to names under a folder.

use super::SkipReason;

/// Longest single name, in bytes, that the file systems of our platforms take.
const NAME_LENGTH: usize = 255;

/// Which names a file system does not keep apart, or does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRules {
    /// Refuse what Windows reserves or changes: `CON`, `a:b`, a dot or a space at the end.
    pub windows: bool,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
}

impl Default for NameRules {
    /// The rules of the system this runs on.
    fn default() -> Self {
        Self { windows: cfg!(windows), ignore_case: cfg!(any(windows, target_os = "macos")) }
    }
}

/// Splits a path into names, or says why it may not be extracted. An empty list is the folder itself.
pub(super) fn split(path: &[u8], depth: usize, rules: NameRules) -> Result<Vec<&[u8]>, SkipReason> {
    if path.is_empty() {
        return Err(SkipReason::EmptyPath);
    }
    if memchr::memchr(0, path).is_some() {
        return Err(SkipReason::Nul);
    }
    if path.starts_with(b"/") {
        return Err(SkipReason::Absolute);
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err(SkipReason::Parent),
            name if name.len() > NAME_LENGTH => return Err(SkipReason::NameTooLong),
            name if rules.windows => windows(name)?,
            _ => {}
        }
        names.push(name);
        if names.len() >= depth {
            return Err(SkipReason::TooDeep);
        }
    }
    Ok(names)
}

fn windows(name: &[u8]) -> Result<(), SkipReason> {
    let text = std::str::from_utf8(name).map_err(|_| SkipReason::NotText)?;
    let forbidden = |c: char| c < ' ' || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\');
    if text.contains(forbidden) || text.ends_with(['.', ' ']) {
        return Err(SkipReason::ReservedName);
    }
    // A device keeps its name whatever extension follows, with spaces before it: `con .txt` is the console.
    let stem = text.split('.').next().unwrap_or_default().trim_end_matches(' ').to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$")
        || numbered.is_some_and(|rest| {
            let mut chars = rest.chars();
            matches!(chars.next(), Some('0'..='9' | '¹' | '²' | '³')) && chars.next().is_none()
        });
    if device { Err(SkipReason::ReservedName) } else { Ok(()) }
}

/// A symbolic link at a path of `depth` names stays in the folder, by its text alone.
///
/// Only leading `..` are taken: those climb real folders, while a `..` behind a name could climb from wherever a link
/// of that name leads.
pub(super) fn link_stays_inside(target: &[u8], depth: usize) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) || target.contains(&b'\\') {
        return false;
    }
    let mut climbed = 0;
    let mut descended = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if descended => return false,
            b".." => climbed += 1,
            // A drive on Windows.
            name if name.contains(&b':') && cfg!(windows) => return false,
            _ => descended = true,
        }
    }
    climbed < depth
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: NameRules = NameRules { windows: false, ignore_case: false };
    const WINDOWS: NameRules = NameRules { windows: true, ignore_case: true };

    #[test]
    fn splits_what_stays_beneath() {
        assert_eq!(split(b"./a//b/./c/", 10, PLAIN).unwrap(), [b"a", b"b", b"c"]);
        assert!(split(b"./", 10, PLAIN).unwrap().is_empty());
        assert_eq!(split(b"a/...", 10, PLAIN).unwrap().len(), 2);
        for (path, reason) in [
            (&b""[..], SkipReason::EmptyPath),
            (b"/a", SkipReason::Absolute),
            (b"//a", SkipReason::Absolute),
            (b"..", SkipReason::Parent),
            (b"a/../b", SkipReason::Parent),
            (b"a/..", SkipReason::Parent),
            (b"a\0b", SkipReason::Nul),
        ] {
            assert_eq!(split(path, 10, PLAIN), Err(reason));
        }
        assert_eq!(split(&b"a/".repeat(10), 10, PLAIN), Err(SkipReason::TooDeep));
        assert_eq!(split(&b"a/".repeat(9), 10, PLAIN).unwrap().len(), 9);
        assert_eq!(split(&[b'a'; 256], 10, PLAIN), Err(SkipReason::NameTooLong));
    }

    #[test]
    fn knows_what_windows_reserves() {
        for name in [
            "CON",
            "con",
            "Aux.txt",
            "nul.tar.gz",
            "com1",
            "LPT9.x",
            "COM¹",
            "CONIN$",
            "con .txt",
            "a:b",
            "a\\b",
            "..\\x",
            "C:",
            "dot.",
            "space ",
            "...",
            "a?",
            "a*",
            "a\u{1}",
            "a|b",
            "<",
            "\"",
        ] {
            assert_eq!(split(name.as_bytes(), 10, WINDOWS), Err(SkipReason::ReservedName), "{name}");
            assert_eq!(split(format!("x/{name}/y").as_bytes(), 10, WINDOWS), Err(SkipReason::ReservedName), "{name}");
        }
        assert_eq!(split(b"\xff", 10, WINDOWS), Err(SkipReason::NotText));
        for name in ["console", "com", "com10", "lpt", "nul1", ".con", "a b", "ünï", "xcon.txt", "COMx"] {
            assert!(split(name.as_bytes(), 10, WINDOWS).is_ok(), "{name}");
        }
    }

    #[test]
    fn knows_links_that_lead_outside() {
        for (target, depth) in [("b", 1), ("../b", 2), ("../../a/b", 3), ("./b/c/", 1), ("..", 2), ("...", 1)] {
            assert!(link_stays_inside(target.as_bytes(), depth), "{target} at {depth}");
        }
        for (target, depth) in [
            ("/etc", 1),
            ("..", 1),
            ("../b", 1),
            ("../../b", 2),
            ("a/../../b", 3),
            ("x/y/l/..", 1),
            ("", 1),
            ("a\0", 1),
            ("..\\x", 2),
        ] {
            assert!(!link_stays_inside(target.as_bytes(), depth), "{target} at {depth}");
        }
    }
}
