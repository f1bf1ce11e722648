//! Asking registries about other things than images to pull: logins and searches.

pub use agent_registry::Found;
use agent_registry::{Credentials, DOCKER_IO, Defaults, Reference};

use crate::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;

/// Filters of a search.
pub const SEARCH_KEYS: [&str; 3] = ["is-automated", "is-official", "stars"];
const DEFAULT_LIMIT: i64 = 25; // Docker's
const MOST: i64 = 100;

/// The registry in `https://index.docker.io/v1/`, `registry.example:5000` and the like.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_IO,
        host => host,
    }
}

/// Registry (if one is named) and the rest of a search term.
fn split_term(term: &str) -> (Option<&str>, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), rest),
        _ => (None, term),
    }
}

impl Engine {
    /// A reference that stands for a registry as a whole.
    fn registry_named(&self, name: &str) -> Result<Reference> {
        let name = if name.is_empty() {
            self.config.default_registry.as_str()
        } else {
            name
        };
        let defaults = Defaults::new(name);
        let wrong = || Error::invalid(format!("invalid registry address {name:?}"));
        defaults.check().map_err(|_| wrong())?;
        Reference::parse("any/image", &defaults).map_err(|_| wrong())
    }

    /// Whether a registry takes these credentials; those without a server are for the default registry. Answers with its name.
    ///
    /// # Errors
    /// `Login` with the registry's own words.
    pub async fn login(&self, mut credentials: Credentials) -> Result<String> {
        let address = credentials.server.take().unwrap_or_default();
        let registry = self.registry_named(host(&address))?;
        match self.live().registry.login(&registry, &credentials).await {
            Ok(()) => Ok(registry.registry().to_owned()),
            Err(source) => Err(Error::Login {
                registry: registry.registry().to_owned(),
                source,
            }),
        }
    }

    /// Repositories of the default registry, or of the one that the term begins with.
    ///
    /// # Errors
    /// A limit or filter that makes no sense; what the registry says, or that it cannot be searched.
    pub async fn search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        credentials: Option<Credentials>,
    ) -> Result<Vec<Found>> {
        filters.only(&SEARCH_KEYS)?;
        let official = filters.flag("is-official")?;
        let automated = filters.flag("is-automated")?;
        let mut stars = 0;
        for text in filters.get("stars") {
            let least: i64 = text
                .parse()
                .map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
            stars = stars.max(least);
        }
        let limit = limit.filter(|limit| *limit != 0).unwrap_or(DEFAULT_LIMIT);
        if !(1..=MOST).contains(&limit) {
            return Err(Error::invalid(format!(
                "limit {limit} is outside the range of [1, {MOST}]"
            )));
        }
        if term.contains("://") || term.is_empty() {
            return Err(Error::invalid(format!("invalid search term {term:?}")));
        }
        let (named, term) = split_term(term);
        let registry = self.registry_named(named.map_or("", host))?;
        let term = match registry.registry() {
            // What belongs to nobody is found without the word that stands for it.
            DOCKER_IO => term.strip_prefix("library/").unwrap_or(term),
            _ => term,
        };
        let limit = usize::try_from(limit).unwrap_or_default();
        let mut found = self
            .live()
            .registry
            .search(&registry, term, limit, credentials.as_ref())
            .await?;
        // Nothing is built by registries any more.
        found.retain(|one| {
            automated != Some(true)
                && official.is_none_or(|wanted| wanted == one.is_official)
                && one.star_count >= stars
        });
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_found_in_addresses_and_terms() {
        for (address, wanted) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry.example:5000", "registry.example:5000"),
            ("http://localhost:5000/v2/", "localhost:5000"),
            ("", ""),
        ] {
            assert_eq!(host(address), wanted);
        }
        assert_eq!(split_term("localhost:5000/a/b"), (Some("localhost:5000"), "a/b"));
        assert_eq!(split_term("someone/tool"), (None, "someone/tool"));
        assert_eq!(split_term("busybox"), (None, "busybox"));
    }
}
