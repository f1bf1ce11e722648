//! A file from any web server, for an image that is imported from an address. There is no digest to hold it to, so that a
//! download that broke is not resumed either.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use url::Url;

use crate::blob::Pace;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::redirect::Plain;
use crate::transport::{Answer, Call, Transport, body_error};

/// Longest page of an error that is shown.
const MAX_REFUSAL: u64 = 4 << 10;

/// A file on its way. Dropping it closes the connection.
pub struct Download {
    address: Url,
    request: String,
    length: Option<u64>,
    body: Option<Incoming>,
    silence: Duration,
    pace: Pace,
}

impl Client {
    /// Ask for the file at `address`, `http://…` or `https://…`; without a scheme it is the first, as with Docker. User and
    /// password in it go to this server alone. Redirects lead from HTTP to HTTP and to HTTPS, not from HTTPS to HTTP, and
    /// not from elsewhere to this machine.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Download`] when the server has no such file, and those of connections.
    pub async fn download(&self, address: &str) -> Result<Download> {
        let (address, authorization) = parse(address)?;
        let mut call = Call::new(Method::GET, address.clone());
        call.authorization = authorization;
        call.plain = Plain::Leads;
        // The file as it is: the importer knows how to decompress, and the length is of what comes.
        call.headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let request = call.name();
        let transport = &self.shared.session.transport;
        let answer = transport.send(call).await?;
        if !answer.response.status().is_success() {
            return Err(refusal(transport, &address, answer).await);
        }
        let length = answer.response.headers().get(CONTENT_LENGTH);
        Ok(Download {
            address,
            request,
            length: length.and_then(|value| value.to_str().ok()?.parse().ok()),
            body: Some(answer.response.into_body()),
            silence: transport.silence(),
            pace: Pace::default(),
        })
    }
}

impl Download {
    /// Where it was asked for, without user and password.
    pub fn address(&self) -> &str {
        self.address.as_str()
    }

    /// Bytes in all, if the server says so.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes, `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// Once; after that it is at its end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            let body = self.body.as_mut()?;
            let since = Instant::now();
            let next = timeout(self.pace.limit(self.silence), body.frame()).await;
            self.pace.waited += since.elapsed();
            let failure = match next {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => {
                        self.pace.count(bytes.len() as u64);
                        return Some(Ok(bytes));
                    }
                    _ => continue,
                },
                Ok(None) => {
                    self.body = None;
                    return None;
                }
                Ok(Some(Err(error))) => body_error(self.request.clone(), &error),
                Err(_) => Error::Stalled {
                    request: self.request.clone(),
                    waited: self.pace.waited,
                },
            };
            self.body = None;
            return Some(Err(failure));
        }
    }
}

/// The address as it is asked for and shown, and what its user and password mean.
fn parse(text: &str) -> Result<(Url, Option<HeaderValue>)> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    // Its text is not repeated: there may be a password in it.
    let wrong = |why: String| Error::Address { why };
    let mut url = Url::parse(&whole).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("unsupported protocol scheme {:?}", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("no host in it".to_owned()));
    }
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = (decoded(url.username()), url.password().map(decoded));
    let authorization = (!user.is_empty() || password.is_some()).then(|| {
        let pair = [user, b":".to_vec(), password.unwrap_or_default()].concat();
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
    });
    let authorization = authorization.transpose().map_err(|error| wrong(error.to_string()))?;
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    Ok((url, authorization))
}

/// In dockerd's words.
async fn refusal(transport: &Transport, address: &Url, answer: Answer) -> Error {
    let status = answer.response.status();
    // A page that cannot be read, or is long, changes nothing about the status.
    let page = transport
        .read(answer, &Method::GET, "the error page", MAX_REFUSAL)
        .await
        .unwrap_or_default();
    let page = String::from_utf8_lossy(&page);
    Error::Download {
        address: address.to_string(),
        status: status.as_u16(),
        reason: status.canonical_reason().unwrap_or_default(),
        page: match page.trim() {
            "" => String::new(),
            text => format!(": {text}"),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        for (text, address, authorization) in [
            ("http://a.example/x.tar", "http://a.example/x.tar", None),
            ("a.example/x.tar", "http://a.example/x.tar", None),
            ("127.0.0.1:80/x?y=1#z", "http://127.0.0.1/x?y=1", None),
            ("https://[::1]:8443/x", "https://[::1]:8443/x", None),
            // `a%3A:b` in base64.
            (
                "https://a%253A:b@c.example/",
                "https://c.example/",
                Some("Basic YSUzQTpi"),
            ),
            ("https://a@c.example/", "https://c.example/", Some("Basic YTo=")),
        ] {
            let (url, value) = parse(text).unwrap();
            assert_eq!(url.as_str(), address);
            assert_eq!(
                value.as_ref().map(|value| value.to_str().unwrap()),
                authorization,
                "{text}"
            );
        }
    }

    #[test]
    fn other_addresses_are_refused_without_being_repeated() {
        for text in [
            "ftp://user:secret@a.example/x",
            "file:///secret",
            "unix:///var/run/secret.sock",
            "http://",
            "http://user:secret@/x",
            "http://user:secret@a b/",
            "-secret://x",
            "",
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, Error::Address { .. }), "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_shows_its_password(text in "(https?://)?[a-z]{0,3}(:[a-z0-9%@:/?#]{0,6})?@?[a-z.:0-9/?#@]{0,12}") {
            if let Ok((url, _)) = parse(&text) {
                proptest::prop_assert!(url.username().is_empty() && url.password().is_none());
                proptest::prop_assert!(matches!(url.scheme(), "http" | "https"));
            }
        }
    }
}
