//! Reading the folder that `docker context` writes.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    path::Path,
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    ChosenBy, Context, ContextProblem, ContextSource, Contexts, CurrentContext, DEFAULT, DockerConfigFolder,
    DockerEnvironment,
};
use crate::{Endpoint, InvalidEndpoint, TlsMaterial, Verification};

/// Contexts read.
pub(super) const CONTEXTS: usize = 1000;

/// `config.json` holds a line for every registry somebody logged in to.
pub(super) const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;
pub(super) const META_LIMIT: u64 = 256 * 1024;

/// Longest name and longest description kept, in characters.
const NAME_LIMIT: usize = 256;
const DESCRIPTION_LIMIT: usize = 1024;

#[derive(Default, Deserialize)]
struct ConfigFile {
    #[serde(default, rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    // Its shape is its writer's own.
    #[serde(default)]
    metadata: serde_json::Value,
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

pub(super) fn load(folder: &DockerConfigFolder, environment: &DockerEnvironment) -> Contexts {
    let mut problems = Vec::new();
    let mut list = vec![default(folder, environment)];
    let mut named = stored(folder.path(), &mut problems);
    named.sort_by(|one, other| one.name.cmp(&other.name));
    list.append(&mut named);
    let current = current(folder.path(), environment, &mut problems);
    if !list.iter().any(|context| context.name == current.name) {
        problems.push(ContextProblem::NoSuchContext { name: shown(&current.name) });
    }
    Contexts { current, list, problems }
}

fn default(folder: &DockerConfigFolder, environment: &DockerEnvironment) -> Context {
    let uses_tls = environment.tls || environment.tls_verify;
    let skip_tls_verify = environment.tls && !environment.tls_verify;
    let endpoint = environment.host.as_deref().map_or_else(|| Ok(Endpoint::system()), str::parse);
    let endpoint = endpoint.and_then(|endpoint| match endpoint {
        Endpoint::Tcp { .. } | Endpoint::Tls { .. } if uses_tls => {
            let certificates = environment.cert_path.as_deref().unwrap_or(folder.path());
            let mut material = TlsMaterial::in_folder(certificates);
            material.verification = verification(skip_tls_verify);
            endpoint.with_tls(material)
        }
        other => Ok(other),
    });
    Context {
        name: DEFAULT.to_owned(),
        description: String::new(),
        endpoint,
        skip_tls_verify,
        source: ContextSource::Environment,
    }
}

fn verification(skipped: bool) -> Verification {
    if skipped { Verification::SkippedAsAsked } else { Verification::Full }
}

fn current(folder: &Path, environment: &DockerEnvironment, problems: &mut Vec<ContextProblem>) -> CurrentContext {
    let chosen = |name: &str, chosen_by| CurrentContext { name: name.to_owned(), chosen_by };
    // Read in any case, so that a broken file is reported whoever is asked first.
    let configured = config(&folder.join("config.json")).unwrap_or_else(|problem| {
        problems.push(problem);
        ConfigFile::default()
    });
    if environment.host.is_some() {
        return chosen(DEFAULT, ChosenBy::DockerHost);
    }
    if let Some(name) = &environment.context {
        return chosen(name, ChosenBy::DockerContext);
    }
    match configured.current_context.filter(|name| !name.is_empty()) {
        Some(name) => chosen(&name, ChosenBy::ConfigFile),
        None => chosen(DEFAULT, ChosenBy::Nobody),
    }
}

fn config(path: &Path) -> Result<ConfigFile, ContextProblem> {
    match read(path, CONFIG_LIMIT)? {
        None => Ok(ConfigFile::default()),
        Some(bytes) if bytes.is_empty() => Ok(ConfigFile::default()),
        Some(bytes) => parse(path, &bytes),
    }
}

fn stored(folder: &Path, problems: &mut Vec<ContextProblem>) -> Vec<Context> {
    let metas = folder.join("contexts").join("meta");
    let entries = match fs::read_dir(&metas) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(ContextProblem::Unreadable { path: metas, reason: error.to_string() });
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (count, entry) in entries.enumerate() {
        if count == CONTEXTS {
            problems.push(ContextProblem::TooMany { limit: CONTEXTS });
            break;
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                problems.push(ContextProblem::Unreadable { path: metas, reason: error.to_string() });
                break;
            }
        };
        let id = entry.file_name();
        // What else lies there, `.DS_Store` for one, is none of ours.
        let Some(id) = id.to_str().filter(|id| is_digest(id)) else { continue };
        match context(folder, id) {
            Ok(Some(context)) => found.push(context),
            // Docker removes the file before its folder.
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    problems.sort_by_cached_key(ToString::to_string);
    found
}

fn is_digest(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn context(folder: &Path, id: &str) -> Result<Option<Context>, ContextProblem> {
    let contexts = folder.join("contexts");
    let path = contexts.join("meta").join(id).join("meta.json");
    let Some(bytes) = read(&path, META_LIMIT)? else { return Ok(None) };
    let meta: Meta = parse(&path, &bytes)?;
    if !is_name(&meta.name) {
        return Err(ContextProblem::Name { path, name: shown(&meta.name) });
    }
    if digest(&meta.name) != id {
        return Err(ContextProblem::Misplaced { path, name: meta.name });
    }
    let description = meta.metadata.get("Description").and_then(|text| text.as_str()).unwrap_or_default();
    let docker = meta.endpoints.docker;
    let skip_tls_verify = docker.as_ref().is_some_and(|docker| docker.skip_tls_verify);
    let host = docker.map(|docker| docker.host).unwrap_or_default();
    Ok(Some(Context {
        description: description.chars().filter(|c| !c.is_control()).take(DESCRIPTION_LIMIT).collect(),
        endpoint: endpoint(&host, skip_tls_verify, &contexts.join("tls").join(id).join("docker")),
        skip_tls_verify,
        source: ContextSource::File(path),
        name: meta.name,
    }))
}

fn endpoint(host: &str, skip_tls_verify: bool, certificates: &Path) -> Result<Endpoint, InvalidEndpoint> {
    let endpoint: Endpoint = host.parse()?;
    let mut material = TlsMaterial::in_folder(certificates);
    match endpoint {
        // As `docker` decides: a TCP address alone means no TLS.
        Endpoint::Tcp { .. } if !skip_tls_verify && material.is_empty() => Ok(endpoint),
        Endpoint::Tcp { .. } | Endpoint::Tls { .. } => {
            material.verification = verification(skip_tls_verify);
            endpoint.with_tls(material)
        }
        other => Ok(other),
    }
}

pub(super) fn digest(name: &str) -> String {
    Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `docker context create` takes; it also keeps every name safe to show and to put into a path.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    name != DEFAULT
        && (2..=NAME_LIMIT).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
}

pub(super) fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

pub(super) fn parse<'a, T: Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<T, ContextProblem> {
    serde_json::from_slice(bytes).map_err(|error| {
        // serde's own text may quote the file, which can hold passwords of registries.
        let reason = match error.classify() {
            serde_json::error::Category::Data => "a part of it is missing or of another kind",
            _ => "it is not JSON",
        };
        let reason = format!("{reason}, line {}", error.line());
        ContextProblem::Malformed { path: path.to_owned(), reason }
    })
}

/// A whole file of limited size; `None` when there is none.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ContextProblem> {
    let unreadable =
        |error: std::io::Error| ContextProblem::Unreadable { path: path.to_owned(), reason: error.to_string() };
    // Opening a pipe would wait for its other end, and a device may never end.
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(ContextProblem::NotAFile { path: path.to_owned() }),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if bytes.len() as u64 > limit {
        return Err(ContextProblem::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}
