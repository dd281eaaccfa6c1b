//! Rules about the text of a file.

use super::Finding;
use super::mask::{Class, classify, code_only};

/// The files that the rules are about.
pub(super) const EXTENSIONS: &[&str] = &["rs", "ts", "svelte"];

const LONGEST: usize = 600;
const GENERATED: &str = "ui/src/wire/";
/// The only folders that may know they run inside Tauri.
const TAURI_FOLDERS: &[&str] = &["ui/src/transport/", "ui/src/platform/"];

/// Everything there is to say about one file.
pub(super) fn check(path: &str, source: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path.starts_with(GENERATED) {
        return findings;
    }
    let lines = source.lines().count();
    if lines > LONGEST {
        let message = format!("{lines} lines; split it by purpose into files of at most {LONGEST}");
        findings.push(Finding::new(path, LONGEST + 1, message));
    }
    postponed(path, source, &mut findings);
    if path.ends_with(".rs") {
        rust(path, source, &mut findings);
    } else {
        interface(path, source, &mut findings);
    }
    findings
}

/// Notes to do something later. The words are put together here so that this file passes.
fn postponed(path: &str, source: &str, findings: &mut Vec<Finding>) {
    for word in [concat!("TO", "DO"), concat!("FIX", "ME")] {
        for at in words(source, word) {
            let message = format!("`{word}`: do it now, or write it down where the project plans its work");
            findings.push(Finding::new(path, line_at(source, at), message));
        }
    }
}

fn rust(path: &str, source: &str, findings: &mut Vec<Finding>) {
    let classes = classify(source);
    let code = code_only(source, &classes);
    let mut report = |at: usize, message: &str| findings.push(Finding::new(path, line_at(source, at), message));

    for name in ["todo", "unimplemented", "dbg"] {
        for at in words(&code, name) {
            let rest = code.get(at + name.len()..).unwrap_or_default();
            if rest.starts_with('!') {
                report(at, &format!("`{name}!` is for a moment at your desk; finish the code"));
            }
        }
    }
    for at in words(&code, "Result") {
        if second_argument(code.get(at + "Result".len()..).unwrap_or_default()).is_some_and(is_text) {
            report(at, "an error that is only text cannot be told from another; use a thiserror enum");
        }
    }
    for name in ["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "unbounded"] {
        for at in words(&code, name) {
            report(at, "an unbounded channel; bound it, and let the queue's type name its policy");
        }
    }
    for at in unbounded_std_channels(&code) {
        report(at, "`mpsc::channel()` is unbounded; use `sync_channel`, or tokio's with a capacity");
    }
    if path.starts_with("crates/vm/src/") {
        for at in foreign_engine_uses(&code) {
            report(at, "vm may use `berth_engine::Endpoint` and nothing else; move the code to app");
        }
    }

    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        let in_literal = |index: usize| classes.get(start + index) == Some(&Class::Literal);
        if content.ends_with([' ', '\t']) && !in_literal(content.len() - 1) {
            report(start, "white space at the end of the line; run `cargo fmt`");
        }
        if content.match_indices('\t').any(|(index, _)| !in_literal(index)) {
            report(start, "a tab; indent with spaces");
        }
        start += line.len();
    }
}

fn interface(path: &str, source: &str, findings: &mut Vec<Finding>) {
    let mut report = |at: usize, message: &str| findings.push(Finding::new(path, line_at(source, at), message));
    for (at, _) in source.match_indices("{@html") {
        report(at, "`{@html}` would trust names and logs of containers; render text or elements");
    }
    let is_interface = path.starts_with("ui/src/");
    if is_interface && !TAURI_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        for (at, _) in source.match_indices("@tauri-apps/") {
            let is_quoted = source.get(..at).is_some_and(|before| before.ends_with(['"', '\'', '`']));
            if is_quoted {
                report(at, "only ui/src/transport and ui/src/platform import `@tauri-apps/`; go through them");
            }
        }
    }
}

/// Where a word stands alone.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text.get(..*at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The second of the type arguments that open here.
fn second_argument(rest: &str) -> Option<&str> {
    let arguments = rest.trim_start().strip_prefix("::").unwrap_or(rest).trim_start().strip_prefix('<')?;
    let mut depth = 0_i32;
    let mut start = None;
    let mut previous = ' ';
    for (index, character) in arguments.char_indices() {
        match character {
            '<' | '(' | '[' => depth += 1,
            '>' if previous == '-' => {}
            '>' if depth == 0 => return arguments.get(start?..index).map(|found| found.trim().trim_end_matches(',')),
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 && start.is_none() => start = Some(index + 1),
            _ => {}
        }
        previous = character;
    }
    None
}

fn is_text(kind: &str) -> bool {
    matches!(kind.trim(), "String" | "std::string::String" | "&str" | "&'static str")
}

/// Calls of the standard library's `mpsc::channel`, which takes no capacity.
fn unbounded_std_channels(code: &str) -> Vec<usize> {
    let starts = code.match_indices("mpsc::channel");
    starts
        .filter(|(at, found)| {
            let mut rest = code.get(at + found.len()..).unwrap_or_default();
            if let Some(turbofish) = rest.strip_prefix("::<") {
                let end = turbofish.find('(').unwrap_or(0);
                rest = turbofish.get(end..).unwrap_or_default();
            }
            rest.strip_prefix('(').is_some_and(|arguments| arguments.trim_start().starts_with(')'))
        })
        .map(|(at, _)| at)
        .collect()
}

/// Uses of the engine crate other than its `Endpoint`.
fn foreign_engine_uses(code: &str) -> Vec<usize> {
    words(code, "berth_engine")
        .filter(|at| {
            let rest = code.get(at + "berth_engine".len()..).unwrap_or_default();
            let Some(rest) = rest.strip_prefix("::") else { return true };
            let list = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default(),
                None => {
                    rest.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap_or("")
                }
            };
            !list.split(',').map(str::trim).filter(|name| !name.is_empty()).all(|name| name == "Endpoint")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(path: &str, source: &str) -> Vec<usize> {
        check(path, source).iter().map(|finding| finding.line).collect()
    }

    fn rust_lines(source: &str) -> Vec<usize> {
        lines("crates/app/src/lib.rs", source)
    }

    #[test]
    fn long_files_are_found() {
        let line = "fn f() {}\n";
        assert_eq!(rust_lines(&line.repeat(600)), NONE);
        assert_eq!(rust_lines(&line.repeat(601)), [601]);
        assert_eq!(lines("ui/src/wire/Row.ts", &line.repeat(601)), NONE, "nobody reads generated files");
    }

    #[test]
    fn errors_that_are_text_are_found() {
        assert_eq!(rust_lines("fn f() -> Result<(), String> {}"), [1]);
        assert_eq!(rust_lines("fn f() -> Result<\n    Vec<(u8, u8)>,\n    String,\n> {}"), [1]);
        assert_eq!(rust_lines("type A = Result<fn(u8) -> u8, &'static str>;"), [1]);
        assert_eq!(rust_lines("fn f() -> Result<String, Error> {}"), NONE);
        assert_eq!(rust_lines("fn f() -> Result<Vec<Result<u8, Error>>, Error> {}"), NONE);
        assert_eq!(rust_lines("fn f() -> io::Result<String> {}"), NONE);
        assert_eq!(rust_lines("// never Result<(), String>\nlet x = \"Result<(), String>\";"), NONE);
    }

    #[test]
    fn unbounded_channels_are_found() {
        assert_eq!(rust_lines("let a = mpsc::unbounded_channel();"), [1]);
        assert_eq!(rust_lines("let a = mpsc::channel();\nlet b = mpsc::channel::<Vec<u8>>();"), [1, 2]);
        assert_eq!(rust_lines("let a = mpsc::channel(8);\nlet b = mpsc::channel::<u8>(8);"), NONE);
        assert_eq!(rust_lines("let a = oneshot::channel();"), NONE, "a oneshot holds one value");
    }

    #[test]
    fn postponed_work_is_found_in_code_and_comments() {
        let word = concat!("TO", "DO");
        assert_eq!(rust_lines(&format!("// {word}: later")), [1]);
        assert_eq!(lines("ui/src/app.svelte", &format!("<!-- {word} -->")), [1]);
        assert_eq!(rust_lines("fn f() {\n    todo!()\n}"), [2]);
        assert_eq!(rust_lines("dbg!(x);"), [1]);
        assert_eq!(rust_lines("let todo = 1; let s = \"todo!\";"), NONE);
    }

    #[test]
    fn white_space_is_found_outside_of_literals() {
        assert_eq!(rust_lines("fn f() {} \n"), [1]);
        assert_eq!(rust_lines("\tfn f() {}\n"), [1]);
        assert_eq!(rust_lines("// why \n"), [1]);
        assert_eq!(rust_lines("let a = \"x \n\ty\";\n"), NONE);
    }

    #[test]
    fn hostile_text_is_never_markup() {
        assert_eq!(lines("ui/src/features/row.svelte", "<p>\n{@html name}\n</p>"), [2]);
        assert_eq!(lines("ui/src/features/row.svelte", "<p>{name}</p>"), NONE);
    }

    #[test]
    fn tauri_is_imported_in_two_folders_only() {
        let source = "import { invoke } from \"@tauri-apps/api/core\";";
        assert_eq!(lines("ui/src/transport/tauri.ts", source), NONE);
        assert_eq!(lines("ui/src/platform/dialog.ts", source), NONE);
        assert_eq!(lines("ui/src/features/list.svelte", source), [1]);
        assert_eq!(lines("ui/src/state/world.ts", "// not @tauri-apps/api"), NONE, "to speak of it is fine");
    }

    #[test]
    fn vm_knows_the_endpoint_alone() {
        let vm = |source| lines("crates/vm/src/lib.rs", source);
        assert_eq!(
            vm("use berth_engine::Endpoint;\nuse berth_engine::{Endpoint};\nfn f(a: &berth_engine::Endpoint) {}"),
            NONE
        );
        assert_eq!(vm("use berth_engine::Client;"), [1]);
        assert_eq!(vm("use berth_engine::{Endpoint, Client};"), [1]);
        assert_eq!(vm("use berth_engine as engine;"), [1]);
        assert_eq!(rust_lines("use berth_engine::Client;"), NONE, "the rule is about vm");
    }
}
