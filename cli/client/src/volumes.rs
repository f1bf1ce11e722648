//! `/volumes/…`

use std::io;

use agent_api::volume::{PruneReport, Volume, VolumeCreate, VolumeList};
use bytes::Bytes;
use futures_util::Stream;

use crate::call::{Call, segment};
use crate::download::Download;
use crate::error::Result;
use crate::filters::Filters;
use crate::http::Client;

/// Each fails as [`crate::Error`] tells.
impl Client {
    pub async fn volumes(&self, filters: &Filters) -> Result<VolumeList> {
        self.fetch(Call::get("/volumes").option("filters", filters.to_query()))
            .await
    }

    pub async fn create_volume(&self, request: &VolumeCreate) -> Result<Volume> {
        self.fetch(Call::post("/volumes/create").json(request)?).await
    }

    pub async fn inspect_volume(&self, name: &str) -> Result<Volume> {
        self.fetch(Call::get(format!("/volumes/{}", segment(name)?))).await
    }

    /// The answer as the daemon wrote it.
    pub async fn inspect_volume_raw(&self, name: &str) -> Result<Bytes> {
        self.fetch_bytes(Call::get(format!("/volumes/{}", segment(name)?)))
            .await
    }

    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        self.send(Call::delete(format!("/volumes/{}", segment(name)?)).flag("force", force))
            .await
            .map(drop)
    }

    /// The volume's content as a tar; an extension.
    pub async fn export_volume(&self, name: &str) -> Result<Download> {
        self.open(Call::get(format!("/volumes/{}/export", segment(name)?)))
            .await
    }

    /// Makes a volume of a tar; an extension.
    pub async fn import_volume<S>(&self, name: &str, labels: &[String], tar: S) -> Result<Volume>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let mut call = Call::post(format!("/volumes/{}/import", segment(name)?));
        for label in labels {
            call = call.query("label", label);
        }
        self.fetch(call.stream("application/x-tar", tar)).await
    }

    /// Makes a volume like another; an extension.
    pub async fn clone_volume(&self, name: &str, new: &str) -> Result<Volume> {
        self.fetch(Call::post(format!("/volumes/{}/clone", segment(name)?)).query("name", new))
            .await
    }

    /// Another name for a volume; an extension.
    pub async fn rename_volume(&self, name: &str, new: &str) -> Result<()> {
        self.send(Call::post(format!("/volumes/{}/rename", segment(name)?)).query("name", new))
            .await
            .map(drop)
    }

    pub async fn prune_volumes(&self, filters: &Filters) -> Result<PruneReport> {
        self.fetch(Call::post("/volumes/prune").option("filters", filters.to_query()))
            .await
    }
}
