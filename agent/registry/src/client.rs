//! The client: what can be asked of registries, each at a reference's mirrors and then at the registry itself.

use std::sync::Arc;

use http::Method;
use http::header::HeaderMap;
use tokio::sync::Semaphore;

use crate::answer::Subject;
use crate::auth::Credentials;
use crate::blob::{BlobStream, Wanted};
use crate::config::ClientConfig;
use crate::digest::Digest;
use crate::endpoint::{Endpoint, Endpoints};
use crate::error::{Error, Result};
use crate::manifest::LayerDesc;
use crate::platform::Platform;
use crate::reference::{Reference, ReferenceError};
use crate::resolve::{self, Resolved};
use crate::session::{Ask, Session};
use crate::tags;

/// A client of registries. Cheap to clone; clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) session: Session,
    pub(crate) endpoints: Endpoints,
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) requests: Semaphore,
    pub(crate) max_manifest: u64,
    pub(crate) max_config: u64,
}

impl Client {
    /// A client with these settings. Opens no connection yet.
    ///
    /// # Errors
    /// When a setting cannot be used; the error names it.
    pub fn new(config: ClientConfig) -> Result<Client> {
        let shared = Shared {
            session: Session::new(&config)?,
            endpoints: Endpoints::new(&config.mirrors)?,
            downloads: Arc::new(Semaphore::new(config.max_downloads.max(1))),
            requests: Semaphore::new(config.max_requests.max(1)),
            max_manifest: config.max_manifest,
            max_config: config.max_config,
        };
        Ok(Client {
            shared: Arc::new(shared),
        })
    }

    /// Find the image that `reference` means for `platform`: its manifest and config, verified.
    ///
    /// Mirrors are asked first; whatever goes wrong there, the registry itself has the last word.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        credentials: Option<&Credentials>,
    ) -> Result<Resolved> {
        self.at_each(reference, |endpoint| {
            resolve::resolve(&self.shared, endpoint, reference, platform, credentials)
        })
        .await
    }

    /// Only the digest that `reference` names at present. Cheap: no body, and not counted by Docker Hub's rate limit.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn digest(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Digest> {
        self.at_each(reference, |endpoint| {
            resolve::digest(&self.shared, endpoint, reference, credentials)
        })
        .await
    }

    /// The content of a layer, as a stream that survives broken connections. Nothing is sent before the first read.
    pub fn blob(&self, reference: &Reference, layer: &LayerDesc, credentials: Option<&Credentials>) -> BlobStream {
        let wanted = Wanted {
            what: "filesystem layer",
            reference: reference.clone(),
            digest: layer.digest.clone(),
            size: layer.size,
            credentials: credentials.cloned(),
        };
        BlobStream::new(self.shared.clone(), wanted)
    }

    /// All tags of a repository, in the registry's order (`docker pull --all-tags`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tags(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Vec<String>> {
        self.at_each(reference, |endpoint| {
            tags::list(&self.shared, endpoint, reference, credentials)
        })
        .await
    }

    /// Whether the registry is there and takes these credentials (`docker login`). Mirrors are not asked.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when it does not take them; others as for any request.
    pub async fn login(&self, registry: &Reference, credentials: &Credentials) -> Result<()> {
        let endpoints = self.shared.endpoints.of(registry)?;
        let Some(endpoint) = endpoints.last() else {
            return Ok(());
        };
        let ask = Ask {
            method: Method::GET,
            repository: "",
            tail: "",
            headers: HeaderMap::new(),
            credentials: endpoint.credentials(registry, Some(credentials)),
            subject: Subject::Registry,
        };
        self.shared
            .session
            .fetch(endpoint, &ask, "the registry's answer", self.shared.max_manifest)
            .await?;
        Ok(())
    }

    /// Run `action` at each place of `reference` until one succeeds; the registry's own failure is the one that counts.
    async fn at_each<'a, T, F>(&self, reference: &Reference, action: impl Fn(Arc<Endpoint>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + 'a,
    {
        let mut failure = None;
        for endpoint in self.shared.endpoints.of(reference)? {
            let mirror = endpoint.clone();
            let failed = match action(endpoint).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if mirror.mirror {
                tracing::warn!(mirror = %mirror.authority(), error = %failed, image = %reference, "mirror failed, going on without it");
                if failed.is_passing() || matches!(failed, Error::Unreachable { .. } | Error::BadDigest { .. }) {
                    self.shared.endpoints.rest(&mirror);
                }
            }
            failure = Some(failed);
        }
        // There is always the registry itself, so that something was tried.
        Err(failure.unwrap_or(Error::Reference(ReferenceError::Format)))
    }
}
