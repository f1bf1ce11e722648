//! Searching a registry's index: the one part of the first protocol that is still served, by Docker Hub and a few others.

use http::Method;
use http::header::HeaderMap;
use serde::Deserialize;

use crate::answer::Subject;
use crate::auth::Credentials;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::session::Ask;

/// Longest answer that is read: a hundred results of some kilobytes.
const MAX_ANSWER: u64 = 4 << 20;

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    pub name: String,
    pub description: String,
    pub star_count: i64,
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Page {
    results: Option<Vec<Found>>,
}

impl Client {
    /// Repositories of the registry that `at` names which fit `term`, at most `limit`; in the registry's order.
    ///
    /// # Errors
    /// [`Error::NoSearch`] where the registry has no index; others as for any request.
    pub async fn search(
        &self,
        at: &Reference,
        term: &str,
        limit: usize,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Found>> {
        let endpoint = Endpoint::index(at.registry())?;
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("q", term)
            .append_pair("n", &limit.to_string())
            .finish();
        let ask = Ask {
            method: Method::GET,
            repository: "v1",
            tail: &format!("search?{query}"),
            headers: HeaderMap::new(),
            credentials: endpoint.credentials(at, credentials),
            subject: Subject::Registry,
        };
        let fetched = self
            .shared
            .session
            .fetch(&endpoint, &ask, "the search results", MAX_ANSWER)
            .await;
        let none = || Error::NoSearch {
            registry: at.registry().to_owned(),
        };
        let (_, body) = fetched.map_err(|error| match error.kind() {
            crate::Kind::NotFound | crate::Kind::Unsupported => none(),
            _ => error,
        })?;
        // Something else than a search answered, the page of a web server for instance.
        let page: Page = serde_json::from_slice(&body).map_err(|_| none())?;
        let mut results = page.results.unwrap_or_default();
        results.truncate(limit);
        Ok(results)
    }
}
