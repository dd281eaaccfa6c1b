//! The contexts of the `docker` command: the engines that a person already uses.
//!
//! Read from its folder, `~/.docker` or `DOCKER_CONFIG`. A broken file is a [`ContextProblem`] beside the contexts that
//! are well. Only an [`OwnContext`] is written, and which one is current.

mod environment;
mod own;
mod read;
mod watch;

use std::path::{Path, PathBuf};

pub use self::{
    environment::DockerEnvironment,
    own::{ContextWriteError, MadeCurrent, OwnContext, OwnState, Restored, Written},
    watch::{ContextWatch, watch_contexts},
};
use crate::{Endpoint, InvalidEndpoint};

/// The name of the context that is made of the environment alone.
pub const DEFAULT: &str = "default";

/// The folder of the `docker` command's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfigFolder {
    path: PathBuf,
}

impl DockerConfigFolder {
    /// That folder; it need not exist.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// `DOCKER_CONFIG`, or `.docker` in the home folder; `None` for a user without a home.
    #[must_use]
    pub fn find(environment: &DockerEnvironment) -> Option<Self> {
        if let Some(path) = &environment.config {
            return Some(Self::at(path));
        }
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| Self::at(home.join(".docker")))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// All contexts there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contexts {
    /// The one that `docker` would use now.
    pub current: CurrentContext,
    /// [`DEFAULT`] first, then by name.
    pub list: Vec<Context>,
    /// What could not be read, and why.
    pub problems: Vec<ContextProblem>,
}

/// Which context is used, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentContext {
    /// Its name; there may be no such context, which is one of the [`problems`](Contexts::problems) then.
    pub name: String,
    /// Who says so.
    pub chosen_by: ChosenBy,
}

/// Who chose the current context, in the order in which `docker` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// The variable `DOCKER_HOST`.
    DockerHost,
    /// The variable `DOCKER_CONTEXT`.
    DockerContext,
    /// `docker context use`, which writes `config.json`.
    ConfigFile,
    /// Nobody.
    Nobody,
}

/// A context of the `docker` command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// Its name, which is safe to show.
    pub name: String,
    /// What its owner wrote about it, or nothing.
    pub description: String,
    /// The engine, or why its address cannot be used.
    pub endpoint: Result<Endpoint, InvalidEndpoint>,
    /// Its owner chose that anybody may pose as the engine.
    pub skip_tls_verify: bool,
    /// Where it comes from.
    pub source: ContextSource,
}

/// Where a context comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// The environment and the system's usual address.
    Environment,
    /// This file.
    File(PathBuf),
}

/// Something about the contexts that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextProblem {
    /// A file or folder cannot be read.
    #[error("{} could not be read: {reason}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Something that is not a file is where a file should be.
    #[error("{} is not a file; remove it, or let `docker context` write it anew", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// A file is far larger than any that `docker` writes.
    #[error("{} is larger than {limit} bytes, which no file of Docker's contexts is; remove it", path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold what it should ({reason}); repair it, or make the context anew", path.display())]
    Malformed {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A context with a name that `docker` does not allow.
    #[error("{} has a name that Docker does not allow: `{name}`", path.display())]
    Name {
        /// Which file.
        path: PathBuf,
        /// The name, shortened and escaped.
        name: String,
    },
    /// A context lies in the folder of another one, so that `docker` does not find it.
    #[error("{} is for the context `{name}`, but lies in another one's folder; `docker` does not find it there", path.display())]
    Misplaced {
        /// Which file.
        path: PathBuf,
        /// The name in it.
        name: String,
    },
    /// There are more contexts than anybody has.
    #[error("There are more than {limit} contexts; only that many are shown")]
    TooMany {
        /// How many are read.
        limit: usize,
    },
    /// The current context does not exist.
    #[error("The context `{name}` is chosen, but there is none of that name; choose one with `docker context use`")]
    NoSuchContext {
        /// Its name, shortened and escaped.
        name: String,
    },
}

impl Contexts {
    /// Reads all of them. Blocks on the file system.
    ///
    /// A folder that does not exist is one without contexts: [`DEFAULT`] is always there.
    ///
    /// ```
    /// use berth_engine::context::{Contexts, DockerConfigFolder, DockerEnvironment};
    ///
    /// let environment = DockerEnvironment::of_this_process();
    /// if let Some(folder) = DockerConfigFolder::find(&environment) {
    ///     for context in Contexts::load(&folder, &environment).list {
    ///         println!("{}", context.name);
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn load(folder: &DockerConfigFolder, environment: &DockerEnvironment) -> Self {
        read::load(folder, environment)
    }

    /// The one that `docker` would use now, if it exists.
    #[must_use]
    pub fn current(&self) -> Option<&Context> {
        self.list.iter().find(|context| context.name == self.current.name)
    }
}
