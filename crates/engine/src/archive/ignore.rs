//! `.dockerignore`: which files of a folder are not sent to a build.
//!
//! The rules are those of the engine's own matcher, its peculiarities included: a class such as `[^a]` also matches a
//! slash, `\d` is a digit, and a `*` inside a class is none of its members.

mod pattern;

pub use pattern::Malformed;
use pattern::{Kind, Pattern};

/// Largest ignore file that is read, in bytes.
pub const FILE_LIMIT: usize = 1024 * 1024;

/// Most patterns in one file.
pub const PATTERN_LIMIT: usize = 10_000;

/// Longest pattern, in bytes.
pub const LENGTH_LIMIT: usize = 4_096;

/// Why an ignore file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A pattern is malformed.
    #[error(
        "Line {line}: `{pattern}` is no valid pattern: {why}. Correct it, or write `\\` before a literal character"
    )]
    Pattern {
        /// Which line, from 1.
        line: usize,
        /// The pattern, shortened.
        pattern: String,
        /// What is wrong.
        why: Malformed,
    },
    /// The file is larger than is read.
    #[error("It is larger than {FILE_LIMIT} bytes. Make it smaller, for example with wildcards")]
    TooLarge,
    /// The file has more patterns than are read.
    #[error("It has more than {PATTERN_LIMIT} patterns. Make it smaller, for example with wildcards")]
    TooMany,
}

/// The patterns of an ignore file.
#[derive(Clone, Debug, Default)]
pub struct DockerIgnore {
    patterns: Vec<Pattern>,
    /// Paths that are sent whatever the patterns say.
    kept: Vec<Vec<u8>>,
}

/// What is known of the folders above a path: which patterns match one of them.
#[derive(Clone, Debug, Default)]
pub struct Parents(Vec<bool>);

/// What the patterns say about a path.
#[derive(Clone, Debug)]
pub struct Decision {
    /// It is not sent.
    pub ignored: bool,
    /// For the paths beneath it.
    pub parents: Parents,
}

impl DockerIgnore {
    /// Reads an ignore file.
    ///
    /// # Errors
    /// [`IgnoreError`] says which line is wrong, or that the file is too large.
    pub fn parse(file: &[u8]) -> Result<Self, IgnoreError> {
        if file.len() > FILE_LIMIT {
            return Err(IgnoreError::TooLarge);
        }
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        let mut patterns = Vec::new();
        for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
            // Only at the very start of a line is it a comment.
            if line.starts_with(b"#") {
                continue;
            }
            let line = String::from_utf8_lossy(line);
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let invalid = |why| {
                let pattern = line.chars().take(64).flat_map(char::escape_debug).collect();
                IgnoreError::Pattern { line: index + 1, pattern, why }
            };
            if line.len() > LENGTH_LIMIT {
                return Err(invalid(Malformed::TooLong));
            }
            let (exception, text) = line.strip_prefix('!').map_or((false, line), |text| (true, text.trim()));
            let cleaned = if text.is_empty() { String::new() } else { clean(text) };
            let cleaned = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
            if cleaned.is_empty() || (exception && cleaned == "/") {
                return Err(invalid(Malformed::Empty));
            }
            if patterns.len() >= PATTERN_LIMIT {
                return Err(IgnoreError::TooMany);
            }
            patterns.push(Pattern::parse(cleaned, exception).map_err(invalid)?);
        }
        Ok(Self { patterns, kept: Vec::new() })
    }

    /// Always sends this path, and the folders above it.
    pub fn keep(&mut self, path: impl Into<Vec<u8>>) {
        self.kept.push(path.into());
    }

    /// Decides about a path below what is known of the folders above it, for a walk from the top.
    #[must_use]
    pub fn decide(&self, path: &[u8], parents: &Parents) -> Decision {
        let mut ignored = false;
        let mut matches = vec![false; self.patterns.len()];
        let text = String::from_utf8_lossy(path);
        for (index, pattern) in self.patterns.iter().enumerate() {
            let mut matched = parents.0.get(index).copied().unwrap_or(false);
            if !matched {
                // A pattern that could change nothing counts as one that does not match, here and beneath.
                if pattern.exception != ignored {
                    continue;
                }
                matched = pattern.matches(path, &text);
            }
            if let Some(place) = matches.get_mut(index) {
                *place = matched;
            }
            if matched {
                ignored = !pattern.exception;
            }
        }
        if self.kept.iter().any(|kept| kept == path) {
            ignored = false;
        }
        Decision { ignored, parents: Parents(matches) }
    }

    /// Whether a path is not sent, with the folders above it taken into account.
    #[must_use]
    pub fn ignores(&self, path: &[u8]) -> bool {
        let mut parents = Parents::default();
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in ends {
            if let Some(parent) = path.get(..end) {
                parents = self.decide(parent, &parents).parents;
            }
        }
        self.decide(path, &parents).ignored
    }

    /// Whether something beneath an ignored folder might be sent after all.
    #[must_use]
    pub fn may_send_beneath(&self, folder: &[u8]) -> bool {
        let folder = [folder, b"/"].concat();
        let exceptions = || self.patterns.iter().filter(|pattern| pattern.exception);
        // An exception with a wildcard anywhere but at its end might match anything, so everything is looked at then.
        if self.kept.iter().any(|kept| kept.starts_with(&folder))
            || exceptions().any(|pattern| pattern.without_glob().is_none())
        {
            return true;
        }
        exceptions().filter_map(Pattern::without_glob).any(|text| [text.as_bytes(), b"/"].concat().starts_with(&folder))
    }
}

/// Shortest equal path: without doubled slashes, `.` and resolved `..`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

impl Pattern {
    /// The text without a wildcard for everything at its end; none if other wildcards are in it.
    fn without_glob(&self) -> Option<&str> {
        let text = match self.kind {
            Kind::Exact => &self.text,
            Kind::Prefix => self.text.strip_suffix("/**")?,
            Kind::Suffix | Kind::Steps(_) => return None,
        };
        Some(text)
    }
}
