//! Images on their way: pull, push, import, load, save.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::HeaderValue;

use crate::{
    Docker, Error, RequestBody,
    api::{options::options, progress},
    http::{Call, Older, SLOW},
    operation::Operation,
    progress::TransferEvent,
    reference::{Digest, ImageReference},
    registry::{Platform, RegistryAuth, X_REGISTRY_AUTH},
};

use super::platform_json;

/// `{}`: a login with nothing in it. Engines want the header with every push.
const NO_LOGIN: HeaderValue = HeaderValue::from_static("e30=");

const TAR: &str = "application/x-tar";

options! {
    /// How to pull an image.
    pub struct PullImage {
        /// The platform wanted, if not the engine's own (API 1.32; refused before).
        pub platform: Option<Platform>,
        /// The login at the image's registry.
        pub login: Option<RegistryAuth>,
        /// Every tag of the repository, not only the one named.
        pub all_tags: bool,
    }

    /// How to push an image.
    pub struct PushImage {
        /// The only platform to push, of an image for several (API 1.46; refused before).
        pub platform: Option<Platform>,
        /// The login at the image's registry.
        pub login: Option<RegistryAuth>,
    }

    /// How to make an image of an archive of files.
    pub struct ImportImage {
        /// Name of the image, with a tag; empty for none.
        pub name: String,
        /// A remark for its history (API 1.39; left out before).
        pub message: String,
        /// Instructions of a Dockerfile to apply, such as `CMD ["sh"]` (API 1.40; refused before).
        pub changes: Vec<String>,
        /// The platform it is for, if not the engine's own (API 1.32; refused before).
        pub platform: Option<Platform>,
    }

    /// How to load images of an archive.
    pub struct LoadImages {
        /// No progress of layers.
        pub quiet: bool,
        /// The only platform to load, of images for several (API 1.48; refused before).
        pub platform: Option<Platform>,
    }
}

impl From<&str> for ImportImage {
    fn from(name: &str) -> Self {
        Self::default().name(name)
    }
}

impl Docker {
    /// Pulls an image; `latest` if neither tag nor digest is named. The pull begins with the first poll and is given up
    /// when the stream is dropped; what layers it has by then the engine may keep. API: `ImageCreate`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if `image` is an id; [`Error::Api`] or [`Error::Stream`] with the engine's words if
    /// the registry refuses or the pull fails on the way, as the last item; whatever a call may fail with.
    pub fn pull_image(
        &self,
        image: &ImageReference,
        options: &PullImage,
    ) -> Result<impl Stream<Item = Result<TransferEvent, Error>> + Send + use<>, Error> {
        let wanted = image.or_latest();
        let name = named(&wanted)?;
        let mut call = Call::new(Operation::ImageCreate, []).query("fromImage", name).deadline(Some(SLOW));
        if !options.all_tags {
            let version = wanted.digest().map(Digest::as_str).or(wanted.tag()).unwrap_or("latest");
            call = call.query("tag", version);
        }
        if let Some(platform) = &options.platform {
            call = call.query_since(32, Older::Refuse, "platform", platform.to_string());
        }
        if let Some(login) = &options.login {
            call = call.header(X_REGISTRY_AUTH, login.header());
        }
        Ok(progress::transfer(self, call))
    }

    /// Pushes an image, or every tag of its repository if it names none. The push begins with the first poll and is given
    /// up when the stream is dropped. API: `ImagePush`.
    ///
    /// # Errors
    /// As [`Docker::pull_image`]; [`Error::is_not_found`] if the engine has no such image, which some engines say as
    /// [`Error::Stream`].
    pub fn push_image(
        &self,
        image: &ImageReference,
        options: &PushImage,
    ) -> Result<impl Stream<Item = Result<TransferEvent, Error>> + Send + use<>, Error> {
        let mut call = Call::new(Operation::ImagePush, [named(image)?]).deadline(Some(SLOW));
        if let Some(tag) = image.tag() {
            call = call.query("tag", tag);
        }
        if let Some(platform) = &options.platform {
            call = call.query_since(46, Older::Refuse, "platform", platform_json(platform));
        }
        let login = options.login.as_ref().map_or(NO_LOGIN, RegistryAuth::header);
        Ok(progress::transfer(self, call.header(X_REGISTRY_AUTH, login)))
    }

    /// Makes an image of the files in an uncompressed tar archive and tells its id. Has no deadline: drop it to give up.
    /// API: `ImageCreate`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if its name is none; [`Error::Stream`] if the engine fails on the way;
    /// [`Error::Unsupported`] if the engine is too old for an option; whatever a call may fail with.
    pub async fn import_image(
        &self,
        options: impl Into<ImportImage>,
        archive: impl Into<RequestBody>,
    ) -> Result<String, Error> {
        let options = options.into();
        let mut call = Call::new(Operation::ImageCreate, []).query("fromSrc", "-").deadline(None);
        if !options.name.is_empty() {
            let name = options.name.parse::<ImageReference>()?.or_latest();
            call = call.query("repo", named(&name)?).query("tag", name.tag().unwrap_or("latest"));
        }
        if !options.message.is_empty() {
            call = call.query_since(39, Older::LeaveOut, "message", options.message);
        }
        for change in options.changes {
            call = call.query_since(40, Older::Refuse, "changes", change);
        }
        if let Some(platform) = &options.platform {
            call = call.query_since(32, Older::Refuse, "platform", platform.to_string());
        }
        let mut messages = Box::pin(progress::messages(self, call.body(TAR, archive)));
        let mut id = String::new();
        while let Some(message) = messages.next().await {
            let status = message?.status;
            if status.parse::<Digest>().is_ok() {
                id = status;
            }
        }
        Ok(id)
    }

    /// Loads the images of an archive that [`Docker::save_images`] or a build made. Names come as
    /// [`TransferEvent::Loaded`]. The load begins with the first poll. API: `ImageLoad`.
    ///
    /// # Errors
    /// [`Error::Stream`] or [`Error::Api`] if the archive is none, as the last item; [`Error::Unsupported`] if the engine
    /// is too old for an option; whatever a call may fail with.
    pub fn load_images<B: Into<RequestBody>>(
        &self,
        archive: B,
        options: &LoadImages,
    ) -> impl Stream<Item = Result<TransferEvent, Error>> + Send + use<B> {
        let quiet = if options.quiet { "1" } else { "0" };
        let mut call = Call::new(Operation::ImageLoad, []).query("quiet", quiet).body(TAR, archive).deadline(None);
        if let Some(platform) = &options.platform {
            call = call.query_since(48, Older::Refuse, "platform", platform_json(platform));
        }
        progress::transfer(self, call)
    }

    /// One image, with its layers and its names, as the bytes of a tar archive. The call is made with the first poll;
    /// before the first byte the engine may take 300 s. `platform` picks one of an image for several (API 1.48; refused
    /// before). API: `ImageGet`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; an archive that breaks off is an error and never an end.
    pub fn save_image(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        self.saving(Call::new(Operation::ImageGet, [image.as_str()]), platform)
    }

    /// Several images as the bytes of one tar archive, in which layers they share are once; otherwise as
    /// [`Docker::save_image`]. API: `ImageGetAll`.
    ///
    /// # Errors
    /// As [`Docker::save_image`].
    pub fn save_images(
        &self,
        images: &[ImageReference],
        platform: Option<&Platform>,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        let call = Call::new(Operation::ImageGetAll, []);
        let call = images.iter().fold(call, |call, image| call.query("names", image.as_str()));
        self.saving(call, platform)
    }

    fn saving(
        &self,
        mut call: Call,
        platform: Option<&Platform>,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        if let Some(platform) = platform {
            call = call.query_since(48, Older::Refuse, "platform", platform_json(platform));
        }
        self.bytes(call.deadline(Some(SLOW)))
    }
}

/// The name without tag and digest of what has one.
fn named(image: &ImageReference) -> Result<&str, Error> {
    image.without_tag().ok_or_else(|| Error::invalid(image.as_str(), "image name"))
}
