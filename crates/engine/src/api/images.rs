//! Images: what there is, what it is made of, where it goes.

mod model;
mod transfer;

use serde::Deserialize;
use serde_json::json;

pub use self::{
    model::{
        Attestation, Descriptor, FoundImage, GraphDriver, HistoryEntry, ImageConfig, ImageInspect, ImageMetadata,
        ImageSummary, ManifestImage, ManifestSize, ManifestSummary, PrunedImages, RemovedImage, RootFs, UnpackedSize,
    },
    transfer::{ImportImage, LoadImages, PullImage, PushImage},
};
use crate::{
    ContainerRef, Docker, Error, Filters,
    api::options::options,
    http::{Call, Gate, Older, SLOW},
    operation::Operation,
    reference::ImageReference,
    registry::Platform,
    schema::ContainerConfig,
};

options! {
    /// Which images to list, and with what.
    pub struct ListImages {
        /// Also the images of a build's steps.
        pub all: bool,
        /// Filters: `before`, `dangling`, `label`, `reference`, `since`, `until`.
        pub filters: Filters,
        /// Count what images share, which takes the engine long (API 1.42; left out before).
        pub shared_size: bool,
        /// Tell the manifests of each (API 1.47; left out before).
        pub manifests: bool,
    }

    /// How to look at an image. The two exclude each other.
    pub struct InspectImage {
        /// The platform to look at, of an image for several (API 1.49; refused before).
        pub platform: Option<Platform>,
        /// Tell all of its manifests (API 1.48; left out before).
        pub manifests: bool,
    }

    /// How to remove an image.
    pub struct RemoveImage {
        /// Also if it has other names, or stopped containers use it.
        pub force: bool,
        /// Keep the unnamed images that it was built on.
        pub keep_parents: bool,
        /// Only these platforms of an image for several (API 1.50; refused before).
        pub platforms: Vec<Platform>,
    }

    /// What to search a registry for.
    pub struct SearchImages {
        /// What the names or descriptions hold.
        pub term: String,
        /// So many at most, up to 100; 25 if not said.
        pub limit: Option<u32>,
        /// Filters: `is-official`, `stars`.
        pub filters: Filters,
    }

    /// How to make an image of a container.
    pub struct CommitContainer {
        /// Name of the image, with a tag; none for an image that only has its id.
        pub name: Option<ImageReference>,
        /// A remark for its history.
        pub comment: String,
        /// Its maker.
        pub author: String,
        /// Do not freeze the container meanwhile. What it writes in between may be in the image by half.
        pub keep_running: bool,
        /// Instructions of a Dockerfile to apply, such as `CMD ["sh"]`.
        pub changes: Vec<String>,
        /// What containers of it are told, if not what this one was told.
        pub config: Option<ContainerConfig>,
    }
}

const COMMIT: &[Gate] = &[
    Gate { path: &["Healthcheck", "StartPeriod"], since: 29, older: Older::LeaveOut },
    Gate { path: &["Healthcheck", "StartInterval"], since: 44, older: Older::LeaveOut },
];

impl Docker {
    /// Lists images. It may take 300 s if what they share is to be counted. API: `ImageList`.
    ///
    /// # Errors
    /// Whatever a call may fail with; more than 64 MiB of list is [`Error::TooLarge`].
    pub async fn list_images(&self, options: &ListImages) -> Result<Vec<ImageSummary>, Error> {
        let mut call = options.filters.apply(Call::new(Operation::ImageList, []).flag("all", options.all));
        if options.shared_size {
            call = call.query_since(42, Older::LeaveOut, "shared-size", "1").deadline(Some(SLOW));
        }
        if options.manifests {
            call = call.query_since(47, Older::LeaveOut, "manifests", "1");
        }
        self.json(call).await
    }

    /// Everything of one image. API: `ImageInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none, or none for that platform; whatever a call may fail with.
    pub async fn inspect_image(&self, image: &ImageReference, options: &InspectImage) -> Result<ImageInspect, Error> {
        let mut call = Call::new(Operation::ImageInspect, [image.as_str()]);
        if let Some(platform) = &options.platform {
            call = call.query_since(49, Older::Refuse, "platform", platform_json(platform));
        }
        if options.manifests {
            call = call.query_since(48, Older::LeaveOut, "manifests", "1");
        }
        self.json(call).await
    }

    /// The steps an image was made in, latest first; of one platform of it, if that is said (API 1.48; refused before).
    /// API: `ImageHistory`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn image_history(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let mut call = Call::new(Operation::ImageHistory, [image.as_str()]);
        if let Some(platform) = platform {
            call = call.query_since(48, Older::Refuse, "platform", platform_json(platform));
        }
        self.json(call).await
    }

    /// Gives an image another name; whatever image had it before loses it. API: `ImageTag`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if `name` is an id or holds a digest; [`Error::is_not_found`] if there is no such
    /// image; whatever a call may fail with.
    pub async fn tag_image(&self, image: &ImageReference, name: &ImageReference) -> Result<(), Error> {
        let (repository, tag) = repository_and_tag(name)?;
        let call = Call::new(Operation::ImageTag, [image.as_str()]).query("repo", repository).query("tag", tag);
        self.done(call).await
    }

    /// Removes an image: the name, and with the last of them the image itself. It may take 300 s. API: `ImageDelete`.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if a container uses it or it has other names and `force` is not set;
    /// [`Error::is_not_found`] if there is none; whatever a call may fail with.
    pub async fn remove_image(
        &self,
        image: &ImageReference,
        options: &RemoveImage,
    ) -> Result<Vec<RemovedImage>, Error> {
        let mut call = Call::new(Operation::ImageDelete, [image.as_str()])
            .flag("force", options.force)
            .flag("noprune", options.keep_parents)
            .deadline(Some(SLOW));
        for platform in &options.platforms {
            call = call.query_since(50, Older::Refuse, "platforms", platform_json(platform));
        }
        self.json(call).await
    }

    /// Searches the default registry. API: `ImageSearch`.
    ///
    /// # Errors
    /// Whatever a call may fail with, also if the engine cannot reach the registry.
    pub async fn search_images(&self, options: &SearchImages) -> Result<Vec<FoundImage>, Error> {
        let mut call = Call::new(Operation::ImageSearch, []).query("term", options.term.as_str());
        if let Some(limit) = options.limit {
            call = call.query("limit", limit.to_string());
        }
        self.json(options.filters.apply(call)).await
    }

    /// Removes the images that nothing uses: those without a name, or with the filter `dangling=false` all of them. It may
    /// take 300 s. Other filters: `until`, `label`, `label!`. API: `ImagePrune`, from 1.25 on.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if a prune is running; whatever a call may fail with.
    pub async fn prune_images(&self, filters: &Filters) -> Result<PrunedImages, Error> {
        self.json(filters.apply(Call::new(Operation::ImagePrune, [])).deadline(Some(SLOW))).await
    }

    /// Makes an image of what a container's files are now, and tells its id. It may take 300 s. API: `ImageCommit`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; [`Error::InvalidReference`] if the name is an id or holds a
    /// digest; whatever a call may fail with.
    pub async fn commit_container(&self, container: &ContainerRef, options: &CommitContainer) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Made {
            #[serde(rename = "Id")]
            id: String,
        }
        let mut call = Call::new(Operation::ImageCommit, [])
            .query("container", container.as_str())
            .text("comment", &options.comment)
            .text("author", &options.author)
            .query("pause", if options.keep_running { "0" } else { "1" })
            .deadline(Some(SLOW));
        if let Some(name) = &options.name {
            let (repository, tag) = repository_and_tag(name)?;
            call = call.query("repo", repository).query("tag", tag);
        }
        if !options.changes.is_empty() {
            // The engine reads them as the lines of a Dockerfile, and only the first parameter of the name.
            call = call.query("changes", options.changes.join("\n"));
        }
        let call = match &options.config {
            Some(config) => call.json(config, COMMIT)?,
            None => call.json(&json!({}), &[])?,
        };
        Ok(self.json::<Made>(call).await?.id)
    }
}

fn repository_and_tag(name: &ImageReference) -> Result<(&str, &str), Error> {
    match name.without_tag() {
        Some(repository) if name.digest().is_none() => Ok((repository, name.tag().unwrap_or("latest"))),
        _ => Err(Error::invalid(name.as_str(), "image name")),
    }
}

/// The form in which newer calls take a platform.
fn platform_json(platform: &Platform) -> String {
    let mut fields = json!({ "os": platform.os, "architecture": platform.architecture });
    if let (Some(variant), Some(fields)) = (&platform.variant, fields.as_object_mut()) {
        fields.insert("variant".to_owned(), variant.as_str().into());
    }
    fields.to_string()
}
