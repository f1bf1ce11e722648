//! From a tag or digest at one place to a complete image: index → manifest → config, each verified.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap};

use crate::answer::Subject;
use crate::auth::Credentials;
use crate::blob::{BlobStream, Wanted};
use crate::client::Shared;
use crate::digest::Digest;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::manifest::{self, Descriptor, Document, LayerDesc, ManifestError, media};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::session::{Ask, accept};

/// The order is a wish: an index first, since it has every platform.
const MANIFEST_TYPES: &[&str] = &[
    media::OCI_INDEX,
    media::DOCKER_LIST,
    media::OCI_MANIFEST,
    media::DOCKER_MANIFEST,
];
/// Indexes within indexes that are followed.
const MAX_NESTING: usize = 3;
/// Entries without a platform whose image configs are looked into.
const MAX_UNNAMED: usize = 4;

/// An image as a registry has it: everything but the layers' content.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Of what the tag names: the index if there is one, else the manifest. Docker's `RepoDigests` has it.
    pub digest: Digest,
    /// Media type and bytes of the index, if the tag names one.
    pub index: Option<(String, Bytes)>,
    /// Of the image's manifest.
    pub manifest_digest: Digest,
    /// The manifest's media type.
    pub manifest_media_type: String,
    /// The manifest's bytes, as signed and digested.
    pub manifest: Bytes,
    /// Of the config: the image id.
    pub config_digest: Digest,
    /// The config's bytes.
    pub config: Bytes,
    /// From the bottom up.
    pub layers: Vec<LayerDesc>,
    /// What the image is for, by its config. It can differ from what was asked for when the tag names a single image.
    pub platform: Platform,
}

impl Resolved {
    /// What to warn of when a single image, that no index could choose among, is for another platform than asked for.
    /// Docker pulls it all the same, and says this.
    pub fn platform_warning(&self, reference: &Reference, wanted: &Platform) -> Option<String> {
        if wanted.rank(&self.platform).is_some() {
            return None;
        }
        let name = reference.clone().or_latest().familiar();
        let found = &self.platform;
        Some(format!(
            "image with reference {name} was found but its platform ({found}) does not match the specified platform ({wanted})"
        ))
    }
}

/// A manifest's bytes with what is known about them.
struct Fetched {
    digest: Digest,
    media_type: String,
    bytes: Bytes,
    document: Document,
}

/// Find the image that `reference` means at `endpoint`.
pub(crate) async fn resolve(
    shared: &Arc<Shared>,
    endpoint: Arc<Endpoint>,
    reference: &Reference,
    platform: &Platform,
    credentials: Option<&Credentials>,
) -> Result<Resolved> {
    let at = At {
        shared,
        endpoint: &endpoint,
        reference,
        users: credentials,
    };
    let named = at.manifest(reference.selector(), reference.digest()).await?;
    let digest = named.digest.clone();
    match &named.document {
        Document::Image { .. } => at.image(named, digest, None).await,
        Document::Index(entries) => {
            let index = Some((named.media_type.clone(), named.bytes.clone()));
            at.choose(entries, platform, digest, index).await
        }
    }
}

/// The digest that `reference` names at `endpoint`.
pub(crate) async fn digest(
    shared: &Arc<Shared>,
    endpoint: Arc<Endpoint>,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Digest> {
    let at = At {
        shared,
        endpoint: &endpoint,
        reference,
        users: credentials,
    };
    match at.head(reference.selector()).await {
        Ok(Some(digest)) => Ok(digest),
        // Not every registry says the digest, and an error to HEAD has no words: ask properly.
        Ok(None) | Err(Error::Status { .. } | Error::Refused { .. } | Error::ManifestUnknown { .. }) => {
            Ok(at.manifest(reference.selector(), reference.digest()).await?.digest)
        }
        Err(error) => Err(error),
    }
}

/// One image at one place.
struct At<'a> {
    shared: &'a Arc<Shared>,
    endpoint: &'a Arc<Endpoint>,
    reference: &'a Reference,
    users: Option<&'a Credentials>,
}

impl At<'_> {
    fn ask<'b>(&'b self, method: Method, tail: &'b str) -> Ask<'b> {
        Ask {
            method,
            repository: self.reference.repository(),
            tail,
            headers: accept(MANIFEST_TYPES),
            credentials: self.endpoint.credentials(self.reference, self.users),
            subject: Subject::Manifest(self.reference),
        }
    }

    fn unusable(&self, why: ManifestError) -> Error {
        Error::Manifest {
            reference: self.reference.clone().or_latest().familiar(),
            why,
        }
    }

    async fn head(&self, selector: &str) -> Result<Option<Digest>> {
        let tail = format!("manifests/{selector}");
        let ask = self.ask(Method::HEAD, &tail);
        let _permit = self.shared.requests.acquire().await;
        let (headers, _) = self
            .shared
            .session
            .fetch(self.endpoint, &ask, "the manifest", self.shared.max_manifest)
            .await?;
        Ok(announced(&headers))
    }

    /// Get a manifest or an index and verify it against `expected`, or else against what the registry announces.
    async fn manifest(&self, selector: &str, expected: Option<&Digest>) -> Result<Fetched> {
        let tail = format!("manifests/{selector}");
        let ask = self.ask(Method::GET, &tail);
        let what = format!("the manifest of {}", self.reference.familiar());
        let (headers, bytes) = {
            let _permit = self.shared.requests.acquire().await;
            self.shared
                .session
                .fetch(self.endpoint, &ask, &what, self.shared.max_manifest)
                .await?
        };
        let told = announced(&headers);
        let digest = match expected.or(told.as_ref()) {
            Some(digest) => digest.clone(),
            None => Digest::of(&bytes),
        };
        if !digest.matches(&bytes) {
            return Err(Error::BadDigest {
                what: "manifest",
                expected: digest,
                actual: Digest::of(&bytes),
            });
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let (media_type, document) = manifest::parse(content_type, &bytes).map_err(|why| self.unusable(why))?;
        Ok(Fetched {
            digest,
            media_type,
            bytes,
            document,
        })
    }

    /// Pick the image of an index that fits best.
    async fn choose(
        &self,
        entries: &[Descriptor],
        platform: &Platform,
        digest: Digest,
        index: Option<(String, Bytes)>,
    ) -> Result<Resolved> {
        let mut entries = entries.to_vec();
        for _ in 0..MAX_NESTING {
            if let Some(best) = best_entry(&entries, platform) {
                let found = self.manifest(best.digest.as_str(), Some(&best.digest)).await?;
                match &found.document {
                    Document::Image { .. } => return self.image(found, digest, index).await,
                    Document::Index(inner) => entries = inner.clone(),
                }
                continue;
            }
            // Entries may leave the platform to the image's config.
            for entry in entries.iter().filter(|entry| is_unnamed_image(entry)).take(MAX_UNNAMED) {
                let found = self.manifest(entry.digest.as_str(), Some(&entry.digest)).await?;
                let image = self.image(found, digest.clone(), index.clone()).await?;
                if platform.rank(&image.platform).is_some() {
                    return Ok(image);
                }
            }
            let mut available: Vec<Platform> = Vec::new();
            for found in entries.iter().filter_map(|entry| entry.platform.as_ref()) {
                if found.os != "unknown" && !available.contains(found) {
                    available.push(found.clone());
                }
            }
            return Err(Error::NoPlatform {
                wanted: platform.clone(),
                available,
            });
        }
        Err(self.unusable(ManifestError::Nested))
    }

    /// Complete an image's manifest with its config.
    async fn image(&self, found: Fetched, digest: Digest, index: Option<(String, Bytes)>) -> Result<Resolved> {
        let Document::Image { config, layers } = found.document else {
            return Err(self.unusable(ManifestError::Nested));
        };
        let bytes = self.config(&config).await?;
        let read = manifest::parse_config(&bytes).map_err(|why| self.unusable(why))?;
        let layers = manifest::layers(layers, &read).map_err(|why| self.unusable(why))?;
        Ok(Resolved {
            digest,
            index,
            manifest_digest: found.digest,
            manifest_media_type: found.media_type,
            manifest: found.bytes,
            config_digest: config.digest,
            config: bytes,
            layers,
            // Docker takes a config without a platform for one of this machine.
            platform: read.platform.unwrap_or_else(Platform::host),
        })
    }

    async fn config(&self, config: &Descriptor) -> Result<Bytes> {
        if config.size > self.shared.max_config {
            let what = format!("the image config of {}", self.reference.familiar());
            return Err(Error::TooLarge {
                what,
                limit: self.shared.max_config,
            });
        }
        if let Some(data) = &config.data {
            return Ok(data.clone().into());
        }
        let wanted = Wanted {
            what: "image config",
            reference: self.reference.clone(),
            digest: config.digest.clone(),
            size: config.size,
            credentials: self.users.cloned(),
        };
        // A config is small: it must not wait behind other images' layers.
        let _permit = self.shared.requests.acquire().await;
        BlobStream::new(self.shared.clone(), wanted).unlimited().collect().await
    }
}

/// The digest that the registry says this is.
fn announced(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get("docker-content-digest")?.to_str().ok()?).ok()
}

/// The first of the entries that fit best.
fn best_entry<'a>(entries: &'a [Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    let ranked = entries
        .iter()
        .filter_map(|entry| Some((platform.rank(entry.platform.as_ref()?)?, entry)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
}

fn is_unnamed_image(entry: &Descriptor) -> bool {
    entry.platform.is_none() && matches!(entry.media_type.as_str(), media::OCI_MANIFEST | media::DOCKER_MANIFEST)
}
