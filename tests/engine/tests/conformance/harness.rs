//! Runs every case against every engine, each as one test: `bundled::containers::create_conflicts`.

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_engine::{ContainerRef, Docker, Endpoint, Filters};
use berth_testkit::engines::{self, EngineKind, TestEngine};
use berth_testkit::raw::{Raw, encode};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

use crate::differences::{DIFFERENCES, Difference};

/// Generous, for two cores that do other work: it only says when to give up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The label that everything a case makes has, with a value of its own.
const LABEL: &str = "berth.test";

/// How a case ended that did not panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    #[allow(dead_code, reason = "most differences show as a failure")]
    /// The engine does something else, and the case saw what. It must be declared in `differences.rs` in these words.
    Differs(&'static str),
}

type Body = for<'a> fn(Docker, &'a CaseContext) -> BoxFuture<'a, Outcome>;

/// One case; see [`case!`].
#[derive(Clone, Copy)]
pub(crate) struct Case {
    name: &'static str,
    body: Body,
    exclusive: bool,
}

impl Case {
    pub(crate) const fn new(name: &'static str, body: Body) -> Self {
        Self { name, body, exclusive: false }
    }

    /// It changes the engine as a whole, so that it gets one of its own. That takes seconds.
    pub(crate) const fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }
}

/// A case of a function `async fn name(docker: Docker, cx: &CaseContext) -> Outcome`.
macro_rules! case {
    ($name:ident) => {
        $crate::harness::Case::new(stringify!($name), |docker, cx| Box::pin($name(docker, cx)))
    };
}
pub(crate) use case;

/// What a case knows of where it runs. What is made with its label is removed after the case, however that ends.
pub(crate) struct CaseContext {
    engine: EngineKind,
    socket: PathBuf,
    unique: String,
    removed_later: Mutex<Vec<String>>,
}

impl fmt::Debug for CaseContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaseContext({} at {})", self.engine, self.socket.display())
    }
}

#[allow(dead_code, reason = "the areas use of it what they need")]
impl CaseContext {
    fn new(engine: EngineKind, socket: &Path) -> Self {
        // Randomly seeded hashing saves a dependency where it need not be unguessable.
        let unique = format!("{:08x}", RandomState::new().build_hasher().finish() >> 32);
        Self { engine, socket: socket.to_owned(), unique, removed_later: Mutex::default() }
    }

    /// Which engine this is. A case that asks had better be two cases, or a declared difference.
    pub(crate) fn engine(&self) -> EngineKind {
        self.engine
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client with connections of its own.
    pub(crate) fn docker(&self) -> Docker {
        Docker::new(Endpoint::Unix(self.socket.clone()))
    }

    /// Requests that pass by Berth's client, for what only prepares or checks a case.
    pub(crate) fn raw(&self) -> Raw {
        Raw::new(&self.socket)
    }

    /// A name that no other case has.
    pub(crate) fn name(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.unique)
    }

    /// The label that marks what this case made, as `key=value`.
    pub(crate) fn label(&self) -> String {
        format!("{LABEL}={}", self.unique)
    }

    /// The same as the `Labels` of a body.
    pub(crate) fn labels(&self) -> Value {
        json!({ LABEL: self.unique })
    }

    /// Finds what this case made, and keeps lists and prunes away from what others did.
    pub(crate) fn filters(&self) -> Filters {
        Filters::default().with("label", self.label())
    }

    /// The body of a container that a case may create: of the test image, without network, stopped in a second. `extra`
    /// overrides its members.
    pub(crate) fn container_body(&self, command: &[&str], extra: Value) -> Value {
        let mut body = json!({
            "Image": "busybox:test", "Cmd": command, "StopTimeout": 1, "HostConfig": { "NetworkMode": "none" },
            "Labels": self.labels(),
        });
        let Value::Object(extra) = extra else { return body };
        for (name, value) in extra {
            match (&mut body[&name], value) {
                // Labels add up, or the case would lose its own.
                (Value::Object(labels), Value::Object(more)) if name == "Labels" => labels.extend(more),
                (member, value) => *member = value,
            }
        }
        body
    }

    /// Creates a container of [`Self::container_body`], named after `prefix`.
    pub(crate) async fn container(&self, prefix: &str, command: &[&str], extra: Value) -> ContainerRef {
        let name = self.name(prefix);
        let body = self.container_body(command, extra);
        let created = self.raw().post(&format!("/containers/create?name={}", encode(&name)), &body).await.unwrap();
        created["Id"].as_str().unwrap().parse().unwrap()
    }

    /// Creates and starts one.
    pub(crate) async fn running(&self, prefix: &str, command: &[&str], extra: Value) -> ContainerRef {
        let container = self.container(prefix, command, extra).await;
        self.raw().post(&format!("/containers/{container}/start"), &Value::Null).await.unwrap();
        container
    }

    /// Removes something that can have no label after the case, such as `/images/web:1?force=1`. The latest first.
    pub(crate) fn remove_later(&self, path: impl Into<String>) {
        self.removed_later.lock().unwrap_or_else(PoisonError::into_inner).push(path.into());
    }

    async fn clean_up(&self) {
        let raw = self.raw();
        let later = std::mem::take(&mut *self.removed_later.lock().unwrap_or_else(PoisonError::into_inner));
        let filters = encode(&json!({ "label": [self.label()] }).to_string());
        self.remove_all(&format!("/containers/json?all=1&filters={filters}"), "", "Id", |id| {
            format!("/containers/{id}?force=1&v=1")
        })
        .await;
        for path in later.iter().rev() {
            raw.delete(path).await;
        }
        self.remove_all(&format!("/networks?filters={filters}"), "", "Id", |id| format!("/networks/{id}")).await;
        self.remove_all(&format!("/volumes?filters={filters}"), "/Volumes", "Name", |name| {
            format!("/volumes/{name}?force=1")
        })
        .await;
        self.remove_all(&format!("/images/json?all=1&filters={filters}"), "", "Id", |id| {
            format!("/images/{id}?force=1")
        })
        .await;
    }

    async fn remove_all(&self, list: &str, within: &str, key: &str, path: fn(&str) -> String) {
        let raw = self.raw();
        // An engine that a case has stopped has nothing to clean up either.
        let found = raw.get(list).await.unwrap_or_default();
        for entry in found.pointer(within).and_then(Value::as_array).into_iter().flatten() {
            if let Some(id) = entry[key].as_str() {
                raw.delete(&path(id)).await;
            }
        }
    }
}

/// Why a case failed, in the words of its panic.
#[derive(Clone, Debug)]
struct Failure(String);

type Started = Result<Arc<TestEngine>, Failure>;

/// Engines that this process started because the environment named none.
#[derive(Default)]
struct Engines {
    started: [Mutex<Option<Started>>; EngineKind::ALL.len()],
}

impl Engines {
    fn socket(&self, kind: EngineKind) -> Result<PathBuf, Failure> {
        if let Some(socket) = kind.shared() {
            return Ok(socket);
        }
        let mut started = self.started[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let engine = started.get_or_insert_with(|| start(TestEngine::start(kind)).map(Arc::new));
        engine.as_ref().map(|engine| engine.socket()).map_err(Clone::clone)
    }
}

fn start(starting: impl Future<Output = Result<TestEngine, engines::Error>>) -> Result<TestEngine, Failure> {
    runtime().block_on(starting).map_err(|error| Failure(error.to_string()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs what the command line asks for.
pub(crate) fn run(areas: &[(&'static str, Vec<Case>)]) -> ExitCode {
    berth_engine_tests::record_operations();
    check_differences(areas);
    let engines = Arc::new(Engines::default());
    let mut trials = Vec::new();
    for kind in EngineKind::ALL {
        for (area, cases) in areas {
            for case in cases {
                let (case, engines) = (*case, Arc::clone(&engines));
                let name = format!("{area}::{}", case.name);
                // The test runner tells the expensive ones by their name.
                let suffix = if case.exclusive { "::exclusive" } else { "" };
                let test = format!("{kind}::{name}{suffix}");
                trials.push(Trial::test(test, move || judge(kind, &name, attempt(kind, case, &engines))));
            }
        }
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    drop(engines);
    conclusion.exit_code()
}

fn check_differences(areas: &[(&'static str, Vec<Case>)]) {
    let known =
        |name: &str| areas.iter().any(|(area, cases)| cases.iter().any(|c| format!("{area}::{}", c.name) == name));
    for difference in DIFFERENCES {
        assert!(known(difference.case), "differences.rs names `{}`, and there is no such case", difference.case);
    }
}

fn attempt(kind: EngineKind, case: Case, engines: &Engines) -> Result<Outcome, Failure> {
    let own = if case.exclusive { Some(start(TestEngine::exclusive(kind))?) } else { None };
    let socket = match &own {
        Some(engine) => engine.socket(),
        None => engines.socket(kind)?,
    };
    let context = CaseContext::new(kind, &socket);
    let outcome = runtime().block_on(async {
        let work = AssertUnwindSafe((case.body)(context.docker(), &context)).catch_unwind();
        let outcome = match tokio::time::timeout(2 * PATIENCE, work).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(panic)) => Err(Failure(message(&*panic))),
            Err(_) => Err(Failure("the case hung".to_owned())),
        };
        if own.is_none() {
            context.clean_up().await;
        }
        outcome
    });
    drop(own);
    outcome
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// Holds what came against what was declared, and notes it for the summary.
fn judge(kind: EngineKind, case: &str, outcome: Result<Outcome, Failure>) -> Result<(), Failed> {
    let declared = DIFFERENCES.iter().find(|difference| difference.engine == kind && difference.case == case);
    let verdict = verdict(declared, outcome);
    if let Some(path) = std::env::var_os("BERTH_CASES_FILE").filter(|path| !path.is_empty()) {
        let (word, reason) = match &verdict {
            Ok(None) => ("pass", ""),
            Ok(Some(reason)) => ("differs", *reason),
            Err(_) => ("fail", ""),
        };
        berth_engine_tests::append(Path::new(&path), &format!("{kind}\t{case}\t{word}\t{reason}"));
    }
    verdict.map(drop).map_err(|Failure(text)| Failed::from(text))
}

fn verdict(declared: Option<&Difference>, outcome: Result<Outcome, Failure>) -> Result<Option<&'static str>, Failure> {
    match (outcome, declared) {
        (Ok(Outcome::Pass), None) => Ok(None),
        (Ok(Outcome::Pass), Some(difference)) => {
            Err(Failure(format!("it passes, so take it out of differences.rs, which says: {}", difference.reason)))
        }
        (Ok(Outcome::Differs(reason)), Some(difference)) if difference.reason == reason => Ok(Some(difference.reason)),
        (Ok(Outcome::Differs(reason)), _) => {
            Err(Failure(format!("not declared in differences.rs in these words: {reason}")))
        }
        (Err(failure), Some(difference)) if failure.0.contains(difference.failure) => Ok(Some(difference.reason)),
        (Err(failure), Some(difference)) => {
            Err(Failure(format!("{}\n(it is declared to fail in another way: {})", failure.0, difference.failure)))
        }
        (Err(failure), None) => Err(failure),
    }
}
