//! `/images/…`

use std::io;

use agent_api::auth::AuthConfig;
use agent_api::image::{DeleteItem, HistoryItem, Inspect, PruneReport, SearchResult, Summary};
use agent_api::message::Message;
use bytes::Bytes;
use futures_util::Stream;

use crate::call::{Call, segments};
use crate::download::Download;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::http::Client;
use crate::messages::Messages;

/// What to pull.
#[derive(Debug, Clone, Default)]
pub struct Pull<'a> {
    /// The name without tag or digest.
    pub image: &'a str,
    /// A tag or a digest; empty takes every tag.
    pub tag: &'a str,
    pub platform: Option<&'a str>,
    pub auth: Option<&'a AuthConfig>,
}

/// Each fails as [`crate::Error`] tells.
impl Client {
    /// With `manifests`, each image says of which manifests it is made (API 1.47).
    pub async fn images(&self, all: bool, manifests: bool, filters: &Filters) -> Result<Vec<Summary>> {
        self.fetch(
            Call::get("/images/json")
                .flag("all", all)
                .flag("manifests", manifests)
                .option("filters", filters.to_query()),
        )
        .await
    }

    /// Pulls; the failure, if there is one, is a record of the stream.
    pub async fn pull_image(&self, pull: &Pull<'_>) -> Result<Messages<Message>> {
        let call = Call::post("/images/create")
            .query("fromImage", pull.image)
            .option("tag", Some(pull.tag))
            .option("platform", pull.platform)
            .auth(pull.auth);
        Ok(Messages::new(self.open(call).await?))
    }

    /// Makes an image of one layer from a tar: `body`, or what `source` (a URL) names.
    pub async fn import_image<S>(
        &self,
        source: &str,
        body: Option<S>,
        reference: (&str, &str),
        message: &str,
        changes: &[String],
        platform: Option<&str>,
    ) -> Result<Messages<Message>>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let mut call = Call::post("/images/create")
            .query("fromSrc", source)
            .option("repo", Some(reference.0))
            .option("tag", Some(reference.1))
            .option("message", Some(message))
            .option("platform", platform);
        for change in changes {
            call = call.query("changes", change);
        }
        if let Some(body) = body {
            call = call.stream("text/plain", body);
        }
        Ok(Messages::new(self.open(call).await?))
    }

    pub async fn inspect_image(&self, name: &str) -> Result<Inspect> {
        self.fetch(Call::get(format!("/images/{}/json", segments(name)?))).await
    }

    /// The answer as the daemon wrote it.
    /// `platform` as the JSON object that this query value is.
    pub async fn inspect_image_raw(&self, name: &str, platform: Option<&str>) -> Result<Bytes> {
        let call = Call::get(format!("/images/{}/json", segments(name)?));
        self.fetch_bytes(call.option("platform", platform)).await
    }

    pub async fn image_history(&self, name: &str, platform: Option<&str>) -> Result<Vec<HistoryItem>> {
        let call = Call::get(format!("/images/{}/history", segments(name)?));
        self.fetch(call.option("platform", platform)).await
    }

    pub async fn tag_image(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let call = Call::post(format!("/images/{}/tag", segments(name)?)).query("repo", repo);
        self.send(call.option("tag", Some(tag))).await.map(drop)
    }

    /// `platforms` as the JSON objects that these query values are.
    pub async fn remove_image(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
        platforms: &[String],
    ) -> Result<Vec<DeleteItem>> {
        let mut call = Call::delete(format!("/images/{}", segments(name)?))
            .flag("force", force)
            .flag("noprune", no_prune);
        for platform in platforms {
            call = call.query("platforms", platform);
        }
        self.fetch(call).await
    }

    pub async fn prune_images(&self, filters: &Filters) -> Result<PruneReport> {
        self.fetch(Call::post("/images/prune").option("filters", filters.to_query()))
            .await
    }

    /// Repositories of a registry. `limit` 0 leaves it to the daemon.
    pub async fn search_images(
        &self,
        term: &str,
        limit: u32,
        filters: &Filters,
        auth: Option<&AuthConfig>,
    ) -> Result<Vec<SearchResult>> {
        let call = Call::get("/images/search")
            .query("term", term)
            .option("limit", (limit != 0).then_some(limit))
            .option("filters", filters.to_query())
            .auth(auth);
        self.fetch(call).await
    }

    /// Images as one tar.
    pub async fn save_images(&self, names: &[String], platform: Option<&str>) -> Result<Download> {
        let mut call = Call::get("/images/get").option("platform", platform);
        for name in names {
            call = call.query("names", name);
        }
        self.open(call).await
    }

    /// Reads images from a tar.
    pub async fn load_images<S>(&self, tar: S, quiet: bool, platform: Option<&str>) -> Result<Messages<Message>>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let call = Call::post("/images/load")
            .query("quiet", u8::from(quiet))
            .option("platform", platform);
        Ok(Messages::new(self.open(call.stream("application/x-tar", tar)).await?))
    }
}

/// Message streams carry their failure inside.
impl Messages<Message> {
    /// Reads to the end; each record goes to `sink`.
    ///
    /// # Errors
    /// The failure that the stream reports, or a broken connection.
    pub async fn drain(mut self, mut sink: impl FnMut(Message)) -> Result<()> {
        while let Some(message) = self.next().await? {
            if let Some(detail) = &message.error_detail {
                let code = (detail.code != 0).then_some(detail.code);
                return Err(Error::Stream {
                    code,
                    message: detail.message.clone(),
                });
            }
            if !message.error.is_empty() {
                return Err(Error::Stream {
                    code: None,
                    message: message.error,
                });
            }
            sink(message);
        }
        Ok(())
    }
}
