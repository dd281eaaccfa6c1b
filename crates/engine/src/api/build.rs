//! Builds: by the engine's own call, and by the buildx program.

mod buildx;
mod classic;
mod graph;
pub(crate) mod trace;

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt as _, future, stream};
use serde::Serialize;

pub use self::{
    buildx::{BuildSecret, Buildx, BuildxBuild, BuildxError, BuildxRun},
    classic::BuildEvent,
    graph::{
        BuildGraph, BuildUpdate, BuildWarning, OutputLine, OutputUpdate, StatusUpdate, StepState, Vertex, VertexUpdate,
    },
};
use crate::{
    Docker, Error, Filters, RequestBody,
    api::{
        model::{model, nullable},
        options::options,
        progress,
    },
    http::{Call, Older, SLOW},
    operation::Operation,
    reference::ImageReference,
    registry::{Platform, RegistryAuth, X_REGISTRY_CONFIG, build_header},
};

/// Which builder of the engine builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builder {
    /// The one of old, step by step.
    #[default]
    Classic,
    /// BuildKit (API 1.38; refused before). By this call it has no session: no secrets, no agents, no logins but those of
    /// the engine, no results but images.
    BuildKit,
}

/// Where a result of BuildKit goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BuildOutput {
    /// `moby` for an image of the engine; others need a session.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its attributes, such as `name`.
    #[serde(rename = "Attrs")]
    pub attributes: BTreeMap<String, String>,
}

options! {
    /// How to build an image.
    pub struct BuildImage {
        /// Names of the image; none for an image that only has its id.
        pub tags: Vec<ImageReference>,
        /// Path of the Dockerfile in the context, if not `Dockerfile`.
        pub dockerfile: String,
        /// The engine fetches the context from here, and the body is not used.
        pub remote: String,
        /// Arguments; without a value one is declared and not set. They are kept in the image's history, so no secrets.
        pub build_args: BTreeMap<String, Option<String>>,
        /// Labels of the image.
        pub labels: BTreeMap<String, String>,
        /// The stage to build, if not the last (API 1.29 of Docker 17.05).
        pub target: String,
        /// The platform to build for, if not the engine's own (API 1.32; refused before).
        pub platform: Option<Platform>,
        /// Network of the steps: `bridge`, `host`, `none`, `container:<id>` or one's name.
        pub network: String,
        /// Images whose layers may be taken instead of building them.
        pub cache_from: Vec<String>,
        /// Build everything anew.
        pub no_cache: bool,
        /// Ask the registries for newer images to build on.
        pub pull: bool,
        /// Keep the containers of steps that ended well.
        pub keep_containers: bool,
        /// Remove the containers of steps that failed, too.
        pub remove_failed: bool,
        /// No output, only the id.
        pub quiet: bool,
        /// Make one layer of all of them; engines allow it among their experiments only.
        pub squash: bool,
        /// Hosts to know in the steps, as `name:address` (API 1.28; refused before).
        pub extra_hosts: Vec<String>,
        /// Memory of a step in bytes.
        pub memory: Option<u64>,
        /// Memory and swap of a step in bytes; -1 for unlimited swap.
        pub memory_swap: Option<i64>,
        /// Size of `/dev/shm` in a step in bytes.
        pub shm_size: Option<u64>,
        /// Relative weight of a step's processor time.
        pub cpu_shares: Option<u32>,
        /// Microseconds of a processor period.
        pub cpu_period: Option<u64>,
        /// Microseconds of processor time a step may have in a period.
        pub cpu_quota: Option<u64>,
        /// Processors a step may run on, such as `0-3`.
        pub cpus: String,
        /// Control group of the steps.
        pub cgroup_parent: String,
        /// Logins for the images to build on.
        pub logins: Vec<RegistryAuth>,
        /// Results, for BuildKit alone (API 1.40; refused before).
        pub outputs: Vec<BuildOutput>,
        /// The session that serves what the build asks for; see [`Docker::open_session`].
        pub session: String,
        /// Which builder builds.
        pub builder: Builder,
    }

    /// Which of the builder's cache to remove. A bound of 0 is none.
    pub struct PruneBuilds {
        /// Everything that is unused, not only what no image needs (API 1.39; left out before).
        pub all: bool,
        /// Bytes of cache to keep at least (API 1.39; refused before).
        pub reserved_bytes: Option<u64>,
        /// Bytes of cache to keep at most (API 1.48; refused before).
        pub max_used_bytes: Option<u64>,
        /// Bytes of the disk to have free (API 1.48; refused before).
        pub min_free_bytes: Option<u64>,
        /// Filters: `until`, `id`, `parent`, `type`, `description`, `inuse`, `shared`, `private` (API 1.39; refused before).
        pub filters: Filters,
    }
}

model! {
    /// What a prune of the builder's cache did. API: `BuildPrune`.
    pub struct PrunedBuilds {
        /// Ids of what was removed.
        #[serde(rename = "CachesDeleted")]
        pub removed: Vec<String>,
        /// Bytes that are free again.
        #[serde(rename = "SpaceReclaimed")]
        pub freed_bytes: u64,
    }
}

impl Docker {
    /// Builds an image of a context, an uncompressed tar archive. The build begins with the first poll and is given up
    /// when the stream is dropped. Podman takes no notice of [`BuildImage::builder`]. API: `ImageBuild`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// use std::pin::pin;
    ///
    /// use futures_util::StreamExt as _;
    ///
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::archive::{ContextOptions, build_context};
    /// use berth_engine::RequestBody;
    /// use berth_engine::build::{BuildEvent, BuildImage};
    ///
    /// let folder = std::env::temp_dir().join(format!("doc-build-{}", std::process::id()));
    /// std::fs::create_dir_all(&folder)?;
    /// std::fs::write(folder.join("Dockerfile"), "FROM busybox:test\nLABEL made=here\n")?;
    /// let context = build_context(&folder, "Dockerfile".as_ref(), &ContextOptions::default(), None).await?;
    /// let options = BuildImage::default().dockerfile(context.dockerfile).tags(vec!["doc-build:test".parse()?]);
    /// let mut events = pin!(docker.build_image(&options, RequestBody::stream(context.pack.stream))?);
    /// while let Some(event) = events.next().await {
    ///     if let BuildEvent::Step { number, of, instruction } = event? {
    ///         println!("{number}/{of} {instruction}");
    ///     }
    /// }
    /// docker.remove_image(&"doc-build:test".parse()?, &Default::default()).await?;
    /// std::fs::remove_dir_all(&folder)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Stream`] with the builder's words if a step fails, as the last item; [`Error::Api`] if it does not even
    /// begin; [`Error::Unsupported`] if the engine is too old for an option; whatever a call may fail with.
    pub fn build_image<B: Into<RequestBody>>(
        &self,
        options: &BuildImage,
        context: B,
    ) -> Result<impl Stream<Item = Result<BuildEvent, Error>> + Send + use<B>, Error> {
        let call = build_call(options)?.body("application/x-tar", context).deadline(None);
        let mut decoder = classic::Decoder::default();
        let end = stream::once(future::ready(None));
        Ok(progress::messages(self, call).map(Some).chain(end).flat_map(move |message| {
            stream::iter(match message {
                Some(Ok(message)) => decoder.take(message).into_iter().map(Ok).collect::<Vec<_>>(),
                Some(Err(error)) => decoder.finish().into_iter().map(Ok).chain([Err(error)]).collect(),
                None => decoder.finish().into_iter().map(Ok).collect(),
            })
        }))
    }

    /// Removes cache of the builder. It may take 300 s. API: `BuildPrune`, from 1.31 on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the engine is too old; whatever a call may fail with.
    pub async fn prune_builds(&self, options: &PruneBuilds) -> Result<PrunedBuilds, Error> {
        let mut call = Call::new(Operation::BuildPrune, []).deadline(Some(SLOW));
        if options.all {
            call = call.query_since(39, Older::LeaveOut, "all", "1");
        }
        if let Some(bytes) = options.reserved_bytes {
            // Newer engines know both names, older ones only the first.
            call = call.query_since(39, Older::Refuse, "keep-storage", bytes.to_string());
            call = call.query_since(48, Older::LeaveOut, "reserved-space", bytes.to_string());
        }
        if let Some(bytes) = options.max_used_bytes {
            call = call.query_since(48, Older::Refuse, "max-used-space", bytes.to_string());
        }
        if let Some(bytes) = options.min_free_bytes {
            call = call.query_since(48, Older::Refuse, "min-free-space", bytes.to_string());
        }
        self.json(options.filters.apply(call)).await
    }
}

fn build_call(options: &BuildImage) -> Result<Call, Error> {
    let mut call = Call::new(Operation::ImageBuild, [])
        .text("dockerfile", &options.dockerfile)
        .text("remote", &options.remote)
        .text("target", &options.target)
        .text("networkmode", &options.network)
        .text("cpusetcpus", &options.cpus)
        .text("cgroupparent", &options.cgroup_parent)
        .text("session", &options.session)
        .flag("nocache", options.no_cache)
        .flag("pull", options.pull)
        .query("rm", if options.keep_containers { "0" } else { "1" })
        .flag("forcerm", options.remove_failed)
        .flag("q", options.quiet)
        .flag("squash", options.squash);
    for tag in &options.tags {
        call = call.query("t", tag.as_str());
    }
    if !options.build_args.is_empty() {
        call = call.query("buildargs", json(&options.build_args)?);
    }
    if !options.labels.is_empty() {
        call = call.query("labels", json(&options.labels)?);
    }
    if !options.cache_from.is_empty() {
        call = call.query("cachefrom", json(&options.cache_from)?);
    }
    for host in &options.extra_hosts {
        call = call.query_since(28, Older::Refuse, "extrahosts", host.as_str());
    }
    if let Some(platform) = &options.platform {
        call = call.query_since(32, Older::Refuse, "platform", platform.to_string());
    }
    let numbers = [
        ("memory", options.memory.map(|number| number.to_string())),
        ("memswap", options.memory_swap.map(|number| number.to_string())),
        ("shmsize", options.shm_size.map(|number| number.to_string())),
        ("cpushares", options.cpu_shares.map(|number| number.to_string())),
        ("cpuperiod", options.cpu_period.map(|number| number.to_string())),
        ("cpuquota", options.cpu_quota.map(|number| number.to_string())),
    ];
    for (name, number) in numbers {
        call = number.into_iter().fold(call, |call, number| call.query(name, number));
    }
    if !options.outputs.is_empty() {
        call = call.query_since(40, Older::Refuse, "outputs", json(&options.outputs)?);
    }
    if options.builder == Builder::BuildKit {
        call = call.query_since(38, Older::Refuse, "version", "2");
    }
    if !options.logins.is_empty() {
        call = call.header(X_REGISTRY_CONFIG, build_header(&options.logins));
    }
    Ok(call)
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Encode { what: "options of a build".to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiVersion, registry::Secret};

    #[test]
    fn options_become_parameters() {
        let options = BuildImage::default()
            .tags(vec!["a:1".parse().unwrap(), "b".parse().unwrap()])
            .build_args(BTreeMap::from([("A".to_owned(), Some("1 2".to_owned())), ("B".to_owned(), None)]))
            .memory(5_u64)
            .extra_hosts(vec!["x:1.2.3.4".to_owned()])
            .builder(Builder::BuildKit);
        let target = |minor| build_call(&options).unwrap().target(Some(ApiVersion { major: 1, minor }));
        let expected = "/v1.51/build?rm=1&t=a%3A1&t=b&buildargs=%7B%22A%22%3A%221%202%22%2C%22B%22%3Anull%7D\
            &extrahosts=x%3A1.2.3.4&memory=5&version=2";
        assert_eq!(target(51).unwrap(), expected);
        assert!(matches!(target(37), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn logins_do_not_print() {
        let secret = Secret::new("marker-7".into());
        let login = RegistryAuth::password("reg.test:5000".parse().unwrap(), "me", secret).unwrap();
        let options = BuildImage::default().logins(vec![login]);
        let call = build_call(&options).unwrap();
        assert_eq!(call.headers.len(), 1);
        let printed = format!("{options:?} {call:?}");
        assert!(!printed.contains("marker-7") && !printed.contains(call.headers.first().unwrap().1.to_str().unwrap()));
    }
}
