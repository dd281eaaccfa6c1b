//! The context of the `docker` command that leads to the engine Berth brings, and what becomes of it when that engine
//! is started and stopped, whoever does it.

use std::path::PathBuf;

use berth_engine::Endpoint;
use berth_engine::context::{
    ContextWriteError, DEFAULT, DockerConfigFolder, DockerEnvironment, MadeCurrent, OwnContext, OwnState, Restored,
    Written,
};
use berth_vm::{EnginePaths, Status};

/// The context of the engine in the user's own data folder; another folder's has the folder's id behind it.
const NAME: &str = "berth";

/// The context of one engine.
#[derive(Clone, Debug)]
pub struct EngineContext {
    own: OwnContext,
    endpoint: Endpoint,
    description: String,
    is_default: bool,
    environment: DockerEnvironment,
}

/// What is to be told of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextNotes {
    /// What was done.
    pub done: Vec<String>,
    /// What was not, and why, or what else counts.
    pub warnings: Vec<String>,
}

impl ContextNotes {
    fn done(text: String) -> Self {
        Self { done: vec![text], warnings: Vec::new() }
    }

    fn log(&self) {
        for text in &self.done {
            tracing::info!("{text}");
        }
        for text in &self.warnings {
            tracing::warn!("{text}");
        }
    }
}

impl EngineContext {
    /// That of an engine, in the folder that `docker` reads for this user.
    ///
    /// # Errors
    ///
    /// The user has no home, and `DOCKER_CONFIG` names no folder.
    pub fn of(paths: &EnginePaths) -> Result<Self, ContextWriteError> {
        let environment = DockerEnvironment::of_this_process();
        let folder = DockerConfigFolder::find(&environment).ok_or(ContextWriteError::NoFolder)?;
        let is_default = EnginePaths::new(None).is_ok_and(|default| default.data() == paths.data());
        Self::new(paths, folder, environment, is_default)
    }

    fn new(
        paths: &EnginePaths,
        folder: DockerConfigFolder,
        environment: DockerEnvironment,
        is_default: bool,
    ) -> Result<Self, ContextWriteError> {
        let name = if is_default { NAME.to_owned() } else { format!("{NAME}-{}", paths.id()) };
        Ok(Self {
            own: OwnContext::new(folder, &name, paths.id())?,
            endpoint: paths.endpoint(),
            description: format!("The engine Berth brings (data in {})", paths.data().display()),
            is_default,
            environment,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.own.name()
    }

    /// Where it leads.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.own.file()
    }

    /// The file that says which context is the current one.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.own.config_file()
    }

    /// What there is of it.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a context of this name is somebody else's.
    pub fn state(&self) -> Result<OwnState, ContextWriteError> {
        self.own.state()
    }

    /// What in this environment counts before every current context.
    #[must_use]
    pub fn overridden(&self) -> Option<String> {
        let over = |variable: &str| {
            format!(
                "{variable} is set in this environment, and `docker` obeys it before any context; unset it to use contexts"
            )
        };
        match &self.environment {
            environment if environment.host.is_some() => Some(over("DOCKER_HOST")),
            environment if environment.context.as_deref().is_some_and(|name| name != self.name()) => {
                Some(over("DOCKER_CONTEXT"))
            }
            _ => None,
        }
    }

    /// Makes it, or brings it up to date.
    ///
    /// # Errors
    ///
    /// A context of this name is somebody else's or cannot be read, or the folder cannot be written.
    pub fn create(&self) -> Result<ContextNotes, ContextWriteError> {
        let (name, file) = (self.name(), self.file());
        let written = self.own.write(&self.endpoint, &self.description)?;
        let how = match written {
            Written::Created => "made",
            Written::Updated => "brought up to date",
            Written::Unchanged => return Ok(ContextNotes::default()),
        };
        Ok(ContextNotes::done(format!("Docker's context `{name}` was {how}: {}", file.display())))
    }

    /// Makes it, and the one that `docker` uses.
    ///
    /// # Errors
    ///
    /// As for [`Self::create`], or `config.json` cannot be read or written.
    pub fn make_current(&self) -> Result<ContextNotes, ContextWriteError> {
        let mut notes = self.create()?;
        let name = self.name();
        let config = self.config_file();
        notes.done.push(match self.own.make_current()? {
            MadeCurrent::InsteadOf(before) => format!(
                "`docker` uses the context `{name}` from now on, and `{before}` again when the engine is stopped: {}",
                config.display()
            ),
            MadeCurrent::Already => format!("`docker` uses the context `{name}` already: {}", config.display()),
        });
        notes.warnings.extend(self.overridden());
        Ok(notes)
    }

    /// Makes the context current again that was before [`Self::make_current`], if this one still is.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn restore(&self) -> Result<ContextNotes, ContextWriteError> {
        let restored = self.own.restore()?;
        Ok(ContextNotes { done: self.told(&restored).into_iter().collect(), warnings: Vec::new() })
    }

    /// Removes it, after [`Self::restore`]: for who removes Berth.
    ///
    /// # Errors
    ///
    /// A context of this name is somebody else's, or a file cannot be read or written.
    pub fn remove(&self) -> Result<ContextNotes, ContextWriteError> {
        let file = self.file();
        let mut notes = ContextNotes::default();
        let Some(restored) = self.own.remove()? else { return Ok(notes) };
        notes.done.extend(self.told(&restored));
        notes.done.push(format!("Docker's context `{}` was removed: {}", self.name(), file.display()));
        Ok(notes)
    }

    fn told(&self, restored: &Restored) -> Option<String> {
        let config = self.config_file();
        let config = config.display();
        match restored {
            Restored::To(name) => Some(format!("`docker` uses the context `{name}` again: {config}")),
            Restored::ToDefault { gone } => Some(format!(
                "`docker` uses the context `{DEFAULT}`, for `{gone}`, which it used before, no longer exists: {config}"
            )),
            Restored::NotCurrent | Restored::NotRemembered | Restored::NotMade => None,
        }
    }

    /// What a start does: another folder's context is there only for who asked for it.
    fn started(&self, make_current: bool) -> Result<ContextNotes, ContextWriteError> {
        if make_current {
            self.make_current()
        } else if self.is_default || self.file().exists() {
            self.create()
        } else {
            Ok(ContextNotes::default())
        }
    }
}

/// Starts the engine Berth brings, unless it runs, and sees to its context. What is wrong with that does not keep the
/// engine from starting.
///
/// # Errors
///
/// Those of [`berth_vm::start`].
pub async fn start_engine(paths: &EnginePaths, make_current: bool) -> Result<(Status, ContextNotes), berth_vm::Error> {
    let status = berth_vm::start(paths).await?;
    Ok((status, see_to(paths, move |context| context.started(make_current)).await))
}

/// Stops the engine Berth brings, and makes the context current again that was before its own.
///
/// # Errors
///
/// Those of [`berth_vm::stop`].
pub async fn stop_engine(paths: &EnginePaths) -> Result<(Status, ContextNotes), berth_vm::Error> {
    let status = berth_vm::stop(paths).await?;
    Ok((status, leave_context(paths).await))
}

/// What is to be done about the context of an engine that has stopped.
pub async fn leave_context(paths: &EnginePaths) -> ContextNotes {
    see_to(paths, EngineContext::restore).await
}

async fn see_to<W>(paths: &EnginePaths, work: W) -> ContextNotes
where
    W: FnOnce(&EngineContext) -> Result<ContextNotes, ContextWriteError> + Send + 'static,
{
    let of = paths.clone();
    let outcome = tokio::task::spawn_blocking(move || EngineContext::of(&of).and_then(|context| work(&context)));
    let notes = match outcome.await {
        Ok(Ok(notes)) => notes,
        Ok(Err(error)) => warning(&error),
        Err(ended) => warning(&ended),
    };
    notes.log();
    notes
}

fn warning(error: &dyn std::error::Error) -> ContextNotes {
    let text = format!("Docker's context was left as it is: {}", crate::full_text(error));
    ContextNotes { done: Vec::new(), warnings: vec![text] }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn context(folder: &Path, is_default: bool, variables: &[(&str, &str)]) -> EngineContext {
        let paths = EnginePaths::new(Some(folder.join("data"))).unwrap();
        let environment = DockerEnvironment::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        });
        EngineContext::new(&paths, DockerConfigFolder::at(folder.join("docker")), environment, is_default).unwrap()
    }

    #[test]
    fn a_start_makes_the_context_of_the_users_own_engine_and_another_ones_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let other = context(folder.path(), false, &[]);
        assert_eq!(other.started(false).unwrap(), ContextNotes::default());
        assert!(!folder.path().join("docker").exists());
        let own = context(folder.path(), true, &[]);
        assert_eq!(own.name(), "berth");
        assert_eq!(own.started(false).unwrap().done.len(), 1);
        assert_eq!(own.started(false).unwrap(), ContextNotes::default());
        assert!(other.name().starts_with("berth-") && other.name().len() == 14, "{}", other.name());
        let notes = other.started(true).unwrap();
        assert!(notes.done.iter().any(|text| text.contains("`default` again when")), "{notes:?}");
        assert!(notes.done.iter().all(|text| text.contains(folder.path().to_str().unwrap())), "{notes:?}");
        assert!(own.restore().unwrap().done.is_empty());
        assert_eq!(other.restore().unwrap().done.len(), 1);
        assert_eq!(own.remove().unwrap().done.len() + other.remove().unwrap().done.len(), 2);
    }

    #[test]
    fn what_counts_before_every_context_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for (name, value, counts) in
            [("DOCKER_HOST", "unix:///x", true), ("DOCKER_CONTEXT", "x", true), ("DOCKER_CONTEXT", "berth", false)]
        {
            let notes = context(folder.path(), true, &[(name, value)]).make_current().unwrap();
            assert_eq!(notes.warnings.iter().any(|text| text.contains(name)), counts, "{name}={value}");
        }
    }
}
