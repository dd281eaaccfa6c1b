//! One pattern. The engine makes a regular expression of it; this does the same and runs it in linear time.
//!
//! The way there matters: what the engine's translation does to odd patterns is part of what they mean.

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Only the `!` of an exception.
    #[error("there is nothing behind the `!`")]
    Empty,
    /// Longer than is read.
    #[error("it is too long")]
    TooLong,
    /// A class without its end.
    #[error("a `[` is not closed")]
    OpenClass,
    /// A range without its end.
    #[error("a range in `[]` has no end")]
    OpenRange,
    /// A range whose end comes before its start.
    #[error("a range in `[]` runs backwards")]
    BackwardRange,
    /// A class that the engine reads as a repetition of a repetition.
    #[error("a `*` inside `[]` has no meaning")]
    Repeated,
    /// A class with a name.
    #[error("named classes such as `[:alpha:]` are not supported")]
    NamedClass,
    /// A class that contains all but some characters.
    #[error("a negated escape inside `[]` is not supported")]
    NegatedEscape,
    /// An escape at the end.
    #[error("nothing follows the last `\\`")]
    LooseEscape,
    /// An escape of a character that has no meaning then.
    #[error("a `\\` before this character has no meaning")]
    UnknownEscape,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// It sends what it matches.
    pub(super) exception: bool,
    pub(super) text: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// The path is the text.
    Exact,
    /// The path starts with the text before its `**`.
    Prefix,
    /// The path ends with the text behind its `**`.
    Suffix,
    /// Steps, all of which have to be taken.
    Steps(Vec<Step>),
}

/// A step of the automaton.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    One(Set),
    Many(Set),
    /// Nothing, or anything up to a slash.
    Folders,
    /// Nothing, but only at such a place.
    At(Place),
}

/// A place between two characters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Start,
    End,
    WordEdge,
    NoWordEdge,
}

impl Place {
    fn is_between(self, before: Option<char>, after: Option<char>) -> bool {
        let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        match self {
            Self::Start => before.is_none(),
            Self::End => after.is_none(),
            Self::WordEdge => word(before) != word(after),
            Self::NoWordEdge => word(before) == word(after),
        }
    }
}

/// A set of characters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    fn of(ranges: &[(char, char)]) -> Self {
        Self { negated: false, ranges: ranges.to_vec() }
    }

    fn contains(&self, c: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != self.negated
    }
}

impl Pattern {
    pub(super) fn parse(text: &str, exception: bool) -> Result<Self, Malformed> {
        check(text)?;
        Ok(Self { exception, text: text.to_owned(), kind: compile(text)? })
    }

    /// Whether it matches a path, given as bytes and as text.
    pub(super) fn matches(&self, path: &[u8], text: &str) -> bool {
        let own = self.text.as_bytes();
        match &self.kind {
            Kind::Exact => path == own,
            Kind::Prefix => path.starts_with(own.get(..own.len().saturating_sub(2)).unwrap_or_default()),
            Kind::Suffix => {
                let suffix = own.get(2..).unwrap_or_default();
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|name| path == name)
            }
            Kind::Steps(steps) => run(steps, text),
        }
    }
}

/// Refuses what the engine refuses, by the rules for patterns of file names.
fn check(text: &str) -> Result<(), Malformed> {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next().ok_or(Malformed::LooseEscape)?;
            }
            '[' => {
                chars.next_if_eq(&'^');
                let mut ranges = 0;
                loop {
                    if chars.peek() == Some(&']') && ranges > 0 {
                        chars.next();
                        break;
                    }
                    member(&mut chars).ok_or(Malformed::OpenClass)?;
                    if chars.next_if_eq(&'-').is_some() {
                        member(&mut chars).ok_or(Malformed::OpenRange)?;
                    }
                    chars.peek().ok_or(Malformed::OpenClass)?;
                    ranges += 1;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

/// Translates as the engine does, and recognises the kinds that need no automaton.
fn compile(text: &str) -> Result<Kind, Malformed> {
    let mut kind = Kind::Exact;
    let mut expression = String::new();
    let mut chars = text.chars().peekable();
    let mut first = true;
    let steps = || Kind::Steps(Vec::new());
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    if matches!(kind, Kind::Exact) {
                        kind = Kind::Prefix;
                    } else {
                        expression.push_str(".*");
                        kind = steps();
                    }
                } else {
                    expression.push_str("(.*/)?");
                    kind = steps();
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                expression.push_str("[^/]*");
                kind = steps();
            }
            '?' => {
                expression.push_str("[^/]");
                kind = steps();
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                expression.push('\\');
                expression.push(c);
            }
            '\\' => {
                expression.push('\\');
                if let Some(next) = chars.next() {
                    expression.push(next);
                    kind = steps();
                }
            }
            '[' | ']' => {
                expression.push(c);
                kind = steps();
            }
            c => expression.push(c),
        }
        first = false;
    }
    if matches!(kind, Kind::Steps(_)) { read(&expression).map(Kind::Steps) } else { Ok(kind) }
}

/// Reads the regular expression. Only what the translation writes can be in it.
fn read(expression: &str) -> Result<Vec<Step>, Malformed> {
    let mut steps = Vec::new();
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("(.*/)?") {
            steps.push(Step::Folders);
            rest = after;
            continue;
        }
        let place = [("^", Place::Start), ("\\A", Place::Start), ("\\z", Place::End)].into_iter();
        let mut place = place.chain([("\\b", Place::WordEdge), ("\\B", Place::NoWordEdge)]);
        if let Some((place, after)) = place.find_map(|(text, place)| Some((place, rest.strip_prefix(text)?))) {
            steps.push(Step::At(place));
            rest = after;
            continue;
        }
        let mut chars = rest.chars();
        chars.next();
        let set = match c {
            // As in the engine's expressions, not the end of a line.
            '.' => Set { negated: true, ranges: vec![('\n', '\n')] },
            '[' => class(&mut chars)?,
            '\\' => escaped(&mut chars)?,
            c => Set::of(&[(c, c)]),
        };
        rest = chars.as_str();
        if let Some(after) = rest.strip_prefix('*') {
            rest = after;
            if rest.starts_with('*') {
                return Err(Malformed::Repeated);
            }
            steps.push(Step::Many(set));
        } else {
            steps.push(Step::One(set));
        }
    }
    Ok(steps)
}

fn class(chars: &mut std::str::Chars<'_>) -> Result<Set, Malformed> {
    let mut set = Set::of(&[]);
    let mut first = true;
    if let Some(rest) = chars.as_str().strip_prefix('^') {
        set.negated = true;
        *chars = rest.chars();
    }
    loop {
        if chars.as_str().starts_with("[:") && chars.as_str().contains(":]") {
            return Err(Malformed::NamedClass);
        }
        let c = chars.next().ok_or(Malformed::OpenClass)?;
        if c == ']' && !first {
            return Ok(set);
        }
        first = false;
        let low = if c == '\\' { escaped(chars)? } else { Set::of(&[(c, c)]) };
        let ([(low, end)], false) = (low.ranges.as_slice(), low.negated) else {
            if low.negated {
                return Err(Malformed::NegatedEscape);
            }
            set.ranges.extend(low.ranges);
            continue;
        };
        let (low, end) = (*low, *end);
        let range = chars.as_str().strip_prefix('-').filter(|rest| !rest.starts_with(']') && low == end);
        let Some(rest) = range else {
            set.ranges.push((low, end));
            continue;
        };
        *chars = rest.chars();
        let c = chars.next().ok_or(Malformed::OpenClass)?;
        let high = if c == '\\' { escaped(chars)? } else { Set::of(&[(c, c)]) };
        match (high.ranges.as_slice(), high.negated) {
            ([(high, end)], false) if high == end && low <= *high => set.ranges.push((low, *high)),
            _ => return Err(Malformed::BackwardRange),
        }
    }
}

/// What a `\` and the next character stand for.
fn escaped(chars: &mut std::str::Chars<'_>) -> Result<Set, Malformed> {
    let c = chars.next().ok_or(Malformed::LooseEscape)?;
    let digit = ('0', '9');
    let word = [digit, ('A', 'Z'), ('_', '_'), ('a', 'z')];
    let space = [('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
    Ok(match c {
        'd' => Set::of(&[digit]),
        'D' => Set { negated: true, ranges: vec![digit] },
        'w' => Set::of(&word),
        'W' => Set { negated: true, ranges: word.to_vec() },
        's' => Set::of(&space),
        'S' => Set { negated: true, ranges: space.to_vec() },
        'a' => Set::of(&[('\u{7}', '\u{7}')]),
        'f' => Set::of(&[('\u{c}', '\u{c}')]),
        'n' => Set::of(&[('\n', '\n')]),
        'r' => Set::of(&[('\r', '\r')]),
        't' => Set::of(&[('\t', '\t')]),
        'v' => Set::of(&[('\u{b}', '\u{b}')]),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Set::of(&[(c, c)]),
        _ => return Err(Malformed::UnknownEscape),
    })
}

/// Takes all ways through the steps at once: at most as many as there are steps for each character of the path.
fn run(steps: &[Step], path: &str) -> bool {
    // The state after the last step is that of a match. `inside` marks a step for folders that has begun.
    let mut now = vec![false; steps.len() + 1];
    let mut inside = vec![false; steps.len()];
    if let Some(start) = now.first_mut() {
        *start = true;
    }
    let mut before = None;
    for c in path.chars() {
        settle(steps, &mut now, before, Some(c));
        let mut next = vec![false; steps.len() + 1];
        let mut next_inside = vec![false; steps.len()];
        let mut alive = false;
        for (index, step) in steps.iter().enumerate() {
            let here = now.get(index).copied().unwrap_or(false);
            let begun = inside.get(index).copied().unwrap_or(false);
            let (stay, go) = match step {
                Step::One(set) => (false, here && set.contains(c)),
                Step::Many(set) => (here && set.contains(c), false),
                Step::Folders if here || begun => {
                    if let Some(place) = next_inside.get_mut(index) {
                        *place = c != '\n';
                        alive |= *place;
                    }
                    (false, c == '/')
                }
                Step::Folders | Step::At(_) => (false, false),
            };
            alive |= stay || go;
            for (place, reached) in [(index, stay), (index + 1, go)] {
                if let Some(place) = next.get_mut(place) {
                    *place |= reached;
                }
            }
        }
        if !alive {
            return false;
        }
        (now, inside) = (next, next_inside);
        before = Some(c);
    }
    settle(steps, &mut now, before, None);
    now.last().copied().unwrap_or(false)
}

/// Goes on over steps that may take nothing.
fn settle(steps: &[Step], states: &mut [bool], before: Option<char>, after: Option<char>) {
    for (index, step) in steps.iter().enumerate() {
        let passable = match step {
            Step::Many(_) | Step::Folders => true,
            Step::At(place) => place.is_between(before, after),
            Step::One(_) => false,
        };
        if passable
            && states.get(index).copied().unwrap_or(false)
            && let Some(next) = states.get_mut(index + 1)
        {
            *next = true;
        }
    }
}
