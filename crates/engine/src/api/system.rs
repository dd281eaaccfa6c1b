//! The engine as a whole.

pub(crate) mod auth;
pub mod usage;

use http::HeaderMap;

use crate::{
    ApiVersion, Docker, Error,
    http::Call,
    model::{model, nullable},
    operation::Operation,
    schema,
};

model! {
    /// What the engine is. API: `SystemVersion`.
    pub struct VersionInfo {
        /// Version of the engine, such as `28.5.2`.
        pub version: String,
        /// Newest version of the API it speaks, such as `1.51`.
        pub api_version: String,
        /// Operating system of the engine's machine, such as `linux`.
        pub os: String,
        /// Architecture in the words of images, such as `amd64`.
        pub arch: String,
        /// Version of its kernel.
        #[serde(rename = "KernelVersion")]
        pub kernel: String,
    }
}

model! {
    /// What the engine has and how it is set up. API: `SystemInfo`.
    pub struct Info {
        /// Host name of the engine's machine.
        pub name: String,
        /// Processors.
        #[serde(rename = "NCPU")]
        pub processors: u32,
        /// Memory in bytes.
        #[serde(rename = "MemTotal")]
        pub memory_bytes: u64,
        /// Version of the engine, such as `28.5.2`.
        pub server_version: String,
        /// Operating system of the engine's machine, such as `linux`.
        #[serde(rename = "OSType")]
        pub os: String,
        /// Name of its distribution, such as `Debian GNU/Linux 13`.
        pub operating_system: String,
        /// Architecture in the words of the kernel, such as `x86_64`; see [`Info::platform`].
        pub architecture: String,
        /// Version of its kernel.
        #[serde(rename = "KernelVersion")]
        pub kernel: String,
        /// Containers keep running while the engine restarts.
        #[serde(rename = "LiveRestoreEnabled")]
        pub live_restore: bool,
        /// Storage driver, such as `overlay2`.
        #[serde(rename = "Driver")]
        pub storage_driver: String,
        /// Default log driver, such as `json-file`.
        #[serde(rename = "LoggingDriver")]
        pub log_driver: String,
        /// Version of control groups, `1` or `2`.
        pub cgroup_version: String,
        /// Where the engine keeps its data.
        #[serde(rename = "DockerRootDir")]
        pub root_folder: String,
        /// Security options, such as `name=rootless`.
        pub security_options: Vec<String>,
        /// What works only in part, in the engine's words.
        pub warnings: Vec<String>,
    }
}

impl Info {
    /// The platform in the words of images, such as `linux/amd64`.
    #[must_use]
    pub fn platform(&self) -> String {
        let architecture = match self.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "armv7l" | "armv6l" => "arm",
            "i386" | "i686" => "386",
            other => other,
        };
        format!("{}/{architecture}", self.os)
    }
}

/// What an engine says of itself without being asked for anything. API: `SystemPingHead`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ping {
    /// The newest version of the API it speaks.
    pub api_version: Option<ApiVersion>,
    /// Operating system of the containers, such as `linux`; empty before API 1.25.
    pub os: String,
    /// The builder it uses unless told otherwise: `1` the classic one, `2` BuildKit; empty if it does not tell.
    pub builder_version: String,
    /// It offers what is not finished yet.
    pub experimental: bool,
    /// What it is in a swarm, such as `inactive` or `active/manager`; empty before API 1.42.
    pub swarm: String,
}

impl Ping {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Self {
            api_version: text("api-version").parse().ok(),
            os: text("ostype"),
            builder_version: text("builder-version"),
            experimental: text("docker-experimental") == "true",
            swarm: text("swarm"),
        }
    }
}

impl Docker {
    /// Asks what the engine is, which is the least it can be asked. API: `SystemPingHead`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] on engines of before API 1.40; whatever a call may fail with.
    pub async fn ping_head(&self) -> Result<Ping, Error> {
        let answer = self.call(Call::new(Operation::SystemPingHead, []).unversioned()).await?;
        Ok(Ping::of(&answer.headers))
    }

    /// All that the engine says of its version and its parts. API: `SystemVersion`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn system_version(&self) -> Result<schema::SystemVersion, Error> {
        self.json(Call::new(Operation::SystemVersion, []).unversioned()).await
    }

    /// All that the engine says of itself; [`Docker::info`] reads the part of it that is mostly wanted.
    /// API: `SystemInfo`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn system_info(&self) -> Result<schema::SystemInfo, Error> {
        self.json(Call::new(Operation::SystemInfo, [])).await
    }

    /// Asks whether the engine answers. API: `SystemPing`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn ping(&self) -> Result<(), Error> {
        self.call(Call::new(Operation::SystemPing, []).unversioned()).await.map(drop)
    }

    /// What the engine is. API: `SystemVersion`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn version(&self) -> Result<VersionInfo, Error> {
        self.json(Call::new(Operation::SystemVersion, []).unversioned()).await
    }

    /// What the engine has. API: `SystemInfo`.
    ///
    /// # Errors
    /// Whatever a call may fail with.
    pub async fn info(&self) -> Result<Info, Error> {
        self.json(Call::new(Operation::SystemInfo, [])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_an_engine_says() {
        let text = r#"{"Name":"box","NCPU":8,"MemTotal":16000000000,"ServerVersion":"20.10.24+dfsg1","OSType":"linux",
            "Architecture":"aarch64","LiveRestoreEnabled":true,"Warnings":null,"SecurityOptions":["name=rootless"]}"#;
        let info: Info = serde_json::from_str(text).unwrap();
        assert_eq!((info.processors, info.memory_bytes, info.live_restore), (8, 16_000_000_000, true));
        assert_eq!(info.platform(), "linux/arm64");
        assert!(info.warnings.is_empty());
    }

    #[test]
    fn headers_of_a_ping_may_be_missing_or_odd() {
        assert_eq!(Ping::of(&HeaderMap::new()), Ping::default());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("api-version", "1.x"),
            ("ostype", "linux"),
            ("docker-experimental", "true"),
            ("swarm", "active/manager"),
            ("builder-version", "2"),
        ] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        headers.insert("ostype", http::HeaderValue::from_bytes(b"\xff").unwrap());
        let ping = Ping::of(&headers);
        assert_eq!((ping.api_version, ping.os.as_str(), ping.experimental), (None, "", true));
        assert_eq!((ping.swarm.as_str(), ping.builder_version.as_str()), ("active/manager", "2"));
    }
}
