//! `cargo xtask test`: every check, each group with its time, and a summary at the end.

mod engines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::setup::{self, Purpose};
use crate::workspace::{Profile, Workspace};
use crate::{appliance, build, crosscheck, out, process, tidy, wire};
use engines::{Engines, Record};

/// What can be run alone, in the order in which all of it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Fmt,
    Clippy,
    Gen,
    Tidy,
    Cross,
    Unit,
    Ui,
    Engine,
    Vm,
    Browser,
    Desktop,
}

impl Group {
    const ALL: [Self; 11] = [
        Self::Fmt,
        Self::Clippy,
        Self::Gen,
        Self::Tidy,
        Self::Cross,
        Self::Unit,
        Self::Ui,
        Self::Engine,
        Self::Vm,
        Self::Browser,
        Self::Desktop,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Gen => "gen",
            Self::Tidy => "tidy",
            Self::Cross => "cross",
            Self::Unit => "unit",
            Self::Ui => "ui",
            Self::Engine => "engine",
            Self::Vm => "vm",
            Self::Browser => "browser",
            Self::Desktop => "desktop",
        }
    }

    /// The groups asked for, all of them when none is, always in our order.
    pub(crate) fn parse(arguments: &[String]) -> Result<Vec<Self>, Error> {
        let known = || Self::ALL.map(Self::name).join(" ");
        for argument in arguments {
            if !Self::ALL.iter().any(|group| group.name() == argument) {
                return Err(Error::Usage { problem: format!("there is no group `{argument}`; there is: {}", known()) });
            }
        }
        let wanted = |group: &Self| arguments.is_empty() || arguments.iter().any(|argument| argument == group.name());
        Ok(Self::ALL.into_iter().filter(wanted).collect())
    }

    fn purposes(self) -> &'static [Purpose] {
        use Purpose::{Browser, BrowserTests, Build, Desktop, DesktopTests, Engine, EngineTests};
        match self {
            Self::Fmt | Self::Ui => &[Browser],
            // The group `cross` finds its compiler itself: where there is none, the others can still run.
            Self::Gen | Self::Tidy | Self::Cross => &[],
            Self::Clippy | Self::Unit => &[Build, Browser, Desktop],
            Self::Engine | Self::Vm => &[Build, Engine, EngineTests],
            Self::Browser => &[Build, Browser, Engine, EngineTests, BrowserTests],
            Self::Desktop => &[Build, Browser, Engine, EngineTests, BrowserTests, Desktop, DesktopTests],
        }
    }
}

/// Sets up and runs the groups. Fails when one of them did, after all have run.
pub(crate) fn test(workspace: &Workspace, groups: &[Group]) -> Result<(), Error> {
    let started = Instant::now();
    let mut purposes: Vec<Purpose> = groups.iter().flat_map(|group| group.purposes()).copied().collect();
    purposes.sort_unstable();
    purposes.dedup();
    setup::ensure(workspace, &purposes)?;

    let mut runner = Runner { workspace, groups, steps: BTreeMap::new(), appliance: None, old_dockerd: None };
    let mut results = Vec::with_capacity(groups.len());
    let mut failures = Vec::new();
    for group in groups {
        out::header(group.name());
        let began = Instant::now();
        let result = runner.run(*group);
        let time = began.elapsed();
        match &result {
            Ok(()) => out::line(format!("{}: pass, {}", group.name(), out::duration(time))),
            Err(error) => out::line(format!("{}: FAIL, {}\n{}", group.name(), out::duration(time), error.report())),
        }
        results.push(Outcome { group: *group, passed: result.is_ok(), time });
        failures.extend(result.err().map(|error| (*group, error)));
    }
    for (group, error) in &failures {
        out::line(last_words(*group, error));
    }
    out::line(summary(&results, started.elapsed()));
    let failed = results.iter().filter(|outcome| !outcome.passed).count();
    if failed == 0 { Ok(()) } else { Err(Error::Groups { failed, total: results.len() }) }
}

#[derive(Debug)]
struct Outcome {
    group: Group,
    passed: bool,
    time: Duration,
}

/// What a failed group said last: its own output may be far above.
fn last_words(group: Group, error: &Error) -> String {
    let mut text = format!("\n{} failed: {}", group.name(), error.report());
    let several = if let Error::Scripts { failed, .. } = error { failed.as_slice() } else { &[] };
    for error in several.iter().chain([error]) {
        let Error::FailedAfter { command, lines, .. } = error else { continue };
        text.push_str(&format!("\n  the end of what `{command}` said:"));
        for line in lines {
            text.push_str("\n  | ");
            text.push_str(line);
        }
    }
    text
}

fn summary(results: &[Outcome], total: Duration) -> String {
    let mut text = format!("\n{:<10}{:<8}{}\n", "group", "result", "time");
    for outcome in results {
        let result = if outcome.passed { "pass" } else { "FAIL" };
        text.push_str(&format!("{:<10}{:<8}{}\n", outcome.group.name(), result, out::duration(outcome.time)));
    }
    let failed: Vec<&str> =
        results.iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.group.name()).collect();
    let time = out::duration(total);
    if failed.is_empty() {
        text.push_str(&format!("\nEvery group passed, in {time}.\n"));
    } else {
        let failed = failed.join(" ");
        text.push_str(&format!("\nNot good yet: {failed}, in {time}. Again: cargo xtask test {failed}\n"));
    }
    let passed = results.len() - failed.len();
    text.push_str(&format!("{passed} passed, {} failed", failed.len()));
    text
}

/// What several groups need and is made once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    UiModules,
    UiBuild,
    Appliance,
    OldEngine,
    Programs,
    Nextest,
    TauriDriver,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::UiModules => "installing the interface's packages",
            Self::UiBuild => "building the interface",
            Self::Appliance => "building the appliance",
            Self::OldEngine => "unpacking the old engine",
            Self::Programs => "building the programs",
            Self::Nextest => "installing cargo-nextest",
            Self::TauriDriver => "installing tauri-driver",
        }
    }
}

/// The scripts of `tests/vm`, and what each is told besides where the programs are.
const VM_SCRIPTS: [(&str, &[&str]); 7] = [
    ("machine.sh", &[]),
    ("shares.sh", &[]),
    ("life.sh", &[]),
    ("images.py", &[]),
    ("wsl.py", &[]),
    // Fifty rounds take half an hour.
    ("kills.py", &["--rounds", "3"]),
    // Those that do not take minutes each.
    ("edges.py", &["--only", "inputs", "owner", "names", "clock", "sleep", "buttons", "panic", "damaged"]),
];

#[derive(Debug)]
struct Runner<'a> {
    workspace: &'a Workspace,
    groups: &'a [Group],
    steps: BTreeMap<Step, bool>,
    appliance: Option<PathBuf>,
    old_dockerd: Option<PathBuf>,
}

impl Runner<'_> {
    /// Whether both groups of Rust tests run, so that all is built at once.
    fn whole(&self) -> bool {
        [Group::Unit, Group::Engine].iter().all(|group| self.groups.contains(group))
    }

    fn run(&mut self, group: Group) -> Result<(), Error> {
        match group {
            Group::Fmt => self.fmt(),
            Group::Clippy => self.clippy(),
            Group::Gen => wire::check(self.workspace),
            Group::Tidy => tidy::tidy(self.workspace),
            Group::Cross => crosscheck::crosscheck(self.workspace),
            Group::Unit => self.unit(),
            Group::Ui => self.ui(),
            Group::Engine => self.engine(),
            Group::Vm => self.vm(),
            Group::Browser => self.end_to_end("tests/browser", &[]),
            Group::Desktop => self.end_to_end("tests/desktop", &[Step::TauriDriver]),
        }
    }

    fn fmt(&mut self) -> Result<(), Error> {
        // Both, even when the first finds something: one run should say it all.
        let rust = process::run_remembered(self.workspace.cargo().args(["fmt", "--all", "--check"]));
        let interface = self.need(&[Step::UiModules]).and_then(|()| {
            let folder = self.workspace.path("ui");
            let prettier = folder.join("node_modules/.bin/prettier");
            process::run_remembered(self.workspace.command(prettier).args(["--check", "."]).current_dir(folder))
        });
        rust.and(interface)
    }

    fn clippy(&mut self) -> Result<(), Error> {
        // The desktop window embeds ui/dist when it is compiled.
        self.need(&[Step::UiModules, Step::UiBuild])?;
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        process::run_remembered(self.workspace.cargo().args(arguments))
    }

    fn unit(&mut self) -> Result<(), Error> {
        // Some tests start the testkit's programs, which a build of tests alone does not make.
        self.need(&[Step::UiModules, Step::UiBuild, Step::Nextest, Step::Programs])?;
        let mut command = self.workspace.cargo();
        command.args(["nextest", "run"]);
        if self.whole() {
            command.args(build::EVERYTHING).args(["--filterset", "not package(berth-engine-tests)"]);
        } else {
            command.args(build::EVERYTHING).args(["--exclude", "berth-engine-tests"]);
        }
        process::run_remembered(&mut command)
    }

    fn ui(&mut self) -> Result<(), Error> {
        self.need(&[Step::UiModules])?;
        for script in ["check", "test"] {
            // With CI set, a test runner that would watch for changes at a terminal runs once.
            process::run_remembered(
                self.workspace.command("npm").args(["--prefix", "ui", "run", script]).env("CI", "1"),
            )?;
        }
        self.need(&[Step::UiBuild])
    }

    fn engine(&mut self) -> Result<(), Error> {
        self.must_exist("tests/engine/Cargo.toml", "the group engine")?;
        self.need(&[Step::Nextest, Step::OldEngine, Step::Appliance, Step::Programs])?;
        let engines = Engines::start(self.environment(&mut self.workspace.command(engines::program(self.workspace))))?;
        let record = Record::new(self.workspace)?;
        let mut command = self.workspace.cargo();
        // More than there are processors: what a case does mostly is wait for an engine.
        command.args(["nextest", "run", "--test-threads", "4"]);
        if self.whole() {
            command.args(build::EVERYTHING).args(["--filterset", "package(berth-engine-tests)"]);
        } else {
            command.args(["--package", "berth-engine-tests"]);
        }
        engines.environment(&mut command);
        record.environment(&mut command);
        let tested = process::run_remembered(self.environment(&mut command));
        // The examples of the client's documentation, on the same engine.
        let mut examples = self.workspace.cargo();
        examples.args(["test", "--quiet", "--doc"]);
        examples.args(if self.whole() { &["--workspace"][..] } else { &["--package", "berth-engine"][..] });
        engines.environment(&mut examples);
        let tested = tested.and(process::run_remembered(&mut examples));
        drop(engines);
        // What came of it is told in any case; why it failed comes before what was not called.
        let reported = record.report(self.workspace);
        tested.and(reported)
    }

    /// The engine in its machine: from its first start to what is left of it, its folders, its data's life, and system images
    /// that do not work.
    fn vm(&mut self) -> Result<(), Error> {
        self.need(&[Step::Appliance, Step::Programs])?;
        appliance::ensure_with_archive(self.workspace)?;
        // All of them, even when the first finds something.
        let mut failed = Vec::new();
        for (script, arguments) in VM_SCRIPTS {
            out::line(format!("-- tests/vm/{script}"));
            let mut command = match Path::new(script).extension() {
                Some(extension) if extension == "py" => self.workspace.command("python3"),
                _ => self.workspace.command("bash"),
            };
            // Nothing is left beside the tests.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
                .arg(self.workspace.path(&format!("tests/vm/{script}")))
                .arg(self.workspace.target("debug"))
                .args(arguments);
            if let Some(appliance) = &self.appliance {
                let present = std::env::var_os("PATH").unwrap_or_default();
                // Last, for beside the client may be programs of another system.
                let more = [appliance.join("root/usr/bin"), self.workspace.target("tools/bin")];
                if let Ok(path) = std::env::join_paths(std::env::split_paths(&present).chain(more)) {
                    command.env("PATH", path);
                }
            }
            failed.extend(process::run_remembered(self.environment(&mut command)).err());
        }
        if failed.is_empty() { Ok(()) } else { Err(Error::Scripts { failed, total: VM_SCRIPTS.len() }) }
    }

    fn end_to_end(&mut self, folder: &str, also: &[Step]) -> Result<(), Error> {
        self.must_exist(&format!("{folder}/package.json"), &format!("the tests in {folder}"))?;
        self.need(also)?;
        self.need(&[Step::OldEngine, Step::UiModules, Step::UiBuild, Step::Appliance, Step::Programs])?;
        build::node_modules(self.workspace, folder)?;
        let mut command = self.workspace.command("npm");
        command.args(["--prefix", folder, "test"]);
        process::run_remembered(self.environment(&mut command))
    }

    fn must_exist(&self, path: &str, needed_for: &str) -> Result<(), Error> {
        let path = self.workspace.path(path);
        if path.exists() { Ok(()) } else { Err(Error::Missing { path, needed_for: needed_for.to_owned() }) }
    }

    fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        build::environment(command, self.workspace, Profile::Debug);
        if let Some(appliance) = &self.appliance {
            command.env("BERTH_APPLIANCE", appliance);
        }
        if let Some(dockerd) = &self.old_dockerd {
            command.env("BERTH_OLD_DOCKERD", dockerd);
        }
        command
    }

    /// Does the steps that were not done before; one that failed is not tried again.
    fn need(&mut self, steps: &[Step]) -> Result<(), Error> {
        for step in steps {
            match self.steps.get(step) {
                Some(true) => {}
                Some(false) => return Err(Error::Prerequisite { step: step.name() }),
                None => {
                    let result = self.prepare(*step);
                    self.steps.insert(*step, result.is_ok());
                    result?;
                }
            }
        }
        Ok(())
    }

    fn prepare(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::UiModules => build::node_modules(self.workspace, "ui"),
            Step::UiBuild => build::ui(self.workspace),
            Step::Appliance => appliance::ensure(self.workspace).map(|path| self.appliance = Some(path)),
            Step::OldEngine => setup::old_engine(self.workspace).map(|dockerd| self.old_dockerd = Some(dockerd)),
            Step::Programs if self.whole() => build::everything(self.workspace),
            Step::Programs => {
                let mut packages = build::COMMAND.to_vec();
                packages.push(build::TESTKIT);
                if self.groups.contains(&Group::Desktop) {
                    packages.push(build::DESKTOP);
                }
                build::programs(self.workspace, Profile::Debug, &packages)
            }
            Step::Nextest => setup::nextest(self.workspace),
            Step::TauriDriver => setup::tauri_driver(self.workspace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Vec<Group>, Error> {
        Group::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn groups_run_in_one_order_however_they_are_named() -> Result<(), Error> {
        assert_eq!(parse(&["unit", "fmt"])?, [Group::Fmt, Group::Unit]);
        assert_eq!(parse(&[])?, Group::ALL, "no name means every group");
        assert!(parse(&["units"]).is_err(), "a slip must not pass as nothing to do");
        Ok(())
    }

    #[test]
    fn the_summary_ends_with_the_bare_count() {
        let outcome = |group, passed| Outcome { group, passed, time: Duration::from_secs(2) };
        let text = summary(&[outcome(Group::Fmt, true), outcome(Group::Unit, false)], Duration::from_secs(61));
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed"));
        assert!(text.contains("cargo xtask test unit"), "how to run the failed ones again: {text}");
        assert!(text.contains("1 min 01 s"), "{text}");
    }

    #[test]
    fn why_a_group_failed_is_told_once_more_at_the_end() {
        let failed = |line: &str| Error::FailedAfter {
            command: "bash machine.sh".to_owned(),
            status: "exit status: 1".to_owned(),
            lines: vec![line.to_owned()],
        };
        let text = last_words(Group::Vm, &Error::Scripts { failed: vec![failed("one"), failed("two")], total: 4 });
        assert!(text.contains("vm failed: 2 of 4 scripts failed"), "{text}");
        assert!(text.contains("| one") && text.contains("| two"), "{text}");
    }

    #[test]
    fn a_missing_folder_is_an_error_and_not_a_pass() {
        let workspace = Workspace::at(Path::new("/nonexistent"));
        let groups = [Group::Browser];
        let mut runner = Runner {
            workspace: &workspace,
            groups: &groups,
            steps: BTreeMap::new(),
            appliance: None,
            old_dockerd: None,
        };
        assert!(matches!(runner.run(Group::Browser), Err(Error::Missing { .. })));
    }

    #[test]
    fn a_failed_step_is_not_tried_again() {
        let workspace = Workspace::at(Path::new("/nonexistent"));
        let steps = BTreeMap::from([(Step::UiBuild, false)]);
        let mut runner = Runner { workspace: &workspace, groups: &[], steps, appliance: None, old_dockerd: None };
        assert!(matches!(runner.need(&[Step::UiBuild]), Err(Error::Prerequisite { .. })));
    }
}
