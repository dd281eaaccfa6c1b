//! Where logins are kept: Docker's credential helpers, the system's keychain, Docker's `config.json`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    CredentialError, HelperName, RegistryAuth, RegistryHost, config_file::ConfigFile, helper::Helpers, keychain,
};

/// Where a new login is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// In the credential helper that Docker's configuration names, else in the system's keychain.
    Safe,
    /// As it is in `config.json`, where every program of this user can read it. Only on the user's explicit choice.
    PlainFile,
}

/// Where a login is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By this credential helper.
    Helper(HelperName),
    /// In the system's keychain.
    Keychain,
    /// In `config.json`.
    PlainFile,
}

/// A login without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The registry.
    pub host: RegistryHost,
    /// The user's name; `<token>` with an identity token.
    pub username: String,
    /// Where it is kept.
    pub place: Place,
}

/// The logins of this user, shared with Docker's own programs.
///
/// A login is looked for in the helper that `config.json` names for the registry, then in the system's keychain, then in
/// `config.json` itself. Nothing is kept between calls: what another program changes counts at once.
#[derive(Clone, Debug)]
pub struct CredentialStore {
    config: PathBuf,
    helpers: Helpers,
    keychain: bool,
}

impl CredentialStore {
    /// The store of this user: `DOCKER_CONFIG` or `.docker` in the home folder, and helpers on `PATH`.
    ///
    /// # Errors
    /// When there is no home folder.
    pub fn from_env() -> Result<Self, CredentialError> {
        let folder = match std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => std::env::home_dir().ok_or(CredentialError::NoHome)?.join(".docker"),
        };
        Ok(Self { keychain: true, ..Self::at(&folder) })
    }

    /// A store in another folder, without the system's keychain.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { config: folder.join("config.json"), helpers: Helpers::from_env(), keychain: false }
    }

    /// Looks for helpers in these folders instead of those on `PATH`, and gives each so long.
    #[must_use]
    pub fn with_helpers(mut self, folders: Vec<PathBuf>, deadline: Duration) -> Self {
        self.helpers = Helpers { folders, deadline };
        self
    }

    /// The login for this registry; `None` when there is none.
    ///
    /// # Errors
    /// When `config.json` is broken, or the helper it names is missing or fails. A keychain that cannot be used counts
    /// as empty.
    pub async fn lookup(&self, host: &RegistryHost) -> Result<Option<RegistryAuth>, CredentialError> {
        Ok(self.find(host).await?.map(|(login, _)| login))
    }

    /// All logins, and what went wrong while looking for them: a broken helper does not hide the logins of the others.
    ///
    /// # Errors
    /// When `config.json` is broken.
    pub async fn list(&self) -> Result<(Vec<Login>, Vec<CredentialError>), CredentialError> {
        let file = self.read().await?;
        let (mut logins, mut problems): (Vec<Login>, _) = (Vec::new(), Vec::new());
        let mut hosts: BTreeSet<_> = file.hosts()?.into_iter().chain(file.own_helpers()?).collect();
        if let Some(helper) = file.helper(None)? {
            match self.helpers.list(&helper).await {
                Ok(list) => {
                    for (key, username) in list {
                        let Some(host) = RegistryHost::from_config_key(&key) else { continue };
                        // The registries with a helper of their own are asked for there.
                        let is_own = file.helper(Some(&host))?.as_ref() == Some(&helper);
                        if is_own && !logins.iter().any(|login| login.host == host) {
                            hosts.remove(&host);
                            logins.push(Login { host, username, place: Place::Helper(helper.clone()) });
                        }
                    }
                }
                Err(error) => problems.push(error),
            }
        }
        for host in hosts {
            match self.find(&host).await {
                Ok(Some((login, place))) => {
                    logins.push(Login { host, username: login.username().to_owned(), place });
                }
                Ok(None) => {}
                Err(error) => problems.push(error),
            }
        }
        logins.sort_by(|a, b| a.host.cmp(&b.host));
        Ok((logins, problems))
    }

    /// Keeps a login, instead of any other for the same registry, and tells where.
    ///
    /// # Errors
    /// When the helper or the keychain fails or `config.json` cannot be read or written. A login is never kept in
    /// `config.json` because a safer place failed.
    pub async fn store(&self, login: &RegistryAuth, destination: Destination) -> Result<Place, CredentialError> {
        let host = login.host();
        let helper = self.read().await?.helper(Some(host))?.filter(|_| login.kind().fits_helpers());
        let place = match (destination, helper) {
            (Destination::PlainFile, _) => Place::PlainFile,
            (Destination::Safe, Some(helper)) => Place::Helper(helper),
            (Destination::Safe, None) => Place::Keychain,
        };
        match &place {
            Place::Helper(helper) => self.helpers.store(helper, login).await?,
            Place::Keychain if self.keychain => keychain::store(login).await?,
            Place::Keychain => return Err(CredentialError::Keychain { source: "it is switched off".into() }),
            Place::PlainFile => {}
        }
        if self.keychain && place != Place::Keychain {
            // Else it would hide the new one from a registry that loses its helper.
            let _ = keychain::erase(host).await;
        }
        let plain = (place == Place::PlainFile).then(|| login.clone());
        self.replace(host, plain, place != Place::PlainFile).await?;
        Ok(place)
    }

    /// Forgets all logins for this registry, wherever they are kept.
    ///
    /// # Errors
    /// When one of these places fails; the others are cleared all the same.
    pub async fn erase(&self, host: &RegistryHost) -> Result<(), CredentialError> {
        let file = self.read().await?;
        // An entry without a secret and without a helper says that the secret is in the keychain.
        let in_keychain =
            file.hosts()?.contains(host) && file.login(host)?.is_none() && file.helper(Some(host))?.is_none();
        let helper = match file.helper(Some(host))? {
            Some(helper) => self.helpers.erase(&helper, host).await,
            None => Ok(()),
        };
        let keychain = if self.keychain { keychain::erase(host).await.map(|_| ()) } else { Ok(()) };
        if helper.is_ok() && (keychain.is_ok() || !in_keychain) {
            self.replace(host, None, false).await
        } else {
            self.replace(host, None, true).await?;
            helper.and(keychain)
        }
    }

    async fn find(&self, host: &RegistryHost) -> Result<Option<(RegistryAuth, Place)>, CredentialError> {
        let file = self.read().await?;
        if let Some(helper) = file.helper(Some(host))?
            && let Some(login) = self.helpers.get(&helper, host).await?
        {
            return Ok(Some((login, Place::Helper(helper))));
        }
        if self.keychain {
            match keychain::get(host).await {
                Ok(Some(login)) => return Ok(Some((login, Place::Keychain))),
                Ok(None) => {}
                // Usual where there is no desktop.
                Err(error) => tracing::debug!(%host, %error, "no keychain to look for a login in"),
            }
        }
        Ok(file.login(host)?.map(|login| (login, Place::PlainFile)))
    }

    async fn read(&self) -> Result<ConfigFile, CredentialError> {
        let path = self.config.clone();
        self.blocking("read", move || ConfigFile::read(&path)).await
    }

    async fn replace(
        &self,
        host: &RegistryHost,
        login: Option<RegistryAuth>,
        marker: bool,
    ) -> Result<(), CredentialError> {
        let (path, host) = (self.config.clone(), host.clone());
        // Read again right before writing, so that the least of what others write meanwhile is lost.
        self.blocking("write", move || ConfigFile::read(&path)?.replace(&host, login.as_ref(), marker)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl FnOnce() -> Result<T, CredentialError> + Send + 'static,
    ) -> Result<T, CredentialError> {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            Err(CredentialError::File { verb, path: self.config.clone(), source: std::io::Error::other(error) })
        })
    }
}
