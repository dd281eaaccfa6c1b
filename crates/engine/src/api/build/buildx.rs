//! Builds by the buildx program, which serves the builder's session: secrets, agents, files, logins, results.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use super::{BuildUpdate, trace};
use crate::{
    Endpoint,
    api::options::options,
    reference::{Digest, ImageReference},
    registry::{Platform, RegistryAuth, Secret, SecretKind},
};

/// Longest line of the program's that is read, in bytes.
const LINE: usize = 4 * 1024 * 1024;
/// Lines kept of what it says besides its reports, and bytes of each.
const SAID: usize = 40;
const SAID_LINE: usize = 4096;
/// How long it may take to give up before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How long its output may go on after its end, if something that it started holds it.
const AFTER_END: Duration = Duration::from_secs(1);

/// What of our environment would lead it elsewhere.
const FOREIGN: [&str; 8] = [
    "DOCKER_API_VERSION",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "BUILDX_BUILDER",
    "BUILDX_CONFIG",
    "BUILDKIT_HOST",
];

/// Why a build by buildx failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildxError {
    /// The program cannot be run.
    #[error("The build program `{}` could not be run", program.display())]
    Run {
        /// Where it should be.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its folder cannot be made, or its output not be read.
    #[error("The build could not be followed")]
    Io(#[from] io::Error),
    /// An option that it would take for something else.
    #[error("`{0}` cannot be an option of a build")]
    Option(String),
    /// An engine to which it has no way that keeps keys to itself.
    #[error("Builds with the build program are not possible on {0}")]
    Endpoint(Endpoint),
    /// A login that it does not take from its environment: only names with passwords are.
    #[error("The login at {0} is a token, and the build program takes only passwords")]
    Login(String),
    /// The build failed.
    #[error("{message}")]
    Failed {
        /// Exit code; `None` if a signal ended it.
        code: Option<i32>,
        /// The program's words, bounded.
        message: String,
    },
}

/// A secret of a build: steps get it with `RUN --mount=type=secret,id=…`, and it stays out of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSecret {
    /// What steps call it: letters, digits, `_`, `.` and `-`.
    pub id: String,
    /// The secret. Without NUL.
    pub value: Secret,
}

options! {
    /// What to build with buildx, and how.
    pub struct BuildxBuild {
        /// Folder or address of the context.
        pub context: OsString,
        /// The Dockerfile, if not that of the context.
        pub dockerfile: Option<PathBuf>,
        /// Names of the image.
        pub tags: Vec<ImageReference>,
        /// Arguments. They are in the program's arguments and in the image's history, so no secrets.
        pub build_args: BTreeMap<String, String>,
        /// Labels of the image.
        pub labels: BTreeMap<String, String>,
        /// The stage to build, if not the last.
        pub target: String,
        /// The platforms to build for, if not the engine's own.
        pub platforms: Vec<Platform>,
        /// Network of the steps: `default`, `host` or `none`.
        pub network: String,
        /// Build everything anew.
        pub no_cache: bool,
        /// Ask the registries for newer images to build on.
        pub pull: bool,
        /// Where cache comes from, such as `type=local,src=path`.
        pub cache_from: Vec<String>,
        /// Where cache goes, such as `type=inline`.
        pub cache_to: Vec<String>,
        /// Where results go, such as `type=local,dest=path`; an image of the engine if not said.
        pub outputs: Vec<OsString>,
        /// Further contexts by name.
        pub contexts: BTreeMap<String, OsString>,
        /// Hosts to know in the steps, as `name:address`.
        pub extra_hosts: Vec<String>,
        /// Secrets. They reach the program in its environment and nowhere else.
        pub secrets: Vec<BuildSecret>,
        /// Agents to forward: `default`, or `id=socket`.
        pub ssh: Vec<OsString>,
        /// Attestations, such as `type=sbom`.
        pub attestations: Vec<String>,
        /// Logins at registries. They reach the program in its environment and nowhere else.
        pub logins: Vec<RegistryAuth>,
    }
}

/// The buildx program, and the engine it is to build on.
#[derive(Clone, Debug)]
pub struct Buildx {
    /// The program, such as Docker's plugin `docker-buildx`.
    pub program: PathBuf,
    /// The engine.
    pub endpoint: Endpoint,
}

impl Buildx {
    /// Begins a build. The program gets a configuration folder of its own, that is removed at the end, and no shell sees
    /// its arguments. API: `Session` and `ImageBuild` or BuildKit's own, as the program likes.
    ///
    /// # Errors
    /// [`BuildxError`] if an option is none or the program cannot be run.
    pub fn start(&self, build: &BuildxBuild) -> Result<BuildxRun, BuildxError> {
        let host = match &self.endpoint {
            Endpoint::Tls { .. } => return Err(BuildxError::Endpoint(self.endpoint.clone())),
            endpoint => endpoint.to_string(),
        };
        let folder = tempfile::Builder::new().prefix("berth-build-").tempdir()?;
        let mut command = Command::new(&self.program);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .env("DOCKER_HOST", host)
            .env("DOCKER_CONFIG", folder.path())
            .env("BUILDX_METADATA_PROVENANCE", "disabled")
            .args(arguments(build, folder.path())?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (number, secret) in build.secrets.iter().enumerate() {
            command.env(secret_variable(number), secret.value.expose());
        }
        match auth_config(&build.logins)?.as_str() {
            "" => command.env_remove("DOCKER_AUTH_CONFIG"),
            logins => command.env("DOCKER_AUTH_CONFIG", logins),
        };
        #[cfg(unix)]
        command.process_group(0);
        let failed = |source| BuildxError::Run { program: self.program.clone(), source };
        let mut child = command.spawn().map_err(failed)?;
        let stderr = child.stderr.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let reader = Some(BufReader::new(stderr));
        Ok(BuildxRun { child, reader, line: Vec::new(), said: VecDeque::new(), folder, image: None })
    }
}

/// A build that runs. Dropping it ends it.
#[derive(Debug)]
pub struct BuildxRun {
    child: Child,
    reader: Option<BufReader<ChildStderr>>,
    line: Vec<u8>,
    said: VecDeque<String>,
    folder: TempDir,
    image: Option<String>,
}

impl BuildxRun {
    /// The next report; `None` once the build has ended well. May be dropped while it waits.
    ///
    /// # Errors
    /// [`BuildxError::Failed`] if the build failed or was given up; [`BuildxError::Io`] if its output cannot be read.
    pub async fn next(&mut self) -> Result<Option<BuildUpdate>, BuildxError> {
        while let Some(line) = self.read_line().await? {
            match trace::read_line(&line) {
                Some(update) => return Ok(Some(update)),
                None => self.note(&line),
            }
        }
        let status = self.child.wait().await?;
        if status.success() {
            self.image = image_of(&tokio::fs::read(metadata_file(self.folder.path())).await.unwrap_or_default());
            return Ok(None);
        }
        Err(BuildxError::Failed { code: status.code(), message: self.reason() })
    }

    /// Id of the image, once the build has ended well and made one; for several platforms the digest of their index.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// The latest of what the program said besides its reports, bounded.
    pub fn said(&self) -> impl Iterator<Item = &str> {
        self.said.iter().map(String::as_str)
    }

    /// Gives the build up and waits until the program has ended, 5 s at most before it is killed.
    ///
    /// # Errors
    /// [`BuildxError::Io`] if the system lost it.
    pub async fn cancel(mut self) -> Result<(), BuildxError> {
        self.signal(false);
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(true);
            self.child.wait().await?;
        }
        Ok(())
    }

    async fn read_line(&mut self) -> Result<Option<Vec<u8>>, BuildxError> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            let held = async {
                let _ = self.child.wait().await;
                sleep(AFTER_END).await;
            };
            let bytes = tokio::select! {
                biased;
                bytes = reader.fill_buf() => bytes?,
                () = held => &[],
            };
            if bytes.is_empty() {
                self.reader = None;
                let rest = std::mem::take(&mut self.line);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            let end = memchr::memchr(b'\n', bytes);
            let (taken, used) = match end {
                Some(end) => (bytes.get(..end), end + 1),
                None => (Some(bytes), bytes.len()),
            };
            let room = LINE.saturating_sub(self.line.len());
            let taken = taken.unwrap_or_default();
            self.line.extend_from_slice(taken.get(..room).unwrap_or(taken));
            reader.consume(used);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.line)));
            }
        }
    }

    fn note(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.get(..SAID_LINE).unwrap_or(line));
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        if self.said.len() == SAID {
            self.said.pop_front();
        }
        self.said.push_back(text.to_owned());
    }

    fn reason(&self) -> String {
        let error = self.said().filter_map(|line| line.strip_prefix("ERROR: ")).last();
        let reason = error.or_else(|| self.said().last()).unwrap_or("The build program ended without a reason");
        reason.to_owned()
    }

    /// Its id is its group's as well. It is not signalled after its end, when another group may have that id.
    fn signal(&mut self, kill: bool) {
        #[cfg(unix)]
        if let Some(group) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.try_into().ok()?)) {
            use rustix::process::{Signal, kill_process_group};
            let signal = if kill { Signal::KILL } else { Signal::TERM };
            // It may have ended this very moment.
            let _ = kill_process_group(group, signal);
        }
        #[cfg(not(unix))]
        {
            let _ = (kill, self.child.start_kill());
        }
    }
}

impl Drop for BuildxRun {
    fn drop(&mut self) {
        self.signal(true);
    }
}

fn secret_variable(number: usize) -> String {
    format!("BERTH_BUILD_SECRET_{number}")
}

fn metadata_file(folder: &Path) -> PathBuf {
    folder.join("metadata")
}

fn image_of(metadata: &[u8]) -> Option<String> {
    let metadata: Value = serde_json::from_slice(metadata).ok()?;
    let digest = |name: &str| metadata.get(name)?.as_str()?.parse::<Digest>().ok();
    // The first is the id in either of the engine's image stores, where the exporter tells it.
    Some(digest("containerimage.digest").or_else(|| digest("containerimage.config.digest"))?.as_str().to_owned())
}

fn arguments(build: &BuildxBuild, folder: &Path) -> Result<Vec<OsString>, BuildxError> {
    let mut arguments: Vec<OsString> = vec!["build".into(), "--progress=rawjson".into()];
    // One argument with `=`, so that no value can be taken for an option.
    let mut option = |name: &str, value: &OsStr| {
        let mut argument = OsString::from(format!("--{name}="));
        argument.push(value);
        arguments.push(argument);
    };
    // A file for the id alone is refused with results that are files.
    option("metadata-file", metadata_file(folder).as_os_str());
    if let Some(file) = &build.dockerfile {
        option("file", file.as_os_str());
    }
    for tag in &build.tags {
        option("tag", tag.as_str().as_ref());
    }
    for (options, name) in [(&build.build_args, "build-arg"), (&build.labels, "label")] {
        for (key, value) in options {
            if key.is_empty() || key.contains('=') {
                return Err(BuildxError::Option(key.clone()));
            }
            option(name, format!("{key}={value}").as_ref());
        }
    }
    for (name, text) in [("target", &build.target), ("network", &build.network)] {
        if !text.is_empty() {
            option(name, text.as_ref());
        }
    }
    for platform in &build.platforms {
        option("platform", platform.to_string().as_ref());
    }
    let lists = [
        ("cache-from", &build.cache_from),
        ("cache-to", &build.cache_to),
        ("add-host", &build.extra_hosts),
        ("attest", &build.attestations),
    ];
    for (name, list) in lists {
        list.iter().for_each(|value| option(name, value.as_ref()));
    }
    for (name, list) in [("output", &build.outputs), ("ssh", &build.ssh)] {
        list.iter().for_each(|value| option(name, value));
    }
    for (name, context) in &build.contexts {
        if name.is_empty() || name.contains('=') {
            return Err(BuildxError::Option(name.clone()));
        }
        let mut value = OsString::from(format!("{name}="));
        value.push(context);
        option("build-context", &value);
    }
    for (number, secret) in build.secrets.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if secret.id.is_empty() || !secret.id.bytes().all(plain) || secret.value.expose().contains('\0') {
            return Err(BuildxError::Option(secret.id.clone()));
        }
        option("secret", format!("id={},env={}", secret.id, secret_variable(number)).as_ref());
    }
    if build.no_cache {
        arguments.push("--no-cache".into());
    }
    if build.pull {
        arguments.push("--pull".into());
    }
    arguments.push("--".into());
    arguments.push(build.context.clone());
    Ok(arguments)
}

/// What `DOCKER_AUTH_CONFIG` is to hold; empty without logins.
fn auth_config(logins: &[RegistryAuth]) -> Result<Zeroizing<String>, BuildxError> {
    if logins.is_empty() {
        return Ok(Zeroizing::default());
    }
    let mut entries = Map::new();
    for login in logins {
        let SecretKind::Password(password) = login.kind() else {
            return Err(BuildxError::Login(login.host().as_str().to_owned()));
        };
        let pair = Zeroizing::new(format!("{}:{}", login.username(), password.expose()));
        entries.insert(login.host().config_key(), json!({ "auth": STANDARD.encode(pair.as_bytes()) }));
    }
    Ok(Zeroizing::new(json!({ "auths": Value::Object(entries) }).to_string()))
}

#[cfg(all(test, unix))]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "buildx_tests.rs"]
mod tests;
