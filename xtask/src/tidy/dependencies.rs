//! Who may know whom, from `cargo metadata`.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use super::Finding;
use crate::error::Error;
use crate::workspace::Workspace;

const MAP: &str = "ARCHITECTURE.md";

/// Each crate of the map, its folder, and those of Berth it may know.
const RULES: &[(&str, &str, &[&str])] = &[
    ("berth-wire", "crates/wire", &[]),
    ("berth-engine", "crates/engine", &[]),
    ("berth-store", "crates/store", &[]),
    ("berth-mux", "crates/mux", &[]),
    ("berth-wsl", "crates/wsl", &[]),
    ("berth-guest", "crates/guest", &["berth-mux"]),
    ("berth-testkit", "crates/testkit", &[]),
    ("berth-vm", "crates/vm", &["berth-engine", "berth-mux", "berth-wsl"]),
    ("berth-app", "crates/app", &["berth-wire", "berth-engine", "berth-vm", "berth-store"]),
    ("berth-serve", "crates/serve", &["berth-app", "berth-wire"]),
    ("berth-desktop", "src-tauri", &["berth-app", "berth-wire"]),
    ("berth-cli", "crates/cli", &["berth-serve", "berth-app", "berth-vm"]),
    ("xtask", "xtask", &["berth-wire"]),
];

/// Libraries that one crate alone may see, with everything that is named after them.
const OWNED: &[(&str, &str)] = &[("tauri", "berth-desktop"), ("axum", "berth-serve")];

const TESTKIT: &str = "berth-testkit";

/// One dependency, reduced to what the rule asks.
#[derive(Debug, Clone, Copy)]
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    is_dev: bool,
    /// The crate lives under tests/, where everything may be put together.
    in_tests: bool,
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>, Error> {
    let metadata =
        MetadataCommand::new().manifest_path(workspace.path("Cargo.toml")).no_deps().other_options(offline()).exec()?;
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        check_package(workspace, package, &mut findings);
    }
    let map = std::fs::read_to_string(workspace.path(MAP)).unwrap_or_default();
    findings.extend(unlisted(&map));
    Ok(findings)
}

/// Nothing is looked up: the manifests alone are read.
fn offline() -> Vec<String> {
    vec!["--offline".to_owned()]
}

fn check_package(workspace: &Workspace, package: &Package, findings: &mut Vec<Finding>) {
    let manifest = package.manifest_path.as_std_path();
    let relative = manifest.strip_prefix(workspace.root()).unwrap_or(manifest).to_string_lossy().replace('\\', "/");
    let text = std::fs::read_to_string(manifest).unwrap_or_default();
    let in_tests = relative.starts_with("tests/");
    if !in_tests && !RULES.iter().any(|(name, _, _)| *name == package.name.as_str()) {
        let message =
            format!("`{}` is not on the map; add it to xtask/src/tidy/dependencies.rs and {MAP}", package.name);
        findings.push(Finding::new(&relative, 1, message));
    }
    for dependency in &package.dependencies {
        let is_dev = dependency.kind == DependencyKind::Development;
        let edge = Edge { from: &package.name, to: &dependency.name, is_dev, in_tests };
        if let Some(message) = verdict(edge) {
            findings.push(Finding::new(&relative, line_of(&text, &dependency.name), message));
        }
    }
}

fn verdict(edge: Edge<'_>) -> Option<String> {
    let Edge { from, to, is_dev, in_tests } = edge;
    for (library, owner) in OWNED {
        let is_family = to == *library || to.strip_prefix(library).is_some_and(|rest| rest.starts_with('-'));
        if is_family && from != *owner {
            return Some(format!("only `{owner}` may see `{to}`; move the code that needs it there"));
        }
    }
    let (_, _, allowed) = RULES.iter().find(|(name, _, _)| *name == from)?;
    let is_ours = RULES.iter().any(|(name, _, _)| *name == to);
    if !is_ours || in_tests || from == to {
        return None;
    }
    if to == TESTKIT {
        return (!is_dev).then(|| format!("`{TESTKIT}` is for tests; move it to [dev-dependencies]"));
    }
    if allowed.contains(&to) {
        return None;
    }
    let may = if allowed.is_empty() { "nobody of Berth".to_owned() } else { allowed.join(", ") };
    Some(format!("`{from}` may not know `{to}` (it may know {may}); move the code, or pass what it needs in"))
}

/// The crates that the map leaves out.
fn unlisted(map: &str) -> Vec<Finding> {
    if map.is_empty() {
        return vec![Finding::new(MAP, 1, "is missing or empty; it lists each crate with its purpose and invariants")];
    }
    RULES
        .iter()
        .filter(|(_, folder, _)| !map.contains(folder))
        .map(|(_, folder, _)| {
            Finding::new(MAP, 1, format!("`{folder}` is not listed; add its line and its invariants"))
        })
        .collect()
}

/// The line of a manifest that names a dependency.
fn line_of(manifest: &str, name: &str) -> usize {
    let names_it = |line: &str| {
        let rest = line.trim_start().strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest.lines().position(names_it).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge<'a>(from: &'a str, to: &'a str) -> Edge<'a> {
        Edge { from, to, is_dev: false, in_tests: false }
    }

    #[test]
    fn the_map_is_allowed() {
        for (from, _, allowed) in RULES {
            for to in *allowed {
                assert_eq!(verdict(edge(from, to)), None, "{from} -> {to}");
            }
        }
        assert_eq!(verdict(edge("berth-wire", "serde")), None, "other people's crates are not our rule");
    }

    #[test]
    fn what_the_map_does_not_allow_is_found() {
        for (from, to) in [
            ("berth-wire", "berth-engine"),
            ("berth-engine", "berth-wire"),
            ("berth-vm", "berth-store"),
            ("berth-app", "berth-serve"),
            ("berth-cli", "berth-engine"),
            ("berth-guest", "berth-wire"),
        ] {
            assert!(verdict(edge(from, to)).is_some(), "{from} -> {to}");
        }
    }

    #[test]
    fn libraries_with_an_owner_stay_with_it() {
        assert_eq!(verdict(edge("berth-desktop", "tauri-build")), None);
        assert!(verdict(edge("berth-app", "tauri")).is_some());
        assert!(verdict(edge("berth-serve", "tauri-plugin-dialog")).is_some());
        assert!(verdict(edge("berth-app", "axum")).is_some());
        assert_eq!(verdict(edge("berth-app", "taurine")), None, "only the family, not every name that starts alike");
    }

    #[test]
    fn the_testkit_is_for_tests() {
        assert!(verdict(edge("berth-app", TESTKIT)).is_some());
        assert_eq!(verdict(Edge { is_dev: true, ..edge("berth-app", TESTKIT) }), None);
        let end_to_end = Edge { in_tests: true, ..edge("berth-engine-tests", TESTKIT) };
        assert_eq!(verdict(end_to_end), None, "a crate under tests/ is all test");
    }

    #[test]
    fn a_crate_that_is_not_listed_is_named() {
        let map: String = RULES.iter().map(|(_, folder, _)| format!("`{folder}`\n")).collect();
        assert_eq!(unlisted(&map), []);
        let found = unlisted(&map.replace("crates/guest", ""));
        assert_eq!(found.len(), 1);
        assert!(found.iter().all(|finding| finding.message.contains("crates/guest")));
        assert_eq!(unlisted("").len(), 1, "one line for a missing page, not one for each crate");
    }

    #[test]
    fn the_line_of_a_dependency_is_found() {
        let manifest = "[dependencies]\nberth-vm-extra = \"1\"\nberth-vm.workspace = true\n";
        assert_eq!(line_of(manifest, "berth-vm"), 3);
        assert_eq!(line_of(manifest, "absent"), 1);
    }
}
