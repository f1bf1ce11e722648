//! `/info`, `/version`, `/events`, `/system/df`, `/auth`.

use agent_api::auth::{AuthConfig, AuthResponse};
use agent_api::event::Event;
use agent_api::extension::CheckReport;
use agent_api::system::{DiskUsage, Info, Version};
use bytes::Bytes;

use crate::call::Call;
use crate::error::Result;
use crate::filters::Filters;
use crate::http::Client;
use crate::messages::Messages;

/// Which events. Times are Unix seconds with a fraction.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    pub since: Option<String>,
    /// The stream ends there; without it, it never does.
    pub until: Option<String>,
    pub filters: Filters,
}

/// Each fails as [`crate::Error`] tells.
impl Client {
    pub async fn info(&self) -> Result<Info> {
        self.fetch(Call::get("/info")).await
    }

    /// The answer as the daemon wrote it.
    pub async fn info_raw(&self) -> Result<Bytes> {
        self.fetch_bytes(Call::get("/info")).await
    }

    pub async fn server_version(&self) -> Result<Version> {
        self.fetch(Call::get("/version")).await
    }

    /// Whether a registry takes these credentials, as the daemon sees it.
    pub async fn check_login(&self, auth: &AuthConfig) -> Result<AuthResponse> {
        self.fetch(Call::post("/auth").json(auth)?).await
    }

    /// `T` is [`Event`], or a JSON value for what this client does not know.
    pub async fn events<T: serde::de::DeserializeOwned>(&self, query: &EventQuery) -> Result<Messages<T>> {
        let call = Call::get("/events")
            .option("since", query.since.as_deref())
            .option("until", query.until.as_deref())
            .option("filters", query.filters.to_query());
        Ok(Messages::new(self.open(call).await?))
    }

    /// Events with their type fixed, for callers that want no type annotation.
    pub async fn typed_events(&self, query: &EventQuery) -> Result<Messages<Event>> {
        self.events(query).await
    }

    /// Compares the daemon's records with the machine; an extension.
    pub async fn check_system(&self, repair: bool) -> Result<CheckReport> {
        let call = match repair {
            true => Call::post("/system/check").flag("repair", true),
            false => Call::get("/system/check"),
        };
        self.fetch(call).await
    }

    pub async fn disk_usage(&self, verbose: bool) -> Result<DiskUsage> {
        self.fetch(Call::get("/system/df").flag("verbose", verbose)).await
    }
}
