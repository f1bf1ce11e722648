//! The list of a repository's tags, page by page.

use std::sync::Arc;

use http::Method;
use http::header::{HeaderMap, LINK};
use serde::Deserialize;

use crate::answer::Subject;
use crate::auth::Credentials;
use crate::client::Shared;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::reference::Reference;
use crate::session::Ask;

/// Tags asked for at once.
const PAGE: usize = 1000;
/// Tags taken at most. The largest repositories have some ten thousand.
const MAX_TAGS: usize = 200_000;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

pub(crate) async fn list(
    shared: &Arc<Shared>,
    endpoint: Arc<Endpoint>,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Vec<String>> {
    let what = format!("the tag list of {}", reference.familiar_name());
    let mut all: Vec<String> = Vec::new();
    let mut tail = format!("tags/list?n={PAGE}");
    loop {
        let ask = Ask {
            method: Method::GET,
            repository: reference.repository(),
            tail: &tail,
            headers: HeaderMap::new(),
            credentials: endpoint.credentials(reference, credentials),
            subject: Subject::Repository(reference),
        };
        let (headers, body) = shared
            .session
            .fetch(&endpoint, &ask, &what, shared.max_manifest)
            .await?;
        let wrong = |why: String| Error::Protocol {
            request: format!("Get {what}"),
            why,
        };
        let page: Page = serde_json::from_slice(&body).map_err(|error| wrong(format!("not a tag list: {error}")))?;
        let tags = page.tags.unwrap_or_default();
        let fresh = tags.last().is_some_and(|last| all.last() != Some(last));
        // What is no tag could not be pulled, and has no business in our store or on a terminal.
        all.extend(tags.into_iter().filter(|tag| reference.with_tag(tag).is_ok()));
        if all.len() > MAX_TAGS {
            return Err(Error::TooLarge {
                what,
                limit: MAX_TAGS as u64,
            });
        }
        match next_page(&headers) {
            Some(last) if fresh => tail = format!("tags/list?n={PAGE}&last={last}"),
            _ => return Ok(all),
        }
    }
}

/// The `last` parameter of `Link: </v2/x/tags/list?last=b&n=2>; rel="next"`, encoded as it stands. Only that is used, so
/// that a registry cannot send us elsewhere.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !parameters.replace([' ', '"'], "").contains("rel=next") {
        return None;
    }
    let (_, query) = address.split_once('?')?;
    let (_, last) = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "last")?;
    Some(url::form_urlencoded::byte_serialize(last.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_next_page_is_read_from_the_link() {
        for (link, expected) in [
            ("</v2/x/tags/list?last=b&n=2>; rel=\"next\"", Some("b")),
            ("<https://evil.example/?last=a%26b>; rel=next", Some("a%26b")),
            ("</v2/x/tags/list?last=b>; rel=\"prev\"", None),
            ("</v2/x/tags/list>; rel=next", None),
            ("garbage", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_str(link).unwrap());
            assert_eq!(next_page(&headers).as_deref(), expected, "{link}");
        }
    }
}
