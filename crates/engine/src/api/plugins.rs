//! Plugins that the engine manages.

use std::time::Duration;

use futures_util::Stream;
use http::HeaderValue;
use serde::Serialize;

use crate::{
    ApiVersion, Docker, Environment, Error, Filters, RequestBody,
    api::{
        options::options,
        progress::{self, TransferEvent},
    },
    http::{Call, ORDINARY, Older, SLOW},
    model::{model, nullable},
    operation::Operation,
    reference::PluginName,
    registry::{RegistryAuth, X_REGISTRY_AUTH},
};

model! {
    /// A plugin. API: `PluginList`, `PluginInspect`.
    pub struct Plugin {
        /// Id.
        pub id: String,
        /// Name with its tag.
        pub name: String,
        /// It runs.
        pub enabled: bool,
        /// Where it was pulled from and is pushed to.
        #[serde(rename = "PluginReference")]
        pub reference: String,
        /// How it is set.
        pub settings: PluginSettings,
        /// How it was made.
        pub config: PluginConfig,
    }

    /// How a plugin is set.
    pub struct PluginSettings {
        /// What it mounts.
        pub mounts: Vec<PluginMount>,
        /// Its environment as `NAME=value`, which may hold secrets.
        pub env: Environment,
        /// Its arguments.
        pub args: Vec<String>,
        /// Devices it uses.
        pub devices: Vec<PluginDevice>,
    }

    /// How a plugin was made.
    pub struct PluginConfig {
        /// What it is for.
        pub description: String,
        /// Where more is written, mostly an address.
        pub documentation: String,
        /// What it offers.
        pub interface: PluginInterface,
        /// The program it is, with its arguments.
        pub entrypoint: Vec<String>,
        /// Folder in which it runs.
        pub work_dir: String,
        /// Its network.
        pub network: PluginNetwork,
        /// What it may do on Linux.
        pub linux: PluginLinux,
        /// Folder whose mounts the engine sees.
        pub propagated_mount: String,
        /// It shares the engine's machine's memory between processes.
        pub ipc_host: bool,
        /// It sees the processes of the engine's machine.
        pub pid_host: bool,
        /// What it mounts unless set otherwise.
        pub mounts: Vec<PluginMount>,
        /// Its environment unless set otherwise.
        pub env: Vec<PluginVariable>,
        /// Its arguments unless set otherwise.
        pub args: PluginArguments,
    }

    /// What a plugin offers.
    pub struct PluginInterface {
        /// Kinds, such as `docker.volumedriver/1.0`.
        pub types: Vec<String>,
        /// Name of its socket.
        pub socket: String,
    }

    /// The network of a plugin.
    pub struct PluginNetwork {
        /// Such as `host` or `none`.
        #[serde(rename = "Type")]
        pub kind: String,
    }

    /// What a plugin may do on Linux.
    pub struct PluginLinux {
        /// Capabilities.
        pub capabilities: Vec<String>,
        /// It may use every device.
        pub allow_all_devices: bool,
        /// Devices it may use.
        pub devices: Vec<PluginDevice>,
    }

    /// What a plugin mounts.
    pub struct PluginMount {
        /// Name for setting it.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// What of it can be set.
        pub settable: Vec<String>,
        /// What is mounted, on the engine's machine.
        pub source: String,
        /// Where it appears.
        pub destination: String,
        /// Kind, such as `bind`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Options.
        pub options: Vec<String>,
    }

    /// A device of a plugin.
    pub struct PluginDevice {
        /// Name for setting it.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// What of it can be set.
        pub settable: Vec<String>,
        /// Path of the device.
        pub path: String,
    }

    /// A variable of a plugin's environment.
    pub struct PluginVariable {
        /// Name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// What of it can be set.
        pub settable: Vec<String>,
        /// Value unless set otherwise.
        pub value: Option<String>,
    }

    /// Arguments of a plugin.
    pub struct PluginArguments {
        /// Name for setting them.
        pub name: String,
        /// What they are for.
        pub description: String,
        /// What of them can be set.
        pub settable: Vec<String>,
        /// The arguments unless set otherwise.
        pub value: Vec<String>,
    }
}

/// Something a plugin wants to be allowed. API: `GetPluginPrivileges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginPrivilege {
    /// What, such as `network` or `capabilities`.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// The same for people.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// How far, such as `host` or `CAP_SYS_ADMIN`.
    #[serde(deserialize_with = "nullable")]
    pub value: Vec<String>,
}

options! {
    /// How to pull or upgrade a plugin.
    pub struct PullPlugin {
        /// Name it gets here, that of its registry when `None`. Nothing to an upgrade.
        pub name: Option<PluginName>,
        /// What it is allowed: exactly what [`Docker::plugin_privileges`] says it wants, or it is refused.
        pub privileges: Vec<PluginPrivilege>,
        /// Login at its registry.
        pub login: Option<RegistryAuth>,
    }
}

/// From here on the list takes filters; before, it would be the whole one.
const FILTERS_SINCE: ApiVersion = ApiVersion { major: 1, minor: 28 };

/// What engines take for "no login"; some refuse a push without the header.
const NO_LOGIN: HeaderValue = HeaderValue::from_static("e30=");

fn with_login(call: Call, login: Option<&RegistryAuth>) -> Call {
    call.header(X_REGISTRY_AUTH, login.map_or(NO_LOGIN, RegistryAuth::header))
}

impl Docker {
    /// Lists plugins. Filters are `capability` and `enabled`, which the API's description calls `enable`.
    /// API: `PluginList`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for filters on an engine of before API 1.28; whatever a call may fail with.
    pub async fn list_plugins(&self, filters: &Filters) -> Result<Vec<Plugin>, Error> {
        if *filters != Filters::default() {
            let engine = self.negotiate().await?;
            if engine < FILTERS_SINCE {
                let what = "`filters` of GET /plugins".to_owned();
                return Err(Error::Unsupported { what, needs: FILTERS_SINCE, engine });
            }
        }
        Ok(self
            .json::<Option<Vec<Plugin>>>(filters.apply(Call::new(Operation::PluginList, [])))
            .await?
            .unwrap_or_default())
    }

    /// What a plugin in a registry wants to be allowed. The engine asks the registry. The call may take 300 s.
    /// API: `GetPluginPrivileges`.
    ///
    /// # Errors
    /// [`Error::Api`] with the engine's words if the registry has no such plugin, refuses or cannot be reached, which
    /// some engines hide behind an empty list: pulling with that fails. Whatever a call may fail with.
    pub async fn plugin_privileges(
        &self,
        remote: &PluginName,
        login: Option<&RegistryAuth>,
    ) -> Result<Vec<PluginPrivilege>, Error> {
        let call = Call::new(Operation::GetPluginPrivileges, []).query("remote", remote.as_str()).deadline(Some(SLOW));
        Ok(self.json::<Option<Vec<PluginPrivilege>>>(with_login(call, login)).await?.unwrap_or_default())
    }

    /// Pulls a plugin and leaves it disabled. The pull begins with the first poll and is given up when the stream is
    /// dropped. API: `PluginPull`.
    ///
    /// # Errors
    /// Of making the call: [`Error::Encode`]. As the last item: [`Error::Api`] or [`Error::Stream`] with the engine's
    /// words if the registry refuses, the privileges are not what the plugin wants, or the name is taken; whatever a
    /// call may fail with.
    pub fn pull_plugin(
        &self,
        remote: &PluginName,
        options: &PullPlugin,
    ) -> Result<impl Stream<Item = Result<TransferEvent, Error>> + Send + use<>, Error> {
        let mut call = Call::new(Operation::PluginPull, []).query("remote", remote.as_str()).deadline(Some(SLOW));
        if let Some(name) = &options.name {
            call = call.query("name", name.as_str());
        }
        let call = with_login(call, options.login.as_ref()).json(&options.privileges, &[])?;
        Ok(progress::transfer(self, call))
    }

    /// Everything of one plugin. API: `PluginInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn inspect_plugin(&self, plugin: &PluginName) -> Result<Plugin, Error> {
        self.json(Call::new(Operation::PluginInspect, [plugin.as_str()])).await
    }

    /// Removes a plugin; with `force` also one that is enabled. API: `PluginDelete`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_conflict`] if it is enabled; whatever a call may fail with.
    pub async fn remove_plugin(&self, plugin: &PluginName, force: bool) -> Result<(), Error> {
        self.done(Call::new(Operation::PluginDelete, [plugin.as_str()]).flag("force", force)).await
    }

    /// Starts a plugin. The engine waits `timeout` seconds for it to answer, and without a limit when that is 0; the
    /// call may take 30 s longer. API: `PluginEnable`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Api`] with the engine's words if it is enabled already or
    /// does not come up; whatever a call may fail with.
    pub async fn enable_plugin(&self, plugin: &PluginName, timeout: u32) -> Result<(), Error> {
        let deadline = (timeout > 0).then(|| ORDINARY.saturating_add(Duration::from_secs(timeout.into())));
        let call = Call::new(Operation::PluginEnable, [plugin.as_str()]).query("timeout", timeout.to_string());
        self.done(call.deadline(deadline)).await
    }

    /// Stops a plugin; with `force` also one that is in use. API: `PluginDisable`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Api`] with the engine's words if it is disabled already or in
    /// use; whatever a call may fail with.
    pub async fn disable_plugin(&self, plugin: &PluginName, force: bool) -> Result<(), Error> {
        let mut call = Call::new(Operation::PluginDisable, [plugin.as_str()]);
        if force {
            call = call.query_since(28, Older::LeaveOut, "force", "1");
        }
        self.done(call).await
    }

    /// Replaces a disabled plugin by what `remote` is now. The pull begins with the first poll and is given up when the
    /// stream is dropped. API: `PluginUpgrade`.
    ///
    /// # Errors
    /// As [`Docker::pull_plugin`]; [`Error::is_not_found`] if there is no such plugin here.
    pub fn upgrade_plugin(
        &self,
        plugin: &PluginName,
        remote: &PluginName,
        options: &PullPlugin,
    ) -> Result<impl Stream<Item = Result<TransferEvent, Error>> + Send + use<>, Error> {
        let call = Call::new(Operation::PluginUpgrade, [plugin.as_str()])
            .query("remote", remote.as_str())
            .deadline(Some(SLOW));
        let call = with_login(call, options.login.as_ref()).json(&options.privileges, &[])?;
        Ok(progress::transfer(self, call))
    }

    /// Makes a plugin of an uncompressed tar archive of a `config.json` and a folder `rootfs`. Has no deadline: drop it
    /// to give up. API: `PluginCreate`.
    ///
    /// # Errors
    /// [`Error::Api`] with the engine's words if the archive is none of a plugin or the name is taken; whatever a call
    /// may fail with.
    pub async fn create_plugin(&self, name: &PluginName, archive: impl Into<RequestBody>) -> Result<(), Error> {
        let call = Call::new(Operation::PluginCreate, []).query("name", name.as_str());
        self.done(call.body("application/x-tar", archive).deadline(None)).await
    }

    /// Pushes a plugin to the registry of its name. The push begins with the first poll and is given up when the stream
    /// is dropped. API: `PluginPush`.
    ///
    /// # Errors
    /// As the last item: [`Error::is_not_found`] if there is none; [`Error::Api`] or [`Error::Stream`] with the engine's
    /// words if the registry refuses or cannot be reached; whatever a call may fail with.
    pub fn push_plugin(
        &self,
        plugin: &PluginName,
        login: Option<&RegistryAuth>,
    ) -> impl Stream<Item = Result<TransferEvent, Error>> + Send + use<> {
        let call = Call::new(Operation::PluginPush, [plugin.as_str()]).deadline(Some(SLOW));
        progress::transfer(self, with_login(call, login))
    }

    /// Sets what can be set of a disabled plugin, each as `NAME=value`. API: `PluginSet`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::Api`] with the engine's words if something cannot be set or
    /// the plugin is enabled; whatever a call may fail with.
    pub async fn set_plugin(&self, plugin: &PluginName, settings: &[String]) -> Result<(), Error> {
        self.done(Call::new(Operation::PluginSet, [plugin.as_str()]).json(&settings, &[])?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_null_missing_and_hostile() {
        let text = r#"[{"Id":"a","Name":"x:latest","Enabled":false,"Settings":{"Mounts":null,"Env":null,"Args":null,
            "Devices":null},"Config":{"Description":"<script>","Interface":{"Types":["docker.volumedriver/1.0"],
            "Socket":"p.sock"},"Env":[{"Name":"DEBUG","Settable":null,"Value":null}],"Linux":{"Capabilities":null},
            "Args":{"Value":null}}},{"Settings":null,"Config":null}]"#;
        let plugins: Vec<Plugin> = serde_json::from_str(text).unwrap();
        let [first, second] = plugins.as_slice() else { panic!("{plugins:?}") };
        assert_eq!(first.config.interface.types, ["docker.volumedriver/1.0"]);
        assert_eq!(first.config.env.first().unwrap().value, None);
        assert_eq!(second, &Plugin::default());
    }

    #[test]
    fn privileges_go_back_as_they_came() {
        let text = r#"[{"Name":"network","Description":"","Value":["host"]}]"#;
        let privileges: Vec<PluginPrivilege> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&privileges).unwrap(), text);
        let odd: Vec<PluginPrivilege> = serde_json::from_str(r#"[{"Name":null,"Value":null},{}]"#).unwrap();
        assert_eq!(odd, [PluginPrivilege::default(), PluginPrivilege::default()]);
    }
}
