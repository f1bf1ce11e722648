//! `/networks/…`

use agent_api::network::Network;
use bytes::Bytes;

use crate::call::{Call, segment};
use crate::error::Result;
use crate::filters::Filters;
use crate::http::Client;

/// Each fails as [`crate::Error`] tells.
impl Client {
    pub async fn networks(&self, filters: &Filters) -> Result<Vec<Network>> {
        self.fetch(Call::get("/networks").option("filters", filters.to_query()))
            .await
    }

    pub async fn inspect_network(&self, name: &str) -> Result<Network> {
        self.fetch(Call::get(format!("/networks/{}", segment(name)?))).await
    }

    /// The answer as the daemon wrote it.
    pub async fn inspect_network_raw(&self, name: &str, verbose: bool) -> Result<Bytes> {
        self.fetch_bytes(Call::get(format!("/networks/{}", segment(name)?)).flag("verbose", verbose))
            .await
    }
}
