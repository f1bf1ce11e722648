//! `/volumes/…`

use agent_api::volume::{PruneReport, Volume, VolumeCreate, VolumeList};
use bytes::Bytes;

use crate::call::{Call, segment};
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

    pub async fn prune_volumes(&self, filters: &Filters) -> Result<PruneReport> {
        self.fetch(Call::post("/volumes/prune").option("filters", filters.to_query()))
            .await
    }
}
